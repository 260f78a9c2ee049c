/** One training step, in tokens per second: this library, transformers on PyTorch, and what the FMA peak would allow. */
import { availableParallelism } from "node:os";
import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import type { Backend } from "../src/backend/backend.ts";
import { openBackend } from "../src/backend/io.ts";
import { configToHuggingFace } from "../src/config/huggingface.ts";
import { parseModelConfig } from "../src/config/model.ts";
import { PRESETS, type PresetName } from "../src/config/presets.ts";
import { trainSchema } from "../src/config/recipe.ts";
import { matmulFlopsPerToken, type StepFlops } from "./flops.ts";
import { type BenchOptions, type Contender, describeMachine, interleave, type Row, toRow } from "./harness.ts";
import { fmaPeak } from "./limit.ts";
import { ourTrainStep, type TrainWorkload } from "./ourTrainStep.ts";
import { optionalPeer, type PeerProcess } from "./peers/process.ts";
import { startPyTorch } from "./peers/pytorch/setup.ts";
import { SINGLE_THREAD, singleThread } from "./singleThread.ts";

const SEED = 1;
/** transformers' ways to run the experts: a loop over them, and one grouped product. */
const EXPERTS_IMPLEMENTATIONS = ["eager", "grouped_mm"] as const;

/** Presets that can be trained here. */
export const TRAIN_SIZES = ["nano", "small", "compact", "medium"] as const satisfies readonly PresetName[];
export type TrainSize = (typeof TRAIN_SIZES)[number];

/** Sequences and tokens of each: 2048 in all. */
function batchOf(size: TrainSize): { readonly batchSize: number; readonly sequenceLength: number } {
  return size === "medium" ? { batchSize: 4, sequenceLength: 512 } : { batchSize: 8, sequenceLength: 256 };
}

/** The paper's optimiser and balance loss; no z-loss, because transformers has none. */
export function workloadOf(size: TrainSize): TrainWorkload {
  const config = parseModelConfig(PRESETS[size]);
  const batch = batchOf(size);
  const train = trainSchema.parse({
    steps: 1,
    ...batch,
    loss: { balance: 0.01, z: 0 },
  });
  const generator = xoroshiro128plus(SEED);
  const ids = Int32Array.from({ length: batch.batchSize * batch.sequenceLength }, () =>
    uniformInt(generator, 0, config.vocabSize - 1),
  );
  return { config, train, seed: SEED, ids };
}

/** FLOPs of one token of a size. */
export function trainFlops(size: TrainSize): StepFlops {
  return matmulFlopsPerToken(parseModelConfig(PRESETS[size]), batchOf(size).sequenceLength);
}

/** Prepares one variant of the PyTorch peer; its first answer says what it runs. */
async function pytorchContender(
  peer: PeerProcess,
  experts: string,
  threads: number,
  { config, train, seed, ids }: TrainWorkload,
  notice: (text: string) => void,
): Promise<Contender> {
  const { optimizer, sequenceLength } = train;
  const description = await peer.request({
    threads,
    seed,
    experts,
    config: {
      ...configToHuggingFace(config),
      output_router_logits: true,
      router_aux_loss_coef: train.loss.balance,
    },
    ids: Array.from({ length: train.batchSize }, (_, row) => [
      ...ids.subarray(row * sequenceLength, (row + 1) * sequenceLength),
    ]),
    clipNorm: optimizer.clipNorm,
    optimizer: {
      lr: optimizer.lr,
      betas: [optimizer.beta1, optimizer.beta2],
      eps: optimizer.eps,
      weight_decay: optimizer.weightDecay,
    },
  });
  const name = `pytorch ${experts}`;
  notice(`${name}: ${JSON.stringify(description)}`);
  const lossOf = lossNotice(name, notice);
  return {
    name,
    run: async () => {
      const { seconds, loss } = await peer.request<{ seconds: number; loss: number }>({});
      lossOf(loss);
      return ids.length / seconds;
    },
  };
}

/** Tells the loss of the first step: all contenders start near ln(vocabSize). */
function lossNotice(name: string, notice: (text: string) => void): (loss: number) => void {
  let told = false;
  return (loss) => {
    if (!told) notice(`${name}: loss of the first step ${loss.toFixed(4)}`);
    told = true;
  };
}

/** This library's step on a backend. */
async function ourContender(
  name: string,
  backend: Backend,
  workload: TrainWorkload,
  notice: (text: string) => void,
): Promise<Contender> {
  const step = await ourTrainStep(backend, workload);
  const lossOf = lossNotice(name, notice);
  return {
    name,
    run: async () => {
      const start = performance.now();
      const loss = await step();
      const seconds = (performance.now() - start) / 1000;
      lossOf(loss);
      return workload.ids.length / seconds;
    },
  };
}

/** One row: tokens per second of a whole step; the limit is the FMA peak divided by the FLOPs of a token. */
export async function* trainBench(options: BenchOptions, size: TrainSize): AsyncGenerator<Row> {
  const { notice, signal } = options;
  const workload = workloadOf(size);
  const { perToken } = trainFlops(size);
  const { precision = "f32" } = options;
  const backend = await openBackend({
    backend: options.backend ?? "native",
    precision,
    threads: options.threads ?? availableParallelism(),
    ...(options.isa === undefined ? {} : { isa: options.isa }),
  });
  const contenders = [await ourContender("ours", backend, workload, notice), fmaPeak(backend, perToken)];
  // What a rounded product gains is seen beside the same step without rounding.
  const exact = precision === "f32" ? undefined : await openBackend({ backend: "native", threads: backend.threads });
  if (exact) contenders.push(await ourContender(`${exact.isa} f32`, exact, workload, notice));
  const single = await singleThread(backend);
  if (single) contenders.push(await ourContender(SINGLE_THREAD, single, workload, notice));
  const peers: PeerProcess[] = [];
  try {
    for (const experts of options.peers ? EXPERTS_IMPLEMENTATIONS : []) {
      const peer = await optionalPeer(() => startPyTorch("train_step.py", notice, signal), notice);
      if (peer === undefined) break;
      peers.push(peer);
      contenders.push(await pytorchContender(peer, experts, backend.threads, workload, notice));
    }
    // Both sides need two steps until memory and caches have settled.
    const measurement = await interleave(contenders, { ...options, warmUp: 2 });
    const threads = `${backend.threads} thread${backend.threads === 1 ? "" : "s"}`;
    yield toRow(
      {
        bench: "train",
        case: `${size}, ${backend.name} ${backend.isa}${precision === "f32" ? "" : ` ${precision}`}, ${threads}`,
        unit: "tokens/s",
        machine: describeMachine(backend.kernels.cpuFeatures()),
        ours: "ours",
        limit: "limit",
      },
      measurement,
    );
  } finally {
    for (const peer of peers) peer[Symbol.dispose]();
    backend.close();
  }
}
