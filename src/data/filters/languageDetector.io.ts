/** The detector of languages: lid.176, Facebook's model of 176 languages (CC BY-SA 3.0), which the package `fasttext.wasm.js` brings along. */
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { FastTextModel } from "./fastText.ts";
import type { LanguageDetector } from "./language.ts";

const MODEL = "fasttext.wasm.js/dist/fastText/models/lid.176.ftz";

/** Loads the detector. The package's own program takes five times as long for a text. */
export async function loadLanguageDetector(): Promise<LanguageDetector> {
  const model = new FastTextModel(await readFile(createRequire(import.meta.url).resolve(MODEL)));
  return {
    languages: model.labels.toSorted(),
    detect(text) {
      const found = model.predict(text);
      return found && { language: found.label, score: found.probability };
    },
  };
}
