import { readFileSync } from "node:fs";
import path from "node:path";
import { expect, it } from "vitest";
import { ROOT } from "./repository.ts";

const SURFACES = [
  ["src/index.ts", () => import("../../src/index.ts")],
  ["src/browser.ts", () => import("../../src/browser.ts")],
] as const;

it.each(SURFACES)("%s defines nothing: it only re-exports names from the rooms", (file) => {
  const source = readFileSync(path.join(ROOT, file), "utf8");
  const rest = source
    .replace(/\/\*\*[\s\S]*?\*\/|\/\/.*/g, "")
    .replace(/export (type )?\{[\w\s,]*\} from "\.\/[\w/.]+\.ts";/g, "");
  expect(rest.trim()).toBe("");
});

it.each(SURFACES)("%s loads, and nothing it exports is undefined", async (_, load) => {
  const surface: Record<string, unknown> = await load();
  expect(Object.entries(surface).filter(([, value]) => value === undefined)).toEqual([]);
});

it("src/browser.ts has the names of src/index.ts for what runs in a page", async () => {
  const [[, index], [, browser]] = SURFACES;
  const names = Object.keys(await index());
  expect(Object.keys(await browser()).filter((name) => !names.includes(name))).toEqual([]);
});
