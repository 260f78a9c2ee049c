/** What the routing traces of a run say: whether experts know the kinds of text, and when routing settled. */
import type { Trace } from "../formats/trace.ts";
import { lineChart } from "../report/charts.ts";
import type { Block } from "../report/html.ts";
import { analyse } from "../routing/analysis.ts";
import { type SpecialisationTest, specialisationTest } from "../routing/domains.ts";
import { routerSaturation, type SaturationResult } from "../routing/saturation.ts";

export interface RunRouting {
  /** Undefined where there is one kind of text only. */
  readonly test: SpecialisationTest | undefined;
  /** Undefined where there is one trace only. */
  readonly saturation: SaturationResult | undefined;
}

/** @param traces of the same held-out tokens, the newest last; at least one. */
export async function runRouting(
  traces: readonly Trace[],
  { seed, signal }: { readonly seed: number; readonly signal?: AbortSignal | undefined },
): Promise<RunRouting> {
  const newest = traces.at(-1);
  if (newest === undefined) throw new Error("internal: no traces");
  // All slots: where experts choose their tokens, the first few are not the most probable.
  const k = newest.header.slots;
  const test =
    newest.sources.length < 2 ? undefined : (await analyse(newest, [specialisationTest({ k, seed })], { signal }))[0];
  const named = traces.map((trace) => ({ name: `step ${trace.header.step}`, trace }));
  const saturation = traces.length < 2 ? undefined : await routerSaturation(named, { seed, signal });
  return { test, saturation };
}

const nats = (value: number) => value.toFixed(4);

/** The test of specialisation in a sentence. */
export function describeTest({ mean, shuffles, domains }: SpecialisationTest): string {
  const p =
    mean.p <= 1 / (1 + shuffles) ? `p < ${(2 / (1 + shuffles)).toPrecision(1)}` : `p = ${mean.p.toPrecision(2)}`;
  const verdict =
    mean.information > mean.shuffledHigh
      ? "experts know the kind of text"
      : "no sign that experts know the kind of text";
  return (
    `${verdict}: an expert tells ${nats(mean.information)} nats about which of ${domains.length} it is ` +
    `(with shuffled labels ${nats(mean.shuffledMean)}, 95 % below ${nats(mean.shuffledHigh)}; ${p})`
  );
}

/** The blocks of a report. @param render draws a spec. */
export async function routingBlocks(
  { test, saturation }: RunRouting,
  render: (spec: ReturnType<typeof lineChart>) => Promise<string>,
): Promise<Block[]> {
  const blocks: Block[] = [];
  if (test !== undefined) {
    blocks.push(
      { kind: "text", text: `${describeTest(test)}. ${test.definition}` },
      {
        kind: "table",
        caption: `Nats by layer, of ${test.tokens.toLocaleString("en-US")} held-out tokens; ${test.shuffles.toLocaleString("en-US")} shuffles of whole sequences`,
        columns: ["layer", "measured", "shuffled, mean", "shuffled, 95 %", "p"].map((name, index) => ({
          name,
          align: index === 0 ? ("left" as const) : ("right" as const),
        })),
        rows: test.perLayer.map(({ layer, information, shuffledMean, shuffledHigh, p }) => [
          String(layer),
          ...[information, shuffledMean, shuffledHigh].map(nats),
          p.toPrecision(2),
        ]),
      },
    );
  }
  if (saturation !== undefined) {
    const { layers, checkpoints, random, k } = saturation;
    const spec = lineChart({
      title: "Router saturation",
      subtitle: `share of the final ${k} experts of a token that are chosen at a step (paper, equation 5); at random ${(100 * random).toFixed(1)} %`,
      xTitle: "step",
      yTitle: "share of experts",
      series: layers.map((layer, index) => ({
        name: `layer ${layer}`,
        points: checkpoints.map(({ step = 0, shares }) => [step, shares[index] as number] as const),
      })),
    });
    blocks.push({
      kind: "figure",
      title: "Router saturation",
      caption: saturation.definition,
      svg: await render(spec),
    });
  }
  return blocks;
}
