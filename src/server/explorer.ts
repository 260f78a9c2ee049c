/**
 * The server of `olmoe explore`: the page, parts of trace files, texts of a model with their routing as they come, and the
 * metrics of a training run. For this machine only: it listens on the loopback address, and answers nobody who reached it
 * under another name (a page elsewhere whose name was pointed at this machine) or from a page of another origin.
 */
import type { FileHandle } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { basename, join } from "node:path";
import { createAdaptorServer } from "@hono/node-server";
import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { HTTPException } from "hono/http-exception";
import { moeLayers } from "../config/architecture.ts";
import { CheckpointError, ConfigError, OlmoeError, ResourceError } from "../errors.ts";
import type { LanguageModel } from "../infer/model.ts";
import { openRegular, readFully } from "../util/files.io.ts";
import { PACKAGE_ROOT } from "../util/packageRoot.io.ts";
import { shownPath } from "../util/shownPath.io.ts";
import { generationLines, parseGeneration } from "./generation.ts";
import { followMetrics } from "./metricsTail.ts";

const LOOPBACK = "127.0.0.1";
const PAGE = join(PACKAGE_ROOT, "dist", "explorer.html");
const MOST_PAGE_BYTES = 2 ** 26;
/** A replay's route of 4,096 tokens through 16 layers with 8 experts each takes 1.5 MB. */
const MOST_BODY_BYTES = 2 ** 24;
/** Of a trace in one answer; the page asks for a few megabytes. */
const MOST_RANGE_BYTES = 2 ** 28;

export interface ExplorerOptions {
  /** Trace files. */
  readonly traces: readonly string[];
  /** To generate with. It is not closed here. */
  readonly model?: LanguageModel | undefined;
  /** Folder of a training run. */
  readonly run?: string | undefined;
  /** Default: any that is free. */
  readonly port?: number | undefined;
  /** Closes the server. */
  readonly signal?: AbortSignal | undefined;
}

export interface Explorer extends AsyncDisposable {
  /** Such as http://127.0.0.1:41234/. */
  readonly url: string;
  /** Resolves when the server has closed. */
  readonly closed: Promise<void>;
  close(): Promise<void>;
}

interface ServedTrace {
  readonly name: string;
  readonly path: string;
  readonly file: FileHandle;
  readonly bytes: number;
}

/**
 * Serves the explorer on this machine until it is closed.
 * @throws CheckpointError for a trace that is missing; ResourceError for a port that is taken, or without the built page.
 */
export async function serveExplorer(options: ExplorerOptions): Promise<Explorer> {
  const html = await readPage();
  const traces: ServedTrace[] = [];
  const closeTraces = () => Promise.all(traces.map(({ file }) => file.close()));
  try {
    for (const path of options.traces) traces.push({ name: basename(path), path, ...(await openRegular(path)) });
    return await listen(createApp(html, traces, options), options, closeTraces);
  } catch (error) {
    await closeTraces();
    throw error;
  }
}

async function readPage(): Promise<string> {
  try {
    const { file, bytes } = await openRegular(PAGE);
    const target = new Uint8Array(Math.min(bytes, MOST_PAGE_BYTES));
    await readFully(file, PAGE, target, 0).finally(() => file.close());
    return new TextDecoder().decode(target);
  } catch (cause) {
    if (!(cause instanceof CheckpointError)) throw cause;
    throw new ResourceError(`${PAGE}: the explorer's page is missing`, {
      hint: "in a clone, build it: npm run setup",
      cause,
    });
  }
}

async function listen(app: Hono, { port = 0, signal }: ExplorerOptions, release: () => Promise<unknown>) {
  const server = createAdaptorServer({ fetch: app.fetch, overrideGlobalObjects: false });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => reject(listenError(error, port)));
    server.listen(port, LOOPBACK, resolve);
  });
  const closed = new Promise<void>((resolve) => server.once("close", resolve)).then(async () => {
    await release();
  });
  const close = () => {
    server.close();
    if ("closeAllConnections" in server) server.closeAllConnections();
    return closed;
  };
  if (signal?.aborted === true) close();
  signal?.addEventListener("abort", close, { once: true });
  const url = `http://${LOOPBACK}:${(server.address() as AddressInfo).port}/`;
  return { url, closed, close, [Symbol.asyncDispose]: close } satisfies Explorer;
}

function listenError(error: NodeJS.ErrnoException, port: number): Error {
  if (error.code !== "EADDRINUSE" && error.code !== "EACCES") return error;
  const fault = error.code === "EADDRINUSE" ? "is in use" : "may not be used";
  return new ResourceError(`port ${port}: it ${fault}`, { hint: "choose another --port, or none", cause: error });
}

