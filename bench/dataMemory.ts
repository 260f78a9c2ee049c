/**
 * `npm run bench -- data-memory`: peak memory of `olmoe data build` with one worker, over inputs of growing size. Documents are
 * made of sentences of real text in random order, so that few are alike.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { UnsupportedError } from "../src/errors.ts";
import { formatBytes, table } from "../src/report/text.ts";
import { createRandom, uniform } from "../src/util/random.ts";
import { benchTokenizer, realTexts } from "./dataCorpus.ts";
import type { BenchOptions } from "./harness.ts";
import { statusBytes } from "./procfs.ts";

const MAIN = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));
/** Set OLMOE_BENCH_BYTES for others, such as 5e9. */
const SIZES = (process.env.OLMOE_BENCH_BYTES ?? "100e6,1e9").split(",").map(Number);
const FILE_BYTES = 50e6;
const DOCUMENT_SENTENCES = 30;
const ALLOWED_BYTES = 200e6;
const POLL_MS = 50;

/** Files of JSON lines with about so many bytes in all. */
async function writeCorpus(folder: string, texts: readonly string[], size: number): Promise<void> {
  const random = createRandom(1, `bench/data-memory/${size}`);
  const sentences = texts.flatMap((text) => text.split(/(?<=[.\n]) ?/)).filter(({ length }) => length > 20);
  const next = () => sentences[Math.floor(uniform(random) * sentences.length)];
  let number = 0;
  for (let file = 0; file * FILE_BYTES < size; file++) {
    const stream = createWriteStream(join(folder, `${file}.jsonl`));
    for (let bytes = 0; bytes < Math.min(FILE_BYTES, size - file * FILE_BYTES); number++) {
      const line = `${JSON.stringify({ id: `${number}`, text: Array.from({ length: DOCUMENT_SENTENCES }, next).join(" ") })}\n`;
      bytes += Buffer.byteLength(line);
      if (!stream.write(line)) await once(stream, "drain");
    }
    await new Promise<void>((resolve) => stream.end(resolve));
  }
}

/** Runs a build. @returns the most that its process has held, which the system keeps until it ends. */
async function peakOf(recipe: string, out: string, signal: AbortSignal): Promise<number> {
  const args = [MAIN, "data", "build", recipe, "--out", out, "--workers", "1", "--json"];
  const child = spawn(process.execPath, args, { signal, stdio: ["ignore", "ignore", "pipe"] });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr = (stderr + text).slice(-2000);
  });
  let peak = 0;
  const timer = setInterval(async () => {
    const status = await readFile(`/proc/${child.pid}/status`, "utf8").catch(() => "");
    // A process that has ended but is still listed has no memory any more.
    if (status.includes("VmHWM")) peak = Math.max(peak, statusBytes(status, "VmHWM"));
  }, POLL_MS);
  try {
    const code = await new Promise((resolve, reject) => child.once("error", reject).once("close", resolve));
    if (code !== 0) throw new Error(`internal: olmoe data build ended with code ${code}\n${stderr}`);
    return peak;
  } finally {
    clearInterval(timer);
  }
}

/** A table for people. @throws UnsupportedError on systems that do not tell what a process has held. */
export async function dataMemoryBench({ signal }: BenchOptions): Promise<string> {
  if (process.platform !== "linux") {
    throw new UnsupportedError(`data-memory: reads /proc/PID/status, which ${process.platform} does not have`);
  }
  const folder = await mkdtemp(join(tmpdir(), "olmoe-bench-memory-"));
  const rows: string[][] = [];
  const peaks: number[] = [];
  try {
    const texts = await realTexts();
    const tokenizer = await benchTokenizer(folder, texts);
    const recipe = join(folder, "recipe.yaml");
    const source = { name: "bench", path: "text" };
    const filters = [{ kind: "gopher" }, { kind: "pii" }];
    await writeFile(
      recipe,
      JSON.stringify({ name: "bench", seed: 1, tokenizer: { file: tokenizer }, filters, sources: [source] }),
    );
    for (const size of SIZES) {
      await rm(join(folder, "text"), { recursive: true, force: true });
      await mkdir(join(folder, "text"));
      await writeCorpus(join(folder, "text"), texts, size);
      const start = performance.now();
      const peak = await peakOf(recipe, join(folder, "out"), signal);
      const seconds = (performance.now() - start) / 1000;
      peaks.push(peak);
      rows.push([`build of ${formatBytes(size)}`, formatBytes(peak), `${formatBytes(size / seconds)}/s`]);
      await rm(join(folder, "out"), { recursive: true, force: true });
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  const spread = Math.max(...peaks) - Math.min(...peaks);
  rows.push(["spread, at most 200 MB", formatBytes(spread), spread <= ALLOWED_BYTES ? "holds" : "does not hold"]);
  return table(rows);
}
