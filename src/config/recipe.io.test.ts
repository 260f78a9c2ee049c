import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { tinyRecipe } from "../../test/tinyRecipe.ts";
import { ConfigError } from "../errors.ts";
import { readRecipe } from "./recipe.io.ts";
import { parseRecipe } from "./recipe.ts";

const folder = mkdtempSync(join(tmpdir(), "olmoe-recipe-"));
afterAll(() => rmSync(folder, { recursive: true }));

function write(content: string | Uint8Array, name = "my.yaml"): string {
  writeFileSync(join(folder, name), content);
  return join(folder, name);
}

const whole = write(stringify(tinyRecipe()), "whole.yaml");

/** The whole message of a refusal, the temporary folder written as DIR, with its hint. */
async function refusal(file: string, ...overrides: string[]): Promise<string> {
  try {
    await readRecipe(file, overrides);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return `${error.message}${error.hint === undefined ? "" : ` [${error.hint}]`}`.replaceAll(folder, "DIR");
  }
  return "no error";
}

describe("readRecipe", () => {
  it("reads YAML, and JSON, which is YAML too", async () => {
    expect(await readRecipe(whole)).toEqual(parseRecipe(tinyRecipe()));
    expect(await readRecipe(write(JSON.stringify(tinyRecipe()), "my.json"))).toEqual(parseRecipe(tinyRecipe()));
  });

  it("applies overrides in order, as YAML values, also inside lists and where nothing is yet", async () => {
    const overrides = [
      "train.steps=3",
      "train.steps=5",
      "train.loss.balance=0",
      "train.optimizer={lr: 1e-2, clipNorm: null}",
      "data.sources.1.weight=2.5",
      "name=other",
      'model={"preset":"tiny"}',
    ];
    const changes = { steps: 5, loss: { balance: 0 }, optimizer: { lr: 1e-2, clipNorm: null } };
    const expected = tinyRecipe({ name: "other", train: changes });
    Object.assign(expected.data.sources[1] as object, { weight: 2.5 });
    expect(await readRecipe(whole, overrides)).toEqual(parseRecipe(expected));
  });

  it("refuses overrides that name nothing", async () => {
    const set = (text: string) => refusal(whole, text);
    const example = "[for example --set train.optimizer.lr=1e-3]";
    for (const text of ["train.steps", "=3", "train..steps=3", ".steps=3", "", "__proto__.x=1"]) {
      expect(await set(text)).toBe(`--set ${text}: not key=value ${example}`);
    }
    const docs = "[see docs/configuration.md for every key]";
    expect(await set("train.step=3")).toBe(`DIR/whole.yaml: train.step: unknown key, did you mean "steps"? ${docs}`);
    expect(await set("constructor.x=3")).toBe(`DIR/whole.yaml: constructor: unknown key ${docs}`);
    expect(await set("name.x=3")).toBe(`DIR/whole.yaml: name: {"x":3}, expected string, received object ${docs}`);
    expect(await set("train.steps=")).toBe(`DIR/whole.yaml: train.steps: null, expected number, received null ${docs}`);
    expect(await set("train.steps=.inf")).toBe(
      `DIR/whole.yaml: train.steps: Infinity, expected number, received Infinity ${docs}`,
    );
    expect(await set("train.steps=many")).toBe(
      `DIR/whole.yaml: train.steps: "many", expected number, received string ${docs}`,
    );
    for (const index of ["4", "name", "-1", "999999999999"]) {
      expect(await set(`data.sources.${index}.weight=2`)).toBe(
        `--set data.sources.${index}.weight=2: data.sources has entries 0 to 3`,
      );
    }
    expect(await set("train={steps: 3")).toBe(
      "--set train={steps: 3: not YAML, Flow map must end with a } at line 1, column 10",
    );
  });

  it("refuses what is no recipe", async () => {
    const start = "[recipes/quickstart.yaml is one to start from]";
    expect(await refusal(join(folder, "none.yaml"))).toBe(`DIR/none.yaml: no such recipe ${start}`);
    expect(await refusal(join(whole, "none.yaml"))).toBe(`DIR/whole.yaml/none.yaml: no such recipe ${start}`);
    mkdirSync(join(folder, "inside"));
    expect(await refusal(join(folder, "inside"))).toBe("DIR/inside: a folder, expected a recipe in YAML");
    expect(await refusal(write(""))).toBe("DIR/my.yaml: empty, expected a recipe in YAML");
    expect(await refusal(write("# nothing but a comment\n"))).toBe("DIR/my.yaml: empty, expected a recipe in YAML");
    expect(await refusal(write("- a\n- b\n"))).toBe("DIR/my.yaml: not a mapping, expected a recipe in YAML");
    expect(await refusal(write("just words"))).toBe("DIR/my.yaml: not a mapping, expected a recipe in YAML");
    expect(await refusal(write(Uint8Array.of(0x61, 0x3a, 0xff)))).toBe("DIR/my.yaml: not UTF-8");
    expect(await refusal(write("name: s\nbase: whole.yaml\n"))).toBe(
      "DIR/my.yaml: a sweep, expected the recipe of one run [olmoe sweep DIR/my.yaml runs it]",
    );
    const large = write("");
    truncateSync(large, 2 ** 21);
    expect(await refusal(large)).toBe("DIR/my.yaml: 2097152 bytes, a recipe has at most 1048576");
  });

  it("refuses a pipe without waiting for its writer", async () => {
    execFileSync("mkfifo", [join(folder, "pipe")]);
    expect(await refusal(join(folder, "pipe"))).toBe("DIR/pipe: no file, expected a recipe in YAML");
  });

  it.each([
    ["a: [1", "Flow sequence in block collection must be sufficiently indented and end with a ] at line 1, column 6"],
    ["a: 1\na: 2", "Map keys must be unique at line 2, column 1"],
    ["a: b: c", "Nested mappings are not allowed in compact mappings at line 1, column 4"],
    ["a: 1\n---\nb: 2", "Source contains multiple documents; please use YAML.parseAllDocuments() at line 2, column 1"],
    ["a: !thing 1", "Unresolved tag: !thing at line 1, column 4"],
    ["a: *b", "Unresolved alias (the anchor must be set before the alias): b"],
  ])("says where %j stops to be YAML", async (text, fault) => {
    expect(await refusal(write(text))).toBe(`DIR/my.yaml: not YAML, ${fault}`);
  });

  it("survives aliases that multiply and nesting without end", async () => {
    const laughs = Array.from(
      { length: 12 },
      (_, i) => `l${i}: &l${i} [${"x,".repeat(9)}${i > 0 ? `*l${i - 1},`.repeat(9) : ""}]`,
    );
    expect(await refusal(write(laughs.join("\n")))).toBe(
      "DIR/my.yaml: not YAML, Excessive alias count indicates a resource exhaustion attack",
    );
    expect(await refusal(write("[".repeat(20_000)))).toMatch(/^DIR\/my.yaml: not YAML, /);
  });
});
