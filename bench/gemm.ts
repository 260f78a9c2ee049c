/** f32 matrix products: this library's kernel, the peers', and the multiply-add peak of the same threads. */
import { availableParallelism } from "node:os";
import { uniformFloat32 } from "pure-rand/distribution/uniformFloat32";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import type { Backend } from "../src/backend/backend.ts";
import { openBackend } from "../src/backend/io.ts";
import { Arena } from "../src/tensor/arena.ts";
import { type BenchOptions, type Contender, describeMachine, interleave, type Row, toRow } from "./harness.ts";
import { fmaPeak, timed } from "./limit.ts";
import { startJaxJs } from "./peers/jaxjs/setup.ts";
import { optionalPeer, type PeerProcess } from "./peers/process.ts";
import { startPyTorch } from "./peers/pytorch/setup.ts";
import { SINGLE_THREAD, singleThread } from "./singleThread.ts";

/** C[m, n] = op(A)[m, k] * op(B)[k, n], named as in kernels.h. */
interface Product {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly transposeA: boolean;
  readonly transposeB: boolean;
}

const plain = { transposeA: false, transposeB: false };
const forward = { transposeA: false, transposeB: true };
const weightGradient = { transposeA: true, transposeB: false };

/** A square, then products of a training step over 2,048 tokens of width 256. */
const PRODUCTS: readonly Product[] = [
  { m: 1024, n: 1024, k: 1024, ...plain },
  { m: 2048, n: 768, k: 256, ...forward },
  { m: 2048, n: 256, k: 2048, ...plain },
  { m: 2048, n: 64, k: 256, ...forward },
  { m: 768, n: 256, k: 2048, ...weightGradient },
];

/** Work of one timing: long enough that waking up, after the rest between two timings, does not count. */
const FLOPS_PER_RUN = 30e9;
const GIGA = 1e9;

function flopsOf({ m, n, k }: Product): number {
  return 2 * m * n * k;
}

function repeatsOf(product: Product): number {
  return Math.max(1, Math.round(FLOPS_PER_RUN / flopsOf(product)));
}

function nameOf({ m, n, k, transposeA, transposeB }: Product): string {
  return `${m}x${n}x${k} ${transposeA ? "T" : "N"}${transposeB ? "T" : "N"}`;
}

function ours(name: string, backend: Backend, arena: Arena, product: Product): Contender {
  const { m, n, k, transposeA, transposeB } = product;
  const a = arena.take([m * k]);
  const b = arena.take([k * n]);
  const c = arena.take([m * n]);
  const generator = xoroshiro128plus(1);
  for (const { data } of [a, b]) for (let i = 0; i < data.length; i++) data[i] = uniformFloat32(generator) - 0.5;
  const flags = [transposeA ? 1 : 0, transposeB ? 1 : 0] as const;
  const [lda, ldb] = [transposeA ? m : k, transposeB ? k : n];
  const repeats = repeatsOf(product);
  return {
    name,
    run: () => {
      const { ms } = timed(() => {
        for (let repeat = 0; repeat < repeats; repeat++) {
          backend.kernels.gemm(...flags, m, n, k, a.pointer, lda, b.pointer, ldb, c.pointer, n, 0);
        }
      });
      return (repeats * flopsOf(product)) / (ms / 1000) / GIGA;
    },
  };
}

function peerContender(name: string, process: PeerProcess, threads: number, product: Product): Contender {
  const repeats = repeatsOf(product);
  return {
    name,
    run: async () => {
      const { seconds } = await process.request<{ seconds: number }>({ ...product, threads, repeats });
      return (repeats * flopsOf(product)) / seconds / GIGA;
    },
  };
}

/** Native on one thread and on all, then wasm likewise; options narrow the list. */
function configurations({ backend, threads }: BenchOptions) {
  const counts = threads === undefined ? [...new Set([1, availableParallelism()])] : [threads];
  return (["native", "wasm"] as const)
    .filter((name) => backend === undefined || name === backend)
    .flatMap((name) => counts.map((count) => ({ backend: name, threads: count })));
}

/** One row for each product on each backend and thread count. Peers run on as many threads as we do. */
export async function* gemmBench(options: BenchOptions): AsyncGenerator<Row> {
  const { peers, notice, signal } = options;
  const chosen = configurations(options);
  const has = (backend: string) => peers && chosen.some((configuration) => configuration.backend === backend);
  using pytorch = has("native") ? await optionalPeer(() => startPyTorch("gemm.py", notice, signal), notice) : undefined;
  using jaxjs = has("wasm") ? await optionalPeer(() => startJaxJs(notice, signal), notice) : undefined;

  for (const configuration of chosen) {
    const isa = configuration.backend === "native" && options.isa !== undefined ? { isa: options.isa } : {};
    const backend = await openBackend({ ...configuration, ...isa });
    const machine = describeMachine(backend.kernels.cpuFeatures());
    const limit = fmaPeak(backend, GIGA);
    const single = await singleThread(backend);
    for (const product of PRODUCTS) {
      const arena = new Arena(backend);
      const contenders = [ours("ours", backend, arena, product), limit];
      const singleArena = single && new Arena(single);
      if (single && singleArena) contenders.push(ours(SINGLE_THREAD, single, singleArena, product));
      if (backend.name === "native" && pytorch) {
        contenders.push(peerContender("pytorch", pytorch, backend.threads, product));
      }
      // jax-js has one thread in Node.
      if (backend.name === "wasm" && backend.threads === 1 && jaxjs) {
        contenders.push(peerContender("jax-js wasm", jaxjs, 1, product));
      }
      const measurement = await interleave(contenders, options);
      arena.dispose();
      singleArena?.dispose();
      const place = `${backend.name} ${backend.isa}, ${backend.threads} thread${backend.threads === 1 ? "" : "s"}`;
      const names = { bench: "gemm", case: `${nameOf(product)}, ${place}`, unit: "GFLOP/s" };
      yield toRow({ ...names, machine, ours: "ours", limit: "limit" }, measurement);
    }
    backend.close();
  }
}
