/** Tokenizer and chat template of an opened model, made by whoever can: the native package or that of pages. */
import { TokenizerError } from "../errors.ts";
import type { TextFiles } from "../formats/ggufTokenizer.ts";
import { ChatTemplate } from "../tokenizer/chatTemplate.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";

/** What a model reads and writes text with. */
export interface TextSide {
  readonly tokenizer: Tokenizer;
  /** Undefined for a base model. */
  readonly chatTemplate: ChatTemplate | undefined;
}

/**
 * @param tokenizerFromJson makes a tokenizer from the text of a tokenizer.json.
 * @param place the model, for messages.
 * @throws TokenizerError for a model without a tokenizer, or with one or a template that can not be used.
 */
export function openTextSide(
  text: TextFiles | undefined,
  tokenizerFromJson: (json: string, place: string) => Tokenizer,
  place: string,
): TextSide {
  if (text === undefined) {
    throw new TokenizerError(`${place}: the model has no tokenizer`, {
      hint: "put the tokenizer.json that it was trained with beside it",
    });
  }
  const tokenizer = tokenizerFromJson(text.tokenizerJson, place);
  const textOf = (id: number | undefined) => (id === undefined ? undefined : tokenizer.tokenText(id));
  const tokens = { bosToken: textOf(text.roles.bos), eosToken: textOf(text.roles.eos) };
  const { chatTemplate: source } = text;
  const chatTemplate = source === undefined ? undefined : new ChatTemplate(source, tokens, `${place}: chat template`);
  return { tokenizer, chatTemplate };
}
