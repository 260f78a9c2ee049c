import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { cutText, documentsOf, normalizeLineEnds, stripWhitespace, utf8Bytes } from "./document.ts";

const whole = { id: "a.txt", source: "s", path: "a.txt", line: 1 };

describe("stripWhitespace", () => {
  it("takes off what Python's strip does, and keeps a byte order mark", () => {
    expect(stripWhitespace("\x1c\x1f\x85\u3000\t a b \u2028\r\n")).toBe("a b");
    expect(stripWhitespace("\ufeffa\ufeff")).toBe("\ufeffa\ufeff");
    expect(stripWhitespace(" \n ")).toBe("");
  });
});

describe("normalizeLineEnds", () => {
  it("turns CRLF and CR into LF", () => {
    expect(normalizeLineEnds("a\r\nb\rc\n\r\n")).toBe("a\nb\nc\n\n");
  });
});

describe("utf8Bytes", () => {
  it("counts what TextEncoder writes", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        expect(utf8Bytes(text)).toBe(new TextEncoder().encode(text).length);
      }),
      { seed: 1 },
    );
  });
});

describe("cutText", () => {
  it("prefers a paragraph border, then a line, then a word", () => {
    expect(cutText("one two\nthree\n\nfour five\nsix", 18)).toEqual(["one two\nthree", "four five\nsix"]);
    expect(cutText("one two\nthree four five", 15)).toEqual(["one two\nthree", "four five"]);
    expect(cutText("aaaa bbbb cccc dddd", 10)).toEqual(["aaaa bbbb", "cccc dddd"]);
    expect(cutText("abcdefghij", 4)).toEqual(["abcd", "efgh", "ij"]);
  });

  it("keeps surrogate pairs whole", () => {
    expect(cutText("abc\u{1F600}def", 4)).toEqual(["abc", "\u{1F600}de", "f"]);
  });

  it("loses nothing but white space and keeps to the limit", () => {
    const text = fc.stringMatching(/^[ab \n]{0,400}$/);
    fc.assert(
      fc.property(text, fc.integer({ min: 5, max: 60 }), (value, limit) => {
        const pieces = cutText(value, limit);
        expect(pieces.every((piece) => piece.length > 0 && piece.length <= limit)).toBe(true);
        expect(pieces.join("").replace(/\s/g, "")).toBe(value.replace(/\s/g, ""));
      }),
      { seed: 3 },
    );
  });
});

describe("documentsOf", () => {
  it("numbers pieces of a long text and leaves a short one its id", () => {
    expect(documentsOf({ ...whole, text: " short \n" }, 100)).toEqual([{ ...whole, text: "short" }]);
    expect(documentsOf({ ...whole, text: "one\n\ntwo" }, 5)).toEqual([
      { ...whole, id: "a.txt#1", text: "one" },
      { ...whole, id: "a.txt#2", text: "two" },
    ]);
    expect(documentsOf({ ...whole, text: "\n" }, 5)).toEqual([]);
  });
});
