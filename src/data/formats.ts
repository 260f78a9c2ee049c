/** File content to text: what one line of JSONL, one plain file or one e-mail holds. Reading files is in sources.io.ts. */
import type { SourceRecipe } from "../config/dataSources.ts";
import { normalizeLineEnds } from "./document.ts";
import { emailText } from "./email.ts";

/** How a file becomes documents. */
export type FileFormat = Exclude<SourceRecipe["format"], "auto">;

/** The format of a file: the recipe's, or for `auto` the one of its ending. */
export function formatOf(file: string, format: SourceRecipe["format"]): FileFormat {
  if (format !== "auto") return format;
  return /\.jsonl(\.gz)?$/.test(file) ? "jsonl" : "text";
}

/** Text that was read, or why there is none. */
export type Reading = { readonly text: string; readonly id?: string } | { readonly fault: string };

/** Bytes to text; a byte order mark goes. */
function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

/** A plain text file: UTF-8, line ends become LF. */
export function readText(bytes: Uint8Array): Reading {
  const text = decodeUtf8(bytes);
  return text === undefined ? { fault: "not UTF-8" } : { text: normalizeLineEnds(text) };
}

/** One raw e-mail: its body, cleaned (see email.ts). */
export async function readEmail(bytes: Uint8Array): Promise<Reading> {
  try {
    const text = await emailText(bytes);
    return text === undefined ? { fault: "body does not fit its character set" } : { text };
  } catch (cause) {
    return { fault: `not an e-mail, ${(cause as Error).message}` };
  }
}

/**
 * One line of JSONL. The text stays as it is, line ends included, because documents in this form were prepared before.
 * @param textField field that holds the text; `id` is used where it is a string or a number.
 */
export function readJsonLine(bytes: Uint8Array, textField: string): Reading {
  const line = decodeUtf8(bytes);
  if (line === undefined) return { fault: "not UTF-8" };
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return { fault: "not JSON" };
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) return { fault: "not a JSON object" };
  const fields = value as Record<string, unknown>;
  const text = Object.hasOwn(fields, textField) ? fields[textField] : undefined;
  if (typeof text !== "string") return { fault: `no text in field "${textField}"` };
  if (/\p{Surrogate}/u.test(text)) return { fault: "text has half a surrogate pair" };
  const { id } = fields;
  return typeof id === "string" || typeof id === "number" ? { text, id: String(id) } : { text };
}
