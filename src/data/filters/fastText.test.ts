import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import fc from "fast-check";
import { getLIDModel, type FastTextModel as Theirs } from "fasttext.wasm.js";
import { beforeAll, describe, expect, it } from "vitest";
import { FastTextModel } from "./fastText.ts";

const file = new Uint8Array(
  readFileSync(createRequire(import.meta.url).resolve("fasttext.wasm.js/dist/fastText/models/lid.176.ftz")),
);

const SENTENCES = [
  "The boats come down the river in the morning, and the miller counts them before the rain.",
  "Die Boote kommen am Morgen den Fluss herunter, und der M\u00fcller z\u00e4hlt sie vor dem Regen.",
  "Les bateaux descendent la rivi\u00e8re le matin, et le meunier les compte avant la pluie.",
  "Los barcos bajan por el r\u00edo por la ma\u00f1ana y el molinero los cuenta antes de la lluvia.",
  "\u041b\u043e\u0434\u043a\u0438 \u043f\u043b\u044b\u0432\u0443\u0442 \u043f\u043e \u0440\u0435\u043a\u0435 \u0443\u0442\u0440\u043e\u043c.",
  "\u8239\u65e9\u4e0a\u987a\u6cb3\u800c\u4e0b",
  "\u6735\u304c\u5ddd\u3092\u4e0b\u308b",
  "\u0627\u0644\u0642\u0648\u0627\u0631\u0628 \u062a\u0646\u0632\u0644 \u0627\u0644\u0646\u0647\u0631",
  "\ubc30\uac00 \uac15\uc744 \ub0b4\ub824\uc628\ub2e4",
  "\u03a4\u03b1 \u03c0\u03bb\u03bf\u03af\u03b1 \u03ba\u03b1\u03c4\u03b5\u03b2\u03b1\u03af\u03bd\u03bf\u03c5\u03bd",
];

describe("lid.176, beside fastText's own program", () => {
  let ours: FastTextModel;
  let theirs: Theirs;
  beforeAll(async () => {
    ours = new FastTextModel(file);
    theirs = await (await getLIDModel()).load();
  });

  /** Checks that both say the same of a text without ends of lines and "</s>", where fastText would stop. */
  function compare(text: string): void {
    const found = theirs.predict(text, 1, 0);
    const [probability, label] = found.get(0) as [number, string];
    const expected = {
      label: label.replace("__label__", ""),
      probability: expect.closeTo(Math.min(1, probability), 5),
    };
    // A text without anything known has the label of its end alone.
    expect(ours.predict(text) ?? expected).toEqual(expected);
  }

  it("has the same labels and probabilities for sentences and words", () => {
    for (const sentence of SENTENCES) {
      compare(sentence);
      for (const word of sentence.split(" ")) compare(word);
    }
    compare(SENTENCES.join(" ").repeat(20));
  });

  it("has them for any text", () => {
    const words = fc.constantFrom(...SENTENCES.join(" ").split(/ |(?<=[^ -~])/u), "<", ">", "12", "a>b", "\0");
    const texts = fc.oneof(
      fc.string({ unit: "grapheme" }).map((text) => text.replace(/[\n\r]/g, " ")),
      fc.array(words, { maxLength: 12 }).map((list) => list.join(" ")),
      fc.array(words, { maxLength: 6 }).map((list) => list.join("")),
    );
    fc.assert(fc.property(texts, compare), { numRuns: 500 });
  });

  it("knows 176 languages", () => {
    expect([ours.labels.length, ours.labels.slice(0, 3)]).toEqual([176, ["en", "ru", "de"]]);
  });

  it("says nothing of a text without words and n-grams that it knows", () => {
    expect(["", " \n", "12345 67890", "!!!"].map((text) => ours.predict(text))).toEqual(new Array(4).fill(undefined));
  });

  it("takes ends of lines for white space", () => {
    expect(ours.predict("Die Boote\nkommen\tam Morgen")).toEqual(ours.predict("Die Boote kommen am Morgen"));
  });
});

it("says what is wrong with a model", () => {
  const changed = (place: number, value: number) => file.with(place, value);
  const kind =
    "model of fastText: expected a quantised one, pruned to 65535 rows, of single words and n-grams of two characters and more, with hierarchical softmax";
  const cases: [Uint8Array, string][] = [
    [changed(0, 1), "not a model of fastText, version 12"],
    [changed(4, 11), "not a model of fastText, version 12"],
    [changed(32, 3), kind],
    [file.subarray(0, 1000), "model of fastText: ends early"],
    [file.subarray(0, 60), "model of fastText: ends early"],
    [new Uint8Array(0), "model of fastText: ends early"],
  ];
  for (const [bytes, message] of cases) expect(() => new FastTextModel(bytes)).toThrow(message);
});
