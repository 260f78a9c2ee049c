/**
 * Builds the explorer into one HTML file that asks for nothing else: `node scripts/explorer.mjs [FILE]`. What draws charts
 * is packed inert text, which the page evaluates when it shows the first one.
 */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const source = (file) => fileURLToPath(new URL(`../explorer/${file}`, import.meta.url));

/** What the page uses of zod: schemas, with messages in English. All of zod is as large as the rest of the page. */
const zodFolder = dirname(fileURLToPath(import.meta.resolve("zod")));
const smallZod = {
  name: "small-zod",
  setup(building) {
    building.onResolve({ filter: /^zod$/ }, () => ({ path: "zod", namespace: "small-zod" }));
    building.onLoad({ filter: /.*/, namespace: "small-zod" }, () => ({
      resolveDir: zodFolder,
      contents: `import { config } from "./v4/core/core.js";
        import en from "./v4/locales/en.js";
        import * as schemas from "./v4/classic/schemas.js";
        config(en());
        export const z = { ...schemas, config };`,
    }));
  },
};

async function bundleStyle() {
  const { outputFiles } = await build({
    entryPoints: [source("style.css")],
    bundle: true,
    minify: true,
    write: false,
    logLevel: "error",
  });
  return outputFiles[0].text.trim();
}

async function bundle(entry) {
  const { outputFiles } = await build({
    entryPoints: [source(entry)],
    bundle: true,
    minify: true,
    format: "iife",
    platform: "browser",
    target: "es2023",
    jsx: "automatic",
    jsxImportSource: "preact",
    charset: "utf8",
    legalComments: "none",
    plugins: [smallZod],
    write: false,
    logLevel: "error",
  });
  return outputFiles[0].text.trim();
}

/** The script is known by its digest, so that no other can run; workers and charts come from the page itself, as blobs. */
function policy(script) {
  const digest = createHash("sha256").update(script).digest("base64");
  return [
    "default-src 'none'",
    `script-src 'sha256-${digest}' blob:`,
    "worker-src blob:",
    "style-src 'unsafe-inline'",
    "img-src data: blob:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
  ].join("; ");
}

export async function buildExplorer(file) {
  const [script, charts, style] = await Promise.all([bundle("main.tsx"), bundle("charts.ts"), bundleStyle()]);
  const parts = {
    policy: policy(script),
    style,
    charts: gzipSync(charts, { level: 9 }).toString("base64"),
    script,
  };
  const place = /\s*(?:\/\/ |\/\* )?\{\{(\w+)\}\}(?: \*\/)?\s*/g;
  const html = readFileSync(source("index.html"), "utf8").replace(place, (_, name) => parts[name]);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, html);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildExplorer(process.argv[2] ?? "dist/explorer.html");
