/** `olmoe/browser` in Chromium, from a server with and without the headers of cross-origin isolation. */
import { readFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { build } from "esbuild";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { buildWasm } from "../../src/backend/build.io.ts";
import { openBackend } from "../../src/backend/io.ts";
import { WASM_FILES, type WasmVariant } from "../../src/backend/wasm/library.ts";
import { EXECUTABLE, launch, PLACE } from "./chromium.ts";
import type { PageResult } from "./page.ts";
import { type Result, runWorkload } from "./workload.ts";

const ISOLATION = {
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-embedder-policy": "require-corp",
};

/** Headers of each page. */
const PAGES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  "/isolated": ISOLATION,
  "/plain": {},
  "/no-workers": { ...ISOLATION, "content-security-policy": "worker-src 'none'" },
};

async function bundle(): Promise<Uint8Array> {
  const { outputFiles } = await build({
    entryPoints: [new URL("page.ts", import.meta.url).pathname],
    bundle: true,
    format: "esm",
    platform: "browser",
    write: false,
    logLevel: "silent",
  });
  return outputFiles[0]!.contents;
}

/** Serves the pages, their script and the kernels on a port of the machine itself. */
async function serve(): Promise<Server> {
  const files = new Map<string, readonly [type: string, body: Uint8Array | string]>([
    ["/page.js", ["text/javascript", await bundle()]],
  ]);
  for (const [variant, name] of Object.entries(WASM_FILES)) {
    files.set(`/${name}`, ["application/wasm", await readFile(await buildWasm(variant as WasmVariant))]);
  }
  for (const page of Object.keys(PAGES)) {
    files.set(page, ["text/html", '<!doctype html><script type="module" src="/page.js"></script>']);
  }
  const server = createServer(({ url = "" }, response) => {
    const [type, body] = files.get(url) ?? ["text/plain", undefined];
    response.writeHead(body === undefined ? 404 : 200, { "content-type": type, ...PAGES[url] }).end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

describe.skipIf(EXECUTABLE === undefined)(`olmoe/browser in ${PLACE}`, () => {
  let server: Server;
  let browser: Browser;
  let node: Result;

  beforeAll(async () => {
    server = await serve();
    browser = await launch();
    const backend = await openBackend({ backend: "wasm", threads: 1 });
    node = runWorkload(backend);
  });

  afterAll(async () => {
    await browser?.close();
    server?.close();
  });

  /** Runs the workload in a page of the server; faults of the page fail the test. */
  async function runIn(path: string, threads: number): Promise<PageResult> {
    const page = await browser.newPage();
    try {
      await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`);
      await page.waitForFunction("globalThis.run !== undefined");
      return await page.evaluate<PageResult>(`run(${threads})`);
    } finally {
      await page.close();
    }
  }

  it("trains on two threads on the main thread of an isolated page, with the bits of one thread and of Node", async () => {
    const two = await runIn("/isolated", 2);
    expect(two).toEqual({ ...node, isolated: true, threads: 2, notices: [] });
    expect(await runIn("/isolated", 1)).toEqual({ ...two, threads: 1 });
  });

  it("falls back to one thread, with one notice, where the page is not isolated", async () => {
    expect(await runIn("/plain", 2)).toEqual({
      ...node,
      isolated: false,
      threads: 1,
      notices: ["wasm: one thread instead of 2: the page is not cross-origin isolated"],
    });
  });

  it("falls back to one thread where the page may not start workers", async () => {
    expect(await runIn("/no-workers", 2)).toEqual({
      ...node,
      isolated: true,
      threads: 1,
      notices: [expect.stringMatching(/^wasm: one thread instead of 2: /)],
    });
  });
});
