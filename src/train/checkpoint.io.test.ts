import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { createDecoder, smallConfig } from "../../test/models.ts";
import { tinyRecipe } from "../../test/tinyRecipe.ts";
import { createReferenceBackend } from "../backend/reference/backend.ts";
import { parseRecipe } from "../config/recipe.ts";
import { CheckpointError, ResourceError } from "../errors.ts";
import { SafetensorsFile } from "../formats/io.ts";
import { openModel } from "../formats/model.io.ts";
import { checkpointStep, listCheckpoints } from "../formats/runFolder.io.ts";
import { AdamW } from "../optim/adamw.ts";
import { loadTokenizer, trainTokenizer } from "../tokenizer/io.ts";
import { PACKAGE_VERSION } from "../util/packageRoot.io.ts";
import {
  checkWritable,
  clearUnfinished,
  readCheckpoint,
  readTrainerState,
  type Trained,
  type TrainerState,
  verifyCheckpoint,
  writeCheckpoint,
} from "./checkpoint.io.ts";

const FILES = [
  "SHA256SUMS",
  "config.json",
  "model.safetensors",
  "optimizer.safetensors",
  "tokenizer.json",
  "trainer.json",
];

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "olmoe-checkpoint-"));
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(folder, { recursive: true });
});

const backend = createReferenceBackend();
const tokenizer = trainTokenizer(["the cat sat on the mat"], { vocabSize: 260 });
const recipe = parseRecipe(tinyRecipe());

/** A model whose weights and moments are all different numbers. */
function trained(changes: object = {}, first = 0): Trained {
  const { parameters } = createDecoder(backend, smallConfig(changes), { trainable: true });
  const optimizer = new AdamW(backend, parameters, recipe.train.optimizer);
  const { m, v } = optimizer.moments;
  for (const { data } of [parameters.values, m, v].flatMap((flat) => parameters.tensors(flat))) {
    for (let index = 0; index < data.length; index++) data[index] = (first++ % 1000) / 7;
  }
  return { parameters, optimizer };
}

function stateOf(step: number): TrainerState {
  const cursor = { sequenceLength: 32, sources: [{ name: "a", chunks: 9, taken: step }] };
  return { step, tokens: 128 * step, cursor, data: { "training/a.npy": "12ab" }, recipe };
}

const model = trained();
const write = (step: number, keep = 2) => writeCheckpoint(folder, model, tokenizer, stateOf(step), { keep });

/** All tensors of the three blocks. */
const valuesOf = ({ parameters, optimizer: { moments } }: Trained) =>
  [parameters.values, moments.m, moments.v].map((flat) => parameters.tensors(flat).map(({ data }) => data.slice()));

