/** Fetches jax-js when it is first needed, into bench/peers/.cache: it is a peer, not a dependency of this package. */
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import pacote from "pacote";
import { UnsupportedError } from "../../../src/errors.ts";
import { PeerProcess } from "../process.ts";

const NAME = "@jax-js/jax";
const VERSION = "0.1.25";
const FOLDER = new URL("../.cache/jaxjs/", import.meta.url);

/** @throws UnsupportedError when the registry can not be reached. */
async function ensureJaxJs(notice: (text: string) => void): Promise<void> {
  const manifest = await readFile(new URL("package.json", FOLDER), "utf8").catch(() => "{}");
  if ((JSON.parse(manifest) as { version?: string }).version === VERSION) return;
  notice(`fetching ${NAME}@${VERSION}`);
  try {
    await pacote.extract(`${NAME}@${VERSION}`, fileURLToPath(FOLDER));
  } catch (cause) {
    throw new UnsupportedError(`peer jax-js: can not fetch ${NAME}@${VERSION}: ${(cause as Error).message}`, {
      hint: "check the network, or pass --no-peers",
      cause,
    });
  }
}

/**
 * Starts the matrix products of jax-js on its wasm backend. In Node it runs on one thread: its pool needs the Worker of
 * the web, which Node does not have.
 * @throws UnsupportedError when the package can not be fetched.
 */
export async function startJaxJs(notice: (text: string) => void, signal?: AbortSignal): Promise<PeerProcess> {
  await ensureJaxJs(notice);
  return new PeerProcess({
    name: "jax-js",
    command: process.execPath,
    args: [fileURLToPath(new URL("gemm.mjs", import.meta.url)), new URL("dist/index.js", FOLDER).href],
    ...(signal ? { signal } : {}),
  });
}
