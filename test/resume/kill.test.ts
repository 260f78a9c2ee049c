/** A run that is killed at any moment, and resumed, is bit by bit the run that was not. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { openBackend } from "../../src/backend/io.ts";
import { createRandom, uniform } from "../../src/util/random.ts";
import { ROOT, setup } from "../policy/repository.ts";
import { tinyRecipe } from "../tinyRecipe.ts";
import { trainTiny, writeTexts } from "../tinyRun.ts";
import { checkpointNames, resultOf, unfinished } from "./runFolder.ts";

const KILLS = 10;
/** A checkpoint after every step: most of the time, one is being written. */
const changes = { train: { steps: 48, saveEvery: 1, evalEvery: 5, monitorEvery: 3, spikes: { action: "rewind" } } };
const LAST = "step48-tokens6144";

const folder = mkdtempSync(join(tmpdir(), "olmoe-kill-"));
const at = (...path: string[]) => join(folder, ...path);
afterAll(() => rmSync(folder, { recursive: true }));

beforeAll(async () => {
  setup();
  writeTexts(folder);
  writeFileSync(at("recipe.yaml"), stringify(tinyRecipe(changes)));
  await trainTiny(folder, "whole", await openBackend(), { changes });
});

/** Starts the command line, compiled: a child is then there in half a second. */
function start(run: string, ...argv: string[]): { child: ChildProcess; stderr: () => string } {
  const main = join(ROOT, "dist", "cli", "main.js");
  const child = spawn(process.execPath, [main, "train", at("recipe.yaml"), "--out", at(run), ...argv]);
  let text = "";
  child.stderr.on("data", (chunk) => {
    text += chunk;
  });
  return { child, stderr: () => text };
}

/** Waits until something is so, or the child has ended. */
async function until(child: ChildProcess, test: () => boolean): Promise<void> {
  while (child.exitCode === null && !test()) await sleep(1);
}

const linesOf = (run: string) =>
  existsSync(at(run, "metrics.jsonl")) ? readFileSync(at(run, "metrics.jsonl"), "utf8").split("\n").length - 1 : 0;
const checkpointsIn = (run: string) => (existsSync(at(run, "checkpoints")) ? checkpointNames(at(run)) : []);
const isWriting = (run: string) => checkpointsIn(run).some((name) => name.endsWith(".partial"));
const newestStep = (run: string) =>
  Math.max(0, ...checkpointsIn(run).map((name) => Number(/^step(\d+)-tokens\d+$/.exec(name)?.[1] ?? 0)));

describe("olmoe train", () => {
  it(`killed ${KILLS} times and resumed each time ends with the same bits`, { timeout: 120_000 }, async () => {
    const random = createRandom(11, "kills");
    const left: string[] = [];
    for (let kill = 0; kill < KILLS; kill++) {
      const { child } = start("run", "--resume");
      const [steps, moment, delay] = [Math.ceil(3 * uniform(random)), uniform(random), 20 * uniform(random)];
      const target = newestStep("run") + steps;
      if (kill === 0) await until(child, () => existsSync(at("run", "data", "training")));
      else await until(child, () => newestStep("run") >= target);
      if (kill > 0 && moment < 0.7) await until(child, () => isWriting("run"));
      await sleep(delay);
      child.kill("SIGKILL");
      await once(child, "close");
      left.push(...(existsSync(at("run")) ? unfinished(at("run")) : []));
      if (kill === 0) expect(existsSync(at("run", "data", "manifest.json"))).toBe(false);
    }
    // Otherwise no child was killed within the write of a checkpoint, and the test shows too little.
    expect(left.some((name) => name.endsWith(".partial"))).toBe(true);
    const { child, stderr } = start("run", "--resume");
    const [code] = await once(child, "close");
    expect({ code, stderr: code === 0 ? "" : stderr() }).toEqual({ code: 0, stderr: "" });
    expect(stderr()).toMatch(/going on from step \d+ of 48/);
    expect(resultOf(at("run"), LAST)).toEqual(resultOf(at("whole"), LAST));
    expect(unfinished(at("run"))).toEqual([]);
    expect(checkpointNames(at("run"))).toEqual(checkpointNames(at("whole")));
  });

  it("stops within a step of Ctrl-C, says how to go on, and goes on", async () => {
    const { child, stderr } = start("stopped");
    await until(child, () => linesOf("stopped") > 2);
    child.kill("SIGINT");
    const [code] = await once(child, "close");
    expect(code).toBe(130);
    const [, step] = /\nstopped after step (\d+) of 48; the same command with --resume goes on\n$/.exec(stderr()) ?? [];
    expect(checkpointNames(at("stopped")).at(-1)).toBe(`step${step}-tokens${128 * Number(step)}`);
    const second = start("stopped", "--resume");
    await once(second.child, "close");
    expect(second.stderr()).toContain(`  going on from step ${step} of 48\n`);
    expect(resultOf(at("stopped"), LAST)).toEqual(resultOf(at("whole"), LAST));
  });
});
