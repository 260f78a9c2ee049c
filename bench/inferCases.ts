/** What the inference benchmark does with an engine: each measurement once, as a rate. */
import { uniformInt } from "pure-rand/distribution/uniformInt";
import type { Engine, GenerationRequest } from "../src/infer/engine.ts";
import { createRandom } from "../src/util/random.ts";
import { vocabulary } from "./randomModel.ts";
import { bestOf, decodeRate, togetherRate } from "./timeline.ts";

/** As many as are measured then. All experts are among theirs: the chance that one is left out is below 1 in 10 million. */
const WARM_UP_TOKENS = 128;

/** Random words of the model's vocabulary, another list for each purpose. */
export function randomWords(count: number, purpose: string): number[] {
  const random = createRandom(1, purpose);
  const { firstWord, endWord } = vocabulary;
  return Array.from({ length: count }, () => uniformInt(random, firstWord, endWord - 1));
}

/** Tokens are sampled from nearly equal chances, so that they differ, and their experts with them. */
function request(prompt: readonly number[], maxTokens: number, seed: number): GenerationRequest {
  return { prompt, maxTokens, sampling: { temperature: 1 }, seed, stopIds: [] };
}

/** Runs a generation to its end. @returns when each token arrived, in milliseconds. */
export async function arrivalsOf(engine: Engine, wanted: GenerationRequest): Promise<number[]> {
  const times: number[] = [];
  for await (const _ of engine.generate(wanted)) times.push(performance.now());
  if (times.length !== wanted.maxTokens) {
    throw new Error(`internal: ${times.length} tokens, expected ${wanted.maxTokens}`);
  }
  return times;
}

/** Measurements; `round` makes the tokens of each another list, so that nothing is known from the round before. */
export class InferCases {
  readonly #engine: Engine;
  #round = 0;

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /**
   * What the peer's programs do before they measure: a short generation. It touches all experts, so that their pages
   * are mapped again where the system took them away while the peer ran.
   */
  async #warmUp(): Promise<void> {
    const round = this.#round++;
    await arrivalsOf(this.#engine, request(randomWords(1, `warm-up ${round}`), WARM_UP_TOKENS, round));
  }

  /** Prompt tokens per second until the first new token. */
  async prompt(tokens: number): Promise<number> {
    await this.#warmUp();
    const ids = randomWords(tokens, `prompt ${this.#round++}`);
    const start = performance.now();
    const [first] = await arrivalsOf(this.#engine, request(ids, 1, 1));
    return tokens / (((first as number) - start) / 1000);
  }

  /** New tokens per second after a prompt of one token, whose pass is one of those counted. */
  async decode(tokens: number): Promise<number> {
    await this.#warmUp();
    const round = this.#round++;
    const ids = randomWords(1, `decode ${round}`);
    const start = performance.now();
    const times = await arrivalsOf(this.#engine, request(ids, tokens, round));
    return tokens / (((times.at(-1) as number) - start) / 1000);
  }

  /** New tokens per second after `context` others, which the prefix cache keeps from one round to the next. */
  async decodeAfter(context: number, tokens: number): Promise<number> {
    const ids = randomWords(context, "context");
    return decodeRate(await arrivalsOf(this.#engine, request(ids, tokens + 1, this.#round++)));
  }

  /** New tokens per second of several sequences together, each after a prompt of its own. */
  async together(sequences: number, prompt: number, tokens: number): Promise<number> {
    const round = this.#round++;
    const lists = Array.from({ length: sequences }, (_, index) => randomWords(prompt, `together ${round} ${index}`));
    return togetherRate(
      await Promise.all(lists.map((ids, index) => arrivalsOf(this.#engine, request(ids, tokens, index)))),
    );
  }

  /**
   * Generates and counts which experts were chosen: a random model stands for a trained one only where all are, about
   * equally often.
   * @returns the mean number of a layer's experts that were chosen, and how often the busiest was, over the mean of all.
   */
  async expertLoad(tokens: number): Promise<{ readonly chosen: number; readonly busiest: number }> {
    const { numHiddenLayers: layers, numExperts, numExpertsPerTok: chosenEach } = this.#engine.config;
    const counts = new Float64Array(layers * numExperts);
    const wanted = request(randomWords(1, "experts"), tokens, 1);
    for await (const { routing } of this.#engine.generate({ ...wanted, routing: true })) {
      routing?.experts.forEach((expert, slot) => {
        const at = Math.floor(slot / chosenEach) * numExperts + expert;
        counts[at] = (counts[at] as number) + 1;
      });
    }
    const mean = (tokens * chosenEach) / numExperts;
    return { chosen: counts.filter((count) => count > 0).length / layers, busiest: Math.max(...counts) / mean };
  }

  /**
   * Reads a prompt and another program's greedy continuation, and counts where the engine would have chosen the same.
   * @returns `margin`: the most by which our choice was above theirs; `deviation`: of the logits, to see it against.
   */
  async agreement(prompt: readonly number[], theirs: readonly number[]) {
    const logits = await this.#engine.logits([...prompt, ...theirs]);
    const width = logits.length / (prompt.length + theirs.length);
    let [same, margin] = [0, 0];
    for (const [index, id] of theirs.entries()) {
      const best = bestOf(logits, (prompt.length - 1 + index) * width, width, id);
      if (best.id === id) same++;
      margin = Math.max(margin, best.margin);
    }
    const row = logits.subarray((prompt.length - 1) * width, prompt.length * width);
    const deviation = Math.sqrt(row.reduce((sum, value) => sum + value * value, 0) / width);
    return { same, of: theirs.length, margin, deviation };
  }
}
