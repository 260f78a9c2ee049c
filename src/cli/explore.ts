/** `olmoe explore`: a page on this machine that shows which experts fire, token by token. */
import { spawn } from "node:child_process";
import { open, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Command } from "commander";
import { CheckpointError, UsageError } from "../errors.ts";
import { checkpointsOf, listCheckpoints } from "../formats/runFolder.io.ts";
import { MAGIC } from "../formats/traceFile.ts";
import { serveExplorer } from "../server/explorer.ts";
import { heldOutTraces } from "../train/traces.io.ts";
import { type Session, wholeNumber } from "./common.ts";
import { addModelOptions, type ModelFlags, openModel } from "./modelOptions.ts";

interface ExploreFlags extends ModelFlags {
  readonly port?: number;
  readonly open?: boolean;
}

const HELP = `
The page is served on this machine only, until Ctrl-C. What it shows:
  a .trace file     the map of tokens and layers, pages of experts; several can be compared
  a model           texts as they are generated, with the route of each token
  a training run    its loss and the experts' load, as they come; its newest checkpoint as a model; its
                    traces of held-out text (train.trace), and how routing settled from one to the next

Trace files can be opened without a server, too: by dropping them on the page, which is one file,
dist/explorer.html of this package.

Examples:
  $ olmoe explore runs/quickstart
  $ olmoe explore early.trace late.trace --open`;

export function register(command: Command, session: Session): void {
  command
    .argument("[paths...]", "traces, at most one model, at most one folder of a training run")
    .option("--port <number>", "port of this machine (default: any that is free)", wholeNumber("--port", 1))
    .option("--open", "open the page in the browser");
  addModelOptions(command)
    .addHelpText("after", HELP)
    .action((paths: string[], flags: ExploreFlags) => explore(paths, flags, session));
}

interface Targets {
  readonly traces: readonly string[];
  readonly model?: string;
  readonly run?: string;
}

/** Whether a file begins as a trace. */
async function isTrace(path: string): Promise<boolean> {
  const file = await open(path);
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(MAGIC.length), 0, MAGIC.length, 0);
    return buffer.toString("latin1", 0, bytesRead) === MAGIC;
  } finally {
    await file.close();
  }
}

const isThere = (path: string) => stat(path).then(Boolean, () => false);

/** @throws CheckpointError for a path that is not there; UsageError for more models or runs than the page can show. */
async function sortTargets(paths: readonly string[]): Promise<Targets> {
  const traces: string[] = [];
  const models: string[] = [];
  const runs: string[] = [];
  for (const path of paths) {
    const facts = await stat(path).catch(() => undefined);
    if (facts === undefined) {
      throw new CheckpointError(`${path}: no such file or folder, expected a trace, a model or a training run`, {
        hint: "record a trace with olmoe trace",
      });
    }
    if (facts.isDirectory() && !(await isThere(join(path, "config.json"))) && (await isRun(path))) {
      runs.push(path);
      // The newest is shown first.
      traces.push(...(await heldOutTraces(path)).reverse());
      if ((await listCheckpoints(checkpointsOf(path))).length > 0) models.push(path);
    } else if (path.endsWith(".trace") || (facts.isFile() && (await isTrace(path)))) traces.push(path);
    else models.push(path);
  }
  for (const [what, list] of [
    ["models", models],
    ["training runs", runs],
  ] as const) {
    if (list.length > 1)
      throw new UsageError(`explore: ${list.length} ${what} (${list.join(", ")}), expected at most one`);
  }
  const [[model], [run]] = [models, runs];
  return { traces, ...(model === undefined ? {} : { model }), ...(run === undefined ? {} : { run }) };
}

const isRun = async (path: string) =>
  (await isThere(join(path, "metrics.jsonl"))) || (await isThere(join(path, "checkpoints")));

async function explore(paths: readonly string[], flags: ExploreFlags, session: Session): Promise<void> {
  const { signal, stdout, stderr } = session;
  const { traces, model: path, run } = await sortTargets(paths);
  // In a worker, so that the page stays answered while the model computes.
  const model = path === undefined ? undefined : await openModel(path, flags, session, { inProcess: false });
  try {
    const { url, closed } = await serveExplorer({ traces, model, run, port: flags.port, signal });
    stdout.write(`${url}\n`);
    stderr.write("Ctrl-C ends it.\n");
    if (flags.open === true) openBrowser(url, session);
    await closed;
  } finally {
    await model?.close();
  }
}

const OPENERS: Readonly<Partial<Record<NodeJS.Platform, readonly string[]>>> = {
  darwin: ["open"],
  win32: ["cmd", "/c", "start", ""],
};

function openBrowser(url: string, { stderr }: Session): void {
  const [program, ...args] = OPENERS[process.platform] ?? ["xdg-open"];
  const child = spawn(program!, [...args, url], { stdio: "ignore", detached: true });
  child.on("error", () => stderr.write(`olmoe: --open: no ${program} on this machine; open the address yourself\n`));
  child.unref();
}
