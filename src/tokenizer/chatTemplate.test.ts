import { existsSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { TokenizerError } from "../errors.ts";
import { ChatTemplate, requireChatTemplate } from "./chatTemplate.ts";
import { loadTokenizer } from "./io.ts";

const shared = new URL("../../../shared/", import.meta.url);
const chatFile = new URL("reference/parity/tokenizer/chat.json", shared);
const olmoeFile = new URL("data/tokenizers/allenai_gpt-neox-olmo-dolma-v1_5.json", shared).pathname;

const PLAIN =
  "{{ bos_token }}{% for message in messages %}{% if message.role == 'tool' %}{{ raise_exception('no tools here') }}" +
  "{% endif %}<{{ message.role }}>{{ message.content }}{{ eos_token }}{% endfor %}" +
  "{% if add_generation_prompt %}<assistant>{% endif %}";
const tokens = { bosToken: "<s>", eosToken: "</s>" };
const user = [{ role: "user", content: "Hi" }];

interface ChatCase {
  readonly messages: readonly { readonly role: string; readonly content: string }[];
  readonly add_generation_prompt: boolean;
  readonly text: string;
  readonly ids: readonly number[];
}

// Needs frozen values, which lie beside the repository.
describe.skipIf(!existsSync(chatFile) || !existsSync(olmoeFile))("the template OLMoE was adapted with", () => {
  it("renders every frozen conversation as transformers does, to the same ids", async () => {
    const frozen = JSON.parse(readFileSync(chatFile, "utf8"));
    const template = new ChatTemplate(frozen.template, { bosToken: frozen.bos_token, eosToken: frozen.eos_token });
    const tokenizer = await loadTokenizer(olmoeFile);
    const cases = frozen.cases as readonly ChatCase[];
    const rendered = cases.map(({ messages, add_generation_prompt: addGenerationPrompt }) =>
      template.render(messages, { addGenerationPrompt }),
    );
    expect(rendered).toEqual(cases.map(({ text }) => text));
    expect((await tokenizer.encodeBatch(rendered)).map((ids) => [...ids])).toEqual(cases.map(({ ids }) => ids));
    expect(cases.length).toBe(34);
  });
});

describe("a chat template", () => {
  it("lays a conversation out, with or without the opening of an answer", () => {
    const template = new ChatTemplate(PLAIN, tokens);
    expect(template.render(user)).toBe("<s><user>Hi</s><assistant>");
    expect(template.render(user, { addGenerationPrompt: false })).toBe("<s><user>Hi</s>");
    expect(template.render([])).toBe("<s><assistant>");
  });

  it("says why it refuses a conversation", () => {
    expect(() => new ChatTemplate(PLAIN, tokens, "model").render([{ role: "tool", content: "" }])).toThrow(
      new TokenizerError("model: no tools here", {
        hint: "the model's chat template does not take this conversation: change its roles or their order",
      }),
    );
  });

  it("is refused where it is not Jinja, too long, or goes on for ever", () => {
    expect(() => new ChatTemplate("{% for x %}", {}, "model")).toThrow(/^model: not a Jinja template, /);
    expect(() => new ChatTemplate("a".repeat(2 ** 20 + 1), {}, "model")).toThrow(
      new TokenizerError("model: 1048577 characters, a template has at most 1048576"),
    );
    const hint = "the model's chat template does not take this conversation: change its roles or their order";
    const endless = "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}";
    expect(() => new ChatTemplate(endless, {}, "model").render(user)).toThrow(
      new TokenizerError("model: more than 300000 steps", { hint }),
    );
    expect(() => new ChatTemplate("{{ range(1000000000) }}", {}, "model").render(user)).toThrow(
      new TokenizerError("model: range of 1000000000 numbers, at most 10000 are allowed", { hint }),
    );
  });
});

it("the missing template of a base model is an error that says so", () => {
  expect(() => requireChatTemplate(undefined, "model")).toThrow(
    new TokenizerError("model: the model has no chat template, a base model continues text", {
      hint: 'use generate (olmoe run MODEL -p "TEXT"), or a model that was trained on conversations',
    }),
  );
});