describe("a checkpoint", () => {
  it("is a folder that transformers and sha256sum read", async () => {
    const path = await write(3);
    expect(path).toBe(join(folder, "step3-tokens384"));
    expect(readdirSync(path).sort()).toEqual(FILES);
    const config = JSON.parse(readFileSync(join(path, "config.json"), "utf8"));
    expect(config).toMatchObject({
      architectures: ["OlmoeForCausalLM"],
      model_type: "olmoe",
      hidden_size: 32,
      intermediate_size: 16,
      num_experts: 8,
      num_experts_per_tok: 2,
      vocab_size: 50,
    });
    expect(readFileSync(join(path, "tokenizer.json"), "utf8")).toBe((await loadTokenizer(path)).toJson());
    const opened = await openModel(path, backend);
    expect(opened.parameters.values.data).toEqual(model.parameters.values.data);
    if (spawnSync("sha256sum", ["--version"]).status !== 0) return;
    expect(execFileSync("sha256sum", ["-c", "SHA256SUMS"], { cwd: path, encoding: "utf8" })).toBe(
      FILES.slice(1)
        .map((name) => `${name}: OK\n`)
        .join(""),
    );
  });

  it("holds both moments of every tensor in f32", async () => {
    const file = await SafetensorsFile.open(join(await write(3), "optimizer.safetensors"));
    const names = model.parameters.ranges().map(({ name }) => name);
    expect([...file.tensors.keys()].sort()).toEqual(names.flatMap((name) => [`m.${name}`, `v.${name}`]).sort());
    expect(new Set([...file.tensors.values()].map(({ dtype }) => dtype))).toEqual(new Set(["F32"]));
    await file.close();
  });

  it("says where training stood", async () => {
    expect(await readTrainerState(await write(3))).toEqual({ version: PACKAGE_VERSION, ...stateOf(3) });
    const state = { ...stateOf(4), spikes: { losses: [2.5, 1 / 3], rewinds: 1 } };
    const path = await writeCheckpoint(folder, model, tokenizer, state, { keep: 2 });
    expect(await readTrainerState(path)).toEqual({ version: PACKAGE_VERSION, ...state });
  });

  it("gives back weights, moments and the step, bit by bit", async () => {
    const path = await write(3);
    const other = trained({}, 500);
    expect(valuesOf(other)).not.toEqual(valuesOf(model));
    await verifyCheckpoint(path);
    await readCheckpoint(path, other, { step: 3 });
    expect(valuesOf(other)).toEqual(valuesOf(model));
    expect(other.optimizer.steps).toBe(3);
  });

  it("has the same bytes each time", async () => {
    const contents = (path: string) => FILES.map((name) => readFileSync(join(path, name), "base64"));
    const path = await write(3);
    const first = contents(path);
    expect(await write(3)).toBe(path);
    expect(contents(path)).toEqual(first);
    expect(readdirSync(folder)).toEqual(["step3-tokens384"]);
  });
});

describe("a folder of checkpoints", () => {
  const names = async () => (await listCheckpoints(folder)).map((path) => path.slice(folder.length + 1));

  it("keeps the newest, by number and not by name", async () => {
    for (const step of [2, 9, 10, 100]) await write(step, 3);
    expect(await names()).toEqual(["step9-tokens1152", "step10-tokens1280", "step100-tokens12800"]);
    await write(101, 1);
    expect(await names()).toEqual(["step101-tokens12928"]);
    expect(readdirSync(folder)).toEqual(["step101-tokens12928"]);
  });

  it("keeps one of an interruption beside the others until the next, so that none of them is lost", async () => {
    const scheduled = (step: number) => step % 10 === 0;
    const save = (step: number) => writeCheckpoint(folder, model, tokenizer, stateOf(step), { keep: 2, scheduled });
    const steps = async () => (await listCheckpoints(folder)).map(checkpointStep);
    for (const step of [10, 20, 30, 33]) await save(step);
    expect(await steps()).toEqual([20, 30, 33]);
    await save(37);
    expect(await steps()).toEqual([20, 30, 37]);
    await save(40);
    expect(await steps()).toEqual([30, 40]);
  });

  it("has none where it does not exist, and leaves out what is something else", async () => {
    expect(await listCheckpoints(join(folder, "none"))).toEqual([]);
    for (const name of ["step1-tokens2.partial", "step3-tokens4.removed", "step5", "best", "step6-tokens7"]) {
      mkdirSync(join(folder, name));
    }
    expect(await names()).toEqual(["step6-tokens7"]);
  });

  it("is cleared of what a killed process left, and of nothing else", async () => {
    const left = ["step1-tokens2.partial", "step3-tokens4.removed"];
    for (const name of [...left, "step6-tokens7", "mine.partial", "step.removed"]) mkdirSync(join(folder, name));
    for (const name of [
      "metrics.jsonl.12.tmp",
      "events.out.tfevents.17.olmoe.8.tmp",
      "report.html.7.tmp",
      ".probe-77",
      "notes.tmp",
      "metrics.jsonl",
    ]) {
      writeFileSync(join(folder, name), "x");
    }
    await clearUnfinished(folder);
    expect(readdirSync(folder).sort()).toEqual([
      "metrics.jsonl",
      "mine.partial",
      "notes.tmp",
      "step.removed",
      "step6-tokens7",
    ]);
    await clearUnfinished(join(folder, "none"));
  });

  it("that is a file is an error, not an empty folder", async () => {
    writeFileSync(join(folder, "file"), "");
    await expect(checkWritable(join(folder, "file"))).rejects.toThrow(ResourceError);
    await expect(checkWritable(join(folder, "file", "run"))).rejects.toThrow(
      new ResourceError(`write ${join(folder, "file", "run")}: a part of the path is a file, expected a folder`, {
        hint: "check the path",
        cause: expect.anything(),
      }),
    );
    await checkWritable(join(folder, "new", "run"));
    expect(readdirSync(join(folder, "new", "run"))).toEqual([]);
  });
});

