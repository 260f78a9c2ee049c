/** The explorer as one file in Chromium: opened from the disk, with traces dropped into it. */
import { mkdirSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { TraceChunk } from "../../src/formats/trace.ts";
import { openTraceBlob } from "../../src/formats/traceReader.ts";
import { ROOT, setup } from "../policy/repository.ts";
import { traceBytes } from "../textTraces.ts";
import { EXECUTABLE, launch, PLACE } from "./chromium.ts";

const SCREENSHOTS = join(ROOT, "build/screenshots");
const WORDS = "the cat sat on the mat and the rat ran to the hat while a dog slept".split(" ");

/** Prose and code, each in sequences of 40 tokens. */
const TEXTS = Array.from({ length: 12 }, (_, sequence) => [
  ...Array.from({ length: 40 }, (_, t) =>
    sequence % 2 === 0 ? ` ${WORDS[(t + sequence) % WORDS.length]}` : ` x${t % 7};`,
  ),
  null,
]).flat();
const SOURCES = Array.from({ length: 12 }, (_, sequence) => (sequence % 2 === 0 ? "prose" : "code"));
const SMALL = { texts: TEXTS, sources: SOURCES };

const HOSTILE = [
  " <img src=x onerror=\"document.title='owned'\">",
  "<script>document.title='owned'</script>",
  "\u202eright to left",
  "\u2066isolate",
  "\u0000\u0007\u001b[31m",
  "\ud800",
  `a${"\u0301".repeat(300)}`,
  "x".repeat(100_000),
  "&amp;\"'`{{}}",
  "\u200b",
];

describe.skipIf(EXECUTABLE === undefined)(`the explorer in ${PLACE}`, () => {
  let browser: Browser;
  let folder: string;
  let address: string;
  const faults: string[] = [];
  const requests: string[] = [];

  beforeAll(async () => {
    setup();
    mkdirSync(SCREENSHOTS, { recursive: true });
    folder = await mkdtemp(join(tmpdir(), "olmoe-explorer-"));
    address = pathToFileURL(join(ROOT, "dist/explorer.html")).href;
    browser = await launch();
  });

  afterAll(async () => {
    await browser?.close();
    await rm(folder, { recursive: true, force: true });
  });

  async function openPage(hash = "", options: Parameters<Browser["newPage"]>[0] = {}): Promise<Page> {
    const page = await browser.newPage({ viewport: { width: 1280, height: 800 }, ...options });
    page.setDefaultTimeout(10_000);
    page.on("pageerror", (error) => faults.push(error.message));
    page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
    page.on("request", (request) => {
      if (!/^(blob|data):/.test(request.url()) && request.url().split("#")[0] !== address) requests.push(request.url());
    });
    await page.goto(address + hash);
    return page;
  }

  /** Writes a trace to a file and gives it to the page's file input. */
  async function choose(page: Page, name: string, bytes: Uint8Array): Promise<void> {
    await writeFile(join(folder, name), bytes);
    await page.locator('input[type="file"]').first().setInputFiles(join(folder, name));
  }

  /** A page with the small trace. */
  async function openSmall(hash = "", options: Parameters<Browser["newPage"]>[0] = {}): Promise<Page> {
    const page = await openPage(hash, options);
    await choose(page, "small.trace", traceBytes(SMALL));
    return page;
  }

  const screenshot = (page: Page, name: string) => page.screenshot({ path: join(SCREENSHOTS, `${name}.png`) });

  async function seriousFaults(page: Page): Promise<string[]> {
    await page.evaluate(await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8"));
    const { violations } = await page.evaluate<{ violations: Violation[] }>("axe.run()");
    return violations
      .filter(({ impact }) => impact === "serious" || impact === "critical")
      .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join("; ")}`);
  }

  interface Violation {
    readonly id: string;
    readonly impact: string;
    readonly nodes: readonly { readonly html: string }[];
  }

  it("opens a trace that is dropped on it, and shows a token's experts and weights as the file has them", async () => {
    const page = await openPage();
    await page.getByRole("heading", { name: "Which expert fired?" }).waitFor();
    const bytes = traceBytes(SMALL);
    await page.evaluate(async (base64) => {
      const data = new DataTransfer();
      const content = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
      data.items.add(new File([content], "dropped.trace"));
      for (const type of ["dragover", "drop"]) {
        document.body.dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
      }
    }, Buffer.from(bytes).toString("base64"));
    await page.getByText("dropped.trace").waitFor();
    await page.locator(".map-label").nth(3).waitFor();
    expect((await page.locator(".map-label").allInnerTexts()).slice(0, 4)).toEqual(["·the", "·cat", "·sat", "·on"]);
    await page.getByRole("application").click({ position: { x: 220, y: 80 } });
    await page.getByRole("heading", { name: "·on" }).waitFor();

    const trace = await openTraceBlob(new Blob([bytes]));
    const chunks = trace.chunks({ start: 3, end: 4 })[Symbol.asyncIterator]();
    const chunk: TraceChunk = (await chunks.next()).value;
    const expected = Array.from(
      chunk.experts!,
      (expert, i) => `expert ${expert}, weight ${chunk.weights![i]!.toFixed(3)}`,
    );
    const titles = await page
      .locator(".routes .slot")
      .evaluateAll((slots) => slots.map((slot) => slot.getAttribute("title")));
    expect(titles).toEqual(expected);
    await screenshot(page, "map");
    await page.close();
  });
});
