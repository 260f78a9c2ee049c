import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { beforeAll, describe, expect, it } from "vitest";
import { randomRows, TINY_HEADER, traceBytes } from "../traces.ts";
import { olmoe, temporaryFolder } from "./harness.ts";

const root = await temporaryFolder();
const [early, late, other] = ["early", "late", "other"].map((name) => join(root, `${name}.trace`)) as [
  string,
  string,
  string,
];
const counts = join(root, "counts");

/** Two domains of eight sequences; traces of one `text` have one text, each model its own routing. */
function trace(text: number, model: number): Uint8Array {
  const sequences = Array.from({ length: 16 }, (_, index) => {
    const [ids, routing] = [text, model].map((seed) => randomRows(TINY_HEADER, 20, 100 * seed + index));
    return { source: index % 2 === 0 ? "prose" : "code", rows: { ...routing!, ids: ids!.ids! } };
  });
  // Text that would be markup, turn round what follows, or move a cursor, if it were not made harmless.
  const tokenText = (id: number) => ["<script>alert(1)</script>", "\u202e\u0007", "plain"][id % 3];
  return traceBytes(TINY_HEADER, sequences, { tokenText });
}

/** Released counts of two layers, two experts, k = 2, and their first experts. */
const EXPERTS = {
  layers: [0, 7],
  models: {
    olmoe: {
      num_experts: 2,
      top_k: 2,
      topk: {
        web: {
          tokens: 10,
          counts: [
            [10, 10],
            [10, 10],
          ],
        },
        tulu: {
          tokens: 4,
          counts: [
            [4, 4],
            [4, 4],
          ],
        },
      },
      top1: {
        web: {
          tokens: 10,
          counts: [
            [9, 1],
            [5, 5],
          ],
        },
      },
    },
    "olmoe-sft": {
      num_experts: 2,
      top_k: 2,
      topk: {
        tulu: {
          tokens: 5,
          counts: [
            [6, 4],
            [5, 5],
          ],
        },
      },
    },
  },
};
const PATHS = {
  layer_pairs: [[0, 7]],
  models: {
    olmoe: {
      num_experts: 2,
      topk: {
        web: [
          [
            [5, 5],
            [5, 5],
          ],
        ],
      },
      top1: {
        web: [
          [
            [5, 4],
            [0, 1],
          ],
        ],
      },
    },
  },
};
const IDS = {
  layers: [0, 7],
  experts: [
    [
      [[3], [10]],
      [[3], [10]],
    ],
    [
      [[3], [10]],
      [[3], [10]],
    ],
  ],
};

beforeAll(async () => {
  await writeFile(early, trace(1, 1));
  await writeFile(late, trace(1, 2));
  await writeFile(other, trace(2, 2));
  await mkdir(counts);
  await writeFile(join(counts, "expert_counts.json"), JSON.stringify(EXPERTS));
  await writeFile(join(counts, "crosslayer_counts.json"), JSON.stringify(PATHS));
  const tokens = { domains: { web: [[{ top: [[3, " \u00e9t\u00e9\n", 10]] }]] } };
  await writeFile(join(counts, "top_tokens_per_expert.json"), JSON.stringify(tokens));
  await writeFile(join(counts, "eid2token_web.json.gz"), gzipSync(JSON.stringify(IDS)));
});

const fault = async (...argv: string[]) => {
  const { code, stdout, stderr } = await olmoe(["analyze", ...argv]);
  return { code, stdout, stderr: stderr.replaceAll(root, "ROOT").trimEnd() };
};

