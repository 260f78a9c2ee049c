import { afterEach, describe, expect, it, vi } from "vitest";
import { OlmoeError } from "../../src/errors.ts";
import { PACKAGE_VERSION } from "../../src/util/packageRoot.io.ts";
import { olmoe } from "./harness.ts";

const HELP = `Usage: olmoe [options] [command]

OLMoE in TypeScript: train, run and look inside a mixture-of-experts language model.

Options:
  -V, --version   show the version
  --debug         show where an error comes from
  -h, --help      show the usage

Commands:
  quickstart      train a small model on real text and try it
  doctor          show what this machine offers and which backend runs
  data            make token files from text, look into them
  train           train a model from a recipe
  sweep           train variants of a recipe and compare them
  estimate        say what a recipe or a model will take
  run             continue a text
  chat            talk with a model
  score           say how likely a model finds each line of a text
  perplexity      say how well a model predicts a file
  trace           write down which experts every token is sent to
  analyze         say what routing traces show: statistics, figures, a report
  explore         show routing, texts and training runs in a page
  ablate          measure what a model loses without each expert
  steer           find the experts that tell two kinds of text apart, and use them
  info            describe a model without loading it
  convert         convert a model between GGUF, Hugging Face and OLMo
  quantize        store a model in fewer bits
  forward         write logits, routing, losses and gradients of one pass
  tokenizer       train a tokenizer, encode and decode text
  help [command]  show the usage of a command

Example:
  $ olmoe quickstart
`;

describe("olmoe", () => {
  afterEach(() => void vi.restoreAllMocks());

  it("shows its help and version on stdout", async () => {
    expect(await olmoe(["--help"])).toEqual({ code: 0, stdout: HELP, stderr: "" });
    expect(await olmoe(["help"])).toEqual({ code: 0, stdout: HELP, stderr: "" });
    expect(await olmoe(["--version"])).toEqual({ code: 0, stdout: `${PACKAGE_VERSION}\n`, stderr: "" });
  });

  it("shows its help on stderr without a command", async () => {
    expect(await olmoe([])).toEqual({ code: 2, stdout: "", stderr: HELP });
  });

  it.each([
    "run",
    "chat",
    "score",
    "perplexity",
    "explore",
    "info",
    "forward",
    "doctor",
    "tokenizer",
    "tokenizer train",
    "tokenizer encode",
    "tokenizer decode",
  ])("%s has help with an example", async (command) => {
    const { code, stdout, stderr } = await olmoe([...command.split(" "), "--help"]);
    expect({ code, stderr, start: stdout.split("\n")[0]?.startsWith(`Usage: olmoe ${command} `) }).toEqual({
      code: 0,
      stderr: "",
      start: true,
    });
    expect(stdout).toMatch(new RegExp(`Examples?:\\n  \\$ olmoe ${command}\\b`));
    expect(await olmoe(["help", ...command.split(" ").slice(0, 1)])).toMatchObject({ code: 0, stderr: "" });
  });

  it.each([
    [["rnu"], "unknown command 'rnu'", 'did you mean run? "olmoe --help" shows the usage'],
    [["xyzzy"], "unknown command 'xyzzy'", '"olmoe --help" shows the usage'],
    [
      ["tokenizer", "encod"],
      "unknown command 'encod'",
      'did you mean encode? "olmoe tokenizer --help" shows the usage',
    ],
    [
      ["run", "m", "--max-token"],
      "unknown option '--max-token'",
      'did you mean --max-tokens? "olmoe run --help" shows the usage',
    ],
    [["run"], "missing required argument 'model'", '"olmoe run --help" shows the usage'],
    [
      ["info", "a", "b"],
      "too many arguments for 'info'. Expected 1 argument but got 2.",
      '"olmoe info --help" shows the usage',
    ],
    [
      ["forward", "m", "--out", "o"],
      "required option '--input <file>' not specified",
      '"olmoe forward --help" shows the usage',
    ],
    [
      ["run", "m", "--backend", "gpu"],
      "option '--backend <name>' argument 'gpu' is invalid. Allowed choices are auto, native, wasm, reference.",
      '"olmoe run --help" shows the usage',
    ],
    [
      ["run", "m", "--top-p", "0"],
      '--top-p: "0", expected a number above 0 and at most 1',
      '"olmoe run --help" shows the usage',
    ],
    [
      ["doctor", "--threads", "two"],
      '--threads: "two", expected a whole number from 1 on',
      '"olmoe doctor --help" shows the usage',
    ],
  ])("%j is wrong usage", async (argv, fault, hint) => {
    expect(await olmoe(argv)).toEqual({ code: 2, stdout: "", stderr: `olmoe: ${fault}\nhint: ${hint}\n` });
  });

  it("prints the library's errors with their hints, and with --debug where they come from", async () => {
    vi.doMock("../../src/cli/info.ts", () => ({
      register: (command: { allowExcessArguments(): { action(run: () => void): void } }) =>
        command.allowExcessArguments().action(() => {
          throw new OlmoeError("E_TEST", "place: fault", { hint: "do this", cause: new Error("deeper") });
        }),
    }));
    expect(await olmoe(["info"])).toEqual({ code: 1, stdout: "", stderr: "olmoe: place: fault\nhint: do this\n" });
    const { code, stderr } = await olmoe(["info", "--debug"]);
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /^olmoe: place: fault\nhint: do this\nOlmoeError: place: fault\n {4}at .*\nError: deeper\n/s,
    );
    vi.doUnmock("../../src/cli/info.ts");
  });

  it("asks for a report of anything else", async () => {
    vi.doMock("../../src/cli/info.ts", () => ({
      register: (command: { action(run: () => void): void }) =>
        command.action(() => {
          throw new TypeError("x is not a function");
        }),
    }));
    expect(await olmoe(["info"])).toEqual({
      code: 1,
      stdout: "",
      stderr:
        "olmoe: x is not a function\n" +
        "hint: this is a defect in olmoe: please report it, with the command and the output of --debug\n",
    });
    vi.doUnmock("../../src/cli/info.ts");
  });
});
