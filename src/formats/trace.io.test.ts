import { appendFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { randomRows, TINY_HEADER, traceBytes } from "../../test/traces.ts";
import { openTrace, TraceWriter } from "./trace.io.ts";
import { memoryTrace, TRACE_COLUMNS, type Trace, type TraceChunk, type TraceHeader } from "./trace.ts";
import { TraceEncoder } from "./traceEncoder.ts";
import { traceBytesPerToken } from "./traceFile.ts";
import { openTraceBlob } from "./traceReader.ts";

const ALL: TraceHeader = { ...TINY_HEADER, columns: TRACE_COLUMNS };

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "olmoe-trace-"));
});
afterEach(() => rm(folder, { recursive: true }));

async function collect(chunks: AsyncIterable<TraceChunk>): Promise<TraceChunk[]> {
  const all: TraceChunk[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return all;
}

/** Each token by itself, with all that is said of it. */
async function tokensOf(trace: Trace, selection = {}) {
  const tokens: unknown[] = [];
  for await (const chunk of trace.chunks(selection)) {
    const layers = trace.header.layers.length;
    let first = 0;
    for (const { sequence, source, position, tokens: count } of chunk.runs) {
      for (let token = first; token < first + count; token++) {
        const columns = Object.fromEntries(
          TRACE_COLUMNS.flatMap((column) => {
            const values = chunk[column];
            if (values === undefined) return [];
            const layered = values.length > chunk.tokens;
            const width = values.length / chunk.tokens / (layered ? layers : 1);
            const parts = Array.from({ length: layered ? layers : 1 }, (_, part) => [
              ...values.subarray((part * chunk.tokens + token) * width, (part * chunk.tokens + token + 1) * width),
            ]);
            return [[column, parts]];
          }),
        );
        tokens.push({
          place: chunk.start + token,
          sequence,
          source: trace.sources[source],
          position: position + token - first,
          ...columns,
        });
      }
      first += count;
    }
  }
  return tokens;
}

describe("a trace file", () => {
  it("has the bytes that docs/routing.md describes", async () => {
    const path = join(folder, "a.trace");
    const writer = await TraceWriter.create(path, TINY_HEADER, { tokenText: (id) => (id === 7 ? "Ġcat" : undefined) });
    const rows = {
      tokens: 1,
      ids: Int32Array.of(7),
      experts: Int16Array.of(3, 1, 0, -1),
      weights: Float32Array.of(0.5, 0.25, 1, 0),
    };
    await writer.add({ sequence: 0, source: "notes", position: 4 }, rows);
    await writer.close();
    const bytes = await readFile(path);
    expect(writer.bytes).toBe(bytes.length);
    const text = (start: number, length: number) => bytes.toString("latin1", start, start + length);
    expect([text(0, 8), bytes.readUInt32LE(8), text(16, 4)]).toEqual(["OLMOEtrc", 1, "HEAD"]);
    const chunk = 32 + bytes.readUInt32LE(20);
    const metaBytes = bytes.readUInt32LE(chunk + 4);
    expect([text(chunk, 4), bytes.readUInt32LE(chunk + 12)]).toEqual(["CHNK", 24]);
    const { crc, ...meta } = JSON.parse(bytes.toString("utf8", chunk + 16, chunk + 16 + metaBytes));
    expect(meta).toEqual({
      start: 0,
      tokens: 1,
      runs: [[0, 0, 4, 1]],
      sources: ["notes"],
      vocabulary: [[7, "Ġcat"]],
    });
    expect(crc).toHaveLength(3);
    const body = chunk + 16 + metaBytes;
    expect(bytes.subarray(body, body + 24).toString("hex")).toBe(
      ["0700000000000000", "030100ff00000000", "00380034003c0000"].join(""),
    );
    expect(traceBytesPerToken(TINY_HEADER)).toBe(4 + 4 + 8);
    await using trace = await openTrace(path);
    expect({ ...trace, chunks: await collect(trace.chunks()) }).toMatchObject({
      header: TINY_HEADER,
      tokens: 1,
      sources: ["notes"],
      vocabulary: new Map([[7, "Ġcat"]]),
      chunks: [{ start: 0, runs: [{ sequence: 0, source: 0, position: 4, tokens: 1 }], ...rows }],
    });
  });

  it("gives back what was written, whatever the chunks, and any range of it", async () => {
    const lengths = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 5 });
    const anyCase = fc.record({
      lengths,
      chunkTokens: fc.integer({ min: 1, max: 8 }),
      many: fc.boolean(),
      cut: fc.nat(),
    });
    await fc.assert(
      fc.asyncProperty(anyCase, async ({ lengths, chunkTokens, many, cut }) => {
        const header: TraceHeader = { ...ALL, numExperts: many ? 200 : 4 };
        const sequences = lengths.map((tokens, index) => ({
          source: `s${index % 2}`,
          rows: randomRows(header, tokens, index),
        }));
        const written = await openTraceBlob(new Blob([traceBytes(header, sequences, { chunkTokens })]));
        let start = 0;
        const chunks = sequences.map(({ rows }, sequence): TraceChunk => {
          const runs = [{ sequence, source: sequence % 2, position: 0, tokens: rows.tokens }];
          const chunk = { start, runs, ...rows };
          start += rows.tokens;
          return chunk;
        });
        const expected = memoryTrace(header, chunks, { sources: ["s0", "s1"] });
        expect(await tokensOf(written)).toEqual(await tokensOf(expected));
        const from = cut % (start + 1);
        const range = { start: from, end: Math.min(start, from + 4) };
        expect(await tokensOf(written, range)).toEqual((await tokensOf(expected)).slice(range.start, range.end));
        const columns = { columns: ["experts", "logits"] as const };
        expect(await tokensOf(written, columns)).toEqual(await tokensOf(expected, columns));
      }),
      { numRuns: 60 },
    );
  });

  it("joins tokens of a sequence that come one after the other to one run", async () => {
    const encoder = new TraceEncoder(TINY_HEADER);
    const row = randomRows(TINY_HEADER, 1, 1);
    const places = [
      [0, 0],
      [0, 1],
      [1, 0],
      [0, 2],
    ] as const;
    const parts = places.flatMap(([sequence, position]) => encoder.add({ sequence, source: "a", position }, row));
    const trace = await openTraceBlob(new Blob([...encoder.begin(), ...parts, ...encoder.end()] as BlobPart[]));
    const [chunk] = await collect(trace.chunks());
    expect(chunk?.runs).toEqual([
      { sequence: 0, source: 0, position: 0, tokens: 2 },
      { sequence: 1, source: 0, position: 0, tokens: 1 },
      { sequence: 0, source: 0, position: 2, tokens: 1 },
    ]);
  });
});

