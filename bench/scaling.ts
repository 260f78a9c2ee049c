/** How the cost of training grows: with the number of experts, and with the length of sequences. */
import { availableParallelism } from "node:os";
import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import type { Backend } from "../src/backend/backend.ts";
import { openBackend } from "../src/backend/io.ts";
import { parseModelConfig } from "../src/config/model.ts";
import { PRESETS } from "../src/config/presets.ts";
import { trainSchema } from "../src/config/recipe.ts";
import { Decoder } from "../src/model/decoder.ts";
import { Parameters } from "../src/model/parameters.ts";
import type { Block } from "../src/tensor/tensor.ts";
import { TrainStep } from "../src/train/step.ts";
import { matmulFlopsPerToken } from "./flops.ts";
import { type BenchOptions, type Contender, describeMachine, interleave, type Row, toRow } from "./harness.ts";
import { fmaPeak, timed } from "./limit.ts";

/** Experts of a layer; each token uses eight of them, so that all of these models do the same arithmetic. */
const EXPERTS = [8, 32, 64, 128, 256] as const;
/** Two layers: 256 experts fit in memory beside the others. */
const LAYERS = 2;
const [BATCH_SIZE, SEQUENCE_LENGTH] = [8, 256] as const;

const LENGTHS = [256, 512, 1024, 2048, 4096, 8192] as const;
/** Heads and channels of one: of the preset `medium`, and of OLMoE-1B-7B. */
const HEAD_SHAPES = [
  [8, 64],
  [16, 128],
] as const;

function openChosen(options: BenchOptions): Promise<Backend> {
  return openBackend({
    backend: options.backend ?? "native",
    threads: options.threads ?? availableParallelism(),
    ...(options.isa === undefined ? {} : { isa: options.isa }),
  });
}

function configOf(experts: number) {
  return parseModelConfig({ ...PRESETS.small, numHiddenLayers: LAYERS, numExperts: experts });
}

/** Tokens per second of a step of a model with this many experts, without its optimiser. */
function expertsContender(backend: Backend, experts: number): Contender {
  const config = configOf(experts);
  const train = trainSchema.parse({ steps: 1, batchSize: BATCH_SIZE, sequenceLength: SEQUENCE_LENGTH });
  const parameters = new Parameters(backend, config, { trainable: true });
  parameters.initialise(1);
  let [started, seconds] = [0, 0];
  const step = new TrainStep(backend, new Decoder(backend, parameters), {
    ...train,
    microBatchSize: BATCH_SIZE,
    onPhase: (phase) => {
      if (phase === "step") started = performance.now();
      else if (phase === "optimizer") seconds = (performance.now() - started) / 1000;
    },
  });
  const generator = xoroshiro128plus(1);
  const ids = Int32Array.from({ length: BATCH_SIZE * SEQUENCE_LENGTH }, () =>
    uniformInt(generator, 0, config.vocabSize - 1),
  );
  const labels = ids.map((_, index) => ((index + 1) % SEQUENCE_LENGTH === 0 ? -100 : (ids[index + 1] as number)));
  return {
    name: `${experts} experts`,
    run: () => {
      step.run({ ids, labels }, train.optimizer.lr);
      return ids.length / seconds;
    },
  };
}

/** One row for each number of experts, beside the fewest. */
export async function* expertsBench(options: BenchOptions): AsyncGenerator<Row> {
  const backend = await openChosen(options);
  const { perToken } = matmulFlopsPerToken(configOf(EXPERTS[0]), SEQUENCE_LENGTH);
  const contenders = [...EXPERTS.map((experts) => expertsContender(backend, experts)), fmaPeak(backend, perToken)];
  const { summaries, otherLoad } = await interleave(contenders, { ...options, warmUp: 2 });
  const fewest = `${EXPERTS[0]} experts`;
  for (const experts of EXPERTS) {
    const ours = `${experts} experts`;
    const shown = new Map([...summaries].filter(([name]) => [ours, fewest, "limit"].includes(name)));
    const machine = describeMachine(backend.kernels.cpuFeatures());
    yield toRow(
      { bench: "experts", case: ours, unit: "tokens/s", machine, ours, limit: "limit" },
      { summaries: shown, otherLoad },
    );
  }
  backend.close();
}

/** GFLOP/s of attention over 8192 tokens in sequences of one length; FLOPs are those of the pairs that see each other. */
function attentionContender(
  backend: Backend,
  [heads, channels]: readonly [heads: number, channels: number],
  length: number,
  direction: "forward" | "backward",
): Contender & { dispose(): void } {
  const tokens = Math.max(...LENGTHS);
  const [batch, width] = [tokens / length, heads * channels];
  const generator = xoroshiro128plus(1);
  const blocks: Block[] = [];
  const matrix = (size = tokens * width) => {
    const block = backend.allocate(size * 4);
    const values = new Float32Array(block.buffer, block.byteOffset, size);
    for (let i = 0; i < size; i++) values[i] = uniformInt(generator, -1000, 1000) / 1000;
    blocks.push(block);
    return block.address;
  };
  const [q, k, v, out, dout, dq, dk, dv] = Array.from({ length: 8 }, () => matrix()) as [
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const lse = matrix(tokens * heads);
  const scale = 1 / Math.sqrt(channels);
  const { kernels } = backend;
  const forward = () =>
    kernels.attentionForward(
      q,
      width,
      k,
      width,
      v,
      width,
      out,
      width,
      lse,
      0,
      batch,
      length,
      length,
      length,
      heads,
      heads,
      channels,
      scale,
    );
  const backward = () =>
    kernels.attentionBackward(
      q,
      width,
      k,
      width,
      v,
      width,
      out,
      width,
      lse,
      0,
      dout,
      width,
      dq,
      width,
      dk,
      width,
      dv,
      width,
      batch,
      length,
      heads,
      heads,
      channels,
      scale,
    );
  forward();
  const pairs = batch * heads * ((length * (length + 1)) / 2);
  const gigaflops = (pairs * channels * (direction === "forward" ? 4 : 10)) / 1e9;
  return {
    name: `${direction} ${length}`,
    run: () => gigaflops / (timed(direction === "forward" ? forward : backward).ms / 1000),
    dispose: () => {
      for (const block of blocks) block.release();
    },
  };
}

/** A row for each shape of heads, length and direction. */
export async function* lengthBench(options: BenchOptions): AsyncGenerator<Row> {
  const backend = await openChosen(options);
  const machine = describeMachine(backend.kernels.cpuFeatures());
  for (const shape of HEAD_SHAPES) {
    for (const length of LENGTHS) {
      for (const direction of ["forward", "backward"] as const) {
        const ours = attentionContender(backend, shape, length, direction);
        const measurement = await interleave([ours, fmaPeak(backend, 1e9)], options);
        ours.dispose();
        const name = `attention ${direction}, ${shape.join(" heads of ")} channels, ${length} tokens`;
        yield toRow(
          { bench: "length", case: name, unit: "GFLOP/s", machine, ours: ours.name, limit: "limit" },
          measurement,
        );
      }
    }
  }
  backend.close();
}
