/** Tokenizer files of a model's folder, as transformers has them: read and written. */
import { join } from "node:path";
import type { ModelConfig } from "../config/model.ts";
import { CheckpointError } from "../errors.ts";
import { isMissing, readSmallFile, replaceFile } from "../util/files.io.ts";
import type { TextFiles } from "./ggufTokenizer.ts";
import { isJsonObject, parseJson } from "./json.ts";
import { ROLES, textFiles } from "./textFiles.ts";

const TOKENIZER = "tokenizer.json";
const TOKENIZER_CONFIG = "tokenizer_config.json";
const TEMPLATE = "chat_template.jinja";
const MAX_TOKENIZER_BYTES = 256 * 2 ** 20;
const MAX_CONFIG_BYTES = 20_000_000;

async function readOptional(path: string, maxBytes: number): Promise<Uint8Array | undefined> {
  try {
    return await readSmallFile(path, maxBytes);
  } catch (error) {
    if (error instanceof CheckpointError && isMissing(error.cause)) return undefined;
    throw error;
  }
}

async function readText(path: string, maxBytes: number): Promise<string | undefined> {
  const bytes = await readOptional(path, maxBytes);
  try {
    return bytes === undefined ? undefined : new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new CheckpointError(`${path}: not valid UTF-8`, { cause });
  }
}

async function readJsonObject(path: string): Promise<Readonly<Record<string, unknown>>> {
  const bytes = await readOptional(path, MAX_CONFIG_BYTES);
  if (bytes === undefined) return {};
  const result = parseJson(bytes, { maxDepth: 32 });
  if ("fault" in result) throw new CheckpointError(`${path}: ${result.fault}`);
  if (!isJsonObject(result.value)) throw new CheckpointError(`${path}: expected an object`);
  return result.value;
}

/**
 * Reads tokenizer.json, tokenizer_config.json and chat_template.jinja of a folder.
 * @param config gives the ids that the files do not name.
 * @returns undefined where there is no tokenizer.json.
 * @throws CheckpointError for a damaged file; ResourceError for one that can not be read.
 */
export async function readTextFiles(folder: string, config: ModelConfig): Promise<TextFiles | undefined> {
  const path = join(folder, TOKENIZER);
  const tokenizerJson = await readText(path, MAX_TOKENIZER_BYTES);
  if (tokenizerJson === undefined) return undefined;
  const settings = await readJsonObject(join(folder, TOKENIZER_CONFIG));
  const template = await readText(join(folder, TEMPLATE), MAX_CONFIG_BYTES);
  return textFiles({ tokenizerJson, settings, template }, config, path);
}

/** Writes what `readTextFiles` reads, as transformers loads it. @throws ResourceError if it can not be written. */
export async function writeTextFiles(folder: string, text: TextFiles, config: ModelConfig): Promise<void> {
  const json: unknown = JSON.parse(text.tokenizerJson);
  const model = isJsonObject(json) && isJsonObject(json.model) ? json.model : {};
  const tokens = new Map<unknown, string>();
  for (const [token, id] of Object.entries(isJsonObject(model.vocab) ? model.vocab : {})) tokens.set(id, token);
  for (const token of isJsonObject(json) && Array.isArray(json.added_tokens) ? json.added_tokens : []) {
    if (isJsonObject(token)) tokens.set(token.id, String(token.content));
  }
  const special = ROLES.flatMap((role) => {
    const token = tokens.get(text.roles[role]);
    return token === undefined ? [] : [[`${role}_token`, token] as const];
  });
  const settings = {
    tokenizer_class: "PreTrainedTokenizerFast",
    ...Object.fromEntries(special),
    ...(text.addBos ? { add_bos_token: true } : {}),
    ...(text.addEos ? { add_eos_token: true } : {}),
    clean_up_tokenization_spaces: false,
    model_max_length: config.maxPositionEmbeddings,
    ...(text.chatTemplate === undefined ? {} : { chat_template: text.chatTemplate }),
  };
  await replaceFile(join(folder, TOKENIZER), (file) => file.writeFile(text.tokenizerJson));
  await replaceFile(join(folder, TOKENIZER_CONFIG), (file) => file.writeFile(`${JSON.stringify(settings, null, 2)}\n`));
}
