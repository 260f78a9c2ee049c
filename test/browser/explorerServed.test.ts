/** The explorer as `olmoe explore` serves it: traces by parts, texts of a small model as they come, a training run. */
import { once } from "node:events";
import { existsSync } from "node:fs";
import { appendFile, mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type LiveTokens, splitTokens } from "../../explorer/live.ts";
import { flowTexts, label, visible, writtenText } from "../../explorer/text.ts";
import { openBackend } from "../../src/backend/io.ts";
import { OlmoeModel } from "../../src/infer/model.io.ts";
import { type Explorer, serveExplorer } from "../../src/server/explorer.ts";
import { startOlmoe, temporaryFolder, writeTinyModel } from "../cli/harness.ts";
import { CHAT_TEMPLATE } from "../fakeModel.ts";
import { ROOT, setup } from "../policy/repository.ts";
import { traceBytes } from "../textTraces.ts";
import { trainTiny, writeTexts } from "../tinyRun.ts";
import { seriousFaults } from "./axe.ts";
import { EXECUTABLE, launch, PLACE } from "./chromium.ts";

const WORDS = "the cat sat on the mat".split(" ");
const SCREENSHOTS = join(ROOT, "build/screenshots");

/** Of the server's answer to what is to be generated. */
interface Line {
  readonly tokens?: LiveTokens;
}

