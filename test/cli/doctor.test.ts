import { availableParallelism } from "node:os";
import { describe, expect, it } from "vitest";
import { PACKAGE_VERSION } from "../../src/util/packageRoot.io.ts";
import { olmoe } from "./harness.ts";

describe("olmoe doctor", () => {
  it("tells what runs here and how fast", async () => {
    const { code, stdout, stderr } = await olmoe(["doctor", "--threads", "1"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const names = stdout.split("\n").map((line) => line.split("  ")[0]);
    expect(names).toEqual([
      "olmoe",
      "node",
      "processor",
      "memory",
      "compiler",
      "backend",
      "",
      "others",
      "multiply-adds",
      "memory reads",
      "advice",
      "",
    ]);
  });

  it("gives programs the same facts", async () => {
    const { stdout } = await olmoe(["doctor", "--json", "--backend", "wasm"]);
    const facts = JSON.parse(stdout);
    expect(facts).toMatchObject({
      version: PACKAGE_VERSION,
      backend: `wasm simd128, ${availableParallelism() === 1 ? "1 thread" : `${availableParallelism()} threads`}`,
      reason: "chosen by --backend wasm",
    });
    for (const rate of [facts.flopsOneThread, facts.flopsAllThreads, facts.readBytesPerSec]) {
      expect(rate).toBeGreaterThan(1e8);
    }
  });
});
