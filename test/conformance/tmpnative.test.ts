import { buildNative } from "../../src/backend/build.io.ts";
import { nativeInstructionSets } from "../../src/backend/io.ts";
import { openNative } from "../../src/backend/native/native.ts";
import { describeConformance } from "./suite.ts";

for (const isa of await nativeInstructionSets()) describeConformance(openNative(await buildNative(isa), isa, 2));
