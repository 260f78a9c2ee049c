/** Generation and scoring against transformers' values. */
import { describe, expect, it } from "vitest";
import type { Backend } from "../../src/backend/backend.ts";
import { availableBackends } from "../../src/backend/io.ts";
import { createReferenceBackend } from "../../src/backend/reference/backend.ts";
import { openModel } from "../../src/formats/model.io.ts";
import { generate } from "../../src/infer/generate.ts";
import { tokenLogProbs } from "../../src/infer/score.ts";
import { parityPath, parityPresent, readTensors } from "./fixtures.ts";

const backends: readonly Backend[] = parityPresent ? [...(await availableBackends()), createReferenceBackend()] : [];
const named = backends.map((backend) => [`${backend.name} ${backend.isa}`, backend] as const);

describe.skipIf(!parityPresent)("generation parity with transformers (reference values absent: skipped)", () => {
  describe.each(named)("%s", (_, backend) => {
    it.each(["base", "gqa"])("%s: greedy tokens and log-probabilities", async (variant) => {
      const io = await readTensors(parityPath(`olmoe/${variant}/io.safetensors`));
      const decoder = await openModel(parityPath(`olmoe/${variant}`), backend);
      const options = { maxTokens: 40, sampling: { temperature: 0 }, stopIds: [] };
      const ids: number[] = [];
      for await (const id of generate(backend, decoder, io.i32("generate.prompt"), options)) ids.push(id);
      expect(ids).toEqual([...io.i32("generate.tokens")]);
      const logProbs = tokenLogProbs(backend, decoder, io.i32("logprobs.input_ids"));
      expect(logProbs).toBeAllClose(io.f32("logprobs.values"), { atol: 1e-5 });
      decoder.dispose();
      decoder.parameters.dispose();
    });
  });
});