describe.skipIf(EXECUTABLE === undefined)(`olmoe explore in ${PLACE}`, () => {
  let folder: string;
  let model: OlmoeModel;
  let explorer: Explorer;
  let browser: Browser;
  let page: Page;
  const faults: string[] = [];
  const foreign: string[] = [];

  beforeAll(async () => {
    setup();
    await mkdir(SCREENSHOTS, { recursive: true });
    folder = await temporaryFolder();
    await writeTinyModel(folder, { maxPositionEmbeddings: 256 });
    const settings = { bos_token: "<|endoftext|>", chat_template: CHAT_TEMPLATE };
    await writeFile(join(folder, "tokenizer_config.json"), JSON.stringify(settings));
    await writeFile(join(folder, "words.trace"), traceBytes({ texts: WORDS }));
    writeTexts(folder);
    await trainTiny(folder, "run", await openBackend());
    model = await OlmoeModel.open(folder, { backend: "native", inProcess: true });
    explorer = await serveExplorer({ traces: [join(folder, "words.trace")], model, run: join(folder, "run") });
    browser = await launch();
    page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
    page.setDefaultTimeout(10_000);
    page.on("pageerror", (error) => faults.push(error.message));
    page.on("request", (request) => {
      if (!request.url().startsWith(explorer.url) && !/^(blob|data):/.test(request.url())) foreign.push(request.url());
    });
  });

  afterAll(async () => {
    await browser?.close();
    await explorer?.close();
    await model?.close();
  });

  const textOf = (id: number) => writtenText(model.tokenizer.entry(id)!);

  it("shows the trace that it serves", async () => {
    await page.goto(explorer.url);
    await page.getByRole("heading", { name: join(folder, "run") }).waitFor();
    await page.getByRole("link", { name: "Map" }).click();
    await page.locator(".map-label", { hasText: "mat" }).waitFor();
    expect(await page.locator(".map-label").allInnerTexts()).toEqual(WORDS);
    expect(await page.getByRole("navigation", { name: "Views" }).getByRole("link").allInnerTexts()).toEqual([
      "Map",
      "Experts",
      "Analyses",
      "Compare",
      "Generate",
      "Training",
    ]);
    await page.getByText("Busiest experts").waitFor();
  });

  it("counts the trace that it serves", async () => {
    await page.getByRole("link", { name: "Experts", exact: true }).click();
    await page.getByRole("heading", { name: "Domains" }).waitFor();
    expect(await page.getByRole("alert").count()).toBe(0);
  });

  it("streams a text with the routes that the engine gives, and keeps it as a trace", async () => {
    const { ids: written } = await model.generate("the cat", { maxTokens: 30, temperature: 0.8, seed: 5 }).result;
    await page.goto(`${explorer.url}#generate`);
    await page.getByLabel("Prompt").fill("the cat");
    await page.getByLabel("tokens", { exact: true }).fill("30");
    await page.getByLabel("seed").fill("5");
    await page.getByRole("button", { name: "Generate" }).click();
    await page.locator('[role="status"]', { hasText: "30 new tokens" }).waitFor();
    const shown = await page.locator(".text-token:not(.prompt-token)").allTextContents();
    const entries = [...(await model.tokenize("the cat")), ...written].map((id) => model.tokenizer.entry(id)!);
    expect(shown).toEqual(flowTexts(entries).slice(-30).map(visible));
    await page.locator(".text-token").nth(1).click();
    const ids = await model.tokenize("the cat");
    const { experts, weights } = await model.trace(ids);
    const layers = model.info.config.numHiddenLayers;
    const { numExpertsPerTok: topK } = model.info.config;
    const titles = Array.from({ length: layers * topK }, (_, place) => {
      const at = (Math.floor(place / topK) * ids.length + 1) * topK + (place % topK);
      return `expert ${experts![at]}, weight ${weights![at]!.toFixed(3)}`;
    });
    expect(
      await page.locator(".routes .slot").evaluateAll((slots) => slots.map((slot) => slot.getAttribute("title"))),
    ).toEqual(titles);
    await page.screenshot({ path: join(SCREENSHOTS, "generate.png") });
    await page.getByRole("link", { name: "Open as a map" }).click();
    await page
      .locator(".map-label", { hasText: label(textOf(ids[0]!)) })
      .first()
      .waitFor();
    expect((await page.locator(".map-label").allInnerTexts()).slice(0, ids.length)).toEqual(
      Array.from(ids, (id) => label(textOf(id))),
    );
  });

  it("reads a prompt without going on", async () => {
    await page.getByRole("link", { name: "Generate" }).click();
    await page.getByRole("button", { name: "Route only" }).click();
    await page.locator('[role="status"]', { hasText: "tokens read" }).waitFor();
    const ids = Array.from(await model.tokenize("the cat"));
    expect(await page.locator(".text-token").allTextContents()).toEqual(ids.map(textOf));
    await page.getByRole("button", { name: "Compare with the text before" }).click();
    await page.getByText("same experts").waitFor();
  });

  it("masks an expert with a dial: no token goes there any more", async () => {
    await page.goto(`${explorer.url}#generate`);
    await page.getByRole("button", { name: "Add" }).click();
    await page.getByLabel("Mask experts: experts").fill("2, 4");
    await page.getByRole("button", { name: "Generate" }).click();
    await page.locator('[role="status"]', { hasText: "30 new tokens" }).waitFor();
    await page.getByRole("link", { name: "Open as a map" }).click();
    await page.locator("h2", { hasText: "text 3, intervened" }).waitFor();
    await page.getByRole("link", { name: "Experts" }).click();
    await page.locator('.tile[title="expert 2: 0 %"]').waitFor();
    expect(
      await page.locator('.tile[title$=": 0 %"]').evaluateAll((tiles) => tiles.map((tile) => tile.textContent)),
    ).toEqual(["2", "4"]);
    await page.getByRole("link", { name: "Generate" }).click();
    await page.getByLabel("Mask experts: experts").fill("0-7");
    await page.getByRole("button", { name: "Generate" }).click();
    await page.getByRole("alert").waitFor();
    expect(await page.getByRole("alert").textContent()).toMatch(/masks the last of 8 experts of layer 0/);
    await page.getByRole("button", { name: "Remove: Mask experts" }).click();
  });

  it("sends its dials as interventions", async () => {
    await page.goto(`${explorer.url}#generate`);
    const bodies: unknown[] = [];
    await page.route("**/api/generate", async (route) => {
      bodies.push(route.request().postDataJSON());
      await route.fulfill({ status: 500, json: { error: "generate: not now", hint: "try later" } });
    });
    await page.getByLabel("Prompt").fill("the");
    await page.getByRole("button", { name: "Add" }).click();
    await page.getByLabel("Mask experts: experts").fill("3, 5-6");
    await page.getByLabel("Kind of intervention").selectOption("temperature");
    await page.getByRole("button", { name: "Add" }).click();
    await page.getByLabel("Router temperature: layers").fill("1");
    await page.getByLabel("Router temperature: tokens").fill("2-11");
    await page.getByRole("button", { name: "Generate" }).click();
    await page.getByRole("alert").waitFor();
    expect(await page.getByRole("alert").textContent()).toBe("generate: not now\ntry later");
    expect(bodies).toEqual([
      {
        prompt: "the",
        maxTokens: 30,
        temperature: 0.8,
        seed: 5,
        interventions: [
          { kind: "mask", layers: "all", experts: [3, 5, 6] },
          { kind: "temperature", layers: [1], tokens: { from: 2, to: 12 }, value: 2 },
        ],
      },
    ]);
    await page.getByLabel("Mask experts: experts").fill("all of them");
    await page.getByRole("button", { name: "Generate" }).click();
    await page.getByText('Mask experts: experts "all of them", expected numbers such as 3, 12').waitFor();
    await page.screenshot({ path: join(SCREENSHOTS, "dials.png") });
    await page.unroute("**/api/generate");
    await page.getByRole("button", { name: "Remove: Mask experts" }).click();
    await page.getByRole("button", { name: "Remove: Router temperature" }).click();
  });

  /** Generates. @returns what the server was asked, and its lines, without how fast it was. */
  async function generate(): Promise<{ readonly request: unknown; readonly lines: readonly Line[] }> {
    let [request, answer]: [unknown, string] = [undefined, ""];
    await page.route("**/api/generate", async (route) => {
      request = route.request().postDataJSON();
      const response = await route.fetch();
      answer = await response.text();
      await route.fulfill({ response, body: answer });
    });
    await page.getByRole("button", { name: "Generate" }).click();
    await expect.poll(() => answer).not.toBe("");
    await page.getByRole("link", { name: "Open as a map" }).waitFor();
    await page.unroute("**/api/generate");
    const lines = answer.trim().split("\n");
    const parse = (line: string): Line => JSON.parse(line, (key, value) => (key === "tokensPerSec" ? null : value));
    return { request, lines: lines.map(parse) };
  }

  /** [L * S] of each token that the model read. */
  const routes = ({ lines }: { readonly lines: readonly Line[] }) =>
    lines
      .flatMap(({ tokens }) => (tokens === undefined ? [] : splitTokens(tokens, [0, 1])))
      .map(({ experts }) => experts);

  it("writes the same text by the same routes when it replays the text's own", async () => {
    await page.getByLabel("Prompt").fill("the cat");
    const plain = (await generate()).lines;
    await page.getByLabel("Kind of intervention").selectOption("replay");
    await page.getByRole("button", { name: "Add" }).click();
    const own = await page.getByLabel("Replay routing: trace").inputValue();
    expect(own).toMatch(/^text \d+: the cat/);
    expect((await generate()).lines).toEqual(plain);
    await page.getByRole("link", { name: "Open as a map" }).click();
    const header = page.locator("tr", { hasText: "interventions" }).locator("td");
    expect(await header.textContent()).toBe(
      JSON.stringify([{ kind: "replay", layers: "all", trace: own, sequence: 0 }]),
    );
    await page.goBack();
  });

  it("replays a text's routes for another prompt, as far as they go", async () => {
    await page.getByLabel("Prompt").fill("the rat sat");
    const replayed = routes(await generate());
    await page.getByRole("checkbox", { name: "Replay routing" }).uncheck();
    const free = routes(await generate());
    await page.getByLabel("Prompt").fill("the cat");
    const recorded = routes(await generate());
    // One may have ended before the other.
    const both = Math.min(recorded.length, replayed.length);
    expect(replayed.slice(0, both)).toEqual(recorded.slice(0, both));
    expect(free.slice(0, both)).not.toEqual(recorded.slice(0, both));
  });

  it("says what a replayed trace lacks", async () => {
    await page.getByRole("checkbox", { name: "Replay routing" }).check();
    await page.getByLabel("Replay routing: trace").selectOption("words.trace");
    await page.getByRole("button", { name: "Generate" }).click();
    await page.getByRole("alert").waitFor();
    expect(await page.getByRole("alert").textContent()).toBe(
      "generate: interventions.0.trace.layers: 2, the layers with experts are 0, 1",
    );
    await page.getByRole("button", { name: "Remove: Replay routing" }).click();
  });

  it("answers a conversation turn by turn, with the routes of all of it", async () => {
    const options = { maxTokens: 30, temperature: 0.8, seed: 5 };
    await page.getByLabel("as a conversation").check();
    await page.getByLabel("Message").fill("the cat");
    const first = await generate();
    const messages = [{ role: "user", content: "the cat" }];
    expect(first.request).toEqual({ messages, ...options, interventions: [] });
    const { text: answer } = await model.chat(messages, options).result;
    expect(await page.getByLabel("Message").inputValue()).toBe("");

    await page.getByLabel("Message").fill("the rat");
    const second = await generate();
    messages.push({ role: "assistant", content: answer }, { role: "user", content: "the rat" });
    expect(second.request).toEqual({ messages, ...options, interventions: [] });
    const prompt = Array.from(await model.tokenize(model.chatPrompt(messages)));
    const { ids: written } = await model.chat(messages, options).result;
    const read = [...prompt, ...written].slice(0, routes(second).length);
    const { experts } = await model.trace(read);
    const row = (layer: number, t: number) =>
      experts!.slice((layer * read.length + t) * 2, (layer * read.length + t + 1) * 2);
    expect(routes(second)).toEqual(read.map((_, t) => [...row(0, t), ...row(1, t)]));
    const entries = [...prompt, ...written].map((id) => model.tokenizer.entry(id)!);
    expect(await page.locator(".text-token").allTextContents()).toEqual(flowTexts(entries).map(visible));
    expect(await page.locator(".prompt-token").count()).toBe(prompt.length);
    await page.screenshot({ path: join(SCREENSHOTS, "conversation.png") });

    await page.getByRole("button", { name: "New conversation" }).click();
    expect(await page.locator(".text-token").count()).toBe(0);
    await page.getByLabel("Message").fill("the mat");
    await page.getByRole("button", { name: "Route only" }).click();
    await page.locator('[role="status"]', { hasText: "tokens read" }).waitFor();
    expect(await page.getByLabel("Message").inputValue()).toBe("the mat");
    const third = await generate();
    expect(third.request).toEqual({ messages: [{ role: "user", content: "the mat" }], ...options, interventions: [] });
    await page.getByLabel("as a conversation").uncheck();
  });

  it("shows a training run, and its next step as it comes", async () => {
    await page.goto(`${explorer.url}#training`);
    await page.locator(".numbers dd", { hasText: "24" }).first().waitFor();
    await page.locator(".chart svg").nth(4).waitFor();
    await page.waitForTimeout(300);
    await page.screenshot({ path: join(SCREENSHOTS, "training.png"), fullPage: true });
    const path = join(folder, "run", "metrics.jsonl");
    const last = { ...(await lastStep(path)), step: 25 };
    await appendFile(path, `${JSON.stringify(last)}\n`);
    await page.locator(".numbers dd", { hasText: "25" }).first().waitFor();
  });

  it("has no serious fault of accessibility where a text is generated and where a run is shown", async () => {
    const found: Record<string, unknown> = {};
    for (const scheme of ["light", "dark"] as const) {
      await page.emulateMedia({ colorScheme: scheme });
      await page.setViewportSize({ width: scheme === "light" ? 1280 : 380, height: 800 });
      await page.goto(`${explorer.url}#generate`);
      await page.reload();
      await page.getByRole("button", { name: "Add" }).click();
      await page.getByRole("checkbox", { name: "Mask experts" }).uncheck();
      await page.getByRole("button", { name: "Route only" }).click();
      await page.locator('[role="status"]', { hasText: "1 token read" }).waitFor();
      await page.getByLabel("Kind of intervention").selectOption("replay");
      await page.getByRole("button", { name: "Add" }).click();
      await page.getByLabel("as a conversation").check();
      await page.getByLabel("Message").fill("the cat");
      await page.getByRole("button", { name: "Generate" }).click();
      await page.getByRole("button", { name: "New conversation" }).waitFor();
      found[`${scheme} generate`] = await seriousFaults(page);
      await page.screenshot({ path: join(SCREENSHOTS, `generate-${scheme}.png`), fullPage: true });
      await page.getByRole("link", { name: "Training" }).click();
      await page.locator(".chart svg").nth(4).waitFor();
      found[`${scheme} training`] = await seriousFaults(page);
      await page.screenshot({ path: join(SCREENSHOTS, `training-${scheme}.png`), fullPage: true });
    }
    const cases = ["light generate", "light training", "dark generate", "dark training"];
    expect(found).toEqual(Object.fromEntries(cases.map((name) => [name, []])));
  });

  it("asks no other server for anything, and has no faults", () => {
    expect({ foreign, faults }).toEqual({ foreign: [], faults: [] });
  });
});

