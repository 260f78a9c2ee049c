import { describe, expect, it } from "vitest";
import { gradientBackends } from "../../test/gradients.ts";
import { createDecoder, smallConfig } from "../../test/models.ts";
import type { HeldOutText } from "../data/heldOut.ts";
import { ConfigError } from "../errors.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { checkHooks, type EvalContext, type EvalHook, HeldOutPerplexity, runHooks } from "./evalHooks.ts";
import { evaluate } from "./evaluate.ts";

const [, backend] = gradientBackends.at(-1)!;
const text = (source: string, tokens: number): HeldOutText => ({
  source,
  tokens: Uint16Array.from({ length: tokens }, (_, index) => (index * 7) % 50),
  documents: [],
  textBytes: 3 * tokens,
});

const context: EvalContext = {
  backend,
  decoder: createDecoder(backend, smallConfig()),
  tokenizer: { eosTokenId: 0 } as Tokenizer,
  heldOut: [text("novel", 24), text("code", 40)],
  step: 12,
  tokens: 1536,
  sequenceLength: 8,
  documentMask: false,
  maxTokens: undefined,
  signal: undefined,
};

const hook = (name: string, results: Record<string, number>): EvalHook => ({ name, run: async () => results });

describe("HeldOutPerplexity", () => {
  it("is exp of the nats per token, of each source and of all", async () => {
    const perplexity = new HeldOutPerplexity();
    const results = await perplexity.run(context);
    const options = { sequenceLength: 8, eosTokenId: 0, documentMask: false };
    const evaluation = await evaluate(backend, context.decoder, context.heldOut, options);
    const [novel, code] = evaluation.sources.map(({ natsPerToken }) => Math.exp(natsPerToken));
    expect(results).toEqual({ novel, code, all: Math.exp(evaluation.natsPerToken) });
    expect(perplexity.evaluation).toEqual(evaluation);
  });

  it("looks at as many tokens as it is asked to", async () => {
    const perplexity = new HeldOutPerplexity();
    await perplexity.run({ ...context, maxTokens: 16 });
    expect(perplexity.evaluation.sources.map(({ tokens }) => tokens)).toEqual([16, 16]);
  });
});

describe("runHooks", () => {
  it("names results by their hook, and gives each the run as it is", async () => {
    const seen: EvalContext[] = [];
    const looking: EvalHook = { name: "looking", run: async (given) => ({ calls: seen.push(given) }) };
    const arc = hook("arc-easy", { acc: 0.25, acc_norm: 0.5 });
    expect(await runHooks([looking, arc], context)).toEqual({
      results: { "looking/calls": 1, "arc-easy/acc": 0.25, "arc-easy/acc_norm": 0.5 },
      warnings: [],
    });
    expect(seen).toEqual([context]);
  });

  it("leaves out what is no finite number, and says so", async () => {
    expect(await runHooks([hook("task", { acc: Number.NaN, f1: 0.5 })], context)).toEqual({
      results: { "task/f1": 0.5 },
      warnings: ["step 12: evaluation task/acc is NaN and left out"],
    });
  });

  it("stops between hooks when it is aborted, and passes on what a hook throws", async () => {
    const controller = new AbortController();
    const reason = new Error("enough");
    const aborting: EvalHook = {
      name: "a",
      run: async () => {
        controller.abort(reason);
        return {};
      },
    };
    const signal = controller.signal;
    await expect(runHooks([aborting, hook("b", {})], { ...context, signal })).rejects.toBe(reason);
    const failing: EvalHook = { name: "c", run: async () => Promise.reject(reason) };
    await expect(runHooks([failing], context)).rejects.toBe(reason);
  });
});

describe("checkHooks", () => {
  it("refuses names that can not be told apart or logged", () => {
    expect(() => checkHooks([hook("a", {}), hook("b-1", {})])).not.toThrow();
    expect(() => checkHooks([hook("a", {}), hook("a", {})])).toThrow(
      new ConfigError('evaluation hook "a": is the name of another hook'),
    );
    expect(() => checkHooks([hook("A/b", {})])).toThrow(
      new ConfigError('evaluation hook "A/b": must be lower-case letters, digits, - and _'),
    );
  });
});
