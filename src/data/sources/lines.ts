/** Lines of a stream of bytes. */

/** The bytes of all parts; a single part is not copied. */
export function joinBytes(parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 1) return parts[0] as Uint8Array;
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/**
 * The lines of each chunk, without their line ends; an empty last line is none. Lines come in batches, one for each chunk,
 * because waiting for each of a million would take longer than reading them.
 * @param most bytes of a line; a longer one is passed over and gives undefined.
 */
export async function* splitLines(
  chunks: AsyncIterable<Uint8Array>,
  most: number,
): AsyncGenerator<(Uint8Array | undefined)[]> {
  let parts: Uint8Array[] = [];
  let size = 0;
  const add = (part: Uint8Array) => {
    size += part.length;
    if (size > most) parts = [];
    else parts.push(part);
  };
  const finish = (): Uint8Array | undefined => {
    const line = size > most ? undefined : joinBytes(parts);
    parts = [];
    size = 0;
    return line;
  };
  for await (const chunk of chunks) {
    const lines: (Uint8Array | undefined)[] = [];
    let start = 0;
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, start)) {
      add(chunk.subarray(start, end));
      lines.push(finish());
      start = end + 1;
    }
    if (start < chunk.length) add(chunk.subarray(start));
    if (lines.length > 0) yield lines;
  }
  if (size > 0) yield [finish()];
}
