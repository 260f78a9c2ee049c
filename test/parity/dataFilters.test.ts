/** The two filters of OLMoE-Mix against Dolma's own taggers and the paper's rule. */
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, it } from "vitest";
import { scoreOf } from "../../src/data/attributes.ts";
import { type Encode, repetitionFilter } from "../../src/data/filters/repetition.ts";
import { starcoderFilter } from "../../src/data/filters/starcoder.ts";
import { loadTokenizer } from "../../src/tokenizer/io.ts";
import { documentOf, filterRecipe } from "../filters.ts";
import { parityPath, parityPresent } from "./fixtures.ts";

const TOKENIZER = fileURLToPath(
  new URL("../../../shared/data/tokenizers/allenai_eleuther-ai-gpt-neox-20b-pii-special.json", import.meta.url),
);

const read = (name: string) => JSON.parse(readFileSync(parityPath(name), "utf8"));

describe.skipIf(!parityPresent || !existsSync(TOKENIZER))(
  "repeated n-grams (skipped where the reference values or the tokenizer are absent)",
  () => {
    let encode: Encode;
    beforeAll(async () => {
      const tokenizer = await loadTokenizer(TOKENIZER);
      encode = async (text) => Int32Array.from(await tokenizer.encode(text));
    });

    it.each([
      ["tokenizer_repetitions_v1", null, "max_times_v1", "drop"],
      ["tokenizer_repetitions_v2r2", 100_000, "max_times_v2r2", "drop_v2r2"],
    ] as const)("have the counts and verdicts of %s", async (_, cutCharacters, times, drop) => {
      const filter = repetitionFilter("repetition", filterRecipe({ kind: "repetition", cutCharacters }), encode);
      for (const { pieces, remark, ...expected } of read("datafilters/repetition.json").cases) {
        const text = pieces.map(([piece, count]: [string, number]) => piece.repeat(count)).join("");
        const attributes = await filter.tag(documentOf(text));
        expect(scoreOf(attributes, "doc_max_score_repetition") ?? 0, remark).toBe(expected[times]);
        expect(filter.judge(attributes).drop !== undefined, remark).toBe(expected[drop]);
      }
    });
  },
);

describe.skipIf(!parityPresent)("StarCoder's rules (skipped where the reference values are absent)", () => {
  it("have the stars, word shares and both verdicts of every case", async () => {
    const rule = (limits: object) => starcoderFilter("starcoder", filterRecipe({ kind: "starcoder", ...limits }));
    const both = rule({});
    const onlyStars = rule({ maxTopWordShare: 1, maxTopTwoWordsShare: 1 });
    const onlyWords = rule({ minStars: 0 });
    for (const { remark, metadata, text, ...expected } of read("datafilters/starcoder.json").cases) {
      const attributes = await both.tag(documentOf(text, metadata));
      const words = Math.max(1, expected.words);
      if (text !== "") {
        expect(scoreOf(attributes, "num_github_stars_doc"), remark).toBe(expected.stars);
        expect(scoreOf(attributes, "top_word_share"), remark).toBe(expected.top / words);
        expect(scoreOf(attributes, "top_two_words_share"), remark).toBe((expected.top + expected.second) / words);
      }
      const dropped = [onlyStars, onlyWords, both].map((filter) => filter.judge(attributes).drop !== undefined);
      expect(dropped, remark).toEqual([expected.drop_stars, expected.drop_words, expected.drop]);
    }
  });
});
