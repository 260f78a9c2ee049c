import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { afterEach, describe, expect, it, vi } from "vitest";
import { differentBits, run } from "../../../test/conformance/harness.ts";
import { threadCases } from "../../../test/conformance/threadCases.ts";
import { ResourceError } from "../../errors.ts";
import type { Backend } from "../backend.ts";
import { buildWasm } from "../build.io.ts";
import { openBackend } from "../io.ts";
import { openWasm } from "./wasm.ts";
import { startNodeWorker } from "./workers.io.ts";
import type { StartWorker } from "./workers.ts";

const opened: Backend[] = [];
afterEach(() => {
  for (const backend of opened.splice(0)) backend.close();
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

/** Opens the backend and tells of its notices; it is closed after the test. */
async function open(threads: number, startWorker: StartWorker = startNodeWorker) {
  const notices: string[] = [];
  const load = async (variant: Parameters<typeof buildWasm>[0]) => readFile(await buildWasm(variant));
  const backend = await openWasm({ load, threads, startWorker, onNotice: (message) => notices.push(message) });
  opened.push(backend);
  return { backend, notices };
}

const unref = () => undefined;

describe("wasm on threads", () => {
  it("gives the bits of the build for one thread", async () => {
    const [{ backend: one }, { backend: three }] = [await open(1), await open(3)];
    expect([one.threads, three.threads]).toEqual([1, 3]);
    const differing = threadCases.flatMap((kernelCase) =>
      differentBits(kernelCase, run(one, kernelCase), run(three, kernelCase)).map((name) => [kernelCase.name, name]),
    );
    expect(differing).toEqual([]);
  });

  it("runs on as many threads as asked for, within what was opened", async () => {
    const { backend, notices } = await open(2);
    expect([1, 2, 3, 0].map((count) => backend.kernels.setThreads(count))).toEqual([1, 2, 2, 1]);
    expect(notices).toEqual([]);
  });

  it("keeps blocks where they are, and their content, when the memory grows", async () => {
    const { backend } = await open(2);
    const first = backend.allocate(4096);
    const before = new Float32Array(first.buffer, first.byteOffset, 1024).fill(0.5);
    const large = backend.allocate(64 * 2 ** 20);
    backend.kernels.fill(large.address, 16 * 2 ** 20, 2);
    expect(new Float32Array(large.buffer, large.byteOffset, 16 * 2 ** 20).every((value) => value === 2)).toBe(true);
    backend.kernels.fill(first.address, 512, 1);
    const after = new Float32Array(first.buffer, first.byteOffset, 1024);
    expect([after[0], after[511], after[512], before[511]]).toEqual([1, 1, 0.5, 1]);
  });

  it("says that memory is not to be had, also of sizes beyond 32 bits, and goes on", async () => {
    const { backend } = await open(2);
    for (const bytes of [2 ** 31, 2 ** 32 - 1, 2 ** 32 + 64]) {
      const message = `wasm memory: ${bytes} bytes are not to be had, the limit is 4 GB in all`;
      const hint = "use a smaller model or batch, or the native backend";
      expect(() => backend.allocate(bytes)).toThrow(new ResourceError(message, { hint }));
    }
    expect(backend.allocate(64).byteLength).toBe(64);
  });

  it.each([1, 2])(
    "ends a kernel by an error when a task faults, on %i threads, and refuses to run on",
    async (threads) => {
      const { backend } = await open(threads);
      const { buffer } = backend.allocate(64);
      const count = 300_000;
      // The first task stays within the memory, the others do not.
      const start = buffer.byteLength - 2 ** 18;
      expect(() => backend.kernels.fill(start, count, 1)).toThrow(/^wasm: fill ended by a fault \(.+\)$/);
      expect(() => backend.kernels.add(start, start, start, 1)).toThrow(/^wasm: fill ended by a fault/);
    },
  );

  it("runs on the caller's thread when closed, with the same bits", async () => {
    const { backend } = await open(2);
    const [kernelCase] = threadCases.filter(({ kernel }) => kernel === "moeForward");
    const before = run(backend, kernelCase!);
    backend.close();
    expect(backend.kernels.setThreads(2)).toBe(1);
    expect(differentBits(kernelCase!, before, run(backend, kernelCase!))).toEqual([]);
  });

  it("lets a process end that does not close it", async () => {
    const script = `const { openBackend } = await import(${JSON.stringify(new URL("../io.ts", import.meta.url).href)});
      const backend = await openBackend({ backend: "wasm", threads: 3 });
      const { address } = backend.allocate(4e6);
      backend.kernels.fill(address, 1e6, 1);
      console.log(backend.threads, backend.kernels.sumSquares(address, 1e6));`;
    const args = ["--import", "tsx", "--input-type=module", "--eval", script];
    const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 30_000 });
    expect(stdout).toBe("3 1000000\n");
  });

  it("is capped at four threads a processor", async () => {
    const { availableParallelism } = await import("node:os");
    const backend = await openBackend({ backend: "wasm", threads: 1e9 });
    opened.push(backend);
    expect(backend.threads).toBe(4 * availableParallelism());
  });
});

describe("wasm falls back to one thread, with one notice,", () => {
  async function expectFallback(reason: string, startWorker?: StartWorker) {
    const { backend, notices } = await open(2, startWorker);
    expect([backend.threads, notices]).toEqual([1, [`wasm: one thread instead of 2: ${reason}`]]);
    expect(backend.kernels.setThreads(2)).toBe(1);
    expect(backend.kernels.fmaBurst(10)).toBeGreaterThan(0);
  }

  it("without SharedArrayBuffer", async () => {
    vi.stubGlobal("SharedArrayBuffer", undefined);
    await expectFallback("there is no SharedArrayBuffer");
  });

  it("in a page that is not isolated", async () => {
    vi.stubGlobal("crossOriginIsolated", false);
    await expectFallback("the page is not cross-origin isolated");
  });

  it("when a worker can not be made", async () => {
    await expectFallback("no workers here", () => {
      throw new Error("no workers here");
    });
  });

  it("when a worker ends at once", async () => {
    await expectFallback("worker 0: this script fails", (_, events) =>
      startNodeWorker("throw new Error('this script fails');", events),
    );
  });

  it("when a worker can not run the kernels, which ends it", async () => {
    const terminate = vi.fn();
    await expectFallback("worker 0: CompileError: no", (_, { onMessage }) => {
      queueMicrotask(() => onMessage("CompileError: no"));
      return { postMessage: unref, terminate, unref };
    });
    expect(terminate).toHaveBeenCalledOnce();
  });

  it("when a worker does not answer in ten seconds, which ends it", async () => {
    const terminate = vi.fn();
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    await expectFallback("worker 0: not ready after 10 s", () => {
      queueMicrotask(() => vi.advanceTimersByTime(10_000));
      return { postMessage: unref, terminate, unref };
    });
    expect(terminate).toHaveBeenCalledOnce();
  });

  it("when the build with threads can not be loaded", async () => {
    const notices: string[] = [];
    const backend = await openWasm({
      load: async (variant) => {
        if (variant === "simd128-threads") throw new ResourceError("kernels: HTTP status 404");
        return readFile(await buildWasm(variant));
      },
      threads: 2,
      startWorker: startNodeWorker,
      onNotice: (message) => notices.push(message),
    });
    expect([backend.threads, notices]).toEqual([1, ["wasm: one thread instead of 2: kernels: HTTP status 404"]]);
  });
});
