/** Reads recipes: YAML, with overrides from the command line. */
import { readFile, stat } from "node:fs/promises";
import { parseDocument } from "yaml";
import { ConfigError } from "../errors.ts";
import { parseRecipe, type Recipe } from "./recipe.ts";

/** A larger file is no recipe. */
const MAX_BYTES = 2 ** 20;

/** What YAML makes of a text. @throws ConfigError with the first fault and its place. */
function parseYaml(text: string, place: string): unknown {
  try {
    const document = parseDocument(text, { logLevel: "error" });
    const [fault] = [...document.errors, ...document.warnings];
    if (fault !== undefined) throw fault;
    return document.toJS();
  } catch (cause) {
    const [message = ""] = (cause as Error).message.split("\n");
    throw new ConfigError(`${place}: not YAML, ${message.replace(/:$/, "")}`, { cause });
  }
}

/** An override as a path and what YAML makes of the text. */
function overrideOf(text: string): { path: string[]; value: unknown } {
  const equals = text.indexOf("=");
  const path = text.slice(0, equals).split(".");
  if (equals < 1 || path.some((part) => part === "" || part === "__proto__")) {
    throw new ConfigError(`--set ${text}: not key=value`, { hint: "for example --set train.optimizer.lr=1e-3" });
  }
  return { path, value: parseYaml(text.slice(equals + 1), `--set ${text}`) };
}

function setAt(root: Record<string, unknown>, text: string): void {
  const { path, value } = overrideOf(text);
  let place: object = root;
  for (const [depth, key] of path.entries()) {
    if (Array.isArray(place) && !Object.hasOwn(place, key)) {
      throw new ConfigError(`--set ${text}: ${path.slice(0, depth).join(".")} has entries 0 to ${place.length - 1}`);
    }
    const inner = Object.hasOwn(place, key) ? (place as Record<string, unknown>)[key] : undefined;
    const next = typeof inner === "object" && inner !== null ? inner : {};
    (place as Record<string, unknown>)[key] = depth === path.length - 1 ? value : next;
    place = next;
  }
}

async function readText(file: string): Promise<string> {
  try {
    const facts = await stat(file);
    if (!facts.isFile()) {
      throw new ConfigError(`${file}: ${facts.isDirectory() ? "a folder" : "no file"}, expected a recipe in YAML`);
    }
    if (facts.size > MAX_BYTES) {
      throw new ConfigError(`${file}: ${facts.size} bytes, a recipe has at most ${MAX_BYTES}`);
    }
    return new TextDecoder("utf-8", { fatal: true }).decode(await readFile(file));
  } catch (cause) {
    if (cause instanceof ConfigError) throw cause;
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") {
      throw new ConfigError(`${file}: no such recipe`, { cause, hint: "recipes/quickstart.yaml is one to start from" });
    }
    if (code === "ERR_ENCODING_INVALID_ENCODED_DATA") throw new ConfigError(`${file}: not UTF-8`, { cause });
    throw new ConfigError(`${file}: can not be read (${message})`, { cause });
  }
}

/**
 * Reads and checks a recipe.
 * @param overrides `key.path=value`, applied in order before the check.
 * @throws ConfigError for a file that is missing or not YAML, or listing every fault of its content.
 */
export async function readRecipe(file: string, overrides: readonly string[] = []): Promise<Recipe> {
  const value = parseYaml(await readText(file), file);
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new ConfigError(`${file}: ${value === null ? "empty" : "not a mapping"}, expected a recipe in YAML`);
  }
  for (const text of overrides) setAt(value as Record<string, unknown>, text);
  return parseRecipe(value, file);
}
