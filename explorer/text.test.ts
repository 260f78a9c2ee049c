import fc from "fast-check";
import { expect, it } from "vitest";
import { byteCharacters } from "../src/tokenizer/byteLevel.ts";
import { label, percent, visible, writtenText } from "./text.ts";

const entryOf = (bytes: Iterable<number>) => Array.from(bytes, (byte) => byteCharacters[byte]).join("");

it("shows what has no picture", () => {
  const hostile = "a\u0000\u001b[31m\n\tb\u202ec\u2066d\u200be\ud800f\ufeff\u0085<b>&";
  expect(visible(hostile)).toBe("a⟨00⟩⟨1B⟩[31m↵⇥b⟨RLO⟩c⟨LRI⟩d⟨ZWSP⟩e⟨D800⟩f⟨BOM⟩⟨85⟩<b>&");
});

it("leaves ordinary text of any script alone", () => {
  const text = "naïve Ωμέγα 日本語 שלום 👩 e\u0301";
  expect(visible(text)).toBe(text);
});

it("cuts heaps of marks", () => {
  expect(visible(`a${"\u0301".repeat(500)}b`)).toBe(`a${"\u0301".repeat(4)}…b`);
});

it("labels are one short line that shows its spaces", () => {
  expect([label(" the"), label("  "), label("a b"), label("abcdef", 4), label("x".repeat(1e6), 5)]).toEqual([
    "·the",
    "··",
    "a b",
    "abc…",
    "xxxx…",
  ]);
});

it("no text leaves anything invisible, and labels keep their length", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 24 }), (text) => {
      expect(/[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\u2028\u2029]/u.test(visible(text))).toBe(false);
      expect(Array.from(label(text, 12)).length).toBeLessThanOrEqual(12);
    }),
  );
});

it("reads vocabulary entries back as the text they were written from", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme" }), (text) => {
      expect(writtenText(entryOf(new TextEncoder().encode(text)))).toBe(text);
    }),
  );
  expect(writtenText(entryOf([0xe4, 0x41, 0x0a]))).toBe("<0xE4>A<0x0A>");
});

it("writes shares with as many digits as say something", () => {
  expect([0, 0.0004, 0.123, 1, Number.NaN].map(percent)).toEqual(["0 %", "0.040 %", "12.3 %", "100 %", "–"]);
});