describe("a failed write", () => {
  /** Makes one method of all file handles fail as the system would, after some calls that succeed. */
  async function failing(method: "write" | "sync", code: string, after: number): Promise<void> {
    const file = await open(join(folder, "prototype"), "w");
    await file.close();
    rmSync(join(folder, "prototype"));
    const prototype = Object.getPrototypeOf(file);
    const real = prototype[method];
    let calls = 0;
    vi.spyOn(prototype, method).mockImplementation(function (this: unknown, ...values: unknown[]) {
      if (calls++ < after) return real.apply(this, values);
      return Promise.reject(Object.assign(new Error(`${code}: it failed`), { code, syscall: method }));
    });
  }

  it.each([
    ["ENOSPC", "no space left on the device", "free some space or choose another folder"],
    ["EACCES", "permission denied", "check who owns the file and its folder (ls -ld)"],
    ["EROFS", "the file system is read-only", "choose another folder"],
    ["EIO", "the device reports an input/output error", "check the disk"],
  ])("with %s says what to do, and leaves the checkpoint before it whole", async (code, fault, hint) => {
    const before = await write(3);
    const partial = join(folder, "step6-tokens768.partial");
    // The header and a tensor of the weights, then of the moments; and a flush of a file, from the first to the last.
    for (const [method, after, file] of [
      ["write", 0, "model.safetensors"],
      ["write", 2, "model.safetensors"],
      ["write", 200, "optimizer.safetensors"],
      ["sync", 0, "config.json"],
      ["sync", 6, "tokenizer.json"],
    ] as const) {
      await failing(method, code, after);
      await expect(write(6, 1)).rejects.toThrow(
        new ResourceError(`write ${join(partial, file)}: ${fault}`, { hint, cause: expect.anything() }),
      );
      vi.restoreAllMocks();
      expect(readdirSync(folder)).toEqual(["step3-tokens384"]);
      await verifyCheckpoint(before);
    }
    await write(6, 1);
    expect(readdirSync(folder)).toEqual(["step6-tokens768"]);
  });

  it("of weights that are not finite writes nothing", async () => {
    const broken = trained();
    broken.parameters.values.data[0] = Number.NaN;
    await expect(writeCheckpoint(folder, broken, tokenizer, stateOf(3), { keep: 2 })).rejects.toThrow(
      new CheckpointError('weights: "model.embed_tokens.weight": element 0 is NaN, not finite in f32', {
        hint: "the model is damaged: go back to an earlier checkpoint",
      }),
    );
    expect(readdirSync(folder)).toEqual([]);
  });
});

