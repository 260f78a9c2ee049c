/** `olmoe chat`: a conversation with a model on the terminal. */
import type { Command } from "commander";
import { OlmoeError, UsageError } from "../errors.ts";
import { ChatSession } from "../infer/chatSession.ts";
import type { OlmoeModel } from "../infer/model.io.ts";
import type { TextGeneration, TextOptions, TextResult } from "../infer/textGeneration.ts";
import { formatCount, formatDuration, formatRate, table } from "../report/text.ts";
import { replaceFile } from "../util/files.io.ts";
import { describeBackend } from "./backendOptions.ts";
import type { Session } from "./common.ts";
import { addGenerationOptions, type GenerationFlags, printable, textOptions } from "./generationOptions.ts";
import { addInterveneOption, type InterveneFlags, interventionsOf } from "./intervene.ts";
import { Interrupted, LineReader } from "./lineReader.ts";
import { addModelOptions, MODEL_ARGUMENT, type ModelFlags, withModel } from "./modelOptions.ts";

interface ChatFlags extends ModelFlags, GenerationFlags, InterveneFlags {
  readonly system?: string;
}

const COMMANDS = [
  ["/help", "this list"],
  ["/reset", "forget the conversation; the system message stays"],
  ["/system TEXT", "set the system message; without TEXT: none"],
  ["/save FILE", "write the conversation as JSON"],
  ["/stats", "what the conversation takes, and how fast it went"],
  ["/exit", "leave; so do the end of the input and Ctrl-C twice"],
];

const HELP = `
A line is a message. A backslash at its end continues it on the next line; a message of many lines
goes between two lines of """. Ctrl-C stops an answer. Lines that begin with / are commands:

${table(COMMANDS.map(([name, what]) => [`  ${name}`, what as string]))}

Answers go to standard output, all else to standard error; lines may come from a pipe.

Examples:
  $ olmoe chat olmoe-instruct-q4_0.gguf
  $ echo "Name three rivers." | olmoe chat models/olmoe-instruct --temperature 0`;

export function register(command: Command, session: Session): void {
  command
    .argument("<model>", MODEL_ARGUMENT)
    .option("--system <text>", "system message that the conversation begins with");
  addInterveneOption(addGenerationOptions(command, 1024));
  addModelOptions(command)
    .addHelpText("after", HELP)
    .action((model: string, flags: ChatFlags) => chat(model, flags, session));
}

async function chat(path: string, flags: ChatFlags, session: Session): Promise<void> {
  await withModel(path, flags, session, async (model) => {
    const options = { ...textOptions(flags), interventions: await interventionsOf(flags, model, session) };
    // Says at once that a base model has no template, and not after the first message.
    if (!model.info.chat) model.chatPrompt([]);
    const { stdin, stderr, signal } = session;
    if (stdin.isTTY) {
      stderr.write(`${model.info.path}; ${describeBackend(model.info.backend)}; /help lists the commands\n`);
    }
    const conversation = new Conversation(model, flags.system, options, session);
    session.onInterrupt(conversation.interrupt);
    signal.addEventListener("abort", conversation.close, { once: true });
    try {
      await conversation.run();
    } finally {
      conversation.close();
    }
  });
}

/** What is asked and answered, and the commands in between. */
class Conversation {
  readonly #model: OlmoeModel;
  readonly #chat: ChatSession;
  readonly #options: TextOptions & { readonly seed: number };
  readonly #session: Session;
  readonly #reader: LineReader;
  #answer: TextGeneration | undefined;
  #interrupts = 0;
  #turns = 0;
  #tokens = 0;
  /** Tokens after the first of each answer, and their time. */
  #decoded = { tokens: 0, seconds: 0 };

  constructor(
    model: OlmoeModel,
    system: string | undefined,
    options: TextOptions & { readonly seed: number },
    session: Session,
  ) {
    this.#model = model;
    this.#chat = new ChatSession(model, system);
    this.#options = options;
    this.#session = session;
    this.#reader = new LineReader(session, this.interrupt);
  }

