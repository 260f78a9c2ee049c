/** Reads mappings from YAML files, and changes single fields of them. */
import { readFile, stat } from "node:fs/promises";
import { parseDocument } from "yaml";
import { ConfigError } from "../errors.ts";

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

/**
 * Sets one field, making the mappings on the way to it.
 * @param path keys with dots between them, such as `train.optimizer.lr`.
 * @param place where the override was given, for messages.
 * @throws ConfigError for a path that is none, or that leads beyond the end of a list.
 */
export function setField(root: Record<string, unknown>, path: string, value: unknown, place: string): void {
  const keys = path.split(".");
  if (keys.some((key) => key === "" || key === "__proto__")) {
    throw new ConfigError(`${place}: "${path}" is no field of a recipe`, { hint: "such as train.optimizer.lr" });
  }
  let inner: object = root;
  for (const [depth, key] of keys.entries()) {
    if (Array.isArray(inner) && !Object.hasOwn(inner, key)) {
      throw new ConfigError(`${place}: ${keys.slice(0, depth).join(".")} has entries 0 to ${inner.length - 1}`);
    }
    const found = Object.hasOwn(inner, key) ? (inner as Record<string, unknown>)[key] : undefined;
    const next = typeof found === "object" && found !== null ? found : {};
    (inner as Record<string, unknown>)[key] = depth === keys.length - 1 ? value : next;
    inner = next;
  }
}

/** Applies `key.path=value`, the value as YAML reads it. @throws ConfigError for anything else. */
export function applyOverride(root: Record<string, unknown>, text: string): void {
  const equals = text.indexOf("=");
  const path = text.slice(0, equals);
  if (equals < 1 || path.split(".").some((part) => part === "" || part === "__proto__")) {
    throw new ConfigError(`--set ${text}: not key=value`, { hint: "for example --set train.optimizer.lr=1e-3" });
  }
  setField(root, path, parseYaml(text.slice(equals + 1), `--set ${text}`), `--set ${text}`);
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

/** Reads a YAML file that holds a mapping. @throws ConfigError for a file that is missing, not YAML or no mapping. */
export async function readMapping(file: string): Promise<Record<string, unknown>> {
  const value = parseYaml(await readText(file), file);
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new ConfigError(`${file}: ${value === null ? "empty" : "not a mapping"}, expected a recipe in YAML`);
  }
  return value as Record<string, unknown>;
}
