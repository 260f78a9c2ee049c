import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { openTrace } from "../../src/formats/trace.io.ts";
import type { TraceChunk } from "../../src/formats/trace.ts";
import { olmoe, temporaryFolder, writeTinyModel } from "./harness.ts";

const root = await temporaryFolder();
const model = join(root, "model");
const reference = ["--backend", "reference"];
const text = join(root, "text.txt");
const TEXT = "the cat sat on the mat. the rat sat on the hat, while the dog ran to the cat";

beforeAll(async () => {
  await writeTinyModel(model);
  await writeFile(text, TEXT);
});

let files = 0;
async function file(interventions: readonly object[]): Promise<string> {
  const path = join(root, `${files++}.json`);
  await writeFile(path, JSON.stringify({ interventions }));
  return path;
}
const run = async (command: readonly string[], interventions?: readonly object[]) => {
  const intervene = interventions === undefined ? [] : ["--intervene", await file(interventions)];
  return olmoe([...command, ...intervene, ...reference], TEXT);
};

describe("--intervene", () => {
  const greedy = ["run", model, "-p", "the cat", "--temperature", "0", "--max-tokens", "20", "--json"];
  const ids = async (interventions?: readonly object[]) => JSON.parse((await run(greedy, interventions)).stdout).ids;

  it.each([
    ["run", async (interventions?: readonly object[]) => String(await ids(interventions))],
    ["score", async (interventions?: readonly object[]) => (await run(["score", model], interventions)).stdout],
    [
      "perplexity",
      async (interventions?: readonly object[]) =>
        (await run(["perplexity", model, text, "--json"], interventions)).stdout,
    ],
  ])("of %s changes what the model says, and not where it changes nothing", async (_, say) => {
    const plain = await say();
    expect(plain).not.toBe("");
    expect(await say([{ kind: "bias", experts: [0], value: 0 }])).toBe(plain);
    expect(await say([{ kind: "random", seed: 1 }])).not.toBe(plain);
  });

  it("replays a recorded trace: the same scores where it is the text's own", async () => {
    const trace = join(root, "own.trace");
    expect((await olmoe(["trace", model, text, "--out", trace, ...reference])).code).toBe(0);
    const scores = async (interventions?: readonly object[]) =>
      (await run(["score", model, "--json"], interventions)).stdout;
    expect(await scores([{ kind: "replay", trace: "own.trace" }])).toBe(await scores());
    const shifted = [
      { kind: "replay", trace: "own.trace" },
      { kind: "swap", experts: [0, 1] },
    ];
    expect(await scores(shifted)).not.toBe(await scores());
  });

  it("of trace and run is in the header of the trace, with as many slots as a token can have", async () => {
    const interventions = [{ kind: "top_k", k: 3, tokens: { from: 2, to: 4 } }];
    const intervene = ["--intervene", await file(interventions), ...reference];
    const [read, written] = [join(root, "read.trace"), join(root, "written.trace")];
    expect((await olmoe(["trace", model, text, "--out", read, ...intervene])).code).toBe(0);
    expect(
      (await olmoe(["run", model, "-p", "the cat", "--max-tokens", "4", "--trace", written, ...intervene])).code,
    ).toBe(0);
    for (const path of [read, written]) {
      const trace = await openTrace(path);
      const chunks: TraceChunk[] = [];
      for await (const chunk of trace.chunks({ columns: ["experts"], start: 0, end: 6 })) chunks.push(chunk);
      await trace.close();
      expect([trace.header.slots, trace.header.interventions]).toEqual([
        3,
        [{ kind: "top_k", k: 3, layers: "all", tokens: { from: 2, to: 4 } }],
      ]);
      const experts = chunks[0]?.experts ?? new Int16Array();
      const used = [0, 1, 2, 3, 4, 5].map(
        (token) => experts.subarray(3 * token, 3 * token + 3).filter((e) => e >= 0).length,
      );
      expect(used).toEqual([2, 2, 3, 3, 2, 2]);
    }
  });

  it("of a replay is in the header with the digest of what is replayed", async () => {
    const [own, again] = [join(root, "source.trace"), join(root, "again.trace")];
    await olmoe(["trace", model, text, "--out", own, ...reference]);
    const intervene = await file([{ kind: "replay", trace: "source.trace", weights: "recorded" }]);
    await olmoe(["trace", model, text, "--out", again, "--intervene", intervene, ...reference]);
    const [first, second] = [await openTrace(own), await openTrace(again)];
    expect([first.tokens, first.header.interventions]).toEqual([second.tokens, undefined]);
    expect(second.header.interventions).toEqual([
      {
        kind: "replay",
        layers: "all",
        tokens: { from: 0 },
        trace: {
          layers: [0, 1],
          positions: first.tokens,
          slots: 2,
          digest: expect.stringMatching(/^sha256:[0-9a-f]{64}$/),
        },
      },
    ]);
    await Promise.all([first.close(), second.close()]);
  });

  it("of trace records what was done: the interventions in the header, no masked expert, as many slots as a token has", async () => {
    const out = join(root, "changed.trace");
    const interventions = [
      { kind: "mask", experts: [1, 2] },
      { kind: "top_k", k: 3, layers: [1] },
    ];
    expect((await run(["trace", model, text, "--out", out], interventions)).code).toBe(0);
    const trace = await openTrace(out);
    const chunks = [];
    for await (const chunk of trace.chunks()) chunks.push(chunk);
    await trace.close();
    const place = { layers: "all", tokens: { from: 0 } };
    expect([trace.header.slots, trace.header.interventions]).toEqual([
      3,
      [
        { ...place, ...interventions[0] },
        { ...place, ...interventions[1] },
      ],
    ]);
    const { experts, tokens } = chunks[0]!;
    expect(experts!.some((expert) => expert === 1 || expert === 2)).toBe(false);
    const empty = Array.from(experts!, (expert, place) => expert === -1 && place % 3 === 2);
    expect(empty.every((is, place) => is === (place < tokens * 3 && place % 3 === 2))).toBe(true);
  });

  it("refuses the trace of another model", async () => {
    const other = join(root, "other");
    await writeTinyModel(other, { initializerRange: 0.2 });
    await olmoe(["trace", other, text, "--out", join(root, "other.trace"), ...reference]);
    const { code, stdout, stderr } = await run(["score", model], [{ kind: "replay", trace: "other.trace" }]);
    expect([code, stdout]).toEqual([1, ""]);
    expect(stderr).toMatch(
      /^olmoe: .*json: interventions\.0\.trace: other\.trace is of .* \(digest sha256:[0-9a-f]{64}\), this model's digest is sha256:[0-9a-f]{64}\nhint: record a trace of this model with `olmoe trace`\n$/,
    );
  });

  it("tells every fault of the file and exits with 1", async () => {
    const faults = [
      { kind: "mask", experts: [0, 1, 2, 3, 4, 5, 6, 7], layers: [0, 99] },
      { kind: "top_k", k: 9 },
    ];
    const { code, stdout, stderr } = await run(["perplexity", model, text], faults);
    expect([code, stdout]).toEqual([1, ""]);
    expect(stderr.slice(stderr.indexOf(".json"))).toBe(
      ".json: 3 faults\n" +
        "  - interventions.0.layers.1: 99, the model has layers 0..1\n" +
        "  - interventions.1.k: 9, the model has 8 experts in a layer\n" +
        "  - interventions.0.experts: masks the last of 8 experts of layer 0, one must be left\n",
    );
  });
});
