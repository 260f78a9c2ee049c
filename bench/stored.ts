/**
 * `npm run bench -- stored`: products with weights of each stored type, by the number of tokens that share a reading of
 * them, and what decoding and encoding them takes. One token runs at the speed of memory, many at that of arithmetic.
 */
import { availableParallelism } from "node:os";
import type { Backend } from "../src/backend/backend.ts";
import { openBackend } from "../src/backend/io.ts";
import { Arena } from "../src/tensor/arena.ts";
import { rowBytes, STORAGE_TYPES, type StorageType } from "../src/tensor/stored.ts";
import { createRandom, fillNormal } from "../src/util/random.ts";
import { type BenchOptions, type Contender, describeMachine, interleave, type Row, toRow } from "./harness.ts";
import { fmaPeak, readPeak, timed } from "./limit.ts";

const TYPES = ["Q4_0", "Q8_0", "Q4_K", "Q6_K", "BF16"] as const satisfies readonly StorageType[];
/** Of one matrix: the model width of OLMoE-1B-7B. */
const SIDE = 2048;
/** Far beyond all caches. */
const WEIGHT_BYTES = 2 ** 28;
/** Tokens of a decode, of a small batch, and of one expert's and an attention's share of a prompt. */
const TOKENS = [1, 4, 16, 64, 512] as const;
const RUN_MS = 100;

/** Units per second of a function that does `units` of them, over about a tenth of a second. */
function rateOf(units: number, work: (round: number) => void): number {
  let [rounds, taken] = [0, 0];
  while (taken < RUN_MS) taken += timed(() => work(rounds++)).ms;
  return (units * rounds) / (taken / 1000);
}

/** Rows of all types. */
export async function* storedBench(options: BenchOptions): AsyncGenerator<Row> {
  const backend = await openBackend({
    backend: options.backend ?? "native",
    threads: options.threads ?? availableParallelism(),
    ...(options.isa === undefined ? {} : { isa: options.isa }),
  });
  try {
    for (const type of TYPES) yield* rowsOf(type, backend, options);
  } finally {
    backend.close();
  }
}

async function* rowsOf(type: StorageType, backend: Backend, options: BenchOptions): AsyncGenerator<Row> {
  const { kernels } = backend;
  const arena = new Arena(backend);
  const { id } = STORAGE_TYPES[type];
  const matrixBytes = SIDE * rowBytes(type, SIDE);
  const count = Math.ceil(WEIGHT_BYTES / matrixBytes);
  const values = arena.take([SIDE, SIDE]);
  fillNormal(values.data, createRandom(1, type), 0.02);
  const stored = arena.take([(count * matrixBytes) / 4]);
  for (let index = 0; index < count; index++) {
    kernels.encodeRows(id, values.pointer, stored.pointer + index * matrixBytes, SIDE, SIDE);
  }
  const addresses = arena.take([count], "f64");
  addresses.data.forEach((_, index) => {
    addresses.data[index] = stored.pointer + index * matrixBytes;
  });
  const most = Math.max(...TOKENS);
  const [x, y] = [arena.take([most, SIDE]), arena.take([most, SIDE])];
  fillNormal(x.data, createRandom(2, type), 1);

  const measure = async (name: string, unit: string, limit: Contender, run: () => number): Promise<Row> => {
    const machine = describeMachine(kernels.cpuFeatures());
    const measured = await interleave([{ name: "ours", run }, limit], options);
    return toRow({ bench: "stored", case: `${type}, ${name}`, unit, machine, ours: "ours", limit: "limit" }, measured);
  };
  const product = (tokens: number, units: number) => () =>
    rateOf(units, (round) => {
      const part = addresses.pointer + (round % count) * 8;
      kernels.storedLinear(id, part, 1, SIDE, SIDE, x.pointer, SIDE, y.pointer, SIDE, tokens, 1);
    });
  for (const tokens of TOKENS) {
    const name = `${tokens} ${tokens === 1 ? "token" : "tokens"}`;
    if (tokens <= 4) yield await measure(name, "GB/s", readPeak(backend, 1e9), product(tokens, matrixBytes / 1e9));
    else yield await measure(name, "GMAC/s", fmaPeak(backend, 2e9), product(tokens, (tokens * SIDE * SIDE) / 1e9));
  }
  const perRead = (bytes: number) => readPeak(backend, bytes * 1e6);
  const million = (SIDE * SIDE) / 1e6;
  const target = stored.pointer;
  yield await measure("decoding", "M values/s", perRead(matrixBytes / (SIDE * SIDE)), () =>
    rateOf(million, (round) =>
      kernels.decodeRows(id, target + (round % count) * matrixBytes, values.pointer, SIDE, SIDE),
    ),
  );
  yield await measure("encoding", "M values/s", perRead(4), () =>
    rateOf(million, (round) =>
      kernels.encodeRows(id, values.pointer, target + (round % count) * matrixBytes, SIDE, SIDE),
    ),
  );
  arena.dispose();
}
