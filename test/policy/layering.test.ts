/** Imports point one way; the rules are in .dependency-cruiser.cjs. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { cruise, type ICruiseResult, type IFlattenedRuleSet, type IForbiddenRuleType } from "dependency-cruiser";
import { describe, expect, it } from "vitest";
import { ROOT, setup } from "./repository.ts";

interface Rules {
  readonly forbidden: IForbiddenRuleType[];
  readonly options: object;
}

const RULES = createRequire(import.meta.url)("../../.dependency-cruiser.cjs") as Rules;

/** Violations as "rule: from -> to", sorted. */
async function violations(baseDir: string, folder: string, { forbidden, options }: Rules): Promise<string[]> {
  const ruleSet: IFlattenedRuleSet = { forbidden };
  const { output } = await cruise([folder], { ...options, baseDir, validate: true, ruleSet });
  return (output as ICruiseResult).summary.violations
    .map(({ rule, from, to }) => (from === to ? `${rule.name}: ${from}` : `${rule.name}: ${from} -> ${to}`))
    .sort();
}

describe("layers", () => {
  it("hold in src", async () => {
    expect(await violations(ROOT, "src", RULES)).toEqual([]);
  });

  it("hold for Node in the compiled code, where only imports of values are left: no browser file reaches an io file", async () => {
    setup();
    const nodeFiles = RULES.forbidden.find(({ name }) => name === "node-in-browser-code")?.from.pathNot as string;
    const compiled = nodeFiles.replace("src", "dist").replaceAll("ts", "js");
    const from = { path: "^dist/", pathNot: compiled };
    const rule: IForbiddenRuleType = { name: "io-in-browser-code", severity: "error", from, to: { path: compiled } };
    expect(await violations(ROOT, "dist", { ...RULES, forbidden: [rule] })).toEqual([]);
  });

  it("fire on every kind of wrong import", async () => {
    const folder = mkdtempSync(path.join(tmpdir(), "olmoe-layers-"));
    const sources = {
      "src/index.ts": 'export * from "./cli/main.ts";',
      "src/errors.ts": 'export { thing } from "./util/thing.ts";',
      "src/util/thing.ts": "export const thing = 1;",
      "src/report/chart.ts": 'import type { M } from "../model/decoder.ts"; export type N = M;',
      "src/model/decoder.ts": 'import fs from "node:fs"; import "../wrong/file.ts"; export type M = typeof fs;',
      "src/model/io.ts": 'import fs from "node:fs"; import "../../test/help.ts"; export default fs;',
      "src/wrong/file.ts": 'import "../errors.ts";',
      "src/data/a.ts": 'export * from "./b.ts"; export const load = () => import("../optim/sgd.ts");',
      "src/data/b.ts": 'export type { A } from "./a.ts"; export type A = 1;',
      "src/data/read.io.ts": 'import "node:fs"; import "./nothing.ts";',
      "src/optim/sgd.ts": 'import "../data/read.io.ts"; export const rate = 1;',
      "src/nn/alone.ts": "export const alone = 1;",
      "src/cli/main.ts": 'import "node:fs"; import "../optim/sgd.ts";',
      "test/help.ts": "export const help = 1;",
    };
    try {
      for (const [file, text] of Object.entries(sources)) {
        mkdirSync(path.join(folder, path.dirname(file)), { recursive: true });
        writeFileSync(path.join(folder, file), text);
      }
      expect(await violations(folder, "src", RULES)).toEqual([
        "layer-data: src/data/a.ts -> src/optim/sgd.ts",
        "layer-errors: src/errors.ts -> src/util/thing.ts",
        "layer-model: src/model/decoder.ts -> src/wrong/file.ts",
        "layer-optim: src/optim/sgd.ts -> src/data/read.io.ts",
        "layer-report: src/report/chart.ts -> src/model/decoder.ts",
        "no-cycle: src/data/a.ts -> src/data/b.ts",
        "no-orphan: src/nn/alone.ts",
        "node-in-browser-code: src/model/decoder.ts -> fs",
        "outside-src: src/model/io.ts -> test/help.ts",
        "unknown-room: src/wrong/file.ts -> src/errors.ts",
        "unresolved: src/data/read.io.ts -> ./nothing.ts",
      ]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("fire on packages that are for Node, for development or not in package.json", async () => {
    const folder = mkdtempSync(path.join(ROOT, "build", "layers-"));
    try {
      mkdirSync(path.join(folder, "src/nn"), { recursive: true });
      const imports = ["zod", "vega", "fast-check", "vitest", "acorn", "@yowasp/clang"];
      writeFileSync(path.join(folder, "src/nn/packages.ts"), imports.map((name) => `import "${name}";`).join("\n"));
      const found = await violations(folder, "src", RULES);
      expect(found.map((line) => line.replace(/ -> .*node_modules\/((@[^/]*\/)?[^/]*).*/, " -> $1"))).toEqual([
        "development-dependency: src/nn/packages.ts -> @yowasp/clang",
        "development-dependency: src/nn/packages.ts -> acorn",
        "development-dependency: src/nn/packages.ts -> fast-check",
        "development-dependency: src/nn/packages.ts -> vitest",
        "node-package-in-browser-code: src/nn/packages.ts -> vega",
      ]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
