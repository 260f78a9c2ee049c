/** All about one token: what it is, and in each layer its experts, their weights and what the router thought of all of them. */
import type { TraceChunk } from "../src/formats/trace.ts";
import { css, inkOn, type Rgb } from "./palette.ts";
import { Fault, TokenText } from "./parts.tsx";
import { linkTo, type OpenTrace, usePromise } from "./state.ts";
import { count, percent } from "./text.ts";

async function readToken(open: OpenTrace, token: number): Promise<TraceChunk> {
  for await (const chunk of open.trace.chunks({ start: token, end: token + 1 })) return chunk;
  throw new Error(`trace: token ${token} is not there`);
}

/** One layer's routing of one token. */
export interface LayerRoute {
  readonly layer: number;
  readonly experts: readonly number[];
  readonly weights: readonly number[];
  /** Of all experts, where it was recorded. */
  readonly distribution?: readonly number[] | undefined;
}

/** Logits as the probabilities that they stand for. */
function softmax(logits: Float32Array): Float32Array {
  const most = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const powers = logits.map((value) => Math.exp(value - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((value) => value / sum);
}

function routesOf(open: OpenTrace, chunk: TraceChunk): LayerRoute[] {
  const { layers, slots, numExperts } = open.trace.header;
  return layers.map((layer, index) => {
    const row = (values: ArrayLike<number> | undefined, width: number) =>
      Array.from({ length: values === undefined ? 0 : width }, (_, i) => values![index * width + i]!);
    const chosen = row(chunk.experts, slots);
    const weights = row(chunk.weights, slots);
    const kept = chosen.map((expert, slot) => [expert, weights[slot]!] as const).filter(([expert]) => expert >= 0);
    const all =
      chunk.probabilities ??
      (chunk.logits === undefined
        ? undefined
        : new Float32Array(
            layers.flatMap((_, l) => [...softmax(chunk.logits!.subarray(l * numExperts, (l + 1) * numExperts))]),
          ));
    return {
      layer,
      experts: kept.map(([expert]) => expert),
      weights: kept.map(([, weight]) => weight),
      distribution: all === undefined ? undefined : row(all, numExperts),
    };
  });
}

export function TokenDetail(props: {
  readonly open: OpenTrace;
  readonly token: number;
  readonly layer?: number | undefined;
  readonly title?: string;
}) {
  const { open, token, layer } = props;
  const { value: chunk, fault } = usePromise(() => readToken(open, token), [open, token]);
  if (fault !== undefined) return <Fault message={fault} />;
  // While the next one is read the last one stays, so that nothing flickers.
  if (chunk === undefined) return <p class="soft">Reading …</p>;
  const id = chunk.ids![0]!;
  const run = chunk.runs[0]!;
  const predicted = chunk.predicted?.[0];
  const logprob = chunk.logprobs?.[0];
  return (
    <>
      <h3 class="token-title">
        <TokenText text={open.text(id)} most={120} />
      </h3>
      <dl class="facts">
        <Fact name="token" value={count(chunk.start)} />
        <Fact name="id" value={String(id)} />
        <Fact name="sequence" value={count(run.sequence)} />
        <Fact name="position" value={count(run.position)} />
        {open.trace.sources.length > 1 ? <Fact name="source" value={open.trace.sources[run.source] ?? "–"} /> : null}
        {predicted === undefined ? null : <Fact name="predicted next" value={open.text(predicted)} />}
        {logprob === undefined || Number.isNaN(logprob) ? null : (
          <Fact name="next token's probability" value={percent(Math.exp(logprob))} />
        )}
      </dl>
      <Routes routes={routesOf(open, chunk)} colours={open.colours} chosen={layer} linked />
    </>
  );
}

function Fact({ name, value }: { readonly name: string; readonly value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>
        <TokenText text={value} most={40} />
      </dd>
    </div>
  );
}

/** Layers below each other, each with a bar of its experts and, where it is known, the router's distribution. */
export function Routes(props: {
  readonly routes: readonly LayerRoute[];
  readonly colours: readonly Rgb[];
  /** Index of the layer that is looked at. */
  readonly chosen?: number | undefined;
  /** Experts lead to their pages. */
  readonly linked?: boolean;
}) {
  const { routes, colours, chosen, linked = false } = props;
  const most = Math.max(1e-9, ...routes.map(({ weights }) => weights.reduce((a, b) => a + b, 0)));
  return (
    <ol class="routes" aria-label="Experts of each layer">
      {routes.map((route, index) => (
        <li key={route.layer} class={index === chosen ? "route chosen" : "route"}>
          <span class="route-layer">
            <span class="unseen">layer </span>
            {route.layer}
          </span>
          <div class="route-body">
            <div class="route-bar">
              {route.experts.map((expert, slot) => (
                <Slot
                  key={expert}
                  {...{ expert, colours, index, linked }}
                  weight={route.weights[slot]!}
                  width={(100 * Math.max(0, route.weights[slot]!)) / most}
                />
              ))}
              {route.experts.length === 0 ? <span class="soft">no expert</span> : null}
            </div>
            {route.distribution === undefined ? null : (
              <Distribution values={route.distribution} chosen={route.experts} colours={colours} />
            )}
          </div>
        </li>
      ))}
    </ol>
  );
}

function Slot(props: {
  readonly expert: number;
  readonly weight: number;
  readonly width: number;
  readonly colours: readonly Rgb[];
  readonly index: number;
  readonly linked: boolean;
}) {
  const { expert, weight, width, colours, index, linked } = props;
  const colour = colours[expert] ?? [128, 128, 128];
  const style = { width: `${width}%`, background: css(colour), color: css(inkOn(colour)) };
  const title = `expert ${expert}, weight ${weight.toFixed(3)}`;
  const text = width > 7 ? expert : "";
  if (!linked) {
    return (
      <span class="slot" style={style} title={title}>
        {text}
      </span>
    );
  }
  return (
    <a
      class="slot"
      style={style}
      title={title}
      aria-label={title}
      href={linkTo({ view: "experts", layer: index, expert })}
    >
      {text}
    </a>
  );
}

function Distribution(props: {
  readonly values: readonly number[];
  readonly chosen: readonly number[];
  readonly colours: readonly Rgb[];
}) {
  const { values, chosen, colours } = props;
  const most = Math.max(1e-9, ...values);
  const best = values.indexOf(most);
  return (
    <svg
      class="distribution"
      viewBox={`0 0 ${values.length} 10`}
      preserveAspectRatio="none"
      role="img"
      aria-label={`router probabilities, largest ${percent(most)} of expert ${best}`}
    >
      {values.map((value, expert) => (
        <rect
          key={expert}
          x={expert + 0.1}
          width={0.8}
          y={10 - (9.5 * value) / most}
          height={(9.5 * value) / most + 0.2}
          fill={chosen.includes(expert) ? css(colours[expert] ?? [128, 128, 128]) : "var(--faint)"}
        />
      ))}
    </svg>
  );
}
