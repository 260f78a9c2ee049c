import { describe, expect, it } from "vitest";
import { fakeModel } from "../../test/fakeModel.ts";
import { ConfigError } from "../errors.ts";
import { ChatSession } from "./chatSession.ts";

const user = (content: string) => ({ role: "user", content });
const assistant = (content: string) => ({ role: "assistant", content });

/** Asks, and remembers what is answered. */
async function ask(session: ChatSession, message: string) {
  const { generation, dropped } = await session.send(message, { maxTokens: 4 });
  const { text } = await generation.result;
  session.keep(text);
  return dropped;
}

/** A model of 64 tokens that answers "cat". */
function session(system?: string) {
  const { model, engine } = fakeModel(() => cat);
  const cat = [...model.tokenizer.toJson().matchAll(/"\u0120cat":(\d+)/g)].map(([, id]) => ({ id: Number(id) }));
  const prompts = () => engine.requests.map(({ prompt }) => model.detokenize(prompt));
  return { session: new ChatSession(model, system), prompts };
}

describe("a chat session", () => {
  it("asks with all that was said before", async () => {
    const { session: chat, prompts } = session("be kind");
    await ask(chat, "one");
    await ask(chat, "two");
    expect(prompts()).toEqual([
      "<|endoftext|><system>be kind\n<user>one\n<assistant>",
      "<|endoftext|><system>be kind\n<user>one\n<assistant> cat\n<user>two\n<assistant>",
    ]);
    expect(chat.messages).toEqual([
      { role: "system", content: "be kind" },
      user("one"),
      assistant(" cat"),
      user("two"),
      assistant(" cat"),
    ]);
  });

  it("leaves the oldest turns out where there would be no room for an answer, never the system message", async () => {
    const { session: chat, prompts } = session("x");
    const dropped = [];
    for (const message of ["aaaaaaaa", "bbbbbbbb", "cccccccc"]) dropped.push(await ask(chat, message));
    expect(dropped).toEqual([[], [user("aaaaaaaa"), assistant(" cat")], [user("bbbbbbbb"), assistant(" cat")]]);
    expect(prompts().at(-1)).toBe("<|endoftext|><system>x\n<user>cccccccc\n<assistant>");
  });

  it("refuses a message that is too long by itself, and stays as it was", async () => {
    const { session: chat } = session();
    await ask(chat, "a");
    await expect(chat.send("z".repeat(60))).rejects.toThrow(
      new ConfigError("chat: the message takes 78 tokens, the model holds 64", {
        hint: "shorten the message or the system message",
      }),
    );
    expect(chat.messages).toEqual([user("a"), assistant(" cat")]);
  });

  it("forgets a message whose answer failed, or everything", async () => {
    const { session: chat } = session();
    await chat.send("a");
    chat.forget();
    expect(chat.messages).toEqual([]);
    await ask(chat, "b");
    chat.forget();
    expect(chat.messages.length).toBe(2);
    chat.setSystem("y");
    chat.reset();
    expect(chat.messages).toEqual([{ role: "system", content: "y" }]);
    expect(await chat.tokens()).toBe(21);
    chat.setSystem(undefined);
    expect(await chat.tokens()).toBe(0);
  });
});
