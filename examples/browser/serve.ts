/** Bundles the example and serves it, on this machine only: `npm run example:browser`, with PORT for another port. */
import { readFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = (file: string) => fileURLToPath(new URL(file, import.meta.url));

const HEADERS = {
  // These two let the kernels run on several threads.
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-embedder-policy": "require-corp",
  // Only an address that somebody types in is fetched from elsewhere.
  "content-security-policy":
    "default-src 'self' blob: 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; connect-src *",
};

type Served = readonly [type: string, body: Uint8Array];

/** All files of the page by path. */
async function exampleFiles(): Promise<Map<string, Served>> {
  const files = new Map<string, Served>([["/", ["text/html; charset=utf-8", await readFile(here("index.html"))]]]);
  for (const name of ["page", "worker"]) {
    const { outputFiles } = await build({
      entryPoints: [here(`${name}.ts`)],
      bundle: true,
      format: "esm",
      platform: "browser",
      write: false,
      logLevel: "error",
    });
    const [bundle] = outputFiles;
    if (bundle !== undefined) files.set(`/${name}.js`, ["text/javascript", bundle.contents]);
  }
  for (const name of ["kernels.wasm", "kernels-threads.wasm"]) {
    files.set(`/${name}`, ["application/wasm", await readFile(here(`../../dist/${name}`))]);
  }
  return files;
}

/** @param port of this machine; 0 for any that is free. */
export async function serveExample(port: number): Promise<Server> {
  const files = await exampleFiles();
  const server = createServer(({ url = "" }, response) => {
    const [type, body] = files.get(url) ?? ["text/plain", undefined];
    response.writeHead(body === undefined ? 404 : 200, { "content-type": type, ...HEADERS }).end(body);
  });
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(port, "127.0.0.1", resolve));
  return server;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const port = Number(process.env.PORT ?? 8080);
  await serveExample(port);
  console.log(`http://127.0.0.1:${port}`);
}
