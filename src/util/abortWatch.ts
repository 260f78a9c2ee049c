/** Many pieces of work that end with the same signal: one listener for each signal, however much work there is. */
export class AbortWatch {
  readonly #ends = new Map<
    AbortSignal,
    { readonly ends: Set<(reason: unknown) => void>; readonly listener: () => void }
  >();

  /** @param end called with the signal's reason. @returns ends the watch: a signal may live longer than much work. */
  add(signal: AbortSignal | undefined, end: (reason: unknown) => void): () => void {
    if (signal === undefined) return () => {};
    const { ends } = this.#ends.get(signal) ?? this.#listen(signal);
    ends.add(end);
    return () => {
      ends.delete(end);
      if (ends.size === 0) this.#forget(signal);
    };
  }

  #listen(signal: AbortSignal) {
    const ends = new Set<(reason: unknown) => void>();
    const listener = () => {
      for (const end of [...ends]) end(signal.reason);
    };
    const watched = { ends, listener };
    signal.addEventListener("abort", listener);
    this.#ends.set(signal, watched);
    return watched;
  }

  #forget(signal: AbortSignal): void {
    const watched = this.#ends.get(signal);
    if (watched !== undefined) signal.removeEventListener("abort", watched.listener);
    this.#ends.delete(signal);
  }
}