describe("a trace that is still being written", () => {
  it("is refused, or read as far as it is whole", async () => {
    const path = join(folder, "live.trace");
    const writer = await TraceWriter.create(path, TINY_HEADER, { tokenText: String });
    const [a, b] = [randomRows(TINY_HEADER, 3, 1), randomRows(TINY_HEADER, 2, 2)];
    await writer.add({ sequence: 0, source: "a", position: 0 }, a);
    await writer.flush();
    const { length } = await readFile(path);
    await writer.add({ sequence: 1, source: "b", position: 0 }, b);
    await expect(openTrace(path)).rejects.toMatchObject({
      message: `${path}: it has no end; its last whole chunk ends at byte ${length} of ${length}, with 3 tokens`,
      hint: "it is still being written or was cut off: --partial reads what is whole",
    });
    await using trace = await openTrace(path, { partial: true });
    const { tokens, unfinished, sources, vocabulary } = trace;
    expect([tokens, unfinished, sources, vocabulary.size]).toEqual([3, true, ["a"], new Set(a.ids).size]);
    expect((await collect(trace.chunks()))[0]).toMatchObject(a);
    await writer.close();
    await using whole = await openTrace(path);
    expect([whole.tokens, whole.unfinished, whole.sources]).toEqual([5, undefined, ["a", "b"]]);
  });

  it("is gone on with, and ends with the bytes that it would have had", async () => {
    const [whole, cut] = [join(folder, "whole.trace"), join(folder, "cut.trace")];
    const [a, b] = [randomRows(TINY_HEADER, 3, 1), randomRows(TINY_HEADER, 2, 2)];
    const write = async (writer: TraceWriter, sequence: number, rows: typeof a) => {
      await writer.add({ sequence, source: `s${sequence}`, position: 0 }, rows);
      await writer.flush();
    };
    const options = { tokenText: String, existing: "resume" } as const;
    const unfinished = join(folder, "unfinished.trace");
    for (const path of [whole, cut, unfinished]) {
      const writer = await TraceWriter.create(path, TINY_HEADER, options);
      await write(writer, 0, a);
      await writer.abandon();
    }
    // What does not belong to a whole chunk is cut off.
    await appendFile(cut, new Uint8Array(21));
    for (const path of [whole, cut]) {
      const writer = await TraceWriter.create(path, TINY_HEADER, options);
      expect(writer.tokens).toBe(3);
      await write(writer, 1, b);
      await writer.close();
      await using trace = await openTrace(path);
      const names = new Set([...a.ids!, ...b.ids!]);
      expect([trace.tokens, trace.sources, trace.vocabulary.size]).toEqual([5, ["s0", "s1"], names.size]);
      expect((await collect(trace.chunks())).map(({ start, ids }) => [start, ids])).toEqual([
        [0, a.ids],
        [3, b.ids],
      ]);
    }
    expect(await readFile(cut)).toEqual(await readFile(whole));
    const refusal = (header: TraceHeader) => TraceWriter.create(cut, header, options).catch((error) => error.message);
    expect(await refusal(TINY_HEADER)).toBe(`${cut}: is a finished trace`);
    await expect(TraceWriter.create(unfinished, { ...TINY_HEADER, step: 3 }, options)).rejects.toThrow(
      `${unfinished}: is an unfinished trace of another model or with other columns`,
    );
  });

  it("keeps a file that is there unless it is told otherwise", async () => {
    const path = join(folder, "kept.trace");
    await writeFile(path, "precious");
    await expect(TraceWriter.create(path, TINY_HEADER)).rejects.toMatchObject({
      message: `${path}: is there already`,
      hint: "choose another name, or replace it with --force",
    });
    expect(await readFile(path, "utf8")).toBe("precious");
    await (await TraceWriter.create(path, TINY_HEADER, { existing: "replace" })).close();
    await using trace = await openTrace(path);
    expect(trace.tokens).toBe(0);
  });
});

