/** Tokens between who makes them and who reads them, each at a pace of their own. */
import type { GeneratedToken, Generation } from "./engine.ts";
import type { GenerationSink } from "./generation.ts";

export class TokenStream implements GenerationSink {
  #tokens: GeneratedToken[] = [];
  #taken = 0;
  #outcome: { readonly generation: Generation } | { readonly error: unknown } | undefined;
  #wake: (() => void) | undefined;

  token(token: GeneratedToken): void {
    this.#tokens.push(token);
    this.#wake?.();
  }

  end(generation: Generation): void {
    this.#outcome ??= { generation };
    this.#wake?.();
  }

  /** The reader is told at once: tokens that it has not read yet are dropped. */
  fail(error: unknown): void {
    this.#outcome ??= { error };
    this.#wake?.();
  }

  /** The tokens as they come, for one reader. */
  async *read(): AsyncGenerator<GeneratedToken, Generation> {
    for (;;) {
      if (this.#outcome !== undefined && "error" in this.#outcome) throw this.#outcome.error;
      const token = this.#tokens[this.#taken];
      if (token !== undefined) {
        this.#taken += 1;
        yield token;
      } else if (this.#outcome !== undefined) return this.#outcome.generation;
      else {
        this.#tokens = [];
        this.#taken = 0;
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }
}
