/** What holds for every OLMoE model: converted anywhere and back, its weights are the same bytes. */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createReferenceBackend } from "../../src/backend/reference/backend.ts";
import { resolveModel } from "../../src/config/presets.ts";
import { convertModel } from "../../src/formats/convert.io.ts";
import { readModelConfig } from "../../src/formats/huggingface.io.ts";
import { saveModel } from "../../src/formats/model.io.ts";
import { Parameters } from "../../src/model/parameters.ts";

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "olmoe-there-and-back-"));
});
afterAll(() => rm(root, { recursive: true }));

const between = (min: number, max: number) => fc.integer({ min, max });

const anyModel = fc
  .record({
    kvHeads: between(1, 2),
    groups: between(1, 2),
    headPairs: between(1, 3),
    intermediateSize: between(1, 9),
    numHiddenLayers: between(1, 3),
    numExperts: between(1, 5),
    vocabSize: between(4, 40),
    tieWordEmbeddings: fc.boolean(),
    ropeTheta: fc.constantFrom(10_000, 500_000, 1234.5),
    rmsNormEps: fc.constantFrom(1e-5, 1e-6, 1e-3),
  })
  .map(({ kvHeads, groups, headPairs, ...rest }) => ({
    ...rest,
    numExpertsPerTok: rest.numExperts,
    numKeyValueHeads: kvHeads,
    numAttentionHeads: kvHeads * groups,
    hiddenSize: kvHeads * groups * headPairs * 2,
    eosTokenId: 2,
    padTokenId: 1,
  }));

const anyWay = fc.array(
  fc.record({
    to: fc.constantFrom("gguf" as const, "huggingface" as const, "olmo" as const),
    maxShardBytes: fc.option(between(1, 20_000), { nil: undefined }),
  }),
  { minLength: 1, maxLength: 3 },
);

it("is converted there and back without a change", async () => {
  let run = 0;
  const dtypes = fc.constantFrom("f32" as const, "f16" as const, "bf16" as const);
  await fc.assert(
    fc.asyncProperty(anyModel, dtypes, anyWay, async (model, dtype, way) => {
      const folder = join(root, String(run++));
      const parameters = new Parameters(createReferenceBackend(), resolveModel(model), { trainable: false });
      parameters.initialise(run);
      const start = join(folder, "start");
      await saveModel(start, parameters, { dtype });
      let at = start;
      for (const [index, { to, maxShardBytes }] of way.entries()) {
        const next = join(folder, `${index}${to === "gguf" ? ".gguf" : ""}`);
        const { paths } = await convertModel(at, next, to === "olmo" ? { to } : { to, maxShardBytes });
        at = paths.at(-1) as string;
      }
      const back = join(folder, "back");
      await convertModel(at, back);
      const [original, result] = await Promise.all(
        [start, back].map((path) => readFile(join(path, "model.safetensors"))),
      );
      expect(result?.equals(original as Buffer)).toBe(true);
      expect(await readModelConfig(back)).toEqual(await readModelConfig(start));
      await rm(folder, { recursive: true });
    }),
    { seed: 11, numRuns: 60 },
  );
});
