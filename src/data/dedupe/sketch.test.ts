import { expect, it } from "vitest";
import { NOTHING, randomWords } from "../../../test/dedupeCorpus.ts";
import { createRandom } from "../../util/random.ts";
import { createSketcher } from "./sketch.ts";

const ALL = { exact: true, near: { threshold: 0.8 }, paragraphs: { minLength: 3, errorRate: 1e-4 } };

it("has the digests of XXH3, big-endian, so that they are the same on every machine", async () => {
  const sketch = await createSketcher(ALL);
  const { digest, paragraphs } = sketch("abc");
  expect([...digest]).toEqual([0x06b05ab6, 0x733a6185, 0x78af5f94, 0x892f3950]);
  expect([...sketch("ab\nabc\n\nabc").paragraphs]).toEqual([0x78af5f94, 0x892f3950, 1, 0x78af5f94, 0x892f3950, 3]);
  expect([...paragraphs]).toEqual([0x78af5f94, 0x892f3950, 0]);
});

it("has a signature and a key for each band from 20 shingles on", async () => {
  const sketch = await createSketcher(ALL);
  const words = randomWords(createRandom(1, "sketch"), 24);
  const lengths = [words.slice(1), words].map((some) => {
    const { signature, bandKeys } = sketch(some.join(" "));
    return [signature.length, bandKeys.length];
  });
  expect(lengths).toEqual([
    [0, 0],
    [128, 32],
  ]);
});

it("has only what the options ask for", async () => {
  const text = randomWords(createRandom(2, "sketch"), 50).join(" ");
  const lengths = async (options: Partial<typeof ALL>) => {
    const { digest, signature, bandKeys, paragraphs } = (await createSketcher({ ...NOTHING, ...options }))(text);
    return [digest, signature, bandKeys, paragraphs].map(({ length }) => length);
  };
  expect(await lengths({})).toEqual([0, 0, 0, 0]);
  expect(await lengths({ exact: true })).toEqual([4, 0, 0, 0]);
  expect(await lengths({ near: { threshold: 0.5 } })).toEqual([0, 128, 84, 0]);
  expect(await lengths({ paragraphs: ALL.paragraphs })).toEqual([0, 0, 0, 3]);
});
