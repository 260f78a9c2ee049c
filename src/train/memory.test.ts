/** Training must not grow: neither the arena, nor what the process holds, nor attention by the square of the length. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect, it } from "vitest";
import { Draw } from "../../test/conformance/harness.ts";
import { gradientBackends, Variables } from "../../test/gradients.ts";
import { createDecoder, smallConfig } from "../../test/models.ts";
import { weightedSum } from "../autograd/gradientCheck.ts";
import { Graph } from "../autograd/graph.ts";
import { attention } from "../autograd/ops/attention.ts";
import type { Backend } from "../backend/backend.ts";
import { lossSchema, optimizerSchema } from "../config/recipe.ts";
import { Arena } from "../tensor/arena.ts";
import { TrainStep } from "./step.ts";

const [, backend] = gradientBackends.at(-1) as (typeof gradientBackends)[number];
const MIB = 2 ** 20;

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

/** Bytes of array buffers that are still reachable, those over native memory included. */
function externalBytes(): number {
  collectGarbage();
  return process.memoryUsage().external;
}

describe("200 training steps", () => {
  it("hold activations and, after a hundred before them, the process's external memory flat", () => {
    const [sequences, length] = [4, 32];
    const decoder = createDecoder(backend, smallConfig(), { trainable: true });
    const trainer = new TrainStep(backend, decoder, {
      sequenceLength: length,
      microBatchSize: 2,
      loss: lossSchema.parse({}),
      optimizer: optimizerSchema.parse({}),
    });
    const draw = new Draw(1);
    const step = () => {
      const ids = draw.ints(sequences * length, 0, 49);
      trainer.run({ ids, labels: ids }, 1e-3);
    };
    for (let i = 0; i < 3; i++) step();
    const activations = trainer.activationBytes;
    const seen = new Set<number>();
    const more = (steps: number) => {
      for (let i = 0; i < steps; i++) {
        step();
        seen.add(trainer.activationBytes);
      }
      return externalBytes();
    };
    // Node takes some memory of its own once, in the first steps.
    let settled = more(100);
    // One leaked activation a step would be 800 kB and more, in every window; what Node takes for itself comes in one.
    const growths = [0, 1].map(() => {
      const before = settled;
      settled = more(200);
      return settled - before;
    });
    expect(Math.min(...growths)).toBeLessThan(100_000);
    expect([...seen]).toEqual([activations]);
    trainer.dispose();
    expect(trainer.activationBytes).toBe(0);
  });
});

describe("attention", () => {
  /** Arena bytes of a forward and backward pass over one sequence. */
  function bytesAt(on: Backend, length: number): number {
    const arena = new Arena(on);
    const graph = new Graph(on, arena, { record: true });
    const make = new Variables(on, 1);
    const [q, k, v] = [make.variable([length, 16]), make.variable([length, 16]), make.variable([length, 16])];
    const out = attention(graph, q, k, v, { batch: 1, heads: 1, kvHeads: 1 });
    weightedSum(graph, out, make.weights(out.value.size));
    graph.backward();
    const bytes = arena.reservedBytes;
    arena.dispose();
    return bytes;
  }

  it("takes memory that is linear in the length, of the arena and of the process", () => {
    bytesAt(backend, 512);
    const before = process.resourceUsage().maxRSS * 1024;
    // One matrix of all scores would be 144 MiB.
    expect(bytesAt(backend, 6144)).toBe(8 * MIB);
    expect(process.resourceUsage().maxRSS * 1024 - before).toBeLessThan(72 * MIB);
  });
});
