/** Text in and out of GGUF files against llama.cpp's values. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { OlmoeModel } from "../../src/infer/model.io.ts";
import { parityPath, parityPresent, readTensors } from "./fixtures.ts";

interface Expected {
  readonly prompt: string;
  readonly prompt_ids: readonly number[];
  readonly files: readonly { readonly file: string; readonly greedy: readonly number[] }[];
  readonly tokenisation: readonly { readonly text: string; readonly hf: readonly number[] }[];
}

describe.skipIf(!parityPresent)("OlmoeModel over llama.cpp's files (reference values absent: skipped)", () => {
  it.each(["native", "wasm", "reference"] as const)(
    "gives the f32 file's text, ids and logits on %s",
    async (backend) => {
      const expected: Expected = JSON.parse(readFileSync(parityPath("gguf/narrow/expected.json"), "utf8"));
      const path = parityPath("gguf/narrow/tiny-f32.gguf");
      await using model = await OlmoeModel.open(path, {
        backend,
        cacheType: "f32",
        activations: "f32",
        inProcess: true,
      });
      const { prompt, prompt_ids: promptIds } = expected;
      expect([...(await model.tokenize(prompt))]).toEqual(promptIds);
      const greedy = expected.files.find(({ file }) => file === "tiny-f32.gguf")?.greedy ?? [];
      const { ids, text } = await model.generate(prompt, { maxTokens: 32, temperature: 0, stopIds: [] }).result;
      expect(ids).toEqual(greedy);
      expect(text).toBe(model.tokenizer.decode(greedy, { skipSpecialTokens: true }));
      const logits = await readTensors(parityPath("gguf/narrow/logits.safetensors"));
      expect(await model.logits(promptIds)).toBeAllClose(logits.f32("hf_f32"), { atol: 1e-4 });
      expect(model.info.types.F32).toBeGreaterThan(0);
      for (const { text, hf } of expected.tokenisation) expect([...(await model.tokenize(text))]).toEqual(hf);
    },
  );
});
