/** One live line on standard error for long work: a bar on a terminal, a line now and then elsewhere. */
import cliProgress from "cli-progress";
import type { Session } from "./common.ts";

/** Without a terminal a line is printed this often. */
const QUIET_INTERVAL_MS = 10_000;
const STEPS = 1000;

/** Call `show` as the work goes on, and `stop` at its end, whatever the end is. */
export class ProgressLine {
  readonly #stderr: Session["stderr"];
  readonly #bar: cliProgress.SingleBar | undefined;
  #drawing = false;
  #lastLine = performance.now();

  constructor({ stderr }: Session) {
    this.#stderr = stderr;
    if (stderr.isTTY !== true) return;
    this.#bar = new cliProgress.SingleBar({
      format: "{bar} {percentage} %  {line}",
      barsize: 20,
      barCompleteChar: "#",
      barIncompleteChar: ".",
      hideCursor: true,
      clearOnComplete: true,
      stream: stderr as NodeJS.WriteStream,
    });
  }

  /** @param share of the work that is done, from 0 to 1. */
  show(share: number, line: string): void {
    if (this.#bar !== undefined) {
      if (!this.#drawing) this.#bar.start(STEPS, 0, { line });
      this.#drawing = true;
      this.#bar.update(Math.round(share * STEPS), { line });
    } else if (performance.now() - this.#lastLine > QUIET_INTERVAL_MS) {
      this.#lastLine = performance.now();
      this.#stderr.write(`${Math.floor(share * 100)} %  ${line}\n`);
    }
  }

  /** Takes the bar away. */
  stop(): void {
    if (this.#drawing) this.#bar?.stop();
    this.#drawing = false;
  }
}
