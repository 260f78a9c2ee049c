import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { createReferenceBackend } from "../../src/backend/reference/backend.ts";
import { type TensorToWrite, writeSafetensors } from "../../src/formats/io.ts";
import { openModel } from "../../src/formats/model.io.ts";
import { inspectForward } from "../../src/infer/inspect.ts";
import { readTensors } from "../parity/fixtures.ts";
import { olmoe, temporaryFolder, writeTinyModel } from "./harness.ts";

const folder = await temporaryFolder();
await writeTinyModel(folder);
const [input, out] = [join(folder, "in.safetensors"), join(folder, "out.safetensors")];
const inputIds = Int32Array.of(5, 9, 200, 41, 7, 7);
const ids = (name: string, data: ArrayLike<number>, shape = [2, 3]): TensorToWrite => ({
  name,
  shape,
  dtype: "I32",
  data: Int32Array.from(data),
});
const forward = (...more: string[]) =>
  olmoe(["forward", folder, "--input", input, "--out", out, "--backend", "reference", ...more]);

describe("olmoe forward", () => {
  it("writes all that a pass gives, under its names", async () => {
    await writeSafetensors(input, [ids("input_ids", inputIds), ids("labels", inputIds), ids("extra", [1], [1])]);
    const { code, stdout, stderr } = await forward("--grads");
    const backend = createReferenceBackend();
    const decoder = await openModel(folder, backend, { trainable: true });
    const results = inspectForward(backend, decoder, {
      batch: 2,
      inputIds,
      labels: inputIds,
      gradients: true,
    });
    const written = await readTensors(out);
    expect([...written.names].sort()).toEqual(results.map(({ name }) => name).sort());
    for (const { name, shape, data } of results) {
      expect(written.shape(name)).toEqual(shape);
      expect(data instanceof Int32Array ? written.i32(name) : written.f32(name)).toEqual(data);
    }
    const loss = (name: string) => results.find((result) => result.name === name)?.data[0]?.toFixed(6);
    expect({ code, stdout, stderr }).toEqual({
      code: 0,
      stdout:
        `wrote       ${out}: ${results.length} tensors of 2 x 3 tokens\n` +
        `loss.ce     ${loss("loss.ce")}\nloss.aux    ${loss("loss.aux")}\nloss.total  ${loss("loss.total")}\n`,
      stderr: "reference typescript, 1 thread\nnot used: extra\n",
    });
  });

  it.each([
    ["no tensor", [ids("ids", inputIds)], [], `${input}: no tensor "input_ids"`],
    [
      "one axis",
      [ids("input_ids", inputIds, [6])],
      [],
      `${input}: input_ids is [6], expected [B, S] with at least one token`,
    ],
    [
      "no tokens",
      [ids("input_ids", [], [2, 0])],
      [],
      `${input}: input_ids is [2, 0], expected [B, S] with at least one token`,
    ],
    [
      "another shape",
      [ids("input_ids", inputIds), ids("labels", [1], [1, 1])],
      [],
      `${input}: labels is [1, 1], input_ids [2, 3]`,
    ],
    [
      "a wrong mask",
      [ids("input_ids", inputIds), ids("attention_mask", [1, 1, 1, 1, 2, 1])],
      [],
      `${input}: attention_mask: element 4 is 2, expected 0 or 1`,
    ],
    [
      "a negative position",
      [ids("input_ids", inputIds), ids("position_ids", [0, 1, 2, -1, 0, 1])],
      [],
      `${input}: position_ids: element 3 is -1, expected 0 or more`,
    ],
    [
      "an id outside",
      [ids("input_ids", [1, 2, 3, 4, 5, 280])],
      [],
      "embedding: id 280 at position 5 is outside 0..279",
    ],
    [
      "gradients without labels",
      [ids("input_ids", inputIds)],
      ["--grads"],
      `${input}: no tensor "labels", which gradients need\nhint: add labels to the input, or leave --grads out`,
    ],
  ])("refuses an input with %s", async (_, tensors, more, message) => {
    await writeSafetensors(input, tensors);
    expect(await forward(...more)).toEqual({ code: 1, stdout: "", stderr: `olmoe: ${message}\n` });
  });
});
