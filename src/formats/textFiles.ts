/** What the tokenizer files of a model's folder say, wherever they were read from. */
import type { ModelConfig } from "../config/model.ts";
import { CheckpointError } from "../errors.ts";
import type { TextFiles, TokenRole } from "./ggufTokenizer.ts";
import { isJsonObject } from "./json.ts";

/** Ids of tokens by their text. */
function tokenIds(tokenizerJson: string, path: string): (text: string) => number | undefined {
  let json: unknown;
  try {
    json = JSON.parse(tokenizerJson);
  } catch (cause) {
    throw new CheckpointError(`${path}: not valid JSON`, { cause });
  }
  const model = isJsonObject(json) && isJsonObject(json.model) ? json.model : {};
  const vocab = isJsonObject(model.vocab) ? model.vocab : {};
  const added = isJsonObject(json) && Array.isArray(json.added_tokens) ? json.added_tokens : [];
  const ids = new Map<string, unknown>(Object.entries(vocab));
  for (const token of added) if (isJsonObject(token)) ids.set(String(token.content), token.id);
  return (text) => {
    const id = ids.get(text);
    return typeof id === "number" && Number.isSafeInteger(id) && id >= 0 ? id : undefined;
  };
}

export const ROLES: readonly TokenRole[] = ["bos", "eos", "unk", "pad"];

/** A special token in a config: its text, or an object around it. */
function tokenText(value: unknown): string | undefined {
  const text = isJsonObject(value) ? value.content : value;
  return typeof text === "string" ? text : undefined;
}

/** The template, where there are several the one without a name of its own purpose. */
function templateOf(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  const named = Array.isArray(value) ? value.filter(isJsonObject) : [];
  const chosen = named.find(({ name }) => name === "default") ?? named[0];
  return typeof chosen?.template === "string" ? chosen.template : undefined;
}

/** Contents of the files. */
export interface TextFileContents {
  /** Text of tokenizer.json. */
  readonly tokenizerJson: string;
  /** Fields of tokenizer_config.json; none where there is no such file. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** Text of chat_template.jinja, which goes before the field of the same name, as in transformers. */
  readonly template: string | undefined;
}

/**
 * @param config gives the ids that the files do not name.
 * @param path of tokenizer.json, for messages.
 * @throws CheckpointError for a tokenizer.json that is not JSON.
 */
export function textFiles(contents: TextFileContents, config: ModelConfig, path: string): TextFiles {
  const { tokenizerJson, settings, template } = contents;
  const idOf = tokenIds(tokenizerJson, path);
  const fallback: Partial<Record<TokenRole, number | null>> = { eos: config.eosTokenId, pad: config.padTokenId };
  const roles: Partial<Record<TokenRole, number>> = {};
  for (const role of ROLES) {
    const text = tokenText(settings[`${role}_token`]);
    const id = (text === undefined ? undefined : idOf(text)) ?? fallback[role];
    if (id !== undefined && id !== null) roles[role] = id;
  }
  return {
    tokenizerJson,
    chatTemplate: template ?? templateOf(settings.chat_template),
    roles,
    addBos: settings.add_bos_token === true,
    addEos: settings.add_eos_token === true,
  };
}
