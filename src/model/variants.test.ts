/** Every choice of architecture as a whole model: its value, its cache, its rows, its counts, what an observer sees. */
import { describe, expect, it } from "vitest";
import { Draw } from "../../test/conformance/harness.ts";
import { allBackends, createCache, createDecoder, logitsOf, smallConfig } from "../../test/models.ts";
import { oracleLogits } from "../../test/oracle.ts";
import { VARIANTS } from "../../test/variants.ts";
import type { Backend } from "../backend/backend.ts";
import { moeLayers } from "../config/architecture.ts";
import { countParameters } from "./counts.ts";

const VOCABULARY = 50;
const LENGTH = 12;
const ids = [...new Draw(5).ints(LENGTH, 0, VOCABULARY - 1)];

/** A model whose norms are not at their start, so that a forgotten weight or bias shows. */
function disturbed(backend: Backend, changes: object) {
  const decoder = createDecoder(backend, smallConfig({ numHiddenLayers: 2, ...changes }));
  const draw = new Draw(9);
  for (const { name, data } of decoder.parameters.tensors()) {
    if (name.includes("norm")) for (let i = 0; i < data.length; i++) data[i] = (data[i] as number) + draw.float(0.3);
  }
  return decoder;
}

describe.each(allBackends)("on %s", (_, backend) => {
  it.each([
    ["the released model", {}] as const,
    ["a dense twin", { mlpType: "dense", numExperts: 1, numExpertsPerTok: 1 }] as const,
    ...VARIANTS,
  ])("%s has the logits that plain loops give", (_name, changes) => {
    const decoder = disturbed(backend, changes);
    const tensors = new Map(decoder.parameters.tensors().map(({ name, data }) => [name, data.slice()]));
    const expected = oracleLogits(decoder.config, tensors, ids);
    expect(logitsOf(backend, decoder, ids)).toBeAllClose(expected, { atol: 2e-4, rtol: 1e-4 });
  });

  it.each(VARIANTS)("%s gives the same bits with a cache, in a batch, and observed", (_name, changes) => {
    const decoder = disturbed(backend, changes);
    const whole = logitsOf(backend, decoder, ids);
    const cache = createCache(backend, decoder, LENGTH);
    const pieces = [0, 5, 6, 7, LENGTH].slice(1).map((end, index) => {
      const start = [0, 5, 6, 7][index] as number;
      return [...logitsOf(backend, decoder, ids.slice(start, end), { sequences: [{ tokens: end - start, cache }] })];
    });
    expect(Float32Array.from(pieces.flat())).toEqual(whole);
    const pair = logitsOf(backend, decoder, [...ids.toReversed(), ...ids], { batch: 2 });
    expect(pair.subarray(LENGTH * VOCABULARY)).toEqual(whole);

    const seen: { routing: number[]; mlp: number[] } = { routing: [], mlp: [] };
    const observe = {
      routing: (layer: number) => void seen.routing.push(layer),
      mlpOutput: (layer: number) => void seen.mlp.push(layer),
    };
    expect(logitsOf(backend, decoder, ids, { observe })).toEqual(whole);
    const layers = Array.from({ length: decoder.config.numHiddenLayers }, (__, layer) => layer);
    expect(seen).toEqual({ routing: moeLayers(decoder.config), mlp: layers });
  });
});

describe("countParameters", () => {
  const [, backend] = allBackends.at(-1) as (typeof allBackends)[number];

  it.each(VARIANTS)("counts the tensors of %s", (_name, changes) => {
    const decoder = createDecoder(backend, smallConfig({ numHiddenLayers: 2, ...changes }));
    const sizes = decoder.parameters.tensors().map(({ data }) => data.length);
    expect(countParameters(decoder.config).total).toBe(sizes.reduce((sum, size) => sum + size, 0));
  });
});
