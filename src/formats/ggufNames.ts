/**
 * Tensors of GGUF's architecture "olmoe". Nothing is permuted; the experts of a layer are stacked on a new outermost axis.
 * Source: llama.cpp, src/models/olmoe.cpp and its conversion script.
 */
import type { ModelConfig } from "../config/model.ts";
import { type LaidTensor, laid, sliceShapes } from "./layout.ts";

/** GGUF's names within a layer and Hugging Face's, in the order in which llama.cpp's converter writes them. */
const BLOCK: readonly (readonly [gguf: string, huggingFace: string])[] = [
  ["attn_norm", "input_layernorm"],
  ["ffn_down_exps", "mlp.experts.*.down_proj"],
  ["ffn_gate_exps", "mlp.experts.*.gate_proj"],
  ["ffn_up_exps", "mlp.experts.*.up_proj"],
  ["ffn_gate_inp", "mlp.gate"],
  ["ffn_norm", "post_attention_layernorm"],
  ["attn_k_norm", "self_attn.k_norm"],
  ["attn_k", "self_attn.k_proj"],
  ["attn_output", "self_attn.o_proj"],
  ["attn_q_norm", "self_attn.q_norm"],
  ["attn_q", "self_attn.q_proj"],
  ["attn_v", "self_attn.v_proj"],
];

/** The input matrix, which has a row for each id. */
export const EMBEDDING = "token_embd.weight";
/** The output matrix; absent where it is the input matrix. */
export const OUTPUT = "output.weight";

/**
 * The tensors of a model, in the order in which llama.cpp's converter writes them.
 * @param config one that GGUF can hold (ggufConfig.ts).
 */
export function ggufLayout(config: ModelConfig): LaidTensor[] {
  const shapes = sliceShapes(config);
  const tensors = config.tieWordEmbeddings ? [] : [laid(OUTPUT, "lm_head.weight", shapes)];
  tensors.push(laid(EMBEDDING, "model.embed_tokens.weight", shapes));
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    for (const [gguf, huggingFace] of BLOCK) {
      const name = `blk.${layer}.${gguf}.weight`;
      const slice = `model.layers.${layer}.${huggingFace}.weight`;
      tensors.push(slice.includes("*") ? stacked(name, slice, config.numExperts, shapes) : laid(name, slice, shapes));
    }
  }
  tensors.push(laid("output_norm.weight", "model.norm.weight", shapes));
  return tensors;
}

function stacked(
  name: string,
  pattern: string,
  experts: number,
  shapes: ReadonlyMap<string, readonly number[]>,
): LaidTensor {
  const names = Array.from({ length: experts }, (_, expert) => pattern.replace("*", String(expert)));
  const shape = shapes.get(names[0] as string) as readonly number[];
  return { name, shape: [experts, ...shape], slices: names.map((name) => ({ name, shape, transposed: false })) };
}