/** A run of the quickstart, which .ci/run makes before the tests; it is only read. */
const RUN = ["runs/quickstart-smoke", "runs/quickstart"].find((run) => existsSync(join(ROOT, run, "checkpoints")));
const RUN_PLACE = RUN ?? "runs/quickstart-smoke, which is missing (npm run quickstart -- --smoke makes one)";

describe.skipIf(EXECUTABLE === undefined || RUN === undefined)(`olmoe explore ${RUN_PLACE} in ${PLACE}`, () => {
  let server: ReturnType<typeof startOlmoe>;
  let url: string;
  let browser: Browser;
  let page: Page;
  const faults: string[] = [];
  const screenshot = (name: string) => page.screenshot({ path: join(SCREENSHOTS, `quickstart-${name}.png`) });
  const view = (name: string) => page.getByRole("link", { name, exact: true }).click();

  beforeAll(async () => {
    setup();
    await mkdir(SCREENSHOTS, { recursive: true });
    server = startOlmoe(["explore", join(ROOT, RUN!)]);
    [url] = await once(server.stdout.setEncoding("utf8"), "data");
    browser = await launch();
    page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
    page.setDefaultTimeout(20_000);
    page.on("pageerror", (error) => faults.push(error.message));
    await page.goto(url.trim());
    await page.locator(".numbers dd").first().waitFor();
  });

  afterAll(async () => {
    await browser?.close();
    if (server?.kill("SIGINT")) await once(server, "exit");
  });

  it("shows where its newest trace of held-out text went, what each expert serves, and what follows from it", async () => {
    const names = await readdir(join(ROOT, RUN!, "traces"));
    const steps = names.flatMap((name) => /^step(\d+)-heldout\.trace$/.exec(name)?.[1] ?? []).map(Number);
    await view("Map");
    await page.locator("h2", { hasText: `step${Math.max(...steps)}-heldout.trace` }).waitFor();
    await page.locator(".map-label bdi:not(:empty)").nth(20).waitFor();
    await page.getByText("Busiest experts").waitFor();
    await screenshot("map");
    await view("Experts");
    await page.getByRole("heading", { name: "Domains" }).waitFor();
    await page.locator(".contexts li").first().waitFor();
    await screenshot("experts");
    await view("Analyses");
    await page.locator(".chart svg").nth(5).waitFor();
    await screenshot("analyses");
  });

  it("compares its first trace with its newest, token by token", async () => {
    await view("Compare");
    await page.getByText("The share of each token's experts that are the same").waitFor();
    await page.locator(".map-label bdi:not(:empty)").nth(20).waitFor();
    await screenshot("compare");
  });

  it("shows its training", async () => {
    await view("Training");
    await page.locator(".chart svg").nth(4).waitFor();
    await screenshot("training");
  });

  it("goes on with a text, and with an expert masked sends nothing there", async () => {
    await view("Generate");
    expect(await page.getByText("as a conversation").count()).toBe(0);
    await page.getByLabel("Prompt").fill("Call me");
    await page.getByLabel("tokens", { exact: true }).fill("40");
    await page.getByRole("button", { name: "Generate" }).click();
    await page.getByRole("link", { name: "Open as a map" }).waitFor();
    await page.getByRole("button", { name: "Add" }).click();
    await page.getByLabel("Mask experts: experts").fill("0");
    await screenshot("generate");
    await page.getByRole("button", { name: "Generate" }).click();
    await page.getByRole("button", { name: "Compare with the text before" }).click();
    await page.getByRole("heading", { name: "Agreement" }).waitFor();
    await screenshot("intervened");
    await view("Generate");
    await page.getByRole("link", { name: "Open as a map" }).click();
    await page.locator("h2", { hasText: "text 2, intervened: Call me" }).waitFor();
    await view("Experts");
    await page.locator('.tile[title="expert 0: 0 %"]').waitFor();
  });

  it("has no faults", async () => {
    expect({ faults, alerts: await page.getByRole("alert").count() }).toEqual({ faults: [], alerts: 0 });
  });
});

async function lastStep(path: string): Promise<object> {
  const { readMetrics } = await import("../../src/train/metrics.io.ts");
  return (await readMetrics(path)).findLast(({ type }) => type === "train")!;
}
