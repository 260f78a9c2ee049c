/** Reads recipes: YAML, with overrides from the command line. */
import { readFile } from "node:fs/promises";
import { parse } from "yaml";
import { ConfigError } from "../errors.ts";
import { parseRecipe, type Recipe } from "./recipe.ts";

/** The value of an override: what YAML makes of the text. */
function overrideOf(text: string): { path: string[]; value: unknown } {
  const equals = text.indexOf("=");
  const path = text.slice(0, equals).split(".");
  if (equals < 1 || path.some((part) => part === "" || part === "__proto__")) {
    throw new ConfigError(`--set ${text}: not key=value`, { hint: "for example --set train.optimizer.lr=1e-3" });
  }
  return { path, value: parse(text.slice(equals + 1)) };
}

function setAt(root: Record<string, unknown>, path: readonly string[], value: unknown): void {
  let place = root;
  for (const key of path.slice(0, -1)) {
    const inner = place[key];
    const next = typeof inner === "object" && inner !== null ? (inner as Record<string, unknown>) : {};
    place[key] = next;
    place = next;
  }
  place[path.at(-1) as string] = value;
}

/**
 * Reads and checks a recipe.
 * @param overrides `key.path=value`, applied in order before the check.
 * @throws ConfigError for a file that is missing or not YAML, or listing every fault of its content.
 */
export async function readRecipe(file: string, overrides: readonly string[] = []): Promise<Recipe> {
  let value: unknown;
  try {
    value = parse(await readFile(file, "utf8"));
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT") {
      throw new ConfigError(`${file}: no such recipe`, { cause, hint: "recipes/quickstart.yaml is one to start from" });
    }
    if (code === "EISDIR") throw new ConfigError(`${file}: a folder, expected a recipe in YAML`, { cause });
    throw new ConfigError(`${file}: not YAML, ${message.split("\n")[0]}`, { cause });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new ConfigError(`${file}: ${value === null ? "empty" : "not a mapping"}, expected a recipe in YAML`);
  }
  for (const text of overrides) {
    const { path, value: replacement } = overrideOf(text);
    setAt(value as Record<string, unknown>, path, replacement);
  }
  return parseRecipe(value, file);
}
