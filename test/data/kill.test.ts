/** A build that is killed at any moment, and started again, makes the bytes of one that was not. */
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createRandom, uniform } from "../../src/util/random.ts";
import { setup } from "../policy/repository.ts";
import { dataIn, filesIn, finish, startData, writeCorpus } from "./corpus.ts";

const KILLS = 20;
/** Tasks that come after each other between two kills, at most. */
const MOST_TASKS = 6;

const folder = mkdtempSync(path.join(tmpdir(), "olmoe-data-kill-"));
const at = (...parts: string[]) => path.join(folder, ...parts);
afterAll(() => rmSync(folder, { recursive: true }));

const build = (out: string) => startData("build", at("recipe.yaml"), "--out", at(out), "--workers", "1");
const unfinished = (out: string) => (existsSync(at(out)) ? filesIn(at(out)) : []).filter(isUnfinished);
const isUnfinished = (name: string) => /\.(partial|tmp)$/.test(name);
const finished = (out: string) => {
  const tasks = at(out, "work", "tasks");
  return existsSync(tasks) ? readdirSync(tasks).filter((name) => name.endsWith(".json")) : [];
};

beforeAll(async () => {
  setup();
  writeCorpus(folder, { files: 3 });
  await finish(build("whole"));
});

it(`killed ${KILLS} times and started again each time ends with the same bytes`, { timeout: 300_000 }, async () => {
  const random = createRandom(6, "kills");
  const left: string[] = [];
  const phases = new Set<string>();
  let run = 0;
  for (let kill = 0; kill < KILLS; kill++) {
    if (existsSync(at(`run-${run}`, "manifest.json"))) run++;
    const out = `run-${run}`;
    const child = build(out);
    const [tasks, delay] = [Math.floor(MOST_TASKS * uniform(random)), 40 * uniform(random)];
    const target = finished(out).length + tasks;
    while (child.exitCode === null && !existsSync(at(out, "plan.json"))) await sleep(1);
    while (child.exitCode === null && finished(out).length < target) await sleep(1);
    await sleep(delay);
    child.kill("SIGKILL");
    await once(child, "close");
    left.push(...unfinished(out));
    phases.add(finished(out).at(-1)?.split("-")[0] ?? "none");
    for (const name of finished(out)) phases.add(name.split("-")[0] as string);
  }
  // Otherwise no child was killed within a write, and the test shows too little.
  expect(left.length).toBeGreaterThan(KILLS / 4);
  expect([...phases].sort()).toEqual(expect.arrayContaining(["choose", "copies", "cuts", "pairs", "read", "select"]));
  const whole = dataIn(at("whole"));
  for (let one = 0; one <= run; one++) {
    if (!existsSync(at(`run-${one}`))) continue;
    await finish(build(`run-${one}`));
    expect(dataIn(at(`run-${one}`))).toEqual(whole);
    expect(unfinished(`run-${one}`)).toEqual([]);
  }
});

it("has something of every step to get wrong", () => {
  const names = [...dataIn(at("whole")).keys()];
  const count = (start: string, end: string) =>
    names.filter((name) => name.startsWith(start) && name.endsWith(end)).length;
  expect(count("training/", ".npy")).toBeGreaterThan(12);
  expect(count("heldout/", ".jsonl.gz")).toBeGreaterThan(4);
});
