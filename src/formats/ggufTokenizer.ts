/** Tokenizer and chat template in GGUF's metadata, both ways. */
import type { ModelConfig } from "../config/model.ts";
import { CheckpointError } from "../errors.ts";
import { ggufFromTokenizerJson, tokenizerJsonFromGguf } from "../tokenizer/gguf.ts";
import type { GgufValue } from "./gguf.ts";
import { quoted } from "./json.ts";

const PREFIX = "tokenizer.ggml.";
const TEMPLATE = "tokenizer.chat_template";

/** Recipes that cut text as OLMoE's tokenizer does. */
const RECIPES: readonly unknown[] = ["olmo"];

/** Ids with a role, under GGUF's names. */
const ROLES = { bos: "bos_token_id", eos: "eos_token_id", unk: "unknown_token_id", pad: "padding_token_id" } as const;

export type TokenRole = keyof typeof ROLES;

/** What a model's files say of its text side. */
export interface TextFiles {
  /** Text of a tokenizer.json. */
  readonly tokenizerJson: string;
  /** Jinja template of conversations. */
  readonly chatTemplate?: string | undefined;
  /** Ids of tokens with a role. */
  readonly roles: Readonly<Partial<Record<TokenRole, number>>>;
  /** Whether programs are to put the first and last token around a text by themselves. */
  readonly addBos: boolean;
  readonly addEos: boolean;
}

type Metadata = ReadonlyMap<string, GgufValue>;

function texts(metadata: Metadata, key: string, place: string): readonly string[] {
  const found = metadata.get(PREFIX + key);
  if (found?.type === "ARRAY" && found.of === "STRING") return found.value;
  const actual = found === undefined ? "missing" : found.type === "ARRAY" ? `array of ${found.of}` : found.type;
  throw new CheckpointError(`${place}: metadata "${PREFIX}${key}": ${actual}, expected an array of STRING`);
}

function kindsOf(metadata: Metadata, place: string): ArrayLike<number> | undefined {
  const found = metadata.get(`${PREFIX}token_type`);
  if (found === undefined) return undefined;
  if (found.type === "ARRAY" && (found.of === "INT32" || found.of === "UINT32")) return found.value;
  throw new CheckpointError(`${place}: metadata "${PREFIX}token_type": expected an array of INT32`);
}

function flag(metadata: Metadata, key: string): boolean {
  return metadata.get(PREFIX + key)?.value === true;
}

/**
 * The text side of a file.
 * @returns undefined for a file without a tokenizer.
 * @throws CheckpointError or TokenizerError for a tokenizer of another kind, or one that does not hold together.
 */
export function textFromGguf(metadata: Metadata, place: string): TextFiles | undefined {
  const [model, recipe] = ["model", "pre"].map((key) => metadata.get(PREFIX + key)?.value);
  if (model === undefined || model === "none" || model === "no_vocab") return undefined;
  if (model !== "gpt2" || !RECIPES.includes(recipe)) {
    const found = `model ${quoted(model)} with pre ${recipe === undefined ? "missing" : quoted(recipe)}`;
    throw new CheckpointError(`${place}: tokenizer: ${found}, expected "gpt2" with "olmo"`, {
      hint: "only tokenizers of OLMoE's kind are read",
    });
  }
  const roles: Partial<Record<TokenRole, number>> = {};
  for (const [role, key] of Object.entries(ROLES) as [TokenRole, string][]) {
    const id = metadata.get(PREFIX + key)?.value;
    if (typeof id === "number") roles[role] = id;
  }
  const template = metadata.get(TEMPLATE)?.value;
  const vocabulary = {
    tokens: texts(metadata, "tokens", place),
    kinds: kindsOf(metadata, place),
    merges: texts(metadata, "merges", place),
    controlIds: [roles.bos, roles.eos, roles.pad].filter((id) => id !== undefined),
  };
  return {
    tokenizerJson: tokenizerJsonFromGguf(vocabulary, place),
    chatTemplate: typeof template === "string" ? template : undefined,
    roles,
    addBos: flag(metadata, "add_bos_token"),
    addEos: flag(metadata, "add_eos_token"),
  };
}

/** Metadata of a model without a tokenizer: the ids that its config names. */
export function idsToGguf({ eosTokenId, padTokenId }: ModelConfig): [string, GgufValue][] {
  const ids = [
    [ROLES.eos, eosTokenId],
    [ROLES.pad, padTokenId],
  ] as const;
  return ids.flatMap(([key, value]) => (value === null ? [] : [[PREFIX + key, { type: "UINT32", value }]]));
}

/**
 * Metadata of a text side, in the order of llama.cpp's converter.
 * @param rows of the embedding.
 * @throws TokenizerError for a tokenizer that is not of OLMoE's kind, or has ids beyond the rows.
 */
export function textToGguf(text: TextFiles, rows: number, place: string): [string, GgufValue][] {
  const { tokens, kinds, merges } = ggufFromTokenizerJson(text.tokenizerJson, rows, place);
  const entry = (key: string, value: GgufValue): [string, GgufValue] => [PREFIX + key, value];
  const entries = [
    entry("model", { type: "STRING", value: "gpt2" }),
    entry("pre", { type: "STRING", value: "olmo" }),
    entry("tokens", { type: "ARRAY", of: "STRING", value: tokens }),
    entry("token_type", { type: "ARRAY", of: "INT32", value: kinds }),
    entry("merges", { type: "ARRAY", of: "STRING", value: merges }),
  ];
  for (const [role, key] of Object.entries(ROLES) as [TokenRole, string][]) {
    const id = text.roles[role];
    if (id !== undefined) entries.push(entry(key, { type: "UINT32", value: id }));
  }
  entries.push(entry("add_bos_token", { type: "BOOL", value: text.addBos }));
  entries.push(entry("add_eos_token", { type: "BOOL", value: text.addEos }));
  if (text.chatTemplate !== undefined) entries.push([TEMPLATE, { type: "STRING", value: text.chatTemplate }]);
  return entries;
}
