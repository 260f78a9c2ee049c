import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createRandom } from "../../util/random.ts";
import { RecordReader, RecordWriter, writeRecords } from "./recordFile.io.ts";
import { BUCKETS, bucketOf, bucketRange } from "./records.ts";

let folder: string;
let file: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "olmoe-records-"));
  file = join(folder, "some.exact");
});
afterEach(() => rm(folder, { recursive: true }));

async function writeKeys(count: number): Promise<number[][]> {
  const random = createRandom(1, "records");
  const rows = Array.from({ length: count }, (_, document) => [
    ...Array.from({ length: 4 }, () => random.next() >>> 0),
    document,
  ]);
  const writer = await RecordWriter.create(file, "exact", 3);
  for (let start = 0; start < count; start += 1000) {
    await writer.add(Uint32Array.from(rows.slice(start, start + 1000).flat()));
  }
  await writer.finish();
  return rows;
}

async function readRange(partition: number, partitions: number): Promise<number[][]> {
  const reader = await RecordReader.open(file, "exact", 3);
  const words: number[] = [];
  for await (const block of reader.buckets(bucketRange({ partition, partitions }))) words.push(...block);
  await reader.close();
  return Array.from({ length: words.length / 5 }, (_, row) => words.slice(5 * row, 5 * row + 5));
}

/** Documents of records with a key in the range, bucket by bucket in each run. */
function expected(rows: readonly number[][], partition: number, partitions: number): number[] {
  const { first, end } = bucketRange({ partition, partitions });
  const bucket = (row: number[]) => bucketOf(row[0]!);
  return rows
    .filter((row) => bucket(row) >= first && bucket(row) < end)
    .sort((a, b) => bucket(a) - bucket(b) || a[4]! - b[4]!)
    .map((row) => row[4]!);
}

describe("record files", () => {
  it.each([1, 3, 1000, BUCKETS])(
    "give %i partitions each its records, in order of buckets and documents",
    async (partitions) => {
      const rows = await writeKeys(5000);
      const parts: number[][] = [];
      for (let partition = 0; partition < partitions; partition += Math.ceil(partitions / 7)) {
        const read = (await readRange(partition, partitions)).map((row) => row[4]!);
        expect(read).toEqual(expected(rows, partition, partitions));
        parts.push(read);
      }
      if (partitions < 7) expect(parts.flat().sort((a, b) => a - b)).toEqual(rows.map((_, document) => document));
    },
  );

  it("keep the order of documents over several runs", async () => {
    const rows = await writeKeys(450_000);
    const read = await readRange(17, 500);
    const { first, end } = bucketRange({ partition: 17, partitions: 500 });
    const inRange = rows.filter((row) => bucketOf(row[0]!) >= first && bucketOf(row[0]!) < end);
    expect(read.map((row) => row[4]!).sort((a, b) => a - b)).toEqual(inRange.map((row) => row[4]));
    for (let bucket = first; bucket < end; bucket++) {
      const documents = read.filter((row) => bucketOf(row[0]!) === bucket).map((row) => row[4]!);
      expect(documents).toEqual([...documents].sort((a, b) => a - b));
    }
    const reader = await RecordReader.open(file, "exact", 3);
    const counts = new Float64Array(end - first);
    await reader.countBuckets({ first, end }, counts);
    await reader.close();
    expect(counts.reduce((sum, count) => sum + count)).toBe(inRange.length);
  });

  it("find the first row of a task", async () => {
    await writeRecords(
      file,
      "cuts",
      (async function* () {
        yield Uint32Array.of(1, 0, 0, 1, 1, 0);
        yield Uint32Array.of(4, 0, 0, 4, 0, 1, 7, 2, 2);
      })(),
    );
    const reader = await RecordReader.open(file, "cuts");
    const places = await Promise.all([0, 1, 2, 4, 5, 7, 8].map((task) => reader.firstOfTask(task)));
    await reader.close();
    expect(places).toEqual([0, 0, 2, 2, 4, 4, 5]);
  });

  it("are there whole or not at all", async () => {
    const failing = async function* () {
      yield Uint32Array.of(1, 2, 3);
      throw new Error("stopped");
    };
    await expect(writeRecords(file, "cuts", failing())).rejects.toThrow("stopped");
    const abort = AbortSignal.abort();
    const one = async function* () {
      yield Uint32Array.of(1, 2, 3);
    };
    await expect(writeRecords(file, "cuts", one(), abort)).rejects.toThrow("aborted");
    expect(await readdir(folder)).toEqual([]);
    await expect(RecordWriter.create(join(folder, "none", "x"), "cuts")).rejects.toThrow(
      `${join(folder, "none", "x")}: does not exist`,
    );
  });

  it("have the same bytes however records are handed in", async () => {
    await writeKeys(5000);
    const bytes = await readFile(file);
    const reader = await RecordReader.open(file, "exact", 3);
    expect([reader.records, bytes.length]).toEqual([5000, 32 + 4 * BUCKETS + 5000 * 20]);
    await reader.close();
    await writeKeys(5000);
    expect(Buffer.compare(bytes, await readFile(file))).toBe(0);
  });
});

describe("faults of record files", () => {
  const openIt = async () => (await RecordReader.open(file, "exact", 3)).close();

  async function patch(offset: number, word: number): Promise<void> {
    const bytes = await readFile(file);
    bytes.writeUInt32LE(word, offset);
    await writeFile(file, bytes);
  }

  it.each([
    ["is empty", () => writeFile(file, ""), "0 bytes, expected a header of 32"],
    ["is foreign", () => writeFile(file, "x".repeat(100)), "is not a record file of deduplication"],
    ["has another version", () => patch(8, 9), "has version 9, expected 1"],
    ["is of another kind", () => patch(12, 1), "holds near records, expected exact"],
    ["is of an unknown kind", () => patch(12, 99), "holds unknown records, expected exact"],
    ["has records of another length", () => patch(16, 4), "has records of 4 words, expected 5"],
    ["has another setting", () => patch(20, 2), "was written with setting 2, expected 3"],
    ["is truncated", () => truncate(file, 20_000), "20000 bytes, expected 18416, as its header says 100 records"],
    [
      "says more records",
      () => patch(24, 2 ** 31),
      "18416 bytes, expected 43117461536, as its header says 2147483648 records",
    ],
    ["is missing", () => rm(file), "does not exist"],
  ])("are one error where a file %s", async (_, spoil, message) => {
    await writeKeys(100);
    await spoil();
    await expect(openIt()).rejects.toMatchObject({ name: "DataError", message: `${file}: ${message}` });
  });

  it("are one error where the table of buckets is damaged", async () => {
    await writeKeys(100);
    await patch(32 + 4 * 5, 10_000);
    await expect(readRange(0, 1)).rejects.toMatchObject({
      name: "DataError",
      message: `${file}: the bucket table of run 0 is damaged`,
    });
  });
});
