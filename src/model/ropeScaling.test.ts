import { describe, expect, it } from "vitest";
import { createDecoder, logitsOf, smallConfig } from "../../test/models.ts";
import { createReferenceBackend } from "../backend/reference/backend.ts";
import { ConfigError, ShapeError } from "../errors.ts";
import { Decoder } from "./decoder.ts";
import { scaledContext, scaledFrequencies } from "./ropeScaling.ts";

const backend = createReferenceBackend();
/** Heads of 8 channels, theta 10000: trained pairs turn by 1, 1/10, 1/100 and 1/1000 a position. */
const config = smallConfig({ maxPositionEmbeddings: 1000 });

describe("scaledFrequencies", () => {
  it("are the trained ones without scaling", () => {
    const { frequencies, amplitude } = scaledFrequencies(config, undefined);
    expect([frequencies, amplitude]).toEqual([Float32Array.of(1, 0.1, 0.01, 0.001), 1]);
  });

  it("have a larger base under ntk, so that the slowest pair turns slower by the factor", () => {
    const { frequencies, amplitude } = scaledFrequencies(config, { type: "ntk", factor: 8 });
    // The base is 10000 * 8^(8/6) = 10000 * 16: the pairs turn by 1, 1/20, 1/400 and 1/8000.
    expect(frequencies).toBeAllClose([1, 1 / 20, 1 / 400, 1 / 8000], { atol: 1e-12, rtol: 1e-6 });
    expect(amplitude).toBe(1);
  });

  it("leave fast pairs alone under yarn, slow slow ones down, and go from one to the other in a straight line", () => {
    const { frequencies, amplitude } = scaledFrequencies(config, { type: "yarn", factor: 4 });
    // 1000 positions: pair p turns 1000 / (2 pi 10^p) times. 32 turns are at 8 ln(1000 / (64 pi)) / (2 ln 10^4) = 0.69, one
    // is at 8 ln(1000 / (2 pi)) / (2 ln 10^4) = 2.20: the passage is from pair 0 to pair 3.
    const expected = [1, 0.1 * (2 / 3) + (0.1 / 4) * (1 / 3), 0.01 * (1 / 3) + (0.01 / 4) * (2 / 3), 0.001 / 4];
    expect(frequencies).toBeAllClose(expected, { atol: 1e-12, rtol: 1e-6 });
    // 0.1 ln 4 + 1
    expect([amplitude]).toBeAllClose([1.138629436], { atol: 1e-9 });
  });

  it("are the trained ones under yarn and ntk of factor 1", () => {
    const trained = scaledFrequencies(config, undefined);
    for (const type of ["yarn", "ntk"] as const) {
      const { frequencies, amplitude } = scaledFrequencies(config, { type, factor: 1 });
      expect(frequencies).toBeAllClose(trained.frequencies, { atol: 1e-12, rtol: 2e-7 });
      expect(amplitude).toBe(1);
    }
  });

  it("of one pair turn by 1 under ntk", () => {
    const narrow = smallConfig({ hiddenSize: 8 });
    expect(scaledFrequencies(narrow, { type: "ntk", factor: 4 }).frequencies).toEqual(Float32Array.of(1));
  });
});

describe("a decoder with scaled positions", () => {
  const plain = createDecoder(backend, smallConfig({ maxPositionEmbeddings: 8 }));
  const ids = Array.from({ length: 20 }, (_, index) => index % 7);

  it.each(["yarn", "ntk"] as const)("reads as far as %s lets it, and no further", (type) => {
    const decoder = new Decoder(backend, plain.parameters, { ropeScaling: { type, factor: 2.5 } });
    expect(decoder.config).toEqual({ ...plain.config, maxPositionEmbeddings: 20 });
    expect(logitsOf(backend, decoder, ids).every(Number.isFinite)).toBe(true);
    expect(() => logitsOf(backend, decoder, [...ids, 1])).toThrow("context: position 20, the model holds 20");
    decoder.dispose();
  });

  it("multiplies scores by the square of yarn's factor: with all positions alike, as a larger temperature does", () => {
    const decoder = new Decoder(backend, plain.parameters, { ropeScaling: { type: "yarn", factor: 4 } });
    const positions = new Array<number>(5).fill(0);
    const sharper = logitsOf(backend, decoder, ids.slice(0, 5), { positions });
    const trained = logitsOf(backend, plain, ids.slice(0, 5), { positions });
    expect(sharper).not.toBeAllClose(trained, { atol: 1e-4 });
    // One token sees itself alone, whatever its score is.
    expect(sharper.subarray(0, 50)).toEqual(trained.subarray(0, 50));
    decoder.dispose();
  });

  it("is not there unless it is asked for", () => {
    expect(() => logitsOf(backend, plain, ids)).toThrow(ShapeError);
  });

  it.each([
    [{ type: "linear", factor: 2 }, 'ropeScaling: type: "linear", expected one of "yarn"|"ntk"'],
    [{ type: "yarn", factor: 0.5 }, "ropeScaling: factor: 0.5, expected number to be >=1"],
    [{ type: "yarn", factor: 65 }, "ropeScaling: factor: 65, expected number to be <=64"],
    [{ type: "ntk" }, "ropeScaling: factor: missing, expected number"],
  ])("refuses %j", (scaling, message) => {
    expect(() => scaledContext(config, scaling as never)).toThrow(new ConfigError(message));
  });
});
