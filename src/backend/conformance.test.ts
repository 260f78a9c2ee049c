import { availableParallelism } from "node:os";
import { describeConformance } from "../../test/conformance/suite.ts";
import { availableBackends, openBackend } from "./io.ts";

// Three threads at least, so that work is split unevenly; wasm on one thread is a build of its own.
const backends = [
  ...(await availableBackends(Math.max(3, availableParallelism()))),
  await openBackend({ backend: "wasm", threads: 1 }),
];
for (const backend of backends) describeConformance(backend);
