import { PassThrough } from "node:stream";
import { describe, expect, it } from "vitest";
import type { Session } from "./common.ts";
import { Interrupted, LineReader } from "./lineReader.ts";

const turn = () => new Promise((resolve) => setTimeout(resolve, 5));

/** A reader over streams that look like a terminal, or like pipes. */
function open(isTTY: boolean) {
  const stdin = Object.assign(new PassThrough(), { isTTY });
  const stdout = Object.assign(new PassThrough(), { isTTY, columns: 80 });
  const shown: string[] = [];
  stdout.on("data", (chunk) => shown.push(String(chunk)));
  let interrupts = 0;
  const session = { stdin, stdout } as unknown as Session;
  const reader = new LineReader(session, () => {
    interrupts += 1;
  });
  return { stdin, reader, shown: () => shown.join(""), interrupts: () => interrupts };
}

describe("a reader of lines", () => {
  it("keeps lines that come before they are asked for, and says when there are no more", async () => {
    const { stdin, reader } = open(false);
    stdin.write("one\r\ntwo\nthr");
    stdin.end("ee");
    expect([await reader.next("> "), await reader.next("> "), await reader.next("> ")]).toEqual([
      "one",
      "two",
      "three",
    ]);
    expect(await reader.next("> ")).toBeUndefined();
    expect(await reader.message()).toBeUndefined();
  });

  it("joins messages of several lines, as far as the input goes", async () => {
    const messages = async (input: string) => {
      const { stdin, reader } = open(false);
      stdin.end(input);
      const all: (string | undefined)[] = [];
      do all.push(await reader.message());
      while (all.at(-1) !== undefined);
      return all.slice(0, -1);
    };
    expect(await messages("a\\\nb\nc\\\n")).toEqual(["a\nb", "c"]);
    expect(await messages('"""a\n\nb"""\n""""""\n"""c\nd')).toEqual(["a\n\nb", "", "c\nd"]);
  });

  it("shows a prompt on a terminal, and none in a pipe", async () => {
    for (const isTTY of [true, false]) {
      const { stdin, reader, shown } = open(isTTY);
      const line = reader.next("> ");
      await turn();
      stdin.write("hi\r");
      stdin.write("\n");
      expect(await line).toBe("hi");
      expect(shown().includes("> ")).toBe(isTTY);
      reader.close();
    }
  });

  it("tells of Ctrl-C on a terminal, after it has cleared what was typed", async () => {
    const { stdin, reader, interrupts } = open(true);
    const line = reader.next("> ");
    await turn();
    stdin.write("half a thought");
    await turn();
    stdin.write("\x03");
    await turn();
    expect(interrupts()).toBe(0);
    stdin.write("\x03");
    await turn();
    expect(interrupts()).toBe(1);
    reader.interrupt();
    await expect(line).rejects.toThrow(Interrupted);
    const next = reader.next("> ");
    await turn();
    stdin.write("whole\r");
    expect(await next).toBe("whole");
    reader.close();
  });
});
