import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { CHAT_TEMPLATE } from "../fakeModel.ts";
import { olmoe, startOlmoe, temporaryFolder, writeTinyModel } from "./harness.ts";

const root = await temporaryFolder();
const model = join(root, "model");
const reference = ["--backend", "reference"];
const settings = (fields: object) => JSON.stringify({ bos_token: "<|endoftext|>", ...fields });

/** A model that talks; the random weights of a seed say the same each time. */
async function writeChatModel(folder: string, overrides: Readonly<Record<string, unknown>> = {}) {
  await writeTinyModel(folder, { maxPositionEmbeddings: 128, ...overrides });
  await writeFile(join(folder, "tokenizer_config.json"), settings({ chat_template: CHAT_TEMPLATE }));
}

beforeAll(() => writeChatModel(model));

/** Talks to the model over a pipe. */
const chat = (input: string, ...argv: string[]) =>
  olmoe(["chat", model, "--max-tokens", "6", "--temperature", "0", ...reference, ...argv], input);

/** What the model says to a prompt that is written out. */
async function answerTo(prompt: string): Promise<string> {
  const argv = ["run", model, "-p", prompt, "--max-tokens", "6", "--temperature", "0", "--json", ...reference];
  return JSON.parse((await olmoe(argv)).stdout).text;
}

