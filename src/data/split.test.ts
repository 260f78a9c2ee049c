import { describe, expect, it } from "vitest";
import { DataError } from "../errors.ts";
import type { Document } from "./document.ts";
import { splitHeldOut } from "./split.ts";

const document = (path: string, text: string, piece = ""): Document => ({
  id: path + piece,
  text,
  source: "s",
  path,
  line: 1,
});
const files = Array.from({ length: 100 }, (_, index) => document(`f${index}`, "x".repeat(100)));
const ids = (documents: readonly Document[]) => documents.map(({ id }) => id);

describe("splitHeldOut", () => {
  it("holds out about the bytes asked for and keeps the rest, in order", () => {
    const { training, heldOut } = splitHeldOut(files, { source: "s", heldOutBytes: 1000, seed: 1 });
    expect(heldOut.length).toBe(10);
    expect([...training, ...heldOut].length).toBe(100);
    expect(ids(training)).toEqual(ids(files.filter((file) => !heldOut.includes(file))));
    expect(ids(heldOut)).toEqual(ids(files.filter((file) => heldOut.includes(file))));
  });

  it("never holds out more than a fifth", () => {
    const { heldOut } = splitHeldOut(files, { source: "s", heldOutBytes: 1e9, seed: 1 });
    expect(heldOut.length).toBe(20);
  });

  it("draws the same documents for a seed and others for another", () => {
    const draw = (seed: number) => ids(splitHeldOut(files, { source: "s", heldOutBytes: 1000, seed }).heldOut);
    expect(draw(1)).toEqual(draw(1));
    expect(draw(2)).not.toEqual(draw(1));
  });

  it("keeps the pieces of one text on one side", () => {
    const pieces = files
      .slice(0, 50)
      .flatMap(({ path, text }) => [document(path, text, "#1"), document(path, text, "#2")]);
    const { training, heldOut } = splitHeldOut(pieces, { source: "s", heldOutBytes: 2000, seed: 1 });
    const held = new Set(heldOut.map(({ path }) => path));
    expect(held.size).toBe(10);
    expect(training.some(({ path }) => held.has(path))).toBe(false);
  });

  it("divides a text that is the whole source", () => {
    const book = Array.from({ length: 40 }, (_, index) => document("book", "x".repeat(100), `#${index}`));
    expect(splitHeldOut(book, { source: "s", heldOutBytes: 400, seed: 1 }).heldOut.length).toBe(4);
  });

  it("refuses a source of too few documents", () => {
    expect(() => splitHeldOut(files.slice(0, 3), { source: "s", heldOutBytes: 100, seed: 1 })).toThrow(
      new DataError('source "s": 3 documents of 300 bytes, none is at most a fifth of them and can be held out', {
        hint: "add text, or lower maxDocumentChars so that long texts are cut",
      }),
    );
  });
});
