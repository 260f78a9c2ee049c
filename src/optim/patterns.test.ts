import { describe, expect, it } from "vitest";
import { ConfigError } from "../errors.ts";
import { matchNames } from "./patterns.ts";

const NAMES = [
  "model.norm.weight",
  "model.layers.0.mlp.gate.weight",
  "model.layers.10.mlp.gate.weight",
  "lm_head.weight",
];
const match = (...patterns: string[]) => [...matchNames(patterns, NAMES, "optimizer.noDecay")];

describe("matchNames", () => {
  it("takes * for any characters, none included, and everything else for itself", () => {
    expect(match("*norm.weight")).toEqual(["model.norm.weight"]);
    expect(match("model.layers.*.mlp.*")).toEqual(NAMES.slice(1, 3));
    expect(match("*lm_head.weight*")).toEqual(["lm_head.weight"]);
    expect(match("*")).toEqual(NAMES);
    expect(match()).toEqual([]);
  });

  it("joins what several patterns match", () => {
    expect(match("lm_head*", "model.norm*", "*head*")).toEqual(["lm_head.weight", "model.norm.weight"]);
  });

  it.each(["norm", "model.layers.1.*", "lm.head.weight", "lm_head\\.weight", "[a-z]*", "lm_head.weigh(t)"])(
    "refuses %s, which matches nothing",
    (pattern) => {
      expect(() => match("lm_head*", pattern)).toThrow(
        new ConfigError(`optimizer.noDecay: "${pattern}" matches no parameter`, {
          hint: "names look like model.norm.weight, model.layers.0.mlp.gate.weight, model.layers.10.mlp.gate.weight",
        }),
      );
    },
  );
});