describe("olmoe chat", () => {
  it("answers each line with all that was said before, and says how fast", async () => {
    const { code, stdout, stderr } = await chat("one\ntwo\n", "--system", "hm");
    const first = await answerTo("<|endoftext|><system>hm\n<user>one\n<assistant>");
    const second = await answerTo(`<|endoftext|><system>hm\n<user>one\n<assistant>${first}\n<user>two\n<assistant>`);
    expect({ code, stdout }).toEqual({ code: 0, stdout: `${first}\n${second}\n` });
    expect(stderr).toMatch(
      /^(\[6 tokens, ended by --max-tokens; first after [\d.]+ m?s; then [\d.]+ tokens\/s; \d+ of 128 tokens of context\]\n){2}$/,
    );
  });

  it("takes messages of several lines: after a backslash, and between quotes", async () => {
    const wanted = await answerTo("<|endoftext|><user>a\nb\nc\n<assistant>");
    expect((await chat("a\\\nb\\\nc\n")).stdout).toBe(`${wanted}\n`);
    expect((await chat('"""\na\nb\nc\n"""\n')).stdout).toBe(`${wanted}\n`);
    expect((await chat('"""a\nb\nc"""\n')).stdout).toBe(`${wanted}\n`);
  });

  it("has commands", async () => {
    const file = join(root, "saved.json");
    const input = [
      "/help",
      "/system hm",
      "one",
      "/stats",
      `/save ${file}`,
      "/reset",
      "/system",
      "/stats",
      "/exit",
      "no",
    ];
    const { code, stdout, stderr } = await chat(`${input.join("\n")}\n`);
    const answer = await answerTo("<|endoftext|><system>hm\n<user>one\n<assistant>");
    expect({ code, stdout }).toEqual({ code: 0, stdout: `${answer}\n` });
    expect(JSON.parse(await readFile(file, "utf8"))).toEqual({
      model,
      messages: [
        { role: "system", content: "hm" },
        { role: "user", content: "one" },
        { role: "assistant", content: answer },
      ],
    });
    const lines = stderr.split("\n");
    expect(lines.slice(0, 6).map((line) => line.split(" ")[0])).toEqual([
      "/help",
      "/reset",
      "/system",
      "/save",
      "/stats",
      "/exit",
    ]);
    expect(lines.slice(6, 8)).toEqual(["the system message is set", expect.stringMatching(/^\[6 tokens/)]);
    expect(lines.slice(8, 12)).toEqual([
      "answers       1, 6 tokens",
      expect.stringMatching(/^speed {9}[\d.]+ tokens\/s$/),
      expect.stringMatching(/^conversation {2}\d+ of 128 tokens of context$/),
      expect.stringMatching(/^prompts {7}\d+ tokens, \d+ of them kept from before$/),
    ]);
    expect(lines.slice(12, 15)).toEqual([
      `wrote ${file}: 3 messages`,
      "the conversation is forgotten",
      "no system message",
    ]);
    expect(lines[17]).toBe("conversation  0 of 128 tokens of context");
  });

  it("leaves old messages out with a notice where the context ends", async () => {
    const { code, stderr } = await chat(`${"the cat sat on the mat ".repeat(3)}\n`.repeat(4));
    expect(code).toBe(0);
    expect(stderr).toContain("2 old messages left out: the model holds 128 tokens\n");
  });

  it("names a message that is too long, a command that is none, and a file that can not be", async () => {
    expect(await chat(`${"z".repeat(200)}\n`)).toEqual({
      code: 1,
      stdout: "",
      stderr:
        "olmoe: chat: the message takes 218 tokens, the model holds 128\nhint: shorten the message or the system message\n",
    });
    expect((await chat("/halp\n")).stderr).toBe(
      "olmoe: chat: there is no command /halp\nhint: /help lists the commands\n",
    );
    expect((await chat("/save\n")).stderr).toBe(
      "olmoe: chat: /save needs the name of a file\nhint: /save conversation.json\n",
    );
    const missing = join(root, "none", "saved.json");
    expect((await chat(`/save ${missing}\n`)).stderr).toBe(
      `olmoe: write ${missing}: no such file or folder\nhint: check the path\n`,
    );
  });

  it("says that a base model has no template, and what is wrong with a bad one", async () => {
    const base = join(root, "base");
    await writeTinyModel(base);
    expect(await olmoe(["chat", base, ...reference], "hi\n")).toEqual({
      code: 1,
      stdout: "",
      stderr:
        `olmoe: ${base}: the model has no chat template, a base model continues text\n` +
        'hint: use generate (olmoe run MODEL -p "TEXT"), or a model that was trained on conversations\n',
    });
    await writeFile(join(base, "tokenizer_config.json"), settings({ chat_template: "{% if %}" }));
    expect((await olmoe(["chat", base, ...reference], "hi\n")).stderr).toMatch(
      new RegExp(`^olmoe: ${base}: chat template: not a Jinja template, `),
    );
    await writeFile(
      join(base, "tokenizer_config.json"),
      settings({ chat_template: "{{ raise_exception('only silence') }}" }),
    );
    expect((await olmoe(["chat", base, ...reference], "hi\n")).stderr).toBe(
      `olmoe: ${base}: chat template: only silence\n` +
        "hint: the model's chat template does not take this conversation: change its roles or their order\n",
    );
  });
});

describe("olmoe chat as a process", () => {
  const endless = join(root, "endless");
  beforeAll(() => writeChatModel(endless, { maxPositionEmbeddings: 50_000 }));

  it("stops an answer at Ctrl-C and goes on; Ctrl-C again at the prompt leaves", async () => {
    const argv = ["chat", endless, "--temperature", "0", "--max-tokens", "40000", "--context", "50000", ...reference];
    const child = startOlmoe(argv);
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (chunk) => {
      stdout += chunk;
    });
    child.stderr.on("data", (chunk) => {
      stderr += chunk;
    });
    child.stdin.write("one\n");
    await once(child.stdout, "data");
    child.kill("SIGINT");
    // The statistics of the answer that was stopped.
    while (!stderr.includes("]\n")) await once(child.stderr, "data");
    expect(stderr).toMatch(/^\[\d+ tokens, stopped; first after .*\]\n$/);
    child.stdin.write("/stats\n");
    while (!stderr.includes("kept from before\n")) await once(child.stderr, "data");
    child.kill("SIGINT");
    while (!stderr.includes("leaves\n")) await once(child.stderr, "data");
    child.kill("SIGINT");
    const [code] = await once(child, "close");
    expect(code).toBe(0);
    expect(stderr.endsWith("Ctrl-C again or /exit leaves\n")).toBe(true);
    expect(stdout.endsWith("\n")).toBe(true);
  });

  it("ends with 143 when it is told to", async () => {
    const child = startOlmoe(["chat", endless, "--max-tokens", "40000", "--temperature", "0", ...reference]);
    child.stdin.write("one\n");
    await once(child.stdout, "data");
    child.kill("SIGTERM");
    const [code] = await once(child, "close");
    expect(code).toBe(143);
  });
});
