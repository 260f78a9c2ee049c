import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { deduplicate } from "../../../test/dedupeCorpus.ts";
import { exactCopies } from "./exact.ts";
import type { RecordBlock } from "./records.ts";

const EXACT = { exact: true };

/** What a set of all texts says. */
function bySet(tasks: readonly (readonly string[])[]): string[] {
  const first = new Map<string, string>();
  return tasks.flatMap((texts, task) =>
    texts.flatMap((text, document) => {
      const place = `${task}/${document}`;
      const kept = first.get(text);
      if (kept === undefined) first.set(text, place);
      return kept === undefined ? [] : [`${place} exact ${kept}`];
    }),
  );
}

/** A text as a file holds it: with U+FFFD in place of lone surrogates. */
function throughFile(text: string): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(new TextEncoder().encode(text));
}

describe("exact deduplication", () => {
  it("keeps the first of equal documents, within a task and across tasks", async () => {
    const { copies } = await deduplicate([["a", "b", "a"], [], ["c", "b", "a "]], EXACT);
    expect(copies).toEqual(["0/2 exact 0/0", "2/1 exact 0/1"]);
  });

  it("finds nothing in an empty corpus", async () => {
    expect([await deduplicate([], EXACT), await deduplicate([[]], EXACT)]).toEqual([
      { copies: [], cuts: [] },
      { copies: [], cuts: [] },
    ]);
  });

  it("keeps one document where all are equal", async () => {
    const { copies } = await deduplicate([Array(50).fill("same"), Array(50).fill("same")], EXACT, 3);
    expect(copies).toHaveLength(99);
    expect(new Set(copies.map((copy) => copy.split(" exact ")[1]))).toEqual(new Set(["0/0"]));
  });

  it("tells texts apart that differ in one place, however long they are", async () => {
    const long = "An even line. ".repeat(20_000);
    const { copies } = await deduplicate([[long, `${long}x`, `x${long}`, long.replace(".", ","), long]], EXACT);
    expect(copies).toEqual(["0/4 exact 0/0"]);
  });

  it("hashes beyond the part that is encoded at once as one text, characters of four bytes too", async () => {
    const texts = [65_535, 65_534, 65_533, 65_532].map((length) => `${"x".repeat(length)}${"\u{1f600}".repeat(9)}`);
    const { copies } = await deduplicate([texts, [...texts].reverse()], EXACT);
    expect(copies).toEqual(["1/0 exact 0/3", "1/1 exact 0/2", "1/2 exact 0/1", "1/3 exact 0/0"]);
  });

  it("agrees with a set of texts for any corpus and any number of partitions", async () => {
    const text = fc.oneof(fc.constantFrom("", "a", "b", "\ud800", "aa\n"), fc.string({ maxLength: 3 }));
    const tasks = fc.array(fc.array(text, { maxLength: 12 }), { maxLength: 5 });
    await fc.assert(
      fc.asyncProperty(tasks, fc.constantFrom(1, 2, 7, 64), async (corpus, partitions) => {
        const { copies } = await deduplicate(corpus, EXACT, partitions);
        expect(copies).toEqual(bySet(corpus.map((texts) => texts.map(throughFile))));
      }),
      { numRuns: 60, seed: 6198 },
    );
  });

  it("takes 100,000 short documents, every second one a copy", async () => {
    const tasks = Array.from({ length: 10 }, (_, task) =>
      Array.from({ length: 10_000 }, (_, index) => `document ${(task * 10_000 + index) % 50_000}`),
    );
    const { copies } = await deduplicate(tasks, EXACT);
    expect([copies.length, copies[0], copies.at(-1)]).toEqual([50_000, "5/0 exact 0/0", "9/9999 exact 4/9999"]);
  });

  it("says so where tasks come out of order", async () => {
    const blocks = async function* (): AsyncGenerator<RecordBlock> {
      for (const task of [1, 0]) yield { task, records: Uint32Array.of(1, 2, 3, 4, 0) };
    };
    const run = async () => {
      for await (const _ of exactCopies(blocks(), 2));
    };
    await expect(run()).rejects.toThrow("internal: records of task 0 come after those of task 1");
  });
});
