/**
 * A decoder in plain loops of f64 over the tensors of a checkpoint, for clarity only: what the fast one is compared with.
 * It follows the description of the model, not the code of src/model.
 */
import type { ModelConfig } from "../src/config/model.ts";

type Vector = readonly number[];
/** Values of a checkpoint's tensor, row by row. */
export type Tensors = ReadonlyMap<string, Float32Array>;

const range = (count: number) => Array.from({ length: count }, (_, index) => index);
const sum = (values: Vector) => values.reduce((total, value) => total + value, 0);
const plus = (a: Vector, b: Vector): Vector => a.map((value, index) => value + (b[index] as number));
const softmax = (scores: Vector): Vector => {
  const most = Math.max(...scores);
  const powers = scores.map((score) => Math.exp(score - most));
  return powers.map((power) => power / sum(powers));
};

class Oracle {
  readonly #config: ModelConfig;
  readonly #tensors: Tensors;

  constructor(config: ModelConfig, tensors: Tensors) {
    this.#config = config;
    this.#tensors = tensors;
  }

  tensor(name: string): Vector {
    const values = this.#tensors.get(name);
    if (values === undefined) throw new Error(`no tensor ${name}`);
    return [...values];
  }

  /** W x, with as many rows as there are. */
  product(name: string, x: Vector): Vector {
    const weight = this.tensor(name);
    return range(weight.length / x.length).map((row) =>
      sum(x.map((value, i) => value * (weight[row * x.length + i] as number))),
    );
  }

  norm(name: string, x: Vector): Vector {
    const { normType, rmsNormEps } = this.#config;
    const mean = normType === "rmsnorm" ? 0 : sum(x) / x.length;
    const variance = sum(x.map((value) => (value - mean) ** 2)) / x.length;
    const unit = x.map((value) => (value - mean) / Math.sqrt(variance + rmsNormEps));
    if (normType === "layernorm_nonparametric") return unit;
    const weight = this.tensor(`${name}.weight`);
    const bias = normType === "layernorm" ? this.tensor(`${name}.bias`) : unit.map(() => 0);
    return unit.map((value, i) => value * (weight[i] as number) + (bias[i] as number));
  }

  clip(x: Vector): Vector {
    const limit = this.#config.clipQkv ?? Number.POSITIVE_INFINITY;
    return x.map((value) => Math.min(Math.max(value, -limit), limit));
  }

  heads(x: Vector): Vector[] {
    const channels = this.#config.hiddenSize / this.#config.numAttentionHeads;
    return range(x.length / channels).map((head) => x.slice(head * channels, (head + 1) * channels));
  }

  rotate(head: Vector, position: number): Vector {
    const half = head.length / 2;
    return head.map((value, i) => {
      const angle = position * this.#config.ropeTheta ** (-(i % half) / half);
      const partner = i < half ? -(head[i + half] as number) : (head[i - half] as number);
      return value * Math.cos(angle) + partner * Math.sin(angle);
    });
  }

  /** Heads of q or k, ready for the scores. */
  prepared(attention: string, part: "q" | "k", x: Vector, position: number): Vector[] {
    const { qkNorm, clipQkvPlacement } = this.#config;
    const projected = this.product(`${attention}.${part}_proj.weight`, x);
    const name = `${attention}.${part}_norm`;
    const norm = (value: Vector): Vector => {
      if (qkNorm === "none") return value;
      return qkNorm === "full" ? this.norm(name, value) : this.heads(value).flatMap((head) => this.norm(name, head));
    };
    const both = clipQkvPlacement === "before_norm" ? norm(this.clip(projected)) : this.clip(norm(projected));
    return this.heads(both).map((head) => this.rotate(head, position));
  }

  attention(name: string, xs: readonly Vector[]): Vector[] {
    const { numAttentionHeads, numKeyValueHeads } = this.#config;
    const q = xs.map((x, position) => this.prepared(name, "q", x, position));
    const k = xs.map((x, position) => this.prepared(name, "k", x, position));
    const v = xs.map((x) => this.heads(this.clip(this.product(`${name}.v_proj.weight`, x))));
    return xs.map((_, t) => {
      const mixed = range(numAttentionHeads).flatMap((head) => {
        const kv = Math.floor((head * numKeyValueHeads) / numAttentionHeads);
        const query = q[t]?.[head] as Vector;
        const scores = range(t + 1).map((s) => {
          return sum(query.map((value, i) => value * (k[s]?.[kv]?.[i] as number))) / Math.sqrt(query.length);
        });
        const weights = softmax(scores);
        return query.map((_value, i) => sum(weights.map((weight, s) => weight * (v[s]?.[kv]?.[i] as number))));
      });
      return this.product(`${name}.o_proj.weight`, mixed);
    });
  }

  swiglu(name: string, x: Vector): Vector {
    const gate = this.product(`${name}.gate_proj.weight`, x);
    const up = this.product(`${name}.up_proj.weight`, x);
    return this.product(
      `${name}.down_proj.weight`,
      gate.map((z, i) => (z / (1 + Math.exp(-z))) * (up[i] as number)),
    );
  }

  mlp(layer: number, x: Vector): Vector {
    const { mlpType, decoderSparseStep, layerSharedMoe, numSharedExperts, numExpertsPerTok, normTopkProb } =
      this.#config;
    const own = `model.layers.${layer}.mlp`;
    if (mlpType === "dense") return this.swiglu(`${own}.experts.0`, x);
    if ((layer + 1) % decoderSparseStep !== 0) return this.swiglu(own, x);
    const experts = layerSharedMoe === "none" ? own : "model.mlp";
    const probs = softmax(this.product(`${layerSharedMoe === "moe" ? "model.mlp" : own}.gate.weight`, x));
    const chosen = range(probs.length)
      .sort((a, b) => (probs[b] as number) - (probs[a] as number))
      .slice(0, numExpertsPerTok);
    const total = normTopkProb ? sum(chosen.map((e) => probs[e] as number)) : 1;
    const outputs: Vector[] = chosen.map((e) => {
      return this.swiglu(`${experts}.experts.${e}`, x).map((value) => (value * (probs[e] as number)) / total);
    });
    if (numSharedExperts > 0) outputs.push(this.swiglu(`${experts}.shared_experts`, x));
    return outputs.reduce(plus);
  }

  logits(ids: Vector): Vector {
    const { hiddenSize, numHiddenLayers, tieWordEmbeddings } = this.#config;
    const table = this.tensor("model.embed_tokens.weight");
    let stream: Vector[] = ids.map((id) => table.slice(id * hiddenSize, (id + 1) * hiddenSize));
    for (const layer of range(numHiddenLayers)) {
      const name = `model.layers.${layer}`;
      const attended = this.attention(
        `${name}.self_attn`,
        stream.map((x) => this.norm(`${name}.input_layernorm`, x)),
      );
      stream = stream.map((x, t) => plus(x, attended[t] as Vector));
      stream = stream.map((x) => plus(x, this.mlp(layer, this.norm(`${name}.post_attention_layernorm`, x))));
    }
    const output = tieWordEmbeddings ? "model.embed_tokens.weight" : "lm_head.weight";
    return stream.flatMap((x) => this.product(output, this.norm("model.norm", x)));
  }
}

/** Logits [T, V] of one sequence. */
export function oracleLogits(config: ModelConfig, tensors: Tensors, ids: readonly number[]): number[] {
  return [...new Oracle(config, tensors).logits(ids)];
}
