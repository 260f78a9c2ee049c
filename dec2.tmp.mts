import * as io from "./src/backend/io.ts";
import { Decoder } from "./src/model/decoder.ts";
import { LocalEngine } from "./src/infer/localEngine.ts";
import { openStored } from "./src/formats/stored.io.ts";
import { InferCases } from "./bench/inferCases.ts";
import { readPeak } from "./bench/limit.ts";
const type = process.argv[2] ?? "q4_0";
const path = `bench/.cache/olmoe-1b-7b-random-${type}-v3.gguf`;
const backend0 = await io.openBackend({ backend: "native", threads: 2 });
const peak = readPeak(backend0, 1e9);
const acc = new Map<string, [number, number]>();
const wrapped: any = {};
for (const k of Object.keys(backend0.kernels)) { const f = (backend0.kernels as any)[k]; wrapped[k] = (...a: any[]) => { const t = performance.now(); const r = f(...a); const e = acc.get(k) ?? [0, 0]; e[0] += performance.now() - t; e[1]++; acc.set(k, e); return r; }; }
const backend: any = { ...backend0, kernels: wrapped, allocate: backend0.allocate.bind(backend0), mapFile: (backend0 as any).mapFile };
const stored = await openStored(path, backend, {});
const decoder = new Decoder(backend, stored, {});
const engine = new LocalEngine(backend, decoder, { cacheTokens: 1024 }, { check: () => stored.check(), dispose() {} });
const cases = new InferCases(engine as any);
for (let r = 0; r < 3; r++) {
  await cases.decode(8);
  acc.clear();
  const t0 = performance.now();
  const n = 128 + 32;
  const rate = await cases.decode(128);
  const dt = performance.now() - t0;
  let sum = 0; for (const [, [v]] of acc) sum += v;
  console.log(rate.toFixed(2), "peak", Number(await peak.run()).toFixed(1), "ms/token", (dt / n).toFixed(2), "in kernels", (sum / n).toFixed(2));
  if (r === 2) for (const [k, [v, c]] of [...acc].sort((a, b) => b[1][0] - a[1][0]).slice(0, 16)) console.log(k.padEnd(24), (v / n).toFixed(3), "ms", (c / n).toFixed(1), "calls", (v / c * 1000).toFixed(1), "us");
}
process.exit(0);
