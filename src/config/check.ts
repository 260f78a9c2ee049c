/** Reads data against a schema and reports every fault at once, each with its path, what was found and what is allowed. */
import { closest, distance } from "fastest-levenshtein";
import type { z } from "zod";
import { ConfigError } from "../errors.ts";

/** Keys that a schema knows at `path`, to suggest one for a misspelt key. */
function knownKeys(schema: z.ZodType, path: readonly PropertyKey[]): string[] {
  let current: unknown = schema;
  for (const step of path) {
    const unwrapped = unwrap(current);
    if (unwrapped.shape !== undefined) current = unwrapped.shape[String(step)];
    else current = unwrapped.element ?? unwrapped.valueType;
  }
  return Object.keys(unwrap(current).shape ?? {});
}

interface SchemaParts {
  shape?: Record<string, unknown>;
  element?: unknown;
  valueType?: unknown;
}

/** Looks through optional, default and refinement wrappers; a union stands for its first object. */
function unwrap(schema: unknown): SchemaParts {
  const def = (schema as { def?: { innerType?: unknown; in?: unknown; options?: unknown[] } } | undefined)?.def;
  if (def?.innerType !== undefined) return unwrap(def.innerType);
  if (def?.in !== undefined) return unwrap(def.in);
  if (def?.options !== undefined) return unwrap(def.options.find((option) => unwrap(option).shape !== undefined));
  return (schema ?? {}) as SchemaParts;
}

/** The value at a path, for the message. */
function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((inner, key) => (inner as Record<PropertyKey, unknown> | undefined)?.[key], value);
}

function show(value: unknown): string {
  const text = typeof value === "number" ? String(value) : (JSON.stringify(value) ?? String(value));
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

/** The nearest of several names, where it is within `most` changes. */
function suggestion(name: string, known: readonly string[], most: number): string {
  const near = known.length > 0 ? closest(name, [...known]) : undefined;
  return near !== undefined && distance(name, near) <= Math.max(most, name.length / 3)
    ? `, did you mean "${near}"?`
    : "";
}

/** The values that may stand where an issue is, if only some may. */
function allowedValues(issue: z.core.$ZodIssue): readonly unknown[] {
  if (issue.code === "invalid_value") return issue.values;
  return issue.code === "invalid_union" && "options" in issue ? (issue.options ?? []) : [];
}

/** What is wrong with the value at an issue's path. */
function describe(issue: z.core.$ZodIssue, found: unknown): string {
  if (issue.code === "custom") return issue.message;
  const message = issue.message
    .replace(/^(Invalid input|Invalid option|Invalid string|Too small|Too big): /, "")
    .replace(/, received undefined$/, "")
    .replace(/^Invalid discriminator value. Expected/, "expected one of");
  const allowed = allowedValues(issue).filter((value) => typeof value === "string");
  const near = typeof found === "string" ? suggestion(found, allowed, 1) : "";
  return `${found === undefined ? "missing" : show(found)}, ${message}${near}`;
}

/** One sentence for each place, with the first fault found there. */
function faultsOf(schema: z.ZodType, value: unknown, issues: readonly z.core.$ZodIssue[]): string[] {
  const faults = new Map<string, string>();
  const add = (path: readonly PropertyKey[], fault: string) => {
    const place = path.map(String).join(".") || "(root)";
    if (!faults.has(place)) faults.set(place, fault);
  };
  for (const issue of issues) {
    if (issue.code === "unrecognized_keys") {
      const known = knownKeys(schema, issue.path);
      for (const key of issue.keys) add([...issue.path, key], `unknown key${suggestion(key, known, 2)}`);
    } else add(issue.path, describe(issue, valueAt(value, issue.path)));
  }
  return Array.from(faults, ([place, fault]) => `${place}: ${fault}`);
}

/**
 * @param place what is read, for the message: a file or "model config".
 * @returns the value with defaults filled in.
 * @throws ConfigError listing every fault.
 */
export function parseConfig<S extends z.ZodType>(schema: S, value: unknown, place: string, hint?: string): z.output<S> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const faults = faultsOf(schema, value, result.error.issues);
  throw new ConfigError(
    `${place}: ${faults.length === 1 ? faults[0] : `${faults.length} faults\n${faults.map((fault) => `  - ${fault}`).join("\n")}`}`,
    hint === undefined ? {} : { hint },
  );
}
