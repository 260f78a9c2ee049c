/**
 * Attributes beside Dolma's documents: for `documents/x.jsonl.gz` the file `attributes/NAME/x.jsonl.gz`, with one line for
 * each document: its id and named lists of [start, end, score] in code points.
 */

import { DataError } from "../../errors.ts";
import type { Attributes, Span } from "../attributes.ts";
import { parseJsonLine } from "./formats.ts";

const DOCUMENTS = /(^|\/)documents\//;

/** Whether a path goes through a folder `documents`. */
export function isDocumentsPath(file: string): boolean {
  return DOCUMENTS.test(file);
}

/** Where the attributes `name` of a file of documents are. */
export function attributesPath(file: string, name: string): string {
  return file.replace(DOCUMENTS, (_, before: string) => `${before}attributes/${name}/`);
}

/** Where each code point of a text begins, in UTF-16 units; undefined where both count the same. */
function codePointStarts(text: string): number[] | undefined {
  if (!/[\ud800-\udfff]/.test(text)) return undefined;
  const starts: number[] = [];
  let unit = 0;
  for (const character of text) {
    starts.push(unit);
    unit += character.length;
  }
  return [...starts, unit];
}

type ParsedAttributes = readonly (readonly [name: string, spans: readonly Span[]])[];

/** A line of an attribute file, its spans still in code points; undefined where it is not one. */
function parseRow(line: Uint8Array): { readonly id: string; readonly attributes: ParsedAttributes } | undefined {
  const parsed = parseJsonLine(line);
  if ("fault" in parsed) return undefined;
  const { id, attributes } = parsed.value;
  if (typeof id !== "string" && typeof id !== "number") return undefined;
  if (typeof attributes !== "object" || attributes === null) return undefined;
  const entries = Object.entries(attributes);
  return entries.every(([, spans]) => isSpans(spans)) ? { id: String(id), attributes: entries } : undefined;
}

function isSpans(value: unknown): value is Span[] {
  const isSpan = (span: unknown) => Array.isArray(span) && span.length === 3 && span.every(Number.isFinite);
  return Array.isArray(value) && value.every(isSpan);
}

/** Spans in UTF-16 units. @returns undefined where one does not fit the text. */
function placeSpans(spans: readonly Span[], starts: number[] | undefined, length: number): Span[] | undefined {
  const placed = spans.map(([start, end, score]): Span | undefined => {
    const [from, to] = starts === undefined ? [start, end] : [starts[start], starts[end]];
    const fits = from !== undefined && to !== undefined && Number.isInteger(from) && Number.isInteger(to);
    return fits && from >= 0 && from <= to && to <= length ? [from, to, score] : undefined;
  });
  return placed.includes(undefined) ? undefined : (placed as Span[]);
}

/** One attribute file, read along with its documents. Rows of documents that could not be read are passed over. */
export class AttributeRows {
  readonly #lines: AsyncIterator<Uint8Array>;
  readonly #file: string;
  #line = 0;

  /** @param file the name for messages. */
  constructor(lines: AsyncIterable<Uint8Array>, file: string) {
    this.#lines = lines[Symbol.asyncIterator]();
    this.#file = file;
  }

  /**
   * The attributes of the next document.
   * @throws DataError where a row is broken, does not fit the text, or no further row has the id.
   */
  async next(document: { readonly id: string; readonly text: string }): Promise<Attributes> {
    for (;;) {
      const { done, value } = await this.#lines.next();
      if (done === true) throw this.#error(`no row for document ${JSON.stringify(document.id)}`);
      this.#line++;
      const row = parseRow(value);
      if (row === undefined) throw this.#error("not a row of Dolma attributes");
      if (row.id === document.id) return this.#place(row.attributes, document.text);
    }
  }

  #place(attributes: ParsedAttributes, text: string): Attributes {
    const starts = codePointStarts(text);
    const placed = attributes.map(([name, spans]) => {
      const inText = placeSpans(spans, starts, text.length);
      if (inText === undefined) throw this.#error(`a span of ${name} is outside its text`);
      return [name, inText] as const;
    });
    return Object.fromEntries(placed);
  }

  #error(fault: string): DataError {
    return new DataError(`${this.#file}:${this.#line}: ${fault}`, {
      hint: "the attributes were made from other documents; make them again",
    });
  }

  async close(): Promise<void> {
    await this.#lines.return?.();
  }
}
