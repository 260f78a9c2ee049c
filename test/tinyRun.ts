/** A whole training run in about a second: four kinds of generated text, a model of two layers, 24 steps. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { uniformInt } from "pure-rand/distribution/uniformInt";
import type { Backend } from "../src/backend/backend.ts";
import { parseRecipe, type Recipe } from "../src/config/recipe.ts";
import type { TrainEvent, TrainOptions, TrainOutcome } from "../src/train/run.io.ts";
import { train } from "../src/train/train.io.ts";
import { createRandom } from "../src/util/random.ts";
import { KINDS, tinyRecipe } from "./tinyRecipe.ts";

const WORDS = "the ship sails over a wide grey sea while old men tell long tales of whales and wind at night".split(
  " ",
);

/** One sentence, line or row of each kind. */
const LINES: Readonly<Record<(typeof KINDS)[number], (draw: (most: number) => number) => string>> = {
  prose: (draw) => `${Array.from({ length: 6 + draw(6) }, () => WORDS[draw(WORDS.length - 1)]).join(" ")}. `,
  code: (draw) => `const ${WORDS[draw(9)]} = ${WORDS[draw(9)]}(${draw(9)}, ${draw(99)});\n`,
  list: (draw) => `- ${WORDS[draw(19)]}: ${WORDS[draw(19)]}\n`,
  number: (draw) => `${draw(999)} + ${draw(999)}\n`,
};

/** Writes `texts` short documents of each kind below `folder`/text. */
export function writeTexts(folder: string, texts = 40): void {
  for (const kind of KINDS) {
    const random = createRandom(1, `text/${kind}`);
    const draw = (most: number) => uniformInt(random, 0, most);
    mkdirSync(join(folder, "text", kind), { recursive: true });
    for (let index = 0; index < texts; index++) {
      const lines = Array.from({ length: 8 + draw(8) }, () => LINES[kind](draw));
      writeFileSync(join(folder, "text", kind, `${index}.txt`), lines.join("").trim());
    }
  }
}

/** The recipe, checked. */
export function parsedRecipe(changes: Readonly<Record<string, unknown>> = {}): Recipe {
  return parseRecipe(tinyRecipe(changes));
}

/** Trains in `folder`/`run`, on the texts of `folder`. */
export function trainTiny(
  folder: string,
  run: string,
  backend: Backend,
  { changes = {}, ...options }: Partial<TrainOptions> & { readonly changes?: Readonly<Record<string, unknown>> } = {},
): Promise<TrainOutcome> {
  return train({
    recipe: parsedRecipe(changes),
    baseDirectory: folder,
    directory: join(folder, run),
    cacheDirectory: join(folder, "cache"),
    backend,
    resume: false,
    ...options,
  });
}

/** A signal that is aborted when an event passes the test. */
export function stopAt(test: (event: TrainEvent) => boolean): Pick<TrainOptions, "signal" | "onEvent"> {
  const controller = new AbortController();
  return { signal: controller.signal, onEvent: (event) => test(event) && controller.abort() };
}
