import fc from "fast-check";
import { expect, it } from "vitest";
import { byteCharacters } from "../src/tokenizer/byteLevel.ts";
import { CONTINUED, flowTexts, label, percent, visible, writtenText } from "./text.ts";

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

it("shows a character that several tokens make up in the first of them", () => {
  const [bear] = [[...new TextEncoder().encode("🐻")]];
  const entries = [[0x61], [...bear.slice(0, 2)], [bear[2]!], [bear[3]!, 0x62], [0xe4], [0x63], [0xc3]].map(entryOf);
  expect(flowTexts(entries)).toEqual(["a", "🐻", CONTINUED, "b", "<0xE4>", "c", "<0xC3>"]);
});

it("loses no text, however it is cut into tokens", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme" }), fc.array(fc.integer({ min: 1, max: 5 })), (text, lengths) => {
      const bytes = [...new TextEncoder().encode(text)];
      const entries: string[] = [];
      for (const length of [...lengths, bytes.length]) entries.push(entryOf(bytes.splice(0, length)));
      const shown = flowTexts(entries.filter((entry) => entry !== ""));
      expect(shown.filter((part) => part !== CONTINUED).join("")).toBe(text.replaceAll(CONTINUED, ""));
    }),
  );
});

it("writes shares with as many digits as say something", () => {
  expect([0, 0.0004, 0.123, 1, Number.NaN].map(percent)).toEqual(["0 %", "0.040 %", "12.3 %", "100 %", "–"]);
});
