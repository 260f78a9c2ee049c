/** Runs commands in this process and as a child, on a tiny model in a temporary folder. */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable, Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import { afterAll } from "vitest";
import { createReferenceBackend } from "../../src/backend/reference/backend.ts";
import type { Session } from "../../src/cli/common.ts";
import { runCli } from "../../src/cli/program.ts";
import { resolveModel } from "../../src/config/presets.ts";
import { saveModel } from "../../src/formats/model.io.ts";
import { Parameters } from "../../src/model/parameters.ts";
import { trainTokenizer } from "../../src/tokenizer/io.ts";
import type { Tokenizer } from "../../src/tokenizer/tokenizer.ts";

/** A new folder that is removed after the tests of the file. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "olmoe-cli-"));
  afterAll(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

export const TEXT = "the cat sat on the mat and the rat sat on the cat, while the dog ran to the hat. ".repeat(5);

/** Writes a random model with a tokenizer of 280 entries. */
export async function writeTinyModel(folder: string, overrides: Readonly<Record<string, unknown>> = {}) {
  const tokenizer: Tokenizer = trainTokenizer([TEXT], { vocabSize: 280 });
  const model = { preset: "tiny", initializerRange: 0.3, ...overrides };
  const parameters = new Parameters(createReferenceBackend(), resolveModel(model, tokenizer), { trainable: false });
  parameters.initialise(1);
  await saveModel(folder, parameters);
  await writeFile(join(folder, "tokenizer.json"), tokenizer.toJson());
  return { tokenizer, parameters };
}

class Capture extends Writable {
  text = "";

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs a command in this process.
 * @param input what standard input holds; undefined for a terminal.
 */
export async function olmoe(argv: readonly string[], input?: string | Uint8Array): Promise<Outcome> {
  const [stdout, stderr] = [new Capture(), new Capture()];
  const stdin = Object.assign(Readable.from(input === undefined ? [] : [Buffer.from(input)]), {
    isTTY: input === undefined,
  });
  const signal = new AbortController().signal;
  const session: Session = { stdin, stdout, stderr, signal, onInterrupt: () => undefined, interruptedCode: undefined };
  const code = await runCli(argv, session);
  return { code, stdout: stdout.text, stderr: stderr.text };
}

const MAIN = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));

/** Starts the command line as a process of its own. */
export function startOlmoe(argv: readonly string[]): ChildProcessWithoutNullStreams {
  return spawn(process.execPath, ["--import", "tsx", MAIN, ...argv], { stdio: "pipe" });
}
