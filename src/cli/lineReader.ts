/** Lines from a terminal or a pipe, one each time it is asked for, and messages of several lines. */
import { createInterface, type Interface } from "node:readline";
import type { Session } from "./common.ts";

/** Thrown to whoever waits for a line when Ctrl-C is pressed. */
export class Interrupted extends Error {}

interface Waiter {
  readonly resolve: (line: string | undefined) => void;
  readonly reject: (error: Interrupted) => void;
}

const HISTORY_LINES = 200;

export class LineReader {
  readonly #lines: string[] = [];
  readonly #readline: Interface;
  readonly #terminal: boolean;
  #waiter: Waiter | undefined;
  #closed = false;

  /** @param onInterrupt called for Ctrl-C on a terminal, which sends no signal while lines are edited. */
  constructor({ stdin, stdout }: Session, onInterrupt: () => void) {
    this.#terminal = stdin.isTTY === true && stdout.isTTY === true;
    this.#readline = createInterface({
      input: stdin,
      ...(this.#terminal ? { output: stdout } : {}),
      terminal: this.#terminal,
      historySize: HISTORY_LINES,
      crlfDelay: Number.POSITIVE_INFINITY,
    });
    this.#readline.on("line", (line) => {
      if (this.#waiter === undefined) this.#lines.push(line);
      else this.#take().resolve(line);
    });
    this.#readline.on("close", () => {
      this.#closed = true;
      if (this.#waiter !== undefined) this.#take().resolve(undefined);
    });
    this.#readline.on("SIGINT", () => {
      // What was typed goes first.
      if (this.#readline.line !== "" && this.#waiter !== undefined)
        this.#readline.write(null, { ctrl: true, name: "u" });
      else onInterrupt();
    });
  }

  /**
   * The next line; undefined at the end of the input.
   * @param prompt shown on a terminal only.
   * @throws Interrupted when `interrupt` is called meanwhile.
   */
  next(prompt: string): Promise<string | undefined> {
    const line = this.#lines.shift();
    if (line !== undefined || this.#closed) return Promise.resolve(line);
    if (this.#terminal) {
      this.#readline.setPrompt(prompt);
      this.#readline.prompt();
    }
    return new Promise((resolve, reject) => {
      this.#waiter = { resolve, reject };
    });
  }

  /**
   * The next message: a line; lines that end in a backslash, with the one after them; or a block between two `"""`.
   * @returns undefined at the end of the input.
   * @throws Interrupted as `next` does.
   */
  async message(): Promise<string | undefined> {
    const first = await this.next("> ");
    if (first === undefined) return undefined;
    if (first.startsWith('"""')) return this.#block(first.slice(3));
    const lines = [first];
    while (lines.at(-1)?.endsWith("\\")) {
      lines.push(`${lines.pop()?.slice(0, -1)}`);
      const more = await this.next(". ");
      if (more === undefined) break;
      lines.push(more);
    }
    return lines.join("\n");
  }

  /** Ctrl-C: whoever waits for a line waits no longer. */
  interrupt(): void {
    if (this.#waiter !== undefined) this.#take().reject(new Interrupted());
  }

  close(): void {
    this.#readline.close();
  }

  async #block(first: string): Promise<string> {
    const lines: string[] = [];
    for (let line: string | undefined = first; line !== undefined; line = await this.next(". ")) {
      if (line.endsWith('"""')) return [...lines, line.slice(0, -3)].join("\n").replace(/^\n|\n$/g, "");
      lines.push(line);
    }
    return lines.join("\n");
  }

  #take(): Waiter {
    const waiter = this.#waiter as Waiter;
    this.#waiter = undefined;
    return waiter;
  }
}
