/** The explorer as one file in Chromium: opened from the disk, with traces dropped into it. */
import { mkdirSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { TraceChunk } from "../../src/formats/trace.ts";
import { openTraceBlob } from "../../src/formats/traceReader.ts";
import { ROOT, setup } from "../policy/repository.ts";
import { traceBytes } from "../textTraces.ts";
import { seriousFaults } from "./axe.ts";
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
    await page.locator(".map-label bdi:not(:empty)").nth(3).waitFor();
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

  it("is moved with keys, and its address leads back to the same place", async () => {
    const page = await openSmall();
    const map = page.getByRole("application");
    await map.focus();
    for (const key of ["ArrowDown", "ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight"])
      await page.keyboard.press(key);
    await page.getByRole("heading", { name: "·sat" }).waitFor();
    await page.waitForFunction(() => location.hash.includes("layer=1"));
    expect(new URL(page.url()).hash).toBe("#map?token=2&layer=1&zoom=22&top=0");
    await page.keyboard.press("End");
    await page.getByRole("heading", { name: "·x4;" }).waitFor();
    await page.keyboard.press("0");
    await page.locator(".zoom output", { hasText: "1 px" }).waitFor();
    await page.keyboard.press("t");
    await page.locator(".text-token").first().waitFor();
    await page.waitForFunction(() => location.hash.includes("text"));
    const { hash } = new URL(page.url());
    await page.close();

    const again = await openSmall(hash.replace(/top=[^&]*/, "top=440"));
    await again.locator('.text-token[aria-pressed="true"]', { hasText: "x4;" }).waitFor();
    expect(await again.locator(".text-token").count()).toBe(40);
    await screenshot(again, "text");
    await again.close();
  });

  it("shows an expert's share, tokens, domains and contexts", async () => {
    const page = await openSmall();
    await page.getByRole("link", { name: "Experts" }).click();
    await page.getByRole("combobox", { name: "Layer" }).selectOption({ label: "1" });
    await page.getByRole("link", { name: /^expert 3,/ }).click();
    await page.getByRole("heading", { name: "Expert 3 of layer 1" }).waitFor();
    await page.getByText("of tokens,").waitFor();

    const trace = await openTraceBlob(new Blob([traceBytes(SMALL)]));
    const own: number[] = [];
    for await (const { tokens, experts } of trace.chunks()) {
      for (let t = 0; t < tokens; t++)
        if (experts!.subarray((tokens + t) * 2, (tokens + t) * 2 + 2).includes(3)) own.push(t);
    }
    const figures = await page.locator(".numbers dd").allInnerTexts();
    expect(figures.slice(0, 2)).toEqual([
      `${((100 * own.length) / 960).toFixed(1)} %`,
      `${((100 * own.length) / 480).toFixed(1)} %`,
    ]);
    expect(await page.getByRole("heading", { level: 2 }).allInnerTexts()).toEqual([
      "Tokens it serves most",
      "Tokens that go to it most reliably",
      "Domains",
      "Serves together with",
      "Where it weighs most",
    ]);
    expect(await page.locator(".contexts li").count()).toBe(12);
    await screenshot(page, "experts");
    await page.locator(".contexts a").first().click();
    await page.getByRole("application").waitFor();
    await page.close();
  });

  it("takes an expert's importance from an ablation file", async () => {
    const page = await openSmall("#experts?layer=1&expert=3");
    await page.getByText("of tokens,").waitFor();
    const file = join(folder, "ablation.json");
    const change = { change: 0.25, interval: [0.125, 0.5] };
    const experts = [{ layer: 1, expert: 3, domains: [change], all: change }];
    await writeFile(file, JSON.stringify({ domains: [{ domain: "prose" }], experts }));
    await page.getByLabel("Ablation file").setInputFiles(file);
    const cells = page
      .locator("section", { hasText: "Loss without it" })
      .last()
      .locator("tr")
      .first()
      .locator("th, td");
    await cells.first().waitFor();
    expect(await cells.allTextContents()).toEqual(["prose", "+0.2500", "+0.1250 to +0.5000"]);
    await writeFile(file, "[1, 2]");
    await page.getByLabel("Ablation file").setInputFiles(file);
    await page.getByText("ablation.json: no ablation of experts").waitFor();
    await page.close();
  });

  it("draws the analyses of a trace", async () => {
    const page = await openSmall("#analyses");
    await page.locator(".chart svg").nth(5).waitFor();
    expect((await page.getByRole("heading", { level: 2 }).allInnerTexts()).map((title) => title.split(",")[0])).toEqual(
      [
        "Load of experts",
        "Domain specialisation",
        "Expert co-activation",
        "From layer to layer",
        "Vocabulary specialisation by layer",
        "Weight of the first experts",
      ],
    );
    await page.screenshot({ path: join(SCREENSHOTS, "analyses.png"), fullPage: true });
    await page.close();
  });

  it("compares checkpoints: itself agrees wholly, another by the share of experts in common", async () => {
    const page = await openPage("#compare");
    await choose(page, "late.trace", traceBytes({ ...SMALL, seed: 3, step: 300 }));
    await choose(page, "early.trace", traceBytes({ ...SMALL, seed: 1, step: 100 }));
    await choose(page, "middle.trace", traceBytes({ ...SMALL, seed: 2, step: 200 }));
    await page.getByRole("heading", { name: "Router saturation" }).waitFor();
    const [early, late] = await Promise.all(
      [1, 3].map(async (seed) => {
        const trace = await openTraceBlob(new Blob([traceBytes({ ...SMALL, seed })]));
        const sets: number[][] = [];
        for await (const { tokens, experts } of trace.chunks()) {
          for (let t = 0; t < tokens; t++) sets.push([...experts!.subarray(t * 2, t * 2 + 2)]);
        }
        return sets;
      }),
    );
    const shared = late!.reduce(
      (sum, set, t) => sum + set.filter((expert) => early![t]!.includes(expert)).length / 2,
      0,
    );
    const share = () => page.locator(".bar-cell").first().textContent();
    expect((await share())?.trim()).toBe(`${((100 * shared) / late!.length).toFixed(1)} %`);
    await page.locator(".chart svg").waitFor();
    await screenshot(page, "compare");
    await page.getByRole("slider", { name: "Checkpoint" }).fill("2");
    await page.locator("output", { hasText: "step 300" }).waitFor();
    await page.locator(".bar-cell", { hasText: "100 %" }).first().waitFor();
    await page.close();
  });

  it("compares two sequences of one trace", async () => {
    const page = await openSmall("#compare");
    await page.getByText("of 40 places have the same token").waitFor();
    await page.getByRole("application", { name: /^Right/ }).waitFor();
    expect((await page.locator(".map-frame").nth(1).locator(".map-label").allInnerTexts())[0]).toBe("·x0;");
    await page.close();
  });

  it("draws hostile tokens as text, and runs none of them", async () => {
    const page = await openPage();
    await choose(page, "<img src=x onerror=alert(1)>.trace", traceBytes({ texts: [...HOSTILE, ...WORDS] }));
    await page.locator(".map-label bdi:not(:empty)").nth(10).waitFor();
    const labels = await page.locator(".map-label").allInnerTexts();
    expect(labels.slice(0, 10)).toEqual([
      '·<img src=x onerror="do…',
      "<script>document.title=…",
      "⟨RLO⟩right to left",
      "⟨LRI⟩isolate",
      "⟨00⟩⟨07⟩⟨1B⟩[31m",
      "<0xED><0xA0><0x80>",
      `a${"\u0301".repeat(4)}…`,
      `${"x".repeat(23)}…`,
      "&amp;\"'`{{}}",
      "⟨ZWSP⟩",
    ]);
    await page.getByRole("application").click({ position: { x: 220, y: 5 } });
    await page.getByRole("heading", { name: "·<img src=x onerror=" }).waitFor();
    await screenshot(page, "hostile");
    for (const view of ["Text", "Experts", "Compare"]) {
      if (view === "Text") await page.getByRole("button", { name: view }).click();
      else await page.getByRole("link", { name: view }).click();
      await page.waitForTimeout(300);
    }
    expect(await page.title()).toBe("Compare – OLMoE explorer");
    expect(await page.locator("img, main script").count()).toBe(0);
    await page.close();
  });

  it("says what is wrong with files that are no whole traces", async () => {
    const page = await openPage();
    await choose(page, "foreign.trace", new TextEncoder().encode("not a trace at all, but long enough to hold one"));
    await page.getByRole("alert").waitFor();
    expect(await page.getByRole("alert").textContent()).toMatch(/^foreign\.trace: no routing trace, /);
    const { length } = traceBytes(SMALL);
    for (const [bytes, message] of [
      [100, "cut.trace: header reaches to byte "],
      [20_000, "cut.trace: unfinished, none of its 20000 bytes are a whole chunk of tokens"],
    ] as const) {
      expect(bytes).toBeLessThan(length);
      await choose(page, "cut.trace", traceBytes(SMALL).subarray(0, bytes));
      await page.locator(".fault", { hasText: message }).waitFor();
    }
    await page.getByRole("button", { name: "Close the message" }).click();
    expect(await page.getByRole("alert").count()).toBe(0);
    await page.getByRole("heading", { name: "Which expert fired?" }).waitFor();

    const damaged = traceBytes(SMALL);
    damaged[2000]! ^= 255;
    await choose(page, "damaged.trace", damaged);
    await page.locator(".fault").first().waitFor();
    expect(await page.locator(".fault").first().textContent()).toMatch(/^damaged\.trace: .*checksum differs/);
    await page.close();
  });

  it("opens what is whole of an unfinished trace, and says so", async () => {
    const page = await openPage();
    const texts = Array.from({ length: 5000 }, (_, t) => ` ${WORDS[t % WORDS.length]}`);
    const bytes = traceBytes({ texts });
    await choose(page, "unfinished.trace", bytes.subarray(0, 0.9 * bytes.length));
    const fact = page.locator("tr", { has: page.getByRole("rowheader", { name: "tokens", exact: true }) });
    await fact.waitFor();
    expect(await fact.locator("td").textContent()).toBe("unfinished: the first 4,096 tokens");
    await page.getByRole("application").focus();
    await page.keyboard.press("End");
    await page.getByRole("heading", { name: `·${WORDS[4095 % WORDS.length]}` }).waitFor();
    await page.close();
  });

  const LOOKS = [
    ["light", 1280, ["#map?token=3&layer=1", "#experts?expert=3", "#analyses", "#compare"]],
    ["dark", 380, ["", "#map?token=3&layer=1", "#map?text&top=400&token=403", "#compare?token=3"]],
  ] as const;

  it.each(LOOKS)(
    "has no serious fault of accessibility in %s at %d px, and does not scroll sideways",
    async (colorScheme, width, views) => {
      const found: Record<string, unknown> = {};
      for (const hash of views) {
        const options = { colorScheme, viewport: { width, height: 800 }, reducedMotion: "reduce" } as const;
        const page = await (hash === "" ? openPage(hash, options) : openSmall(hash, options));
        await page.waitForTimeout(500);
        const sideways = await page.evaluate(
          () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
        );
        found[hash] = [await seriousFaults(page), sideways];
        const name =
          hash === ""
            ? "welcome"
            : hash
                .slice(1)
                .replace(/\?text.*/, "-text")
                .replace(/\?.*/, "");
        await page.screenshot({ path: join(SCREENSHOTS, `${name}-${colorScheme}-${width}.png`), fullPage: true });
        await page.close();
      }
      expect(found).toEqual(Object.fromEntries(views.map((hash) => [hash, [[], 0]])));
    },
  );

  it("changes its colours with the switch", async () => {
    const page = await openPage("", { colorScheme: "light" });
    const theme = () => page.evaluate(() => document.documentElement.dataset.theme);
    const seen = [await theme()];
    for (let times = 0; times < 3; times++) {
      await page.getByRole("button", { name: /^Colours/ }).click();
      await page.waitForTimeout(50);
      seen.push(await theme());
    }
    expect(seen).toEqual(["light", "light", "dark", "light"]);
    await page.close();
  });

  it("asks for nothing from anywhere, and no script of it fails", () => {
    expect({ requests, faults }).toEqual({ requests: [], faults: [] });
  });
});