describe("a damaged checkpoint", () => {
  let path = "";
  beforeEach(async () => {
    path = await write(3);
  });

  const damage = (...faults: string[]) =>
    new CheckpointError(`${path}: damaged, ${faults.join(", ")}`, {
      hint: "remove this folder: --resume then goes on from the checkpoint before it, or from the start",
    });

  /** Turns one bit in the middle of a file. */
  function flip(name: string): void {
    const bytes = readFileSync(join(path, name));
    const middle = Math.floor(bytes.length / 2);
    bytes.writeUInt8(bytes.readUInt8(middle) ^ 1, middle);
    writeFileSync(join(path, name), bytes);
  }

  it.each(FILES.slice(1))("with one bit changed in %s names it", async (name) => {
    flip(name);
    await expect(verifyCheckpoint(path)).rejects.toThrow(damage(`${name} is changed`));
  });

  it.each(FILES.slice(1))("without %s names it", async (name) => {
    rmSync(join(path, name));
    await expect(verifyCheckpoint(path)).rejects.toThrow(damage(`${name} is missing`));
  });

  it("names everything that is wrong at once", async () => {
    flip("config.json");
    writeFileSync(join(path, "model.safetensors"), "");
    rmSync(join(path, "trainer.json"));
    await expect(verifyCheckpoint(path)).rejects.toThrow(
      damage("config.json is changed", "trainer.json is missing", "model.safetensors is changed"),
    );
  });

  it("whose list of sums is missing, empty or foreign is not taken for whole", async () => {
    const sums = join(path, "SHA256SUMS");
    const kept = readFileSync(sums);
    const unlisted = ["config.json", "optimizer.safetensors", "tokenizer.json", "trainer.json"].map(
      (name) => `${name} is not in SHA256SUMS`,
    );
    for (const text of ["", "\0\0\0\0", `${"0".repeat(64)} config.json\n`]) {
      writeFileSync(sums, text);
      await expect(verifyCheckpoint(path)).rejects.toThrow(damage(...unlisted));
    }
    // A name cannot lead out of the folder.
    writeFileSync(sums, `${kept}${"0".repeat(64)}  ../../etc/passwd\n`);
    await expect(verifyCheckpoint(path)).rejects.toThrow(damage("passwd is missing"));
    rmSync(sums);
    await expect(verifyCheckpoint(path)).rejects.toThrow(damage("SHA256SUMS is missing"));
  });

  it("stops being compared when the signal is aborted", async () => {
    await expect(verifyCheckpoint(path, AbortSignal.abort())).rejects.toThrow("aborted");
  });

  it("of another model lists the tensors that do not fit", async () => {
    const other = trained({ numExperts: 4 });
    await expect(readCheckpoint(path, other, { step: 3 })).rejects.toThrow(
      "2 tensors of another shape (model.layers.0.mlp.gate.weight [8, 32], expected [4, 32], model.layers.1.mlp.gate.weight [8, 32], expected [4, 32])",
    );
    const elsewhere = await writeCheckpoint(join(folder, "other"), other, tokenizer, stateOf(3), { keep: 2 });
    renameSync(join(elsewhere, "optimizer.safetensors"), join(path, "optimizer.safetensors"));
    // Both routers; and three matrices of the four experts that are not there, in two layers.
    const names =
      "m.model.layers.0.mlp.gate.weight, m.model.layers.0.mlp.experts.4.gate_proj.weight, m.model.layers.0.mlp.experts.4.up_proj.weight";
    await expect(readCheckpoint(path, trained(), { step: 3 })).rejects.toThrow(
      new CheckpointError(
        `${join(path, "optimizer.safetensors")}: 52 of 138 tensors are missing or of another shape (${names}, ...)`,
        { hint: "the file is of another model: take another checkpoint" },
      ),
    );
  });

  it("whose trainer.json is something else says where", async () => {
    const file = join(path, "trainer.json");
    const state = JSON.parse(readFileSync(file, "utf8"));
    const message = async (value: unknown) => {
      writeFileSync(file, typeof value === "string" ? value : JSON.stringify(value));
      return readTrainerState(path).then(
        () => "no error",
        (error) => (error instanceof CheckpointError ? error.message.replace(file, "FILE") : error),
      );
    };
    expect(await message("{")).toBe("FILE: not valid JSON");
    expect(await message([])).toBe("FILE: (root): [], expected object, received array");
    expect(await message({ ...state, step: -1 })).toBe("FILE: step: -1, expected number to be >=0");
    expect(await message({ ...state, recipe: undefined, more: 1 })).toBe(
      "FILE: 2 faults\n  - recipe: missing, expected object\n  - more: unknown key",
    );
    const sources = [{ name: "a", chunks: 0, taken: 0 }];
    expect(await message({ ...state, cursor: { sequenceLength: 32, sources } })).toBe(
      "FILE: cursor.sources.0.chunks: 0, expected number to be >=1",
    );
    rmSync(file);
    expect(await readTrainerState(path).catch(({ message: text }) => text)).toBe(`${file}: no such file`);
  });
});
