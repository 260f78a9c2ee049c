/** The page of examples/browser in Chromium, with a small random model: the same text as in Node, and its experts. */
import { readFile } from "node:fs/promises";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { serveExample } from "../../examples/browser/serve.ts";
import { OlmoeModel } from "../../src/infer/model.io.ts";
import type { TextResult } from "../../src/infer/textGeneration.ts";
import { temporaryFolder, writeTinyModel } from "../cli/harness.ts";
import { parityPath, parityPresent } from "../parity/fixtures.ts";
import { setup } from "../policy/repository.ts";
import { EXECUTABLE, launch, PLACE } from "./chromium.ts";

const FILES = ["config.json", "model.safetensors", "tokenizer.json"];

describe.skipIf(EXECUTABLE === undefined)(`examples/browser in ${PLACE}`, () => {
  let server: Server;
  let browser: Browser;
  let page: Page;
  let folder: string;
  let node: TextResult;
  const faults: string[] = [];
  const foreign: string[] = [];

  beforeAll(async () => {
    setup();
    folder = await temporaryFolder();
    await writeTinyModel(folder, { maxPositionEmbeddings: 8192 });
    await using model = await OlmoeModel.open(folder, { backend: "wasm", threads: 1, inProcess: true });
    node = await model.generate("the cat", { maxTokens: 20, temperature: 0.8, seed: 1, routing: true }).result;
    server = await serveExample(0);
    browser = await launch();
    page = await browser.newPage();
    page.on("pageerror", (error) => faults.push(error.message));
    const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    page.on("request", (request) => {
      if (!request.url().startsWith(origin) && !request.url().startsWith("blob:")) foreign.push(request.url());
    });
    await page.goto(`${origin}/`);
  });

  afterAll(async () => {
    await browser?.close();
    server?.close();
  });

  const status = () => page.textContent("#status");
  const ended = () => page.locator("#status", { hasText: "tokens/s" }).waitFor();

  it("says what is missing among the chosen files", async () => {
    await page.setInputFiles("#files", [join(folder, "config.json")]);
    await page.click("#open button");
    await page.waitForSelector("#status.error");
    expect(await status()).toBe(
      "model files: no model.safetensors among them (config.json)\n" +
        "give a .gguf file, or config.json, model.safetensors and tokenizer.json together",
    );
    expect(await page.isDisabled("#generate")).toBe(true);
  });

  it("opens the files of a model folder and streams the text that Node writes", async () => {
    await page.setInputFiles(
      "#files",
      FILES.map((name) => join(folder, name)),
    );
    await page.click("#open button");
    await page.waitForSelector("#generate:enabled");
    expect(await status()).toMatch(/parameters a token; context of 8192; wasm simd128, \d+ threads?$/);
    await page.fill("#prompt", "the cat");
    await page.fill("#maxTokens", "20");
    await page.click("#generate");
    await ended();
    expect(await page.textContent("#output")).toBe(node.text);
    expect(await status()).toMatch(/^20 tokens, [\d.]+ tokens\/s; length$/);
  });

  it("shows the experts of a token that is clicked", async () => {
    await page.click("#output span >> nth=0");
    const cells = await page.locator("#routing tr").allInnerTexts();
    const { num_hidden_layers: layers, num_experts_per_tok: topK } = JSON.parse(
      await readFile(join(folder, "config.json"), "utf8"),
    );
    const { experts, weights } = node.tokens[0]!.routing!;
    const rows = Array.from({ length: layers }, (_, layer) => {
      const slots = Array.from({ length: topK }, (_, slot) => {
        const place = layer * topK + slot;
        return `${experts[place]} (${weights[place]!.toFixed(3)})`;
      });
      return [`layer ${layer}`, ...slots].join("\t");
    });
    expect(cells).toEqual(rows);
  });

  it("stops when it is asked to", async () => {
    await page.fill("#maxTokens", "8000");
    await page.fill("#temperature", "0");
    await page.click("#generate");
    await page.waitForSelector("#output span");
    await page.click("#stop");
    await page.waitForSelector("#generate:enabled");
    expect(await status()).toMatch(/^\d+ tokens(, [\d.e+]+ tokens\/s)?; cancelled$/);
  });

  it.skipIf(!parityPresent)("opens a GGUF file from an address (reference values absent: skipped)", async () => {
    const path = parityPath("gguf/narrow/tiny-Q8_0.gguf");
    await using model = await OlmoeModel.open(path, { backend: "wasm", threads: 1, inProcess: true });
    const options = { maxTokens: 12, temperature: 0.8, seed: 1 };
    const { text } = await model.generate("the cat", options).result;
    const address = new URL("/tiny-Q8_0.gguf", page.url()).href;
    await page.route(address, async (route) => route.fulfill({ body: await readFile(path) }));
    await page.fill("#url", address);
    await page.setInputFiles("#files", []);
    await page.click("#open button");
    await page.locator("#status", { hasText: "context of 256" }).waitFor();
    for (const [name, value] of Object.entries(options)) await page.fill(`#${name}`, String(value));
    await page.click("#generate");
    await ended();
    expect(await page.textContent("#output")).toBe(text);
  });

  it("asks no other server for anything, and has no faults", () => {
    expect({ foreign, faults }).toEqual({ foreign: [], faults: [] });
  });
});
