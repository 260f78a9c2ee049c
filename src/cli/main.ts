#!/usr/bin/env node
/** Entry of the command line: joins the process (streams, signals, exit code) to the commands. */
import type { Session } from "./common.ts";
import { runCli } from "./program.ts";

const EXIT_CODES = { SIGINT: 130, SIGTERM: 143 } as const;

/**
 * The process as commands see it. Signals are taken over when a command first asks for the abort signal: one that never
 * asks is ended by the system, and so is one that gets the same signal twice.
 */
class ProcessSession implements Session {
  readonly stdin = process.stdin;
  readonly stdout = process.stdout;
  readonly stderr = process.stderr;
  #controller: AbortController | undefined;
  #interruptedCode: number | undefined;
  #onInterrupt: (() => void) | undefined;

  get interruptedCode(): number | undefined {
    return this.#interruptedCode;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      const controller = new AbortController();
      this.#controller = controller;
      for (const name of ["SIGINT", "SIGTERM"] as const) {
        const listener = () => {
          if (name === "SIGINT" && this.#onInterrupt !== undefined) return this.#onInterrupt();
          process.off(name, listener);
          this.#interruptedCode = EXIT_CODES[name];
          controller.abort();
        };
        process.on(name, listener);
      }
    }
    return this.#controller.signal;
  }

  onInterrupt(handler: () => void): void {
    this.#onInterrupt = handler;
    // Reading the signal takes both signals over.
    void this.signal;
  }
}

/** A reader that has gone away, such as `head`, ends the program without a word. */
function onOutputError(error: NodeJS.ErrnoException): void {
  if (error.code === "EPIPE") process.exit(0);
  process.stderr.write(`olmoe: output: ${error.message}\n`);
  process.exit(1);
}
process.stdout.on("error", onOutputError);
process.stderr.on("error", () => process.exit(1));

process.exitCode = await runCli(process.argv.slice(2), new ProcessSession());
