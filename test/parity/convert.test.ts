/** Conversion against llama.cpp's converter, and there and back. Reference values: parity/gguf, parity/olmoe. */
import { mkdir, mkdtemp, readFile, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Graph } from "../../src/autograd/graph.ts";
import { openBackend } from "../../src/backend/io.ts";
import { convertModel } from "../../src/formats/convert.io.ts";
import { GgufFile } from "../../src/formats/gguf.io.ts";
import { SafetensorsFile } from "../../src/formats/io.ts";
import { openModel } from "../../src/formats/model.io.ts";
import { decodeOlmoName } from "../../src/formats/olmo.ts";
import { Arena } from "../../src/tensor/arena.ts";
import { parityPath, parityPresent, readTensors } from "./fixtures.ts";

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "olmoe-convert-"));
});
afterAll(() => rm(root, { recursive: true }));

const bytesOf = (path: string) => readFile(path);

// The reference values lie beside the repository and may be absent.
describe.skipIf(!parityPresent)("olmoe convert", () => {
  it.each(["f32", "f16", "bf16"] as const)("writes the very file of llama.cpp's converter as %s", async (type) => {
    // The converter was told this name; it is the folder's otherwise.
    const folder = join(root, type);
    await mkdir(folder);
    const named = join(folder, "tiny-olmoe-narrow");
    await symlink(parityPath("gguf/narrow/hf"), named);
    const out = join(root, `${type}.gguf`);
    await convertModel(named, out, { type });
    expect((await bytesOf(out)).equals(await bytesOf(parityPath(`gguf/narrow/tiny-${type}.gguf`)))).toBe(true);
  });

  it.each(["narrow", "wide"])("gives the %s folder's weights back from GGUF, split or not", async (name) => {
    const [folder, plain] = [parityPath(`gguf/${name}/hf`), join(root, `${name}.gguf`)];
    const original = await bytesOf(join(folder, "model.safetensors"));
    await convertModel(folder, plain);
    const { paths } = await convertModel(folder, join(root, `${name}-split.gguf`), { maxShardBytes: 1_000_000 });
    expect(paths.length).toBe(name === "narrow" ? 2 : 8);
    for (const [index, input] of [plain, paths[1] as string].entries()) {
      const back = join(root, `${name}-back-${index}`);
      await convertModel(input, back);
      expect((await bytesOf(join(back, "model.safetensors"))).equals(original)).toBe(true);
      expect(JSON.parse(await readFile(join(back, "config.json"), "utf8"))).toMatchObject({
        model_type: "olmoe",
        eos_token_id: 503,
        pad_token_id: 1,
        rms_norm_eps: 1e-5,
        torch_dtype: name === "narrow" ? "float32" : "bfloat16",
      });
    }
  });

  it("gives the weights back from OLMo's checkpoint, whose tensors have OLMo's names and shapes", async () => {
    const folder = parityPath("gguf/wide/hf");
    await convertModel(folder, join(root, "olmo"), { to: "olmo" });
    const file = await SafetensorsFile.open(join(root, "olmo", "model.safetensors"));
    await file.close();
    const shapes = [...file.tensors].map(([name, { dtype, shape }]) => [decodeOlmoName(name), dtype, ...shape]);
    expect(shapes.filter(([name]) => !String(name).includes("blocks.1")).sort()).toEqual([
      ["transformer.blocks.0.att_proj.weight", "BF16", 768, 256],
      ["transformer.blocks.0.attn_norm.weight", "BF16", 256],
      ["transformer.blocks.0.attn_out.weight", "BF16", 256, 256],
      ["transformer.blocks.0.ff_norm.weight", "BF16", 256],
      ["transformer.blocks.0.ffn.experts.mlp.v1", "BF16", 1024, 256],
      ["transformer.blocks.0.ffn.experts.mlp.w1", "BF16", 1024, 256],
      ["transformer.blocks.0.ffn.experts.mlp.w2", "BF16", 1024, 256],
      ["transformer.blocks.0.ffn.router.layer.weight", "BF16", 4, 256],
      ["transformer.blocks.0.k_norm.weight", "BF16", 256],
      ["transformer.blocks.0.q_norm.weight", "BF16", 256],
      ["transformer.ff_out.weight", "BF16", 512, 256],
      ["transformer.ln_f.weight", "BF16", 256],
      ["transformer.wte.weight", "BF16", 512, 256],
    ]);
    await convertModel(join(root, "olmo"), join(root, "from-olmo"));
    const [back, original] = await Promise.all(
      [join(root, "from-olmo"), folder].map((path) => bytesOf(join(path, "model.safetensors"))),
    );
    expect(back?.equals(original as Buffer)).toBe(true);
  });

  it("reads sharded and fused folders as the plain one", async () => {
    const plain = join(root, "plain.gguf");
    await convertModel(parityPath("olmoe/wide"), plain);
    const expected = await bytesOf(parityPath("olmoe/normtopk/model.safetensors"));
    for (const layout of ["sharded", "fused"]) {
      await convertModel(parityPath(`olmoe/normtopk/layouts/${layout}`), join(root, layout));
      expect((await bytesOf(join(root, layout, "model.safetensors"))).equals(expected)).toBe(true);
    }
    const { tensors, metadata } = await GgufFile.open(plain);
    expect([tensors.size, metadata.get("olmoe.rope.freq_base")?.value]).toEqual([39, 500]);
  });

  it("copies quantised blocks as they are, and refuses what it can not hold", async () => {
    const original = parityPath("gguf/wide/tiny-Q4_K_M.gguf");
    await convertModel(original, join(root, "parts.gguf"), { maxShardBytes: 500_000 });
    await convertModel(join(root, "parts-00002-of-00004.gguf"), join(root, "joined.gguf"));
    expect((await bytesOf(join(root, "joined.gguf"))).equals(await bytesOf(original))).toBe(true);
    await expect(convertModel(parityPath("olmoe/clipqkv"), join(root, "x.gguf"))).rejects.toThrow(
      'gguf: the architecture "olmoe" has no place for clipQkv 0.7',
    );
    await expect(convertModel(parityPath("olmoe/normtopk"), join(root, "x.gguf"))).rejects.toThrow(
      'gguf: the architecture "olmoe" has no place for normTopkProb true',
    );
  });

  it("decodes quantised weights to what llama.cpp's own decoder gives", async () => {
    const notices: string[] = [];
    const backend = await openBackend({ threads: 1 });
    const input = parityPath("gguf/narrow/tiny-Q8_0.gguf");
    const out = join(root, "decoded");
    await convertModel(input, out, {
      openBackend: async () => backend,
      onNotice: (message) => notices.push(message),
    });
    expect(notices).toEqual([
      `${input}: quantised weights (Q8_0) are decoded to f32; what quantising lost is not restored`,
    ]);
    const [decoder, ids] = [await openModel(out, backend), await expectedPrompt("narrow")];
    const graph = new Graph(backend, new Arena(backend), { record: false });
    const logits = decoder.logits(graph, decoder.forward(graph, ids, { batch: 1 }).hidden).value;
    const expected = (await readTensors(parityPath("gguf/narrow/logits.safetensors"))).f32("Q8_0.dequantised");
    expect(logits.data).toBeAllClose(expected, { atol: 1e-4, rtol: 0 });
  });
});

async function expectedPrompt(name: string): Promise<number[]> {
  return JSON.parse(await readFile(parityPath(`gguf/${name}/expected.json`), "utf8")).prompt_ids;
}
