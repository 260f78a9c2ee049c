/** Pieces of exact sizes from a stream of chunks of any size. Holds one piece and one chunk. */

/** A packed stream that is cut off or damaged; who knows the file's name adds it. */
export class StreamError extends Error {}

export class ByteReader {
  readonly #chunks: AsyncIterator<Uint8Array>;
  readonly #kind: string;
  #chunk: Uint8Array = new Uint8Array(0);
  #at = 0;

  /** @param kind of stream, such as "zstd", for messages. */
  constructor(chunks: AsyncIterable<Uint8Array>, kind: string) {
    this.#chunks = chunks[Symbol.asyncIterator]();
    this.#kind = kind;
  }

  damaged(cause?: unknown): StreamError {
    return new StreamError(`${this.#kind} stream is damaged`, { cause });
  }

  cutOff(): StreamError {
    return new StreamError(`${this.#kind} stream ends early`);
  }

  /** Whether no byte is left. */
  async atEnd(): Promise<boolean> {
    while (this.#at === this.#chunk.length) {
      const { done, value } = await this.#chunks.next();
      if (done === true) return true;
      this.#chunk = value;
      this.#at = 0;
    }
    return false;
  }

  /** At most `most` of the next bytes; empty at the end. */
  async some(most: number): Promise<Uint8Array> {
    if (await this.atEnd()) return new Uint8Array(0);
    const piece = this.#chunk.subarray(this.#at, this.#at + most);
    this.#at += piece.length;
    return piece;
  }

  /**
   * The next `count` bytes.
   * @throws StreamError where the stream ends before.
   */
  async take(count: number): Promise<Uint8Array> {
    const first = await this.some(count);
    if (first.length === count) return first;
    const bytes = new Uint8Array(count);
    bytes.set(first);
    for (let at = first.length; at < count; ) {
      const piece = await this.some(count - at);
      if (piece.length === 0) throw this.cutOff();
      bytes.set(piece, at);
      at += piece.length;
    }
    return bytes;
  }

  /** Passes over the next `count` bytes, with the faults of `take`. */
  async skip(count: number): Promise<void> {
    for (let left = count; left > 0; ) left -= (await this.take(Math.min(left, 65_536))).length;
  }
}
