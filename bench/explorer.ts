/**
 * `npm run bench -- explorer`: the explorer's page in Chromium with a trace of a million tokens and 16 layers: first paint,
 * opening and counting the file, and the time between frames while the map is panned at four zooms.
 */
import { existsSync } from "node:fs";
import { mkdir, rename, stat } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { Browser, Page } from "playwright-core";
import { exampleTrace } from "../explorer/example.ts";
import { UnsupportedError } from "../src/errors.ts";
import { TraceWriter } from "../src/formats/trace.io.ts";
import { cutChunk } from "../src/formats/trace.ts";
import { table } from "../src/report/text.ts";
import { PACKAGE_ROOT } from "../src/util/packageRoot.io.ts";
import { EXECUTABLE, launch } from "../test/browser/chromium.ts";
import { type BenchOptions, describeMachine, formatMachine, summarize } from "./harness.ts";

const SIZE = { tokens: 1_000_000, layers: 16, experts: 64, topK: 8, checkpoints: 1 };
const COLUMNS = ["ids", "experts", "weights"] as const;
const FRAMES = 180;
/** Pixels of a token; the last shows everything. */
const ZOOMS: readonly (readonly [name: string, zoom: number])[] = [
  ["tokens as text, 22 px each", 22],
  ["3 px a token", 3],
  ["4 tokens a pixel", 0.25],
  ["100 tokens a pixel", 0.01],
];

/** The trace as a file, made once. */
async function traceFile(options: BenchOptions): Promise<string> {
  const folder = join(PACKAGE_ROOT, "build", "bench");
  const path = join(folder, "explorer-1m.trace");
  if (existsSync(path)) return path;
  options.notice(`writing ${path}`);
  await mkdir(folder, { recursive: true });
  const trace = exampleTrace(SIZE, 1);
  const header = { ...trace.header, columns: COLUMNS };
  const tokenText = (id: number) => trace.vocabulary.get(id);
  const writer = await TraceWriter.create(`${path}.new`, header, { tokenText, existing: "replace" });
  for await (const chunk of trace.chunks({ columns: COLUMNS, signal: options.signal })) {
    let start = chunk.start;
    for (const { sequence, source, position, tokens } of chunk.runs) {
      const {
        runs: _,
        start: __,
        ...rows
      } = cutChunk(chunk, SIZE.layers, { columns: COLUMNS, start, end: start + tokens });
      await writer.add({ sequence, source: trace.sources[source]!, position }, rows);
      start += tokens;
    }
  }
  await writer.close();
  await rename(`${path}.new`, path);
  return path;
}

async function newPage(browser: Browser, hash: string): Promise<Page> {
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  await page.goto(`${pathToFileURL(join(PACKAGE_ROOT, "dist", "explorer.html")).href}${hash}`);
  return page;
}

/** Milliseconds from the start of loading to the first paint with content. */
async function firstPaint(browser: Browser): Promise<number> {
  const page = await newPage(browser, "");
  await page.waitForFunction(() => performance.getEntriesByName("first-contentful-paint").length > 0);
  const ms = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]!.startTime);
  await page.close();
  return ms;
}

/** Turns the wheel once a frame. Runs in the page. @returns milliseconds between frames. */
async function pan(frames: number): Promise<number[]> {
  const map = document.querySelector('[role="application"]')!;
  const times: number[] = [];
  for (let frame = 0; frame <= frames; frame++) {
    times.push(await new Promise<number>((resolve) => requestAnimationFrame(resolve)));
    map.dispatchEvent(new WheelEvent("wheel", { deltaY: 53, bubbles: true, cancelable: true }));
  }
  return times.slice(1).map((time, index) => time - times[index]!);
}

export async function explorerBench(options: BenchOptions): Promise<string> {
  if (EXECUTABLE === undefined)
    throw new UnsupportedError("bench explorer: no Chromium", { hint: "apt install chromium" });
  const path = await traceFile(options);
  const browser = await launch();
  try {
    const paints: number[] = [];
    for (let round = 0; round < options.repetitions; round++) paints.push(await firstPaint(browser));
    const paint = summarize(paints);
    const page = await newPage(browser, "#map?zoom=22&top=0");
    const start = performance.now();
    await page.locator('input[type="file"]').first().setInputFiles(path);
    await page.waitForFunction(() => document.querySelectorAll(".map-label bdi:not(:empty)").length > 10);
    const opened = performance.now() - start;
    await page.locator(".progress").waitFor({ state: "detached", timeout: 600_000 });
    const counted = performance.now() - start;
    const rows = [["panning", "median ms", "95th", "longest", "frames over 25 ms"]];
    for (const [name, zoom] of ZOOMS) rows.push([name, ...(await measurePan(page, zoom))]);
    const { size } = await stat(path);
    return [
      `machine: ${formatMachine(describeMachine(0))}`,
      `trace: ${SIZE.tokens} tokens x ${SIZE.layers} layers, ${SIZE.topK} of ${SIZE.experts} experts, ${Math.round(size / 1e6)} MB`,
      `first paint: ${paint.median.toFixed(0)} ms (${paint.min.toFixed(0)} to ${paint.max.toFixed(0)}, ${options.repetitions} pages)`,
      `first tokens on the map after ${opened.toFixed(0)} ms, all counted after ${(counted / 1000).toFixed(1)} s`,
      table(rows, { align: ["left", "right", "right", "right", "right"] }),
    ].join("\n");
  } finally {
    await browser.close();
  }
}

async function measurePan(page: Page, zoom: number): Promise<string[]> {
  await page.evaluate((hash) => {
    location.hash = hash;
  }, `#map?zoom=${zoom}&top=300000`);
  await page.waitForTimeout(1500);
  const times = (await page.evaluate(pan, FRAMES)).sort((a, b) => a - b);
  const at = (share: number) => times[Math.min(times.length - 1, Math.floor(share * times.length))]!.toFixed(1);
  return [at(0.5), at(0.95), times.at(-1)!.toFixed(1), String(times.filter((time) => time > 25).length)];
}