  /** Ctrl-C: stops an answer; at the prompt the second one leaves. */
  interrupt = (): void => {
    this.#interrupts += 1;
    if (this.#answer === undefined) this.#reader.interrupt();
    else void this.#answer.cancel();
  };

  close = (): void => {
    this.#reader.close();
  };

  /** Until the input ends or is left. */
  async run(): Promise<void> {
    for (;;) {
      try {
        const message = await this.#reader.message();
        if (message === undefined) return;
        this.#interrupts = 0;
        const [, command, argument = ""] = /^\/(\w*)\s*(.*)$/s.exec(message) ?? [];
        if (command === "exit") return;
        if (command !== undefined) await this.#command(command, argument.trim());
        else if (message.trim() !== "") await this.#ask(message);
      } catch (error) {
        if (error instanceof Interrupted) {
          if (this.#interrupts > 1) return;
          this.#note("Ctrl-C again or /exit leaves");
        } else if (error instanceof OlmoeError && this.#session.stdin.isTTY) {
          this.#note(`olmoe: ${error.message}${error.hint === undefined ? "" : `\nhint: ${error.hint}`}`);
        } else throw error;
      }
    }
  }

  async #ask(message: string): Promise<void> {
    const { stdout, signal } = this.#session;
    const options = { ...this.#options, seed: this.#options.seed + this.#turns, signal };
    const { generation, dropped } = await this.#chat.send(message, options);
    if (dropped.length > 0) {
      this.#note(`${dropped.length} old messages left out: the model holds ${this.#model.info.context} tokens`);
    }
    this.#answer = generation;
    try {
      for await (const piece of generation) stdout.write(stdout.isTTY ? printable(piece) : piece);
    } catch (error) {
      this.#chat.forget();
      throw error;
    } finally {
      this.#answer = undefined;
      stdout.write("\n");
    }
    this.#count(await generation.result);
  }

  #count({ text, finishReason, newTokens, firstTokenMs, tokensPerSec, promptTokens }: TextResult): void {
    this.#chat.keep(text);
    this.#turns += 1;
    this.#tokens += newTokens;
    if (tokensPerSec !== null) {
      this.#decoded.tokens += newTokens - 1;
      this.#decoded.seconds += (newTokens - 1) / tokensPerSec;
    }
    const ended = {
      stop: "",
      cancelled: ", stopped",
      length: ", ended by --max-tokens",
      context: ", ended by the context",
    };
    const parts = [
      `${newTokens} tokens${ended[finishReason]}`,
      ...(firstTokenMs === null ? [] : [`first after ${formatDuration(firstTokenMs / 1000)}`]),
      ...(tokensPerSec === null ? [] : [`then ${formatRate(tokensPerSec, "tokens")}`]),
      `${promptTokens + newTokens} of ${this.#model.info.context} tokens of context`,
    ];
    this.#note(`[${parts.join("; ")}]`);
  }

  async #command(name: string, argument: string): Promise<void> {
    switch (name) {
      case "help":
        return this.#note(table(COMMANDS));
      case "reset":
        this.#chat.reset();
        return this.#note("the conversation is forgotten");
      case "system":
        this.#chat.setSystem(argument === "" ? undefined : argument);
        return this.#note(argument === "" ? "no system message" : "the system message is set");
      case "save":
        return this.#save(argument);
      case "stats":
        return this.#note(table(await this.#stats()));
      default:
        throw new UsageError(`chat: there is no command /${name}`, { hint: "/help lists the commands" });
    }
  }

  async #save(file: string): Promise<void> {
    if (file === "") throw new UsageError("chat: /save needs the name of a file", { hint: "/save conversation.json" });
    const json = JSON.stringify({ model: this.#model.info.path, messages: this.#chat.messages }, null, 2);
    await replaceFile(file, (handle) => handle.writeFile(`${json}\n`));
    this.#note(`wrote ${file}: ${this.#chat.messages.length} messages`);
  }

  async #stats(): Promise<string[][]> {
    const { promptTokens, cachedTokens } = await this.#model.stats();
    const { tokens, seconds } = this.#decoded;
    return [
      ["answers", `${this.#turns}, ${formatCount(this.#tokens)} tokens`],
      ["speed", seconds === 0 ? "none yet" : formatRate(tokens / seconds, "tokens")],
      ["conversation", `${await this.#chat.tokens()} of ${this.#model.info.context} tokens of context`],
      ["prompts", `${formatCount(promptTokens)} tokens, ${formatCount(cachedTokens)} of them kept from before`],
    ];
  }

  #note(text: string): void {
    this.#session.stderr.write(`${text}\n`);
  }
}
