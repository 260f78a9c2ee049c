/** A process that maps a file and then loses the end of it, or is sent the signal that this would raise. */
import { truncateSync } from "node:fs";
import { openBackend } from "../src/backend/io.ts";
import type { OlmoeError } from "../src/errors.ts";
import { placeFile } from "../src/formats/stored.io.ts";

const [path, what] = process.argv.slice(2) as [string, string];
const { kernels, ...backend } = await openBackend({ backend: "native", threads: 1 });
const mapped = await placeFile({ kernels, ...backend }, path);
const tail = mapped.address + mapped.byteLength - 20_000;
process.stdout.write(`before ${kernels.sumSquares(tail - (tail % 4), 1000) > 0}\n`);
if (what === "kill") {
  process.kill(process.pid, "SIGBUS");
  setTimeout(() => undefined, 10_000);
} else {
  truncateSync(path, 5000);
  process.stdout.write(`after ${kernels.sumSquares(tail - (tail % 4), 1000)}\n`);
  try {
    mapped.check();
  } catch (error) {
    process.stdout.write(`${(error as OlmoeError).code} ${(error as OlmoeError).message}\n`);
  }
}
