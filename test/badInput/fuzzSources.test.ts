/**
 * Seeded mutations of one small file of each kind that sources are read from. Whatever the bytes, reading ends: with
 * documents, with faults or with a DataError, and no document is longer than the file can hold.
 * OLMOE_LONG_TESTS=1 runs more.
 */
import { readFileSync } from "node:fs";
import path from "node:path";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import { SourceFolder, writeParquet } from "../sourceFiles.ts";
import { edits, mutate, runs, survives, TIMEOUT_MS } from "./mutations.ts";

let files: SourceFolder;
beforeAll(() => {
  files = new SourceFolder();
});
afterAll(() => files.remove());

const JSONL = `{"id":"1","text":"one \\u00e9","metadata":{"a":[1,{"b":null}]},"added":"2024"}\n{"text":"two"}\n\n{"text":"\u{1F600}"}\n`;
/** Forty lines of JSONL by `zstd` and `bzip2`. */
const ZSTD =
  "KLUv/QRY9QwAYkYVGIAnbswQt9cGC6keI3LRG9k2uWeYnMCsYCqho6aoal6JqkTHlNTMJ0mVltFf/l8ldJZN0bxePuCAvXw0oxXH1tGM68UExw" +
  "g8WCSwC6sxgAQJLBYNAYC2qAFvw7D/GYACESEr8xEgFIUYBGonU1OQlJYD1+HqSXBwiGuwi4wocb2uTpah441PAaTjHLlQL5EsHVv5lMIgqtzP" +
  "KpyGwNAHU7iBc+Coq2L7d63AL5UACVXe1Dg7zhGUmygkEkZHTC86sTCkNpxWifJnG2Twpdxd7Uq9lUc9SQggvbKkOEyNheSJLhA0KDecp6xdIw" +
  "Bcq+v0NRgPl8o4c4eoJsqctkXwZEsUIMECrcDKAfOyoQALBfuB+pAv5Ss2MFpgQiUEwf6Tn1BCpw2zoOwNTdlAj9jgCowPClE924EmuIA8tZ5n" +
  "wD7LbMJ5u3AMKCJt+4nVnQRcXqqiEyVgFgcp+R9zPDZUeZh1SC14l+pwalWqDCVAQAP80jK0v8Zh/ZObLhPg+jcbej9UBHgdOeCsbDYAfJg6kR" +
  "t3vvKJ6aDiA64CaP2GLg==";
const BZIP2 =
  "QlpoOTFBWSZTWUpxM8cAA/dZgAAQUAR/8CYm3kpAAgHRYEJTylSAGIaAASeqqmg0AAA0FAAAAAAqKgTUxGCMJh/AYe32P0U1SQ4iCiQziMU4tA" +
  "VZCVIuIq0QigkQ1iIUWJUQwoiTIshVMVESirYyK41CC5Kz48efO5c3hxrhnjlytx0z46sbnyNmzTK6fWHMR+iPsRhJPYMHAzoBhocnnU5RUQpK" +
  "zLiL0Aw4vn362hjbpg7amDW67q27u6bu1uwBh0FzFwRVHARDFwPgEWRhYtqi1GskjUSaiMhGQI0htit+1rflWuHCo1kMaLX3ymSVAGFGSJAmTI" +
  "2QJEjL8q286tfu2td2trjtrXVcSGjSRRii25a2uvdESUBSkgyISRMkgooiMP6rS5kSqqrVzEbokYCPYjER8F3JFOFCQSnEzxw=";

/** No small file of these kinds holds more text than this: a block of bzip2 and of zstd can be all one letter. */
const MOST_CHARACTERS = 32 * 2 ** 20;

async function readMutated(name: string, bytes: Uint8Array): Promise<void> {
  files.write(name, bytes);
  await survives(async () => {
    for (const record of await files.read({ path: name })) {
      if ("document" in record) expect(record.document.text.length).toBeLessThan(MOST_CHARACTERS);
      else expect(record.fault).not.toBe("");
    }
  });
}

const kinds: readonly [name: string, bytes: Uint8Array, share: number][] = [
  ["a.jsonl", Buffer.from(JSONL), 0.2],
  ["a.csv", Buffer.from('id,text,created\r\n1,"two\nlines, ""quoted""",2020\r\n2,plain,\r\n"3","",x'), 0.2],
  [
    "a.html",
    Buffer.from("<!doctype html><main><p>a &amp; b<br>c<table><tr><td>x</table><ul><li>y</ul><!-- z --></main>"),
    0.1,
  ],
  ["a.jsonl.gz", gzipSync(JSONL.repeat(4)), 0.2],
  ["a.jsonl.zst", Buffer.from(ZSTD, "base64"), 0.3],
  ["a.jsonl.bz2", Buffer.from(BZIP2, "base64"), 0.3],
];

it.each(kinds)(
  "a mutated %s is read or refused",
  async (name, whole, share) => {
    await fc.assert(
      fc.asyncProperty(edits, (changes) => readMutated(name, mutate(whole, changes))),
      runs(share),
    );
  },
  TIMEOUT_MS,
);

it(
  "a mutated a.parquet is read or refused",
  async () => {
    const file = path.join(files.folder, "whole.parquet");
    await writeParquet(
      file,
      "SELECT i::VARCHAR AS id, 'text ' || i AS text, {a: i, l: [i]} AS metadata FROM range(100) t(i)",
    );
    const whole = readFileSync(file);
    await fc.assert(
      fc.asyncProperty(edits, (changes) => readMutated("a.parquet", mutate(whole, changes))),
      runs(0.05),
    );
  },
  TIMEOUT_MS,
);

it(
  "two attribute files that do not fit are read or refused",
  async () => {
    const rows = '{"id":"1","attributes":{"a":[[0,3,0.5]],"b":[]}}\n{"id":"x","attributes":{"a":[[0,1,1e9]]}}\n';
    files.write("d/documents/a.jsonl", '{"id":"1","text":"\u{1F600}ab"}\n{"id":"x","text":"c"}\n');
    await fc.assert(
      fc.asyncProperty(edits, async (changes) => {
        files.write("d/attributes/t/a.jsonl", mutate(Buffer.from(rows), changes));
        await survives(async () => {
          for (const record of await files.read({ path: "d", format: "dolma", attributes: ["t"] })) {
            if (!("document" in record)) continue;
            for (const [start, end] of Object.values(record.attributes ?? {}).flat()) {
              expect(start >= 0 && start <= end && end <= record.document.text.length).toBe(true);
            }
          }
        });
      }),
      runs(0.1),
    );
  },
  TIMEOUT_MS,
);
