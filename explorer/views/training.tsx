/** A training run while it trains: loss, how evenly tokens are spread, experts that nothing reaches. */
import { useEffect, useState } from "preact/hooks";
import { thinned } from "../../src/experiments/thin.ts";
import { type LineSeries, lineChart } from "../../src/report/charts.ts";
import type { EvalMetrics, Metrics, TrainMetrics } from "../../src/train/metrics.io.ts";
import { readLines } from "../ndjson.ts";
import { Chart, Fault, Section } from "../parts.tsx";
import type { Served } from "../state.ts";
import { count, label } from "../text.ts";

/** Charts are drawn again at most this often while the run goes on. */
const REDRAW_MS = 1000;

function useMetrics(): { readonly metrics: readonly Metrics[]; readonly fault?: string } {
  const [state, setState] = useState<{ metrics: readonly Metrics[]; fault?: string }>({ metrics: [] });
  useEffect(() => {
    const controller = new AbortController();
    let all: Metrics[] = [];
    let timer: ReturnType<typeof setTimeout> | undefined;
    const show = () => {
      timer ??= setTimeout(
        () => {
          timer = undefined;
          setState({ metrics: [...all] });
        },
        all.length === 0 ? 0 : REDRAW_MS,
      );
    };
    fetch("api/run", { signal: controller.signal })
      .then((response) =>
        readLines(response, ({ metrics, restart }) => {
          if (restart === true) all = [];
          else {
            const first = all.length === 0;
            all.push(...(metrics as Metrics[]));
            if (first) setState({ metrics: [...all] });
          }
          show();
        }),
      )
      .catch((error: Error) => {
        if (!controller.signal.aborted)
          setState({ metrics: all, fault: `${error.message}; is olmoe explore still running?` });
      });
    return () => {
      controller.abort();
      clearTimeout(timer);
    };
  }, []);
  return state;
}

export function TrainingView({ run }: { readonly run: NonNullable<Served["run"]> }) {
  const { metrics, fault } = useMetrics();
  const steps = metrics.filter((line): line is TrainMetrics => line.type === "train");
  const evaluations = metrics.filter((line): line is EvalMetrics => line.type === "eval");
  const last = steps.at(-1);
  return (
    <div class="training">
      <header class="expert-head">
        <h1>
          <bdi>{label(run.name, 80)}</bdi>
        </h1>
      </header>
      {fault === undefined ? null : <Fault message={fault} />}
      {last === undefined ? (
        <p class="soft">The run has no steps yet; they appear here as they come.</p>
      ) : (
        <>
          <Figures {...{ last, evaluations }} />
          <div class="columns wide">
            <Section title="Loss">
              <LossChart {...{ steps, evaluations }} />
            </Section>
            <Section title="Load entropy of each layer">
              <LayerChart {...{ steps }} of={({ load_entropy }) => load_entropy} yTitle="1 is perfect balance" />
            </Section>
            <Section title="Largest share of an expert">
              <LayerChart
                {...{ steps }}
                of={({ largest_load_share }) => largest_load_share}
                yTitle="share of a layer's slots"
              />
            </Section>
            <Section title="Experts without a token">
              <LayerChart {...{ steps }} of={({ dead_experts }) => dead_experts} yTitle="experts in a step" />
            </Section>
            <Section title="Speed">
              <Lines
                title="Tokens a second"
                yTitle="tokens/s"
                series={[{ name: "speed", points: pointsOf(steps, ({ tokens_per_sec }) => tokens_per_sec) }]}
              />
            </Section>
            <Section title="Layers now">
              <LayerTable last={last} />
            </Section>
          </div>
        </>
      )}
    </div>
  );
}

const pointsOf = (steps: readonly TrainMetrics[], of: (step: TrainMetrics) => number) =>
  thinned(steps.map((step) => [step.tokens, of(step)] as const));

function Lines({
  title,
  yTitle,
  series,
}: {
  readonly title: string;
  readonly yTitle: string;
  readonly series: readonly LineSeries[];
}) {
  const { title: _, ...spec } = lineChart({ title, xTitle: "tokens", yTitle, series }) as ReturnType<
    typeof lineChart
  > & {
    title?: unknown;
  };
  return <Chart title={title} spec={{ ...spec, height: 210 } as ReturnType<typeof lineChart>} />;
}

function LossChart({
  steps,
  evaluations,
}: {
  readonly steps: readonly TrainMetrics[];
  readonly evaluations: readonly EvalMetrics[];
}) {
  const heldOut = evaluations.map(({ tokens, nats_per_token }): [number, number] => [tokens, nats_per_token]);
  const series = [
    { name: "training", points: pointsOf(steps, ({ cross_entropy }) => cross_entropy) },
    ...(heldOut.length === 0 ? [] : [{ name: "held-out", points: heldOut }]),
  ];
  return <Lines title="Loss in training and on held-out text" yTitle="nats a token" series={series} />;
}

/** Most layers that are drawn as lines of their own. */
const MOST_LINES = 6;

function LayerChart(props: {
  readonly steps: readonly TrainMetrics[];
  readonly of: (step: TrainMetrics) => readonly number[];
  readonly yTitle: string;
}) {
  const { steps, of, yTitle } = props;
  const layers = of(steps[0]!).length;
  const chosen = layers <= MOST_LINES ? Array.from({ length: layers }, (_, i) => i) : spread(layers, MOST_LINES);
  const series = chosen.map((layer) => ({
    name: `layer ${layer}`,
    points: pointsOf(steps, (step) => of(step)[layer]!),
  }));
  return <Lines title={yTitle} yTitle={yTitle} series={series} />;
}

const spread = (of: number, wanted: number) =>
  Array.from({ length: wanted }, (_, index) => Math.round((index * (of - 1)) / (wanted - 1)));

function Figures({ last, evaluations }: { readonly last: TrainMetrics; readonly evaluations: readonly EvalMetrics[] }) {
  const heldOut = evaluations.at(-1);
  const dead = last.dead_experts.reduce((a, b) => a + b, 0);
  const figures: readonly (readonly [string, string])[] = [
    [count(last.step), "steps"],
    [count(last.tokens), "tokens"],
    [last.cross_entropy.toFixed(3), "nats a token in training"],
    ...(heldOut === undefined ? [] : [[heldOut.nats_per_token.toFixed(3), "on held-out text"] as const]),
    [count(dead), "experts without a token in the last step"],
    [count(Math.round(last.tokens_per_sec)), "tokens a second"],
  ];
  return (
    <dl class="numbers">
      {figures.map(([value, name]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function LayerTable({ last }: { readonly last: TrainMetrics }) {
  return (
    <div class="scroll">
      <table>
        <thead>
          <tr>
            <th scope="col">layer</th>
            <th scope="col" class="number">
              entropy
            </th>
            <th scope="col" class="number">
              largest share
            </th>
            <th scope="col" class="number">
              without a token
            </th>
          </tr>
        </thead>
        <tbody>
          {last.load_entropy.map((entropy, layer) => (
            <tr key={layer}>
              <th scope="row">{layer}</th>
              <td class="number">{entropy.toFixed(3)}</td>
              <td class="number">{(100 * last.largest_load_share[layer]!).toFixed(1)} %</td>
              <td class="number">{last.dead_experts[layer]}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
