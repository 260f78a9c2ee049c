/** Generation and scoring against transformers' values. */
import { describe, expect, it } from "vitest";
import type { Backend } from "../../src/backend/backend.ts";
import { availableBackends } from "../../src/backend/io.ts";
import { createReferenceBackend } from "../../src/backend/reference/backend.ts";
import { openModel } from "../../src/formats/model.io.ts";
import { LocalEngine } from "../../src/infer/localEngine.ts";
import { tokenLogProbs } from "../../src/infer/score.ts";
import { idsOf, request } from "../engines.ts";
import { parityPath, parityPresent, readTensors } from "./fixtures.ts";

const backends: readonly Backend[] = parityPresent ? [...(await availableBackends()), createReferenceBackend()] : [];
const named = backends.map((backend) => [`${backend.name} ${backend.isa}`, backend] as const);

describe.skipIf(!parityPresent)("generation parity with transformers (reference values absent: skipped)", () => {
  describe.each(named)("%s", (_, backend) => {
    it.each(["base", "gqa"])("%s: greedy tokens and log-probabilities", async (variant) => {
      const io = await readTensors(parityPath(`olmoe/${variant}/io.safetensors`));
      const decoder = await openModel(parityPath(`olmoe/${variant}`), backend);
      const [prompt, scored] = [io.i32("generate.prompt"), io.i32("logprobs.input_ids")];
      expect(tokenLogProbs(backend, decoder, scored)).toBeAllClose(io.f32("logprobs.values"), { atol: 1e-5 });
      // Keys and values in halves change the third digit after the point.
      for (const [cacheType, atol] of [
        ["f32", 1e-5],
        ["f16", 3e-3],
      ] as const) {
        const engine = new LocalEngine(backend, decoder, { cacheType, passTokens: 7 });
        const generated = await idsOf(engine.generate(request({ prompt, maxTokens: 40, speculate: 3 })));
        expect(generated).toEqual([...io.i32("generate.tokens")]);
        expect(await engine.logprobs(scored)).toBeAllClose(io.f32("logprobs.values"), { atol });
        await engine.close();
      }
      decoder.dispose();
      decoder.parameters.dispose();
    });
  });
});