function createApp(html: string, traces: readonly ServedTrace[], { model, run, signal }: ExplorerOptions): Hono {
  const app = new Hono();
  app.use(guard);
  app.use(async (context, next) => {
    await next();
    context.header("x-content-type-options", "nosniff");
    context.header("referrer-policy", "no-referrer");
    context.header("cross-origin-resource-policy", "same-origin");
    context.header("cache-control", "no-store");
  });
  const policy = `${/Content-Security-Policy" content="([^"]*)"/.exec(html)?.[1] ?? "default-src 'none'"}; frame-ancestors 'none'`;
  app.get("/", (context) => context.html(html, 200, { "content-security-policy": policy }));
  app.get("/api/session", (context) => context.json(sessionOf(traces, model, run)));
  app.get("/api/traces/:number", (context) => serveRange(context, traces[Number(context.req.param("number"))]));
  if (model !== undefined) {
    const onError = (context: Context) =>
      context.json({ error: `generate: the request is too large, expected at most ${MOST_BODY_BYTES} bytes` }, 413);
    app.post("/api/generate", bodyLimit({ maxSize: MOST_BODY_BYTES, onError }), async (context) => {
      const body: unknown = await context.req.json().catch(() => undefined);
      return lines(generationLines(model, parseGeneration(model, body), bothSignals(context.req.raw.signal, signal)));
    });
  }
  if (run !== undefined) {
    app.get("/api/run", (context) => lines(followMetrics(run, bothSignals(context.req.raw.signal, signal))));
  }
  app.notFound((context) => context.json({ error: `${context.req.path}: there is no such page` }, 404));
  app.onError((error, context) => context.json(faultOf(error), statusOf(error)));
  return app;
}

const bothSignals = (request: AbortSignal, server: AbortSignal | undefined) =>
  server === undefined ? request : AbortSignal.any([request, server]);

/** Refuses whoever is not a page of this server or a program of this machine. */
async function guard(context: Context, next: () => Promise<void>): Promise<Response | undefined> {
  const { port } = context.env.incoming.socket.address() as AddressInfo;
  const host = context.req.header("host");
  const own = [`${LOOPBACK}:${port}`, `localhost:${port}`];
  if (host === undefined || !own.includes(host)) {
    return context.json({ error: `host "${host ?? ""}", expected ${own.join(" or ")}` }, 403);
  }
  const origin = context.req.header("origin");
  if (origin !== undefined && origin !== `http://${host}`) {
    return context.json({ error: `origin "${origin}", expected http://${host}` }, 403);
  }
  await next();
  return undefined;
}

function sessionOf(traces: readonly ServedTrace[], model: LanguageModel | undefined, run: string | undefined) {
  const { config, path, context, chat } = model?.info ?? {};
  return {
    traces: traces.map(({ name, bytes }, index) => ({ name, bytes, url: `api/traces/${index}` })),
    model:
      config === undefined
        ? null
        : {
            name: shownPath(path!),
            numExperts: config.numExperts,
            topK: config.numExpertsPerTok,
            layers: moeLayers(config),
            vocabSize: config.vocabSize,
            context,
            chat,
          },
    run: run === undefined ? null : { name: shownPath(run) },
  };
}

/** A part of a file: `Range: bytes=FIRST-LAST`. */
async function serveRange(context: Context, trace: ServedTrace | undefined): Promise<Response> {
  if (trace === undefined) return context.json({ error: `${context.req.path}: there is no such trace` }, 404);
  const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(context.req.header("range") ?? "") ?? [];
  const first = Number(from);
  const last = Math.min(Number(to), trace.bytes - 1);
  if (!(first <= last) || last - first >= MOST_RANGE_BYTES) {
    const range = { "content-range": `bytes */${trace.bytes}` };
    return context.json({ error: `range: expected bytes=FIRST-LAST within ${trace.bytes} bytes` }, 416, range);
  }
  const part = new Uint8Array(last - first + 1);
  await readFully(trace.file, trace.path, part, first);
  return context.body(part, 206, {
    "content-type": "application/octet-stream",
    "content-range": `bytes ${first}-${last}/${trace.bytes}`,
    "accept-ranges": "bytes",
  });
}

function statusOf(error: unknown) {
  if (error instanceof HTTPException) return error.status;
  return error instanceof ConfigError ? 400 : 500;
}

const faultOf = (error: unknown) => ({
  error: (error as Error).message,
  ...(error instanceof OlmoeError && error.hint !== undefined ? { hint: error.hint } : {}),
});

/** Values as lines of JSON as they come; a fault is the last line. */
function lines(values: AsyncGenerator<object>): Response {
  const encoder = new TextEncoder();
  const line = (value: object) => encoder.encode(`${JSON.stringify(value)}\n`);
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const next = await values.next();
        if (next.done === true) controller.close();
        else controller.enqueue(line(next.value));
      } catch (error) {
        controller.enqueue(line(faultOf(error)));
        controller.close();
      }
    },
    async cancel() {
      await values.return(undefined);
    },
  });
  return new Response(body, { headers: { "content-type": "application/x-ndjson" } });
}
