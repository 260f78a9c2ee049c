/** The script of the test's page: runs the workload on the main thread when the test asks. */
import { openBackend } from "../../src/browser.ts";
import { type Result, runWorkload } from "./workload.ts";

export interface PageResult extends Result {
  readonly isolated: boolean;
  readonly threads: number;
  readonly notices: readonly string[];
}

async function run(threads: number): Promise<PageResult> {
  const notices: string[] = [];
  const backend = await openBackend({ threads, baseUrl: "/", onNotice: (message) => notices.push(message) });
  try {
    return { isolated: crossOriginIsolated, threads: backend.threads, notices, ...runWorkload(backend) };
  } finally {
    backend.close();
  }
}

Object.assign(globalThis, { run });
