/** Shows a training run on the terminal: what is prepared, a live line while it trains, evaluations and warnings. */
import cliProgress from "cli-progress";
import { trainingCounts } from "../data/manifest.ts";
import { formatBytes, formatCount, formatDuration, formatRate, sparkline } from "../report/text.ts";
import type { TrainEvent } from "../train/run.io.ts";

/** Steps whose mean rate the estimate of the time left is made from. */
const RATE_STEPS = 20;
const SPARK_WIDTH = 16;
/** Without a terminal a line is printed this often instead. */
const QUIET_INTERVAL_MS = 10_000;

/** Phases that take a while, and those that are about all sources at once. */
const SOURCE_PHASES: Readonly<Record<string, string>> = { read: "reading", encode: "tokenising" };
const COMMON_PHASES: Readonly<Record<string, string>> = {
  select: "making the tokenizer",
};

export interface TrainViewOptions {
  /** Steps of the whole run. */
  readonly steps: number;
  /** Tokens of the whole run. */
  readonly tokens: number;
  /** Writes one finished line. */
  readonly print: (line: string) => void;
  /** A terminal to draw the live line on; absent: lines now and then. */
  readonly terminal?: NodeJS.WriteStream | undefined;
}

/** Give `handle` to a run as its `onEvent`, and call `stop` at the end, whatever the end is. */
export class TrainView {
  readonly #options: TrainViewOptions;
  readonly #bar: cliProgress.SingleBar | undefined;
  readonly #losses: number[] = [];
  readonly #rates: { readonly tokens: number; readonly seconds: number }[] = [];
  #trained = { tokens: 0, seconds: 0 };
  readonly #phases = new Set<string>();
  #lastLine = Number.NEGATIVE_INFINITY;
  #done = 0;
  #line = "";
  #drawing = false;

  constructor(options: TrainViewOptions) {
    this.#options = options;
    this.#bar =
      options.terminal === undefined
        ? undefined
        : new cliProgress.SingleBar({
            format: "  {bar} {line}",
            barsize: 20,
            barCompleteChar: "#",
            barIncompleteChar: ".",
            hideCursor: true,
            clearOnComplete: true,
            stream: options.terminal,
          });
  }

  handle = (event: TrainEvent): void => {
    if (event.type === "data") this.#data(event);
    else if (event.type === "ready") this.#ready(event);
    else if (event.type === "step") this.#step(event);
    else if (event.type === "evaluation") this.#evaluation(event);
    else if (event.type === "warning") this.#print(`  warning: ${event.message}`);
  };

  /** Takes the live line away. */
  stop(): void {
    if (this.#drawing) this.#bar?.stop();
    this.#drawing = false;
  }

  /** Prints what the steps of this process came to; nothing where there were none. */
  finish(): void {
    const { tokens, seconds } = this.#trained;
    if (seconds === 0) return;
    this.#print(
      `  ${formatCount(tokens)} tokens in ${formatDuration(seconds)}, ${formatRate(tokens / seconds, "tokens")}`,
    );
  }

  /** Prints finished lines above the live one. */
  note(text: string): void {
    this.#print(text);
  }

  #print(line: string): void {
    const drawing = this.#drawing;
    this.stop();
    this.#options.print(line);
    if (drawing) this.#draw();
  }

  #draw(): void {
    this.#bar?.start(this.#options.steps, this.#done, { line: this.#line });
    this.#drawing = this.#bar !== undefined;
  }

  /** One line for each source and phase, when it begins; several sources may be in work at once. */
  #data({ progress: { phase, source } }: Extract<TrainEvent, { type: "data" }>): void {
    const name = source === undefined ? COMMON_PHASES[phase] : SOURCE_PHASES[phase];
    const line = ["  ", name, source === undefined ? "" : ` ${source}`].join("");
    if (name === undefined || this.#phases.has(line)) return;
    this.#phases.add(line);
    this.#print(line);
  }

  #ready({ data, resumedFrom }: Extract<TrainEvent, { type: "ready" }>): void {
    for (const { source, tokens, documents, textBytes } of trainingCounts(data.manifest)) {
      this.#print(
        `  ${source.padEnd(10)} ${formatBytes(textBytes).padStart(8)}  ${formatCount(tokens).padStart(7)} tokens in ${formatCount(documents)} documents`,
      );
    }
    const { steps } = this.#options;
    if (resumedFrom === steps) this.#print(`  all ${steps} steps are done already`);
    else if (resumedFrom > 0) this.#print(`  going on from step ${resumedFrom} of ${steps}`);
    this.#done = resumedFrom;
    this.#draw();
  }

  #step({ metrics, stepTokens }: Extract<TrainEvent, { type: "step" }>): void {
    const { step, cross_entropy: loss } = metrics;
    this.#losses.push(loss);
    const seconds = stepTokens / metrics.tokens_per_sec;
    this.#trained = { tokens: this.#trained.tokens + stepTokens, seconds: this.#trained.seconds + seconds };
    this.#rates.push({ tokens: stepTokens, seconds });
    if (this.#rates.length > RATE_STEPS) this.#rates.shift();
    const sum = (key: "tokens" | "seconds") => this.#rates.reduce((total, one) => total + one[key], 0);
    const rate = sum("tokens") / sum("seconds");
    const left = formatDuration((this.#options.tokens - metrics.tokens) / rate);
    this.#done = step;
    this.#line =
      `step ${step}/${this.#options.steps}  loss ${loss.toFixed(3)} ${sparkline(this.#losses, SPARK_WIDTH)}  ` +
      `${formatRate(rate, "tokens")}  ${left} left`;
    if (this.#bar !== undefined) this.#bar.update(step, { line: this.#line });
    else if (performance.now() - this.#lastLine > QUIET_INTERVAL_MS || step === this.#options.steps) {
      this.#lastLine = performance.now();
      this.#options.print(`  ${this.#line}`);
    }
  }

  #evaluation({ metrics }: Extract<TrainEvent, { type: "evaluation" }>): void {
    const sources = Object.entries(metrics.sources).map(
      ([name, { bits_per_byte }]) => `${name} ${bits_per_byte.toFixed(3)}`,
    );
    this.#print(
      `  step ${metrics.step}: held-out bits per byte ${metrics.bits_per_byte.toFixed(3)}  (${sources.join(", ")})`,
    );
    // Perplexity says the same as bits per byte.
    const others = Object.entries(metrics.results ?? {}).filter(([name]) => !name.startsWith("perplexity/"));
    if (others.length > 0) {
      this.#print(
        `  step ${metrics.step}: ${others.map(([name, value]) => `${name} ${value.toPrecision(4)}`).join(", ")}`,
      );
    }
  }
}
