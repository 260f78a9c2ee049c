/**
 * Finds the experts of the quickstart's model that serve code, switches them off, and shows what that costs each kind of
 * text, beside as many experts switched off at random.
 *
 *   npm run quickstart && npm run example:routing
 */
import { heldOutSequences, type InterventionInput, loadTokenizer, OlmoeModel, type Sequence } from "../../src/index.ts";

const RUN = process.argv[2] ?? "runs/quickstart";
const KIND = process.argv[3] ?? "code";
/** Held-out tokens of each kind of text. */
const TOKENS = 8192;
/** An expert is one of the kind's if the kind goes to it so many times as often as the other kinds do. */
const LIFT = 3;
const CONTROLS = 5;

await using model = await OlmoeModel.open(RUN);
const { config, context } = model.info;
const { numExperts, numExpertsPerTok } = config;
const layers = Array.from({ length: config.numHiddenLayers }, (_, layer) => layer);

const place = { baseDirectory: ".", cacheDirectory: "." };
const { sequences } = await heldOutSequences(`${RUN}/data`, {
  ...place,
  tokenizer: await loadTokenizer(`${RUN}/data`),
  context,
  maxTokens: TOKENS,
});
const texts: Sequence[] = [];
for await (const sequence of sequences) texts.push(sequence);
const kinds = [...new Set(texts.map(({ source }) => source))];

/** Nats per token of each kind, and [kind][layer][expert] shares of its tokens. */
async function measure(interventions: readonly InterventionInput[]) {
  const sums = new Map(kinds.map((kind) => [kind, { nats: 0, targets: 0, tokens: 0, counts: counters() }]));
  const rows = texts.map(({ ids }) => model.trace(ids, { columns: ["logprobs"], interventions }));
  for (const [index, { source }] of texts.entries()) {
    const { tokens, logprobs, experts } = await rows[index]!;
    const sum = sums.get(source)!;
    for (const logprob of logprobs!.subarray(0, tokens - 1)) sum.nats -= logprob;
    sum.targets += tokens - 1;
    sum.tokens += tokens;
    const width = tokens * numExpertsPerTok;
    for (const layer of layers) {
      for (const expert of experts!.subarray(layer * width, (layer + 1) * width)) {
        if (expert >= 0) sum.counts[layer]![expert]! += 1;
      }
    }
  }
  return kinds.map((kind) => {
    const { nats, targets, tokens, counts } = sums.get(kind)!;
    return { kind, loss: nats / targets, shares: counts.map((layer) => layer.map((count) => count / tokens)) };
  });
}

function counters() {
  return layers.map(() => new Float64Array(numExperts));
}

const before = await measure([]);
const own = before.find(({ kind }) => kind === KIND);
if (own === undefined) throw new Error(`${KIND}: no such kind of text, expected one of ${kinds.join(", ")}`);
const others = before.filter(({ kind }) => kind !== KIND);
const specialists = layers.map((layer) =>
  Array.from({ length: numExperts }, (_, expert) => expert).filter((expert) => {
    const elsewhere = others.reduce((sum, { shares }) => sum + shares[layer]![expert]!, 0) / others.length;
    return own.shares[layer]![expert]! > Math.max(LIFT * elsewhere, numExpertsPerTok / numExperts);
  }),
);
for (const [layer, experts] of specialists.entries()) console.log(`layer ${layer}: ${experts.join(", ") || "none"}`);

/** Masks experts, layer by layer. */
const off = (experts: readonly (readonly number[])[]): InterventionInput[] =>
  experts.flatMap((list, layer) => (list.length === 0 ? [] : [{ kind: "mask", layers: [layer], experts: list }]));

/** As many others of each layer, the same in each run: every seventh from a place that moves. */
const control = (draw: number) =>
  specialists.map((list, layer) => {
    const rest = Array.from({ length: numExperts }, (_, index) => (draw + 3 * layer + 7 * index) % numExperts);
    return rest.filter((expert) => !list.includes(expert)).slice(0, list.length);
  });

const after = await measure(off(specialists));
const controls: Awaited<ReturnType<typeof measure>>[] = [];
for (let draw = 0; draw < CONTROLS; draw++) controls.push(await measure(off(control(draw))));

const count = specialists.reduce((sum, list) => sum + list.length, 0);
console.log(`\nnats per token, ${count} of ${layers.length * numExperts} experts switched off`);
const print = (cells: readonly string[]) =>
  console.log(cells.map((cell, column) => cell.padEnd(column === 0 ? 10 : 24)).join(""));
print(["", "before", `without ${KIND} experts`, "without as many others"]);
for (const [index, { kind, loss }] of before.entries()) {
  const mean = controls.reduce((sum, one) => sum + one[index]!.loss, 0) / CONTROLS;
  const change = (value: number) => `${value.toFixed(3)} (${value < loss ? "" : "+"}${(value - loss).toFixed(3)})`;
  print([kind, loss.toFixed(3), change(after[index]!.loss), change(mean)]);
}
