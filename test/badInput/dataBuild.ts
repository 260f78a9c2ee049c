/** Builds of data in a temporary folder, for tests of what goes wrong in them. */
import path from "node:path";
import { parseDataRecipe } from "../../src/config/data.ts";
import { type PrepareOptions, prepareData } from "../../src/data/prepare.io.ts";
import { SourceFolder } from "../sourceFiles.ts";

/** Sixteen texts, short and unlike each other. */
export const TEXTS = Array.from({ length: 16 }, (_, index) => {
  const words = ["sea", "wind", "ship", "whale", "rope", "lamp", "tide"].map((word) => `${word}${index} and`);
  return `The ${words.join(" the ")} more.`;
});

export class BuildFolder extends SourceFolder {
  at(...names: string[]): string {
    return path.join(this.folder, ...names);
  }

  /** Writes TEXTS as files of the folder `text`. */
  writeTexts(): void {
    for (const [index, text] of TEXTS.entries()) this.write(`text/${index}.txt`, text);
  }

  /** What a build needs; the recipe takes the folder `text` where it does not say otherwise. */
  buildOptions(changes: object = {}, out = "out"): PrepareOptions {
    const recipe = {
      name: "bad",
      sources: [{ name: "s", path: "text" }],
      tokenizer: { vocabSize: 270 },
      heldOutBytes: 400,
      ...changes,
    };
    return {
      recipe: parseDataRecipe(recipe),
      baseDirectory: this.folder,
      directory: this.at(out),
      cacheDirectory: this.at("cache"),
    };
  }

  build(changes: object = {}, out = "out") {
    return prepareData(this.buildOptions(changes, out));
  }
}
