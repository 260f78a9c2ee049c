/**
 * Finds the experts of the quickstart's model that serve code, switches them off, and shows what that costs each kind of
 * text, beside as many experts switched off at random.
 *
 *   npm run quickstart && npm run example:routing
 */
import {
  analyse,
  domainSpecialisation,
  heldOutSequences,
  type InterventionInput,
  lossesUnder,
  memoryTrace,
  OlmoeModel,
  recordTrace,
  type Sequence,
  scoredTokens,
  type TraceChunk,
  traceHeader,
} from "../../src/index.ts";

const RUN = process.argv[2] ?? "runs/quickstart";
const KIND = process.argv[3] ?? "code";
/** Held-out tokens of each kind of text. */
const TOKENS = 8192;
/** An expert is one of the kind's if the kind goes to it so many times as often as the other kinds do. */
const LIFT = 3;
const CONTROLS = 5;

await using model = await OlmoeModel.open(RUN);
const place = { baseDirectory: ".", cacheDirectory: "." };
const options = { ...place, tokenizer: model.tokenizer, context: model.info.context, maxTokens: TOKENS };
const texts: Sequence[] = [];
for await (const sequence of (await heldOutSequences(`${RUN}/data`, options)).sequences) texts.push(sequence);
const kinds = [...new Set(texts.map(({ source }) => source))];

// Where the tokens go: a trace in memory, and the paper's equation 7 of it.
const header = await traceHeader(model, { origin: "score" });
const chunks: TraceChunk[] = [];
let start = 0;
const add = async (
  { source, ...of }: { source: string; sequence: number; position: number },
  rows: { tokens: number },
) => {
  chunks.push({ start, ...rows, runs: [{ ...of, source: kinds.indexOf(source), tokens: rows.tokens }] });
  start += rows.tokens;
};
await recordTrace(model, texts, { header, add });
const [{ domains, uniform }] = await analyse(memoryTrace(header, chunks, { sources: kinds }), [
  domainSpecialisation({ resamples: 0 }),
]);
const own = domains.find(({ name }) => name === KIND);
if (own === undefined) throw new Error(`${KIND}: no such kind of text, expected one of ${kinds.join(", ")}`);
const others = domains.filter((domain) => domain !== own);
const specialists = own.layers.map(({ layer, shares }, index) => {
  const elsewhere = (expert: number) =>
    others.reduce((sum, { layers }) => sum + layers[index]!.shares[expert]!, 0) / others.length;
  const experts = [...shares.keys()].filter((expert) => shares[expert]! > Math.max(LIFT * elsewhere(expert), uniform));
  return { layer, experts };
});
for (const { layer, experts } of specialists) console.log(`layer ${layer}: ${experts.join(", ") || "none"}`);

/** As many others of each layer, the same in each run: every seventh from a place that moves. */
const control = (draw: number) =>
  specialists.map(({ layer, experts }) => {
    const all = Array.from({ length: header.numExperts }, (_, i) => (draw + 3 * layer + 7 * i) % header.numExperts);
    return { layer, experts: all.filter((expert) => !experts.includes(expert)).slice(0, experts.length) };
  });

/** Masks experts, layer by layer. */
const off = (layers: typeof specialists): InterventionInput[] =>
  layers.flatMap(({ layer, experts }) => (experts.length === 0 ? [] : [{ kind: "mask", layers: [layer], experts }]));

/** Nats per token of each kind: as it is, without the specialists, without each of the controls. */
const variants = [[], off(specialists), ...Array.from({ length: CONTROLS }, (_, draw) => off(control(draw)))];
const losses: number[][] = [];
for await (const nats of lossesUnder(model, texts, variants)) {
  const sum = (kind: string, of: (text: Sequence, index: number) => number) =>
    texts.reduce((total, text, index) => total + (text.source === kind ? of(text, index) : 0), 0);
  losses.push(kinds.map((kind) => sum(kind, (_, index) => nats[index]!) / sum(kind, scoredTokens)));
}

const [before, after, ...controls] = losses as [number[], number[], ...number[][]];
const count = specialists.reduce((sum, { experts }) => sum + experts.length, 0);
console.log(`\nnats per token, ${count} of ${own.layers.length * header.numExperts} experts switched off`);
const print = (cells: readonly string[]) =>
  console.log(
    cells
      .map((cell, column) => cell.padEnd(column === 0 ? 10 : 24))
      .join("")
      .trimEnd(),
  );
print(["", "before", `without ${KIND} experts`, "without as many others"]);
for (const [index, kind] of kinds.entries()) {
  const loss = before[index]!;
  const change = (value: number) => `${value.toFixed(3)} (${value < loss ? "" : "+"}${(value - loss).toFixed(3)})`;
  const mean = controls.reduce((sum, one) => sum + one[index]!, 0) / CONTROLS;
  print([kind, loss.toFixed(3), change(after[index]!), change(mean)]);
}