describe("bad files", () => {
  const sequences = [{ source: "a", rows: randomRows(ALL, 7, 1) }];
  const good = traceBytes(ALL, sequences, { chunkTokens: 3, tokenText: (id) => `t${id}` });
  const read = async (bytes: Uint8Array<ArrayBuffer>) => {
    const trace = await openTraceBlob(new Blob([bytes]));
    return tokensOf(trace);
  };
  const changed = (place: number, value: number) => {
    const bytes = good.slice();
    bytes[place] = value;
    return bytes;
  };

  it("are refused with what is wrong", async () => {
    const refusal = (bytes: Uint8Array<ArrayBuffer>) => read(bytes).then(String, (error: Error) => error.message);
    const begin = 'trace: no routing trace, expected "OLMOEtrc" at its start';
    expect(await refusal(new Uint8Array())).toBe(begin);
    expect(await refusal(new TextEncoder().encode("GGUF and so on, a model"))).toBe(begin);
    expect(await refusal(good.slice(0, 20))).toBe("trace: ends after 20 bytes, within its header");
    expect(await refusal(changed(8, 2))).toBe("trace: version 2, expected 1");
    expect(await refusal(changed(40, 0x21))).toBe("trace: header: damaged (its checksum differs)");
    const first = 32 + new DataView(good.buffer).getUint32(20, true);
    const body = first + 16 + new DataView(good.buffer).getUint32(first + 4, true);
    expect(await refusal(changed(body, 99))).toBe(
      `trace: chunk at byte ${first}: ids is damaged (its checksum differs)`,
    );
  });

  it("are refused wherever they are cut off", async () => {
    for (let end = 0; end < good.length; end += 3) {
      await expect(read(good.slice(0, end))).rejects.toMatchObject({ code: "E_DATA" });
    }
  });

  it("never crash a reader: a changed byte is found, or changes nothing that is read", async () => {
    const whole = await read(good);
    await fc.assert(
      fc.asyncProperty(fc.nat(good.length - 1), fc.nat(255), async (place, value) => {
        const result = await read(changed(place, value)).catch((error: { code?: string }) => error.code);
        if (typeof result === "string") expect(["E_DATA", "E_CONFIG"]).toContain(result);
        else expect(result).toEqual(whole);
      }),
      { numRuns: 300 },
    );
  });

  it("can not name experts that the model does not have", async () => {
    const rows = { ...randomRows(TINY_HEADER, 1, 1), experts: Int16Array.of(0, 1, 4, 2) };
    const bytes = traceBytes(TINY_HEADER, [{ source: "a", rows }]);
    await expect(read(bytes)).rejects.toThrow(/^trace: chunk at byte \d+: expert 4, the model has 0\.\.3$/);
  });
});

describe("what can not be written or read", () => {
  it("is said: a header with faults, rows of another shape, a column or range that is not there", async () => {
    expect(() => new TraceEncoder({ ...TINY_HEADER, topK: 0, layers: [] })).toThrow(
      "trace header: 2 faults\n  - topK: 0, expected number to be >=1\n  - layers: [], expected array to have >=1 items",
    );
    expect(() => new TraceEncoder({ ...TINY_HEADER, columns: ["ids"] })).toThrow(
      "trace header: (root): columns: ids, experts and weights must be among them",
    );
    const of = { sequence: 0, source: "a", position: 0 };
    const rows = { ...randomRows(TINY_HEADER, 2, 1), weights: new Float32Array(3) };
    expect(() => new TraceEncoder(TINY_HEADER).add(of, rows)).toThrow("trace: weights of 3 elements, expected 8");
    const trace = memoryTrace(TINY_HEADER, []);
    await expect(collect(trace.chunks({ columns: ["ids", "logits"] }))).rejects.toMatchObject({
      message: "trace: it has no logits, only ids, experts, weights",
      hint: "record one with --columns ids,experts,weights,logits",
    });
    await expect(collect(trace.chunks({ start: 3 }))).rejects.toThrow("trace: tokens 3..0, it has 0..0");
  });
});
