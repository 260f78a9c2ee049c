/** A user's own filter, from an ES module. Its functions are checked when it is loaded, and what they return, each time. */
import path from "node:path";
import { pathToFileURL } from "node:url";
import { ConfigError, OlmoeError } from "../../errors.ts";
import type { Attributes, Span } from "../attributes.ts";
import type { Document } from "../document.ts";
import type { Filter, Verdict } from "./filter.ts";

const HINT =
  "a filter's module has export default { tag(document) { ... }, judge(attributes) { ... } }; see docs/data.md";

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Whether a value is a place of a text with a finite score. */
function isSpan(value: unknown, length: number): value is Span {
  if (!Array.isArray(value) || value.length !== 3 || !value.every(Number.isFinite)) return false;
  const [start, end] = value as [number, number];
  return Number.isInteger(start) && Number.isInteger(end) && start >= 0 && start <= end && end <= length;
}

function checkAttributes(value: unknown, { id, text }: Document, file: string): Attributes {
  const fault = (message: string) => new ConfigError(`${file}: tag of document ${id}: ${message}`, { hint: HINT });
  if (!isRecord(value)) throw fault(`returns ${String(value)}, expected attributes: lists of spans by name`);
  for (const [name, spans] of Object.entries(value)) {
    if (!Array.isArray(spans) || !spans.every((span) => isSpan(span, text.length))) {
      const expected = `expected [start, end, score] inside the text's ${text.length} characters`;
      throw fault(`${name} is ${JSON.stringify(spans)?.slice(0, 60)}, ${expected}`);
    }
  }
  return value as Attributes;
}

function isReplacement(value: unknown): boolean {
  if (!isRecord(value)) return false;
  const { start, end, text } = value;
  return isSpan([start, end, 0], Number.MAX_SAFE_INTEGER) && typeof text === "string";
}

function checkVerdict(value: unknown, file: string): Verdict {
  const { drop, replace } = isRecord(value) ? value : { drop: null };
  const dropIs = drop === undefined || typeof drop === "string";
  const replaceIs = replace === undefined || (Array.isArray(replace) && replace.every(isReplacement));
  if (dropIs && replaceIs) return value as Verdict;
  const expected = "expected {}, { drop: reason } or { replace: [{ start, end, text }] }";
  throw new ConfigError(`${file}: judge returns ${JSON.stringify(value)?.slice(0, 60)}, ${expected}`, { hint: HINT });
}

/**
 * Loads a filter.
 * @param location path of the module.
 * @throws ConfigError for a module that is missing, that throws, or whose default export is not a filter.
 */
export async function loadModuleFilter(name: string, location: string): Promise<Filter> {
  const file = path.resolve(location);
  let loaded: { readonly default?: unknown };
  try {
    loaded = (await import(pathToFileURL(file).href)) as { default?: unknown };
  } catch (cause) {
    if (cause instanceof OlmoeError) throw cause;
    throw new ConfigError(`${file}: can not be loaded, ${(cause as Error).message}`, { hint: HINT, cause });
  }
  const own = loaded.default;
  if (!isRecord(own) || typeof own.tag !== "function" || typeof own.judge !== "function") {
    const found = isRecord(own) ? `has ${Object.keys(own).join(", ") || "nothing"}` : `is ${typeof own}`;
    throw new ConfigError(`${file}: default export ${found}, expected an object with functions tag and judge`, {
      hint: HINT,
    });
  }
  const filter = own as unknown as Filter;
  return {
    name,
    tag: async (document) => checkAttributes(await filter.tag(document), document, file),
    judge: (attributes) => checkVerdict(filter.judge(attributes), file),
  };
}
