/** Rotary positions beyond the context that a model was trained on. */
import { z } from "zod";
import { type RotaryFrequencies, rotaryFrequencies } from "../autograd/ops/attention.ts";
import { parseConfig } from "../config/check.ts";
import { headDim, type ModelConfig } from "../config/model.ts";

/** A longer context takes as much more memory for its table of positions. */
const MOST = 64;

const ropeScalingSchema = z.strictObject({
  type: z.enum(["yarn", "ntk"]),
  factor: z.number().min(1).max(MOST),
});

/**
 * How a model reads beyond its trained context, `factor` times as far (1 to 64).
 * "ntk" takes a larger base, so that slow pairs of channels turn `factor` times slower and fast ones almost as before.
 * "yarn" (arXiv 2309.00071) leaves pairs alone that turn 32 times or more within the trained context, slows those down by
 * the factor that turn less than once, passes from one to the other in between, and sharpens attention.
 */
export type RopeScaling = z.output<typeof ropeScalingSchema>;

/** Turns within the trained context from which on a pair is left alone, and below which it is slowed down (section 3.2). */
const [BETA_FAST, BETA_SLOW] = [32, 1];

/** The config of a model that reads as far as the scaling lets it. @throws ConfigError for one that can not be. */
export function scaledContext(config: ModelConfig, scaling: RopeScaling | undefined): ModelConfig {
  if (scaling === undefined) return config;
  const { factor } = parseConfig(ropeScalingSchema, scaling, "ropeScaling");
  return { ...config, maxPositionEmbeddings: Math.floor(config.maxPositionEmbeddings * factor) };
}

/**
 * The frequencies of a model's heads. @param config with the context it was trained on.
 */
export function scaledFrequencies(config: ModelConfig, scaling: RopeScaling | undefined): RotaryFrequencies {
  const { ropeTheta: theta, maxPositionEmbeddings: positions } = config;
  const channels = headDim(config);
  if (scaling === undefined) return rotaryFrequencies(theta, channels / 2);
  if (scaling.type === "ntk") return ntk(theta, channels, scaling.factor);
  return yarn(theta, channels, scaling.factor, positions);
}

/** The slowest pair, of exponent (C - 2) / C, turns exactly `factor` times slower under this base. */
function ntk(theta: number, channels: number, factor: number): RotaryFrequencies {
  // One pair alone turns by 1 under any base.
  const base = channels === 2 ? theta : theta * factor ** (channels / (channels - 2));
  return rotaryFrequencies(base, channels / 2);
}

/**
 * YaRN as transformers computes it: the borders are whole pairs, the passage between them is a straight line, and the
 * attention temperature is a factor 0.1 ln(factor) + 1 on cosines and sines, so that scores get its square.
 */
function yarn(theta: number, channels: number, factor: number, positions: number): RotaryFrequencies {
  const half = channels / 2;
  /** The pair that turns so often within the trained context, as a fraction. */
  const pairOf = (turns: number) => (channels * Math.log(positions / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const low = Math.min(Math.max(Math.floor(pairOf(BETA_FAST)), 0), channels - 1);
  const high = Math.min(Math.ceil(pairOf(BETA_SLOW)), channels - 1);
  const width = low === high ? 0.001 : high - low;
  const frequencies = Float32Array.from({ length: half }, (_, pair) => {
    const period = Math.fround(theta ** Math.fround(pair / half));
    const [trained, slowed] = [Math.fround(1 / period), Math.fround(1 / Math.fround(factor * period))];
    const kept = Math.fround(1 - Math.fround(Math.min(Math.max((pair - low) / width, 0), 1)));
    return Math.fround(slowed * Math.fround(1 - kept)) + Math.fround(trained * kept);
  });
  return { frequencies, amplitude: 0.1 * Math.log(factor) + 1 };
}
