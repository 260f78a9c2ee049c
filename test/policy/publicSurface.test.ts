import { readFileSync } from "node:fs";
import path from "node:path";
import { expect, it } from "vitest";
import { ROOT } from "./repository.ts";

it("src/index.ts defines nothing: it only re-exports names from the rooms", () => {
  const source = readFileSync(path.join(ROOT, "src/index.ts"), "utf8");
  const rest = source
    .replace(/\/\*\*[\s\S]*?\*\/|\/\/.*/g, "")
    .replace(/export (type )?\{[\w\s,]*\} from "\.\/[\w/.]+\.ts";/g, "");
  expect(rest.trim()).toBe("");
});

it("src/index.ts loads, and nothing it exports is undefined", async () => {
  const surface: Record<string, unknown> = await import("../../src/index.ts");
  expect(Object.entries(surface).filter(([, value]) => value === undefined)).toEqual([]);
});
