import { describeConformance } from "../../../test/conformance/suite.ts";
import { createReferenceBackend } from "./backend.ts";

// Values are those of the reference itself here; what it writes, aliasing and independence of rows are checked.
describeConformance(createReferenceBackend());
