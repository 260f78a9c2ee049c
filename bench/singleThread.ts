/** Wasm on one thread, which is a build of its own, as a contender beside wasm on several. */
import type { Backend } from "../src/backend/backend.ts";
import { openBackend } from "../src/backend/io.ts";

export const SINGLE_THREAD = "wasm, 1 thread";

/** The backend to compare with; nothing where `backend` is native or has one thread itself. */
export async function singleThread(backend: Backend): Promise<Backend | undefined> {
  if (backend.name !== "wasm" || backend.threads === 1) return undefined;
  return openBackend({ backend: "wasm", threads: 1 });
}
