/** Filters on any text, and on texts that are made to be slow. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import { filtersSchema } from "../../src/config/dataFilters.ts";
import { createFilters, type NamedFilter } from "../../src/data/filters/create.io.ts";
import { applyReplacements } from "../../src/data/filters/replacements.ts";
import { documentOf } from "../filters.ts";

const CLASSIFIER = fileURLToPath(new URL("../../examples/filters/classifier.mjs", import.meta.url));
const KINDS = [
  { kind: "repetition", cutCharacters: 100_000 },
  { kind: "starcoder" },
  { kind: "gopher" },
  { kind: "c4", minSentences: 0 },
  { kind: "length", minWords: 1 },
  { kind: "language" },
  { kind: "pii", maxMasked: 1_000_000 },
  { kind: "contamination", files: ["items.txt"], ngram: 2 },
  { kind: "module", file: CLASSIFIER },
];
const encode = (text: string) => Int32Array.from({ length: text.length }, (_, place) => text.charCodeAt(place));

let filters: NamedFilter[];
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "filters-"));
  await writeFile(path.join(folder, "items.txt"), "a b a b\n\nthe miller");
  filters = await createFilters(filtersSchema.parse(KINDS), { encode, baseDirectory: folder });
});
afterAll(() => rm(folder, { recursive: true }));

/** Checks what all filters find in a text and returns the reasons for dropping it. */
async function check(text: string): Promise<(string | undefined)[]> {
  const document = documentOf(text);
  const reasons: (string | undefined)[] = [];
  for (const filter of filters) {
    const attributes = await filter.tag(document);
    for (const [name, spans] of Object.entries(attributes)) {
      let last = 0;
      for (const [start, end, score] of spans) {
        if (!(start >= last && end >= start && end <= text.length && Number.isFinite(score))) {
          throw new Error(`${filter.name} ${name}: [${start}, ${end}, ${score}] after ${last}, of ${text.length}`);
        }
        last = end;
      }
    }
    const { drop, replace = [] } = filter.judge(attributes);
    let last = 0;
    for (const { start, end } of replace) {
      if (start < last || end < start || end > text.length)
        throw new Error(`${filter.name}: replaces ${start} to ${end}`);
      last = end;
    }
    applyReplacements(text, replace);
    reasons.push(drop);
  }
  return reasons;
}

const pieces = fc.constantFrom(
  ..."ab.@#-({\n \t\"'19\u0085\u2026\u2022\ufeff".split(""),
  "\ud800",
  "\udc00",
  "\u{1f680}",
  "a@b.c ",
  "555-123-4567 ",
  "10.0.0.1",
  "javascript",
  "lorem ipsum",
  "the ",
);

it("never throws, and finds spans in order inside the text, in any text", async () => {
  const texts = fc.oneof(
    fc.string({ unit: "binary", maxLength: 300 }),
    fc.array(pieces, { maxLength: 80 }).map((list) => list.join("")),
    fc.array(fc.nat(0xffff), { maxLength: 80 }).map((units) => String.fromCharCode(...units)),
  );
  await fc.assert(
    fc.asyncProperty(texts, async (text) => {
      await check(text);
    }),
    { numRuns: 300 },
  );
});

it("says the same of a text whatever was looked at before", async () => {
  const texts = ["The boats and a@b.org. ".repeat(40), "x ".repeat(3000), "", "one\n\ntwo 10.0.0.1"];
  const first = [];
  for (const text of texts) first.push(await check(text));
  const second = [];
  for (const text of texts.toReversed()) second.push(await check(text));
  expect(second.toReversed()).toEqual(first);
});

/** Ten million characters of what a text is mostly made of, one million of what is hard. */
const HOSTILE: [string, number][] = [
  ...["a", " ", "\n", "@"].map((unit): [string, number] => [unit, 1e7]),
  ...["a ", "a\n", ".", "1", "(", '"', "-", "\ud800", "@.", "1.", "555-", "a@b.c", "a@", "#\u2026", "...", ". "].map(
    (unit): [string, number] => [unit, 1e6],
  ),
];

it.each(HOSTILE)("gets through %j, again and again for %d characters", async (unit, characters) => {
  const document = documentOf(unit.repeat(characters / unit.length));
  // Encoders and modules are not this library's.
  for (const filter of filters.filter(({ kind }) => kind !== "module" && kind !== "repetition")) {
    filter.judge(await filter.tag(document));
  }
});
