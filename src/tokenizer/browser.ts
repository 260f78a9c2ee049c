/** Tokenizers in a page, by Hugging Face's JavaScript package; the same ids as the native one of Node. */
import { Tokenizer as PageTokenizer } from "@huggingface/tokenizers";
import { TokenizerError } from "../errors.ts";
import { Tokenizer } from "./tokenizer.ts";

/**
 * Makes a tokenizer from the text of a tokenizer.json.
 * @param place where the text is from, for messages.
 * @throws TokenizerError for anything but a byte-level BPE.
 */
export function tokenizerFromJson(json: string, place = "tokenizer.json"): Tokenizer {
  let page: PageTokenizer | undefined;
  const encode = (text: string) => page!.encode(text, { add_special_tokens: false }).ids;
  const tokenizer = new Tokenizer(json, async (texts) => texts.map(encode), place);
  try {
    page = new PageTokenizer(JSON.parse(json), {});
  } catch (cause) {
    throw new TokenizerError(`${place}: not a tokenizer.json, ${(cause as Error).message}`, { cause });
  }
  return tokenizer;
}
