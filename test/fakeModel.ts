/** A language model over an engine that says what it is told to. */
import type { GeneratedToken, GenerationRequest } from "../src/infer/engine.ts";
import { LanguageModel } from "../src/infer/model.ts";
import { countParameters } from "../src/model/counts.ts";
import { ChatTemplate } from "../src/tokenizer/chatTemplate.ts";
import { trainTokenizer } from "../src/tokenizer/io.ts";
import { type FakeEngine, fakeEngine } from "./fakeEngine.ts";

export const CHAT_TEMPLATE =
  "{{ bos_token }}{% for message in messages %}<{{ message.role }}>{{ message.content }}\n{% endfor %}" +
  "{% if add_generation_prompt %}<assistant>{% endif %}";

const tokenizer = trainTokenizer(["the cat sat on the mat and the rat sat on the cat "], { vocabSize: 270 });

/** @param template "" for a base model. */
export function fakeModel(
  answer: (request: GenerationRequest) => Iterable<GeneratedToken>,
  config: object = {},
  template = CHAT_TEMPLATE,
): { readonly model: LanguageModel; readonly engine: FakeEngine } {
  const engine = fakeEngine(answer, { vocabSize: 270, ...config });
  const model = new LanguageModel({
    engine,
    tokenizer,
    chatTemplate: template === "" ? undefined : new ChatTemplate(template, { bosToken: "<|endoftext|>" }),
    path: "fake",
    parameters: countParameters(engine.config),
    types: {},
    backend: { name: "reference", isa: "typescript", threads: 1 },
  });
  return { model, engine };
}
