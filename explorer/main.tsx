/** Entry of the page, and of the worker that counts for it. */
import { render } from "preact";
import { z } from "zod";
import { App } from "./app.tsx";
import { type DedicatedWorkerScope, serveJobs } from "./jobs.ts";

// The page may not evaluate text, which zod would otherwise try for speed.
z.config({ jitless: true });

if (typeof document === "undefined") serveJobs(globalThis as unknown as DedicatedWorkerScope);
else render(<App />, document.getElementById("app")!);
