/** Stop strings in text that arrives in pieces: nothing of one is ever let through, however the pieces fall. */
import { ConfigError } from "../errors.ts";

/** What a piece led to. */
export interface Released {
  /** Text that no stop string can begin in any more. */
  readonly text: string;
  /** The stop string that ended the text just before itself; undefined while there is none. */
  readonly stop?: string | undefined;
}

/** For each length of a partial match, the next shorter one (Knuth, Morris, Pratt). */
function fallbacks(pattern: string): Int32Array {
  const table = new Int32Array(pattern.length + 1);
  let length = 0;
  for (let index = 1; index < pattern.length; index++) {
    while (length > 0 && pattern[index] !== pattern[length]) length = table[length] as number;
    if (pattern[index] === pattern[length]) length += 1;
    table[index + 1] = length;
  }
  return table;
}

/** How much of one stop string the text ends with. */
class PartialMatch {
  readonly pattern: string;
  length = 0;
  readonly #fallbacks: Int32Array;

  constructor(pattern: string) {
    this.pattern = pattern;
    this.#fallbacks = fallbacks(pattern);
  }

  /** Takes one more character; true when the pattern is complete. */
  take(character: string): boolean {
    while (this.length > 0 && this.pattern[this.length] !== character)
      this.length = this.#fallbacks[this.length] as number;
    if (this.pattern[this.length] === character) this.length += 1;
    return this.length === this.pattern.length;
  }
}

/**
 * Finds the first stop string to be complete, the longest where several are at one place. Text that may be the beginning
 * of one is held back until it is known not to be.
 */
export class StopStrings {
  readonly #matches: readonly PartialMatch[];
  #held = "";

  /** @throws ConfigError for one that is empty or has half a character. */
  constructor(stops: readonly string[]) {
    for (const stop of stops) {
      if (stop === "" || /\p{Surrogate}/u.test(stop)) {
        throw new ConfigError(`stop: ${JSON.stringify(stop)}, expected a text of at least one character`);
      }
    }
    this.#matches = stops.map((stop) => new PartialMatch(stop));
  }

  /** Takes the next piece. After a stop string there must be none. */
  push(piece: string): Released {
    const text = this.#held + piece;
    for (let index = this.#held.length; index < text.length; index++) {
      const complete = this.#matches.filter((match) => match.take(text[index] as string));
      if (complete.length > 0) {
        const { pattern } = complete.reduce((a, b) => (b.pattern.length > a.pattern.length ? b : a));
        this.#held = "";
        return { text: text.slice(0, index + 1 - pattern.length), stop: pattern };
      }
    }
    const kept = text.length - this.#matches.reduce((most, { length }) => Math.max(most, length), 0);
    this.#held = text.slice(kept);
    return { text: text.slice(0, kept) };
  }

  /** The end of the text: gives what was held back. */
  flush(): string {
    const text = this.#held;
    this.#held = "";
    return text;
  }
}
