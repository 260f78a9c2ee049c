/** The bytes of a build do not depend on who does its tasks: threads, processes, mpirun or an array job. */
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { PHASES } from "../../src/data/build/plan.ts";
import { olmoe } from "../cli/harness.ts";
import { setup } from "../policy/repository.ts";
import { dataIn, finish, MAIN, startData, writeCorpus } from "./corpus.ts";

const folder = mkdtempSync(path.join(tmpdir(), "olmoe-data-workers-"));
const at = (...parts: string[]) => path.join(folder, ...parts);
afterAll(() => rmSync(folder, { recursive: true }));

const olmoeData = (...argv: string[]) => finish(startData(...argv));
const plan = (out: string) => olmoeData("plan", at("recipe.yaml"), "--out", at(out));
const run = (out: string, ...argv: string[]) => olmoeData("run", at(out), "--workers", "1", ...argv);
const merge = (out: string) => olmoeData("merge", at(out), "--verify");

let whole: ReadonlyMap<string, string>;
beforeAll(async () => {
  setup();
  // With the ballast, four threads are worth their start.
  writeCorpus(folder, { files: 4, ballast: true });
  await olmoeData("build", at("recipe.yaml"), "--out", at("whole"), "--workers", "1");
  whole = dataIn(at("whole"));
});

describe("the bytes of one worker are also those of", () => {
  it.each([2, 4])("%i threads", async (workers) => {
    const out = `threads-${workers}`;
    await olmoeData("build", at("recipe.yaml"), "--out", at(out), "--workers", String(workers));
    expect(dataIn(at(out))).toEqual(whole);
  });

  it("two processes at once, one of them with two threads", async () => {
    await plan("processes");
    await Promise.all([
      run("processes", "--task", "1/2"),
      olmoeData("run", at("processes"), "--workers", "2", "--task", "2/2"),
    ]);
    await merge("processes");
    expect(dataIn(at("processes"))).toEqual(whole);
  });

  it("the tasks of an array, phase by phase and one after the other, the last one first", async () => {
    const here = async (...argv: string[]) => {
      expect(await olmoe(["data", ...argv])).toMatchObject({ code: 0 });
    };
    await here("plan", at("recipe.yaml"), "--out", at("array"));
    for (const phase of PHASES) {
      for (const task of [3, 2, 1]) {
        await here("run", at("array"), "--workers", "1", "--phase", phase, "--task", `${task}/3`);
      }
    }
    await here("merge", at("array"), "--verify");
    expect(dataIn(at("array"))).toEqual(whole);
  });

  it("two processes that do all tasks at once, as a job that was started twice", async () => {
    await plan("twice");
    await Promise.all([run("twice"), run("twice")]);
    await merge("twice");
    expect(dataIn(at("twice"))).toEqual(whole);
  });

  const mpirun = spawnSync("mpirun", ["--version"]).error === undefined;
  it.skipIf(!mpirun)("mpirun -n 2 (skipped where mpirun is not installed)", async () => {
    await plan("mpi");
    const argv = ["--allow-run-as-root", "--oversubscribe", "-n", "2", process.execPath, MAIN];
    const env = { ...process.env, OMPI_MCA_btl_vader_single_copy_mechanism: "none" };
    await finish(spawn("mpirun", [...argv, "data", "run", at("mpi"), "--workers", "1"], { env }));
    await merge("mpi");
    expect(dataIn(at("mpi"))).toEqual(whole);
  });
});
