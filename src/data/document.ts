/** Documents: the unit of deduplication, of the held-out split and of the end-of-text token. */

/** One piece of text from a source. */
export interface Document {
  /** The file's path inside the source, or the id a JSONL line gives; pieces of a long text add "#1", "#2". */
  readonly id: string;
  readonly text: string;
  /** Name of the source. */
  readonly source: string;
  /** File the text is from, relative to the source's folder, with "/". */
  readonly path: string;
  /** Line of that file, from 1; 1 for a document that is a whole file. */
  readonly line: number;
  /** When it was taken into the collection, as an ISO date; as the file has it. */
  readonly added?: string | undefined;
  /** When it was written, likewise. */
  readonly created?: string | undefined;
  /** What else is known of it, such as stars of a repository or the address of a page. */
  readonly metadata?: Readonly<Record<string, unknown>> | undefined;
}

/**
 * White space at the ends as Python's str.strip takes it off, which is what `dolma tokens` applies before encoding: U+001C
 * to U+001F and U+0085 are white space, U+FEFF is not (JavaScript's trim has it the other way round).
 */
const SPACE = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const SPACE_CHARACTER = new RegExp(`^[${SPACE}]$`);

export function stripWhitespace(text: string): string {
  let start = 0;
  let end = text.length;
  while (start < end && SPACE_CHARACTER.test(text[start] as string)) start++;
  while (end > start && SPACE_CHARACTER.test(text[end - 1] as string)) end--;
  return text.slice(start, end);
}

/** CRLF and lone CR become LF. */
export function normalizeLineEnds(text: string): string {
  return text.replace(/\r\n?/g, "\n");
}

/** Bytes of a text in UTF-8. */
export function utf8Bytes(text: string): number {
  // Node's Buffer counts them without making them.
  return typeof Buffer === "undefined" ? new TextEncoder().encode(text).length : Buffer.byteLength(text);
}

/** Where to cut `text` so that the first piece has at most `limit` UTF-16 units: paragraph, line, word, or anywhere. */
function cutPlace(text: string, start: number, limit: number): number {
  const end = start + limit;
  const least = start + Math.floor(limit / 2);
  for (const border of ["\n\n", "\n", " "]) {
    const place = text.lastIndexOf(border, end);
    if (place > least) return place;
  }
  const inPair = /[\ud800-\udbff]/.test(text[end - 1] as string);
  return inPair ? end - 1 : end;
}

/**
 * Cuts a text into pieces of at most `limit` characters (UTF-16 units), at the last paragraph border of the second half of
 * a piece, else at a line or word border. Pieces have no white space at their ends, and none is empty.
 */
export function cutText(text: string, limit: number): string[] {
  const pieces: string[] = [];
  let start = 0;
  while (start < text.length) {
    const end = text.length - start <= limit ? text.length : cutPlace(text, start, limit);
    const piece = stripWhitespace(text.slice(start, end));
    if (piece !== "") pieces.push(piece);
    start = end;
  }
  return pieces;
}

/** Documents of one text: one, or several where it is longer than `limit`; none where it is white space only. */
export function documentsOf(whole: Document, limit: number | null): Document[] {
  const pieces = cutText(whole.text, limit ?? Number.POSITIVE_INFINITY);
  if (pieces.length === 1) return [{ ...whole, text: pieces[0] as string }];
  return pieces.map((text, index) => ({ ...whole, id: `${whole.id}#${index + 1}`, text }));
}
