import { describe, expect, it } from "vitest";
import { fakeModel } from "../../test/fakeModel.ts";
import { ResourceError, TokenizerError } from "../errors.ts";

const endless = function* () {
  for (;;) yield { id: 70 };
};

describe("a language model", () => {
  it("scores texts from the start of a document, and an empty one as nothing", async () => {
    const { model } = fakeModel(() => []);
    const [full, empty] = await model.score(["the cat", ""]);
    const ids = await model.tokenize("the cat");
    // The engine gives each token minus its id.
    const logprob = -ids.reduce((sum, id) => sum + id, 0);
    expect(full).toEqual({
      ids,
      logprobs: Float32Array.from(ids, (id) => -id),
      logprob,
      bytes: 7,
      bitsPerByte: -logprob / Math.LN2 / 7,
    });
    expect(empty).toEqual({
      ids: new Int32Array(0),
      logprobs: new Float32Array(0),
      logprob: 0,
      bytes: 0,
      bitsPerByte: 0,
    });
  });

  it("scores a text that is longer than its context in windows", async () => {
    const { model } = fakeModel(() => []);
    const text = "z".repeat(500);
    const [score] = await model.score([text]);
    expect(score?.logprobs.length).toBe(500);
    expect(score?.logprob).toBe(-[...(await model.tokenize(text))].reduce((sum, id) => sum + id, 0));
  });

  it("embeds each text, an empty one as the end of text alone", async () => {
    const { model } = fakeModel(() => []);
    expect(await model.embed(["zzz", ""])).toEqual([Float32Array.of(3), Float32Array.of(1)]);
  });

  it("answers a conversation through its chat template", async () => {
    const { model, engine } = fakeModel(() => []);
    await model.chat([{ role: "user", content: "Hi" }], { maxTokens: 3 }).result;
    expect(model.detokenize(engine.requests[0]?.prompt ?? [])).toBe("<|endoftext|><user>Hi\n<assistant>");
    expect(model.info.chat).toBe(true);
  });

  it("without a template says that it is a base model", () => {
    const { model } = fakeModel(() => [], {}, "");
    expect(model.info.chat).toBe(false);
    expect(() => model.chat([])).toThrow(
      new TokenizerError("fake: the model has no chat template, a base model continues text", {
        hint: 'use generate (olmoe run MODEL -p "TEXT"), or a model that was trained on conversations',
      }),
    );
  });

  it("ends what is running when it is closed, and then refuses everything", async () => {
    const closed = new ResourceError("model: it is closed", { hint: "open it again: OlmoeModel.open(path)" });
    const { model } = fakeModel(endless);
    const reading = async () => {
      for await (const _ of model.generate("a", { maxTokens: 1e6 })) await model.close();
    };
    await expect(reading()).rejects.toThrow(closed);
    expect(() => model.generate("a")).toThrow(closed);
    await expect(model.score(["a"])).rejects.toThrow(closed);
    await expect(model.logits([1])).rejects.toThrow(closed);
    await expect(model.embed(["a"])).rejects.toThrow(closed);
  });

  it("closes at the end of its block", async () => {
    const { model } = fakeModel(() => []);
    {
      await using opened = model;
      expect(opened.info.context).toBe(64);
    }
    expect(() => model.generate("a")).toThrow("model: it is closed");
  });

  it("refuses a tokenizer with more entries than it has rows", () => {
    expect(() => fakeModel(() => [], { vocabSize: 269 })).toThrow(
      new TokenizerError("tokenizer: it has 270 entries, the model's vocabulary is 269", {
        hint: "use the tokenizer.json that the model was trained with",
      }),
    );
  });
});
