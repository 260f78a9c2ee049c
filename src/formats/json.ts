/**
 * JSON from files that others made. `JSON.parse` alone lets repeated keys pass silently and builds nesting of any depth;
 * both are refused here before a value is used.
 */

/** What reading gave: the value, or why there is none (a phrase for an error message). */
export type JsonResult = { readonly value: unknown } | { readonly fault: string };

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** Members of all objects and depth of nesting, counted without building anything; exact for valid JSON. */
function survey(text: string): { members: number; depth: number } {
  let members = 0;
  let depth = 0;
  let open = 0;
  for (let i = 0; i < text.length; i++) {
    switch (text.charCodeAt(i)) {
      case QUOTE:
        for (i++; i < text.length && text.charCodeAt(i) !== QUOTE; i++) if (text.charCodeAt(i) === BACKSLASH) i++;
        break;
      case 0x3a: // :
        members++;
        break;
      case 0x5b: // [
      case 0x7b: // {
        open++;
        if (open > depth) depth = open;
        break;
      case 0x5d: // ]
      case 0x7d: // }
        open--;
        break;
    }
  }
  return { members, depth };
}

/** Keys of all objects inside a value whose depth is known to be small. */
function countKeys(value: unknown): number {
  if (typeof value !== "object" || value === null) return 0;
  const inner = Object.values(value).reduce<number>((sum, element) => sum + countKeys(element), 0);
  return Array.isArray(value) ? inner : inner + Object.keys(value).length;
}

/**
 * Decodes and parses.
 * @param options.maxDepth levels of objects and arrays that are allowed.
 * @returns the value, or the fault: not UTF-8, not JSON, too deep, or a repeated key.
 */
export function parseJson(bytes: Uint8Array, { maxDepth }: { readonly maxDepth: number }): JsonResult {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return { fault: "not valid UTF-8" };
  }
  const { members, depth } = survey(text);
  if (depth > maxDepth) return { fault: `nested ${depth} levels deep, at most ${maxDepth} are allowed` };
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { fault: "not valid JSON" };
  }
  if (countKeys(value) !== members) return { fault: "a key is repeated within one object" };
  return { value };
}

/** True for what JSON calls an object. */
export function isJsonObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A value from a file as it may appear in a message: quoted, and cut where it is long. */
export function quoted(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