describe("olmoe analyze", () => {
  it("writes numbers, figures and a page, and says what stands out", async () => {
    const out = join(root, "out");
    const { code, stdout, stderr } = await olmoe([
      "analyze",
      early,
      late,
      "--out",
      out,
      "--only",
      "load,domain-test,saturation",
    ]);
    expect({ code, stderr }).toEqual({
      code: 0,
      stderr: `report  ${join(out, "report.html")}  (and 14 files beside it)\n`,
    });
    expect((await readdir(out)).sort()).toEqual([
      "domain-test-k2.csv",
      "domain-test-k2.json",
      "domain-test-k2.png",
      "domain-test-k2.svg",
      "load-k2.csv",
      "load-k2.json",
      "load-k2.png",
      "load-k2.svg",
      "report.html",
      "saturation-k1.csv",
      "saturation-k1.json",
      "saturation-k2.csv",
      "saturation-k2.json",
      "saturation.png",
      "saturation.svg",
    ]);
    const lines = stdout.split("\n");
    expect(lines.slice(0, 5).map((line) => line.replace(/ {2,}/g, " | ").split(" | ").slice(0, 4))).toEqual([
      ["analysis", "k", "layers", "tokens"],
      ["load", "2", "0, 2", "320"],
      ["domain-test", "2", "0, 2", "320"],
      ["saturation", "1", "0, 2", "320"],
      ["saturation", "2", "0, 2", "320"],
    ]);
    expect(lines[6]).toMatch(/^load: Share of a layer's slots/);
    expect(JSON.parse(await readFile(join(out, "load-k2.json"), "utf8"))).toMatchObject({
      analysis: "load",
      k: 2,
      tokens: 320,
    });
    const page = await readFile(join(out, "report.html"), "utf8");
    expect(page).toContain("320 tokens of prose, code, routed by tiny (late), compared with early.");
  });

  it("prints the same results for programs each time, with k and layers as asked", async () => {
    const args = [
      "analyze",
      late,
      "--only",
      "domains,vocabulary",
      "--k",
      "1",
      "--layers",
      "2,2",
      "--seed",
      "5",
      "--json",
    ];
    const { code, stdout } = await olmoe([...args, "--out", join(root, "json")]);
    expect(code).toBe(0);
    const results = JSON.parse(stdout);
    expect(
      results.map(({ analysis, k, layers, kind }: Record<string, unknown>) => [analysis, kind, k, layers]),
    ).toEqual([
      ["domains", undefined, 1, [2]],
      ["vocabulary", "input", 1, [2]],
      ["vocabulary", "truth", 1, [2]],
    ]);
    expect((await olmoe([...args, "--out", join(root, "json")])).stdout).toBe(stdout);
  });

  it("shows tokens of a hostile vocabulary as harmless text", async () => {
    const out = join(root, "hostile");
    expect((await olmoe(["analyze", late, "--only", "vocabulary", "--out", out])).code).toBe(0);
    const page = await readFile(join(out, "report.html"), "utf8");
    expect(["<script", "\u202e", "\u0007"].filter((text) => page.includes(text))).toEqual([]);
    expect(page).toContain("\u201cplain\u201d");
  });

  it("takes the counts that were released", async () => {
    const out = join(root, "paper");
    const { code, stdout } = await olmoe(["analyze", "--counts", counts, "--out", out]);
    expect(code).toBe(0);
    expect(
      stdout
        .split("\n")
        .slice(0, 9)
        .map((line) => line.replace(/ {2,}/g, " | ")),
    ).toEqual([
      "analysis | k | layers | tokens | what stands out",
      "load | 1 | 0, 7 | 10 | entropy 46.9 % to 100.0 % of even, busiest expert 1.80 times an even share (layer 0), 0 unused",
      "load | 2 | 0, 7 | 10 | entropy 100.0 % of even, busiest expert 1.00 times an even share (layer 0), 0 unused",
      "domains | 1 | 0, 7 | 10 | 90.0 % of web goes to expert 0 of layer 0; uniform 50.0 %",
      "domains | 2 | 0, 7 | 10 | 100.0 % of web goes to expert 0 of layer 0; uniform 100.0 %",
      "cross-layer | 1 | 0, 7 | 10 | 50.0 % of web goes from expert 0 of layer 0 to 0 of layer 7",
      "vocabulary | 2 | 0, 7 | 10 | input ids: specialisation 100.0 % by layer, 1 ids",
      "token-ids | 2 | 7 | 10 | expert 0 of layer 7 has 100.0 % of an id of web on average, the most of those shown",
      "load-change | 2 | 0, 7 | 4 | olmoe to olmoe-sft: 0.0 % to 10.0 % of the slots moved",
    ]);
    expect(await readFile(join(out, "report.html"), "utf8")).toContain("\u201c \u00e9t\u00e9\u00b7\u201d 100 %");
  });

  it("refuses traces of different texts, saying where they differ", async () => {
    const { code, stdout, stderr } = await fault(early, other, "--out", join(root, "x"), "--only", "saturation");
    expect([code, stdout]).toEqual([1, ""]);
    expect(stderr).toMatch(
      /^olmoe: compare: token \d+ is id \d+ in early and id \d+ in other, expected traces of the same text\nhint: record both with olmoe trace from the same input, with one tokenizer$/,
    );
    expect((await fault(early, other, "--out", join(root, "y"), "--only", "load-change")).code).toBe(0);
  });

  it("says what is wrong with what it is given", async () => {
    const out = ["--out", join(root, "z")];
    const broken = async (name: string, files: Readonly<Record<string, string | Uint8Array>>) => {
      const folder = join(root, name);
      await mkdir(folder, { recursive: true });
      for (const [file, text] of Object.entries(files)) await writeFile(join(folder, file), text);
      return folder;
    };
    const wide = { ...EXPERTS.models.olmoe, topk: { web: { tokens: 1, counts: [[1, 2, 3], [1]] } } };
    const ids = (value: unknown) => ({
      "expert_counts.json": JSON.stringify(EXPERTS),
      "eid2token_web.json.gz": gzipSync(JSON.stringify(value)),
    });
    const [odd, shallow] = [
      await broken("odd", ids({ ...IDS, experts: [[[[3], [10, 2]]]] })),
      await broken("shallow", ids({ layers: [0], experts: IDS.experts.slice(0, 1) })),
    ];
    const [none, json, shape, short, zip] = [
      await broken("none", {}),
      await broken("json", { "expert_counts.json": "{" }),
      await broken("shape", { "expert_counts.json": '{"layers": [0], "models": {"olmoe": {"num_experts": "many"}}}' }),
      await broken("short", { "expert_counts.json": JSON.stringify({ layers: [0, 7], models: { olmoe: wide } }) }),
      await broken("zip", { "expert_counts.json": JSON.stringify(EXPERTS), "eid2token_web.json.gz": "no" }),
    ];
    const messages = [
      await fault(...out),
      await fault(early, "--counts", counts, ...out),
      await fault(early, "--only", "magic", ...out),
      await fault(early, "--layers", "1", ...out),
      await fault(early, "--k", "3", ...out),
      await fault(early, "--only", "churn", ...out),
      await fault(early, "--only", "coactivation", "--k", "1", ...out),
      await fault("--counts", none, ...out),
      await fault("--counts", json, ...out),
      await fault("--counts", shape, ...out),
      await fault("--counts", short, ...out),
      await fault("--counts", zip, ...out),
      await fault("--counts", odd, ...out),
      await fault("--counts", shallow, ...out),
      await fault("--counts", counts, "--model", "gpt", ...out),
      await fault("--counts", counts, "--only", "churn", ...out),
      await fault("--counts", counts, "--k", "5", ...out),
      await fault("--counts", counts, "--layers", "0", ...out),
    ];
    expect(messages.map(({ code, stderr }) => `${code} ${stderr.split("\n")[0]}`)).toEqual([
      "2 olmoe: analyze: no trace, expected traces, or a folder of counts after --counts",
      "2 olmoe: analyze: both traces and --counts, expected traces, or a folder of counts after --counts",
      '2 olmoe: --only: "magic", expected some of load, domains, domain-test, coactivation, cross-layer, vocabulary, token-ids, mass, saturation, churn, load-change',
      "1 olmoe: layers: 1, the trace has 0, 2",
      "1 olmoe: k: 3, expected a whole number from 1 to 2, the experts of a token in the trace",
      "1 olmoe: churn: 1 trace, expected at least 2",
      "2 olmoe: --only: coactivation of k 1 and layers as they are shows nothing",
      "1 olmoe: ROOT/none: no expert_counts.json, expected a folder of released counts",
      "1 olmoe: ROOT/json/expert_counts.json: not valid JSON, expected JSON",
      "1 olmoe: ROOT/shape/expert_counts.json: 3 faults",
      "1 olmoe: counts: olmoe, web is not 2 rows of 2 numbers",
      "1 olmoe: ROOT/zip/eid2token_web.json.gz: gzip stream is damaged",
      "1 olmoe: ROOT/odd/eid2token_web.json.gz: experts.0.0: expected as many ids as counts",
      "1 olmoe: ROOT/shallow/eid2token_web.json.gz: layers 0 of 2 experts, expected 0, 7 of 2",
      '1 olmoe: counts: no model "gpt", there are olmoe, olmoe-sft',
      "1 olmoe: counts: churn needs a trace, counts allow load, domains, cross-layer, vocabulary, token-ids, load-change",
      "1 olmoe: k: 5, the counts of olmoe are of k 1 and 2",
      "2 olmoe: --layers: not for --counts, whose layers are what they are",
    ]);
    expect(existsSync(join(root, "z"))).toBe(false);
  });
});
