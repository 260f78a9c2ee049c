import { describe, it } from "vitest";
import { describeConformance } from "../../test/conformance/suite.ts";
import { availableBackends } from "./io.ts";

const backends = await availableBackends();
for (const backend of backends) describeConformance(backend);

describe.skipIf(backends.length > 0)("conformance", () => {
  it.skip("has no backend to test: neither native code nor wasm runs on this machine", () => {});
});
