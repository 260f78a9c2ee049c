import { appendFile, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { followMetrics } from "./metricsTail.ts";

const folder = await mkdtemp(join(tmpdir(), "olmoe-metrics-"));
afterAll(() => rm(folder, { recursive: true }));
const path = join(folder, "metrics.jsonl");
const line = (step: number) => `${JSON.stringify({ type: "train", step, note: "né" })}\n`;

it("tells what is added, and begins anew with a file that took the place of another, even a longer one", async () => {
  const controller = new AbortController();
  const events = followMetrics(folder, controller.signal);
  const next = async () => (await events.next()).value;
  const records = (...steps: number[]) => ({ metrics: steps.map((step) => ({ type: "train", step, note: "né" })) });

  // The second line is cut within a letter.
  const half = Buffer.from(line(2)).subarray(0, -4);
  await writeFile(path, Buffer.concat([Buffer.from(line(1)), half]));
  expect(await next()).toEqual(records(1));
  await rename(path, join(folder, "old"));
  await writeFile(path, [1, 5, 6, 7].map(line).join(""));
  expect([await next(), await next()]).toEqual([{ restart: true }, records(1, 5, 6, 7)]);
  await appendFile(path, `no record\n${line(8)}`);
  expect(await next()).toEqual(records(8));
  await writeFile(path, line(3));
  expect([await next(), await next()]).toEqual([{ restart: true }, records(3)]);
  controller.abort();
  expect(await events.next()).toEqual({ value: undefined, done: true });
});
