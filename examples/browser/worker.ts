/** The model lives here, so that the page never waits for it. */
import { OlmoeError, OlmoeModel, type OpenProgress, type TextGeneration, type TextToken } from "../../src/browser.ts";
import type { FromWorker, ShownToken, ToWorker } from "./messages.ts";

let model: OlmoeModel | undefined;
let generation: TextGeneration | undefined;

const say = (message: FromWorker) => postMessage(message);

function progressText(progress: OpenProgress): string {
  if (progress.stage !== "download") return `opening: ${progress.stage}`;
  const { file, bytes, of } = progress;
  return `${file}: ${Math.floor((100 * bytes) / of)} % of ${(of / 1e6).toFixed(1)} MB`;
}

async function open(source: Extract<ToWorker, { type: "open" }>["source"]): Promise<void> {
  await generation?.cancel();
  await model?.close();
  model = undefined;
  model = await OlmoeModel.open(source, {
    baseUrl: "/",
    onProgress: (progress) => say({ type: "progress", text: progressText(progress) }),
  });
  const { parameters, backend, context } = model.info;
  const millions = (count: number) => `${(count / 1e6).toPrecision(3)} M`;
  const threads = `${backend.threads} ${backend.threads === 1 ? "thread" : "threads"}`;
  const sizes = `${millions(parameters.active)} of ${millions(parameters.total)} parameters a token`;
  say({ type: "opened", text: `${sizes}; context of ${context}; ${backend.name} ${backend.isa}, ${threads}` });
}

function shown({ text, routing }: TextToken, topK: number): ShownToken {
  if (routing === undefined) return { text, experts: [] };
  const slots = Array.from(routing.experts, (expert, slot) => ({ expert, weight: routing.weights[slot] as number }));
  const layers = Array.from({ length: slots.length / topK }, (_, layer) =>
    slots.slice(layer * topK, (layer + 1) * topK),
  );
  return { text, experts: layers };
}

async function generate({ prompt, type: _, ...options }: Extract<ToWorker, { type: "generate" }>): Promise<void> {
  if (model === undefined) return;
  generation = model.generate(prompt, { ...options, routing: true });
  const topK = model.info.config.numExpertsPerTok;
  for await (const { text, tokens } of generation.pieces()) {
    say({ type: "piece", text, tokens: tokens.map((token) => shown(token, topK)) });
  }
  const { newTokens, tokensPerSec, finishReason } = await generation.result;
  const rate = tokensPerSec === null ? "" : `, ${tokensPerSec.toFixed(1)} tokens/s`;
  say({ type: "ended", text: `${newTokens} tokens${rate}; ${finishReason}` });
}

async function answer(message: ToWorker): Promise<void> {
  try {
    if (message.type === "open") await open(message.source);
    else if (message.type === "generate") await generate(message);
    else await generation?.cancel();
  } catch (error) {
    const hint = error instanceof OlmoeError && error.hint !== undefined ? `\n${error.hint}` : "";
    say({ type: "error", text: `${error instanceof Error ? error.message : String(error)}${hint}` });
  }
}

addEventListener("message", ({ data }: MessageEvent<ToWorker>) => void answer(data));
