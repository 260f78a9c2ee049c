/** Two traces side by side: what differs keeps its colour, what is the same pales. With checkpoints, how routing settled. */
import { useMemo } from "preact/hooks";
import { BlockCache, readBlock } from "../blocks.ts";
import { type Analysed, startCounting } from "../jobs.ts";
import type { Window } from "../layout.ts";
import { Fault, OpenTraces, Progress, Section, Select, ShareBar, traceOptions, useSize } from "../parts.tsx";
import { sliceTrace } from "../slice.ts";
import { go, type OpenTrace, route, Store, traces, useCounting, useStore } from "../state.ts";
import type { Comparison, SequenceFacts } from "../statistics.ts";
import { count, label, percent } from "../text.ts";
import { TokenDetail } from "../tokenDetail.tsx";
import { TokenMap, ZoomButtons } from "../tokenMap.tsx";
import { Figures } from "./analyses.tsx";

/** A trace or one of its sequences. */
interface Side {
  readonly open: OpenTrace;
  readonly start: number;
  readonly tokens: number;
}

function sideOf(open: OpenTrace, sequences: readonly SequenceFacts[], sequence: number | undefined): Side {
  const found = sequence === undefined ? undefined : sequences.find((facts) => facts.sequence === sequence);
  return found === undefined
    ? { open, start: 0, tokens: open.trace.tokens }
    : { open, start: found.start, tokens: found.tokens };
}

/** A part for the map: without counts, which are of whole traces. */
function sliceOpen(open: OpenTrace, start: number, tokens: number): OpenTrace {
  if (start === 0 && tokens === open.trace.tokens) return open;
  const trace = sliceTrace(open.trace, start, tokens);
  return {
    ...open,
    trace,
    blocks: new BlockCache((number) => readBlock(trace, number)),
    summary: new Store({ done: true }),
  };
}

const NONE: readonly SequenceFacts[] = [];

export function CompareView() {
  const list = useStore(traces);
  const { trace, other, sequence, otherSequence } = useStore(route);
  const checkpoints = list.filter(({ trace: { header } }) => header.step !== undefined);
  const b = list.find(({ name }) => name === other) ?? list.at(-1)!;
  const a = list.find(({ name }) => name === trace) ?? list.find((open) => open !== b) ?? b;
  const sequencesA = useStore(a.summary).summary?.sequences ?? NONE;
  const sequencesB = useStore(b.summary).summary?.sequences ?? NONE;
  // Before another trace is opened, one sequence is compared with the next.
  const alone = list.length === 1 && sequencesA.length > 1;
  const sideA = sideOf(a, sequencesA, sequence ?? (alone ? sequencesA[0]?.sequence : undefined));
  const sideB = sideOf(b, sequencesB, otherSequence ?? (alone ? sequencesB[1]?.sequence : undefined));
  return (
    <div class="compare">
      <div class="toolbar">
        <SidePicker name="Left" side={sideA} list={list} sequences={sequencesA} keys={["trace", "sequence"]} />
        <SidePicker name="Right" side={sideB} list={list} sequences={sequencesB} keys={["other", "otherSequence"]} />
        {checkpoints.length > 1 ? <Saturation {...{ checkpoints, a }} /> : null}
      </div>
      {list.length === 1 ? (
        <p class="soft hint">Open a second trace to compare checkpoints, or a text with and without interventions.</p>
      ) : null}
      <Both
        key={`${a.name}|${b.name}|${sideA.start}|${sideB.start}|${sideA.tokens}|${sideB.tokens}`}
        a={sideA}
        b={sideB}
      />
      {checkpoints.length > 2 ? <Settling checkpoints={checkpoints} /> : null}
      {list.length > 1 ? (
        <Section title="Open traces">
          <OpenTraces />
        </Section>
      ) : null}
    </div>
  );
}

function SidePicker(props: {
  readonly name: string;
  readonly side: Side;
  readonly list: readonly OpenTrace[];
  readonly sequences: readonly SequenceFacts[];
  readonly keys: readonly ["trace" | "other", "sequence" | "otherSequence"];
}) {
  const { name, side, list, sequences, keys } = props;
  const [traceKey, sequenceKey] = keys;
  const whole = side.tokens === side.open.trace.tokens;
  const chosen = whole ? -1 : (sequences.find(({ start }) => start === side.start)?.sequence ?? -1);
  return (
    <div class="side-picker">
      <Select
        label={name}
        value={side.open.name}
        options={traceOptions(list)}
        onChange={(value) => go({ [traceKey]: value, [sequenceKey]: undefined })}
      />
      {sequences.length > 1 ? (
        <Select
          label="part"
          value={chosen}
          options={[
            { value: -1, name: "all tokens" },
            ...sequences.slice(0, 200).map(({ sequence, source, tokens }) => ({
              value: sequence,
              name: `sequence ${sequence}: ${label(side.open.trace.sources[source] ?? "", 16)}, ${tokens} tokens`,
            })),
          ]}
          onChange={(value) => go({ [sequenceKey]: value < 0 ? undefined : value, token: undefined, top: 0 })}
        />
      ) : null}
    </div>
  );
}

/** A slider over checkpoints, the last of which stays on the right. */
function Saturation({ checkpoints, a }: { readonly checkpoints: readonly OpenTrace[]; readonly a: OpenTrace }) {
  const last = checkpoints.at(-1)!;
  const place = Math.max(0, checkpoints.indexOf(a));
  return (
    <label class="field">
      <span>Checkpoint</span>
      <input
        type="range"
        min={0}
        max={checkpoints.length - 1}
        value={place}
        aria-valuetext={`step ${checkpoints[place]!.trace.header.step}`}
        onInput={({ currentTarget }) => go({ trace: checkpoints[Number(currentTarget.value)]!.name, other: last.name })}
      />
      <output>step {count(checkpoints[place]!.trace.header.step!)}</output>
    </label>
  );
}

function Both({ a, b }: { readonly a: Side; readonly b: Side }) {
  const { token, layer, top = 0, zoom = 22 } = useStore(route);
  const { element, height } = useSize<HTMLDivElement>();
  const [left, right] = useMemo(
    () => [sliceOpen(a.open, a.start, a.tokens), sliceOpen(b.open, b.start, b.tokens)] as const,
    [],
  );
  const tokens = Math.min(a.tokens, b.tokens);
  const { result, done, fault } = useCounting<Comparison>((onResult, onFault) => {
    const alignment = { startA: a.start, startB: b.start, tokens };
    return startCounting({ kind: "compare", a: a.open.source, b: b.open.source, alignment }, onResult, onFault);
  }, []);
  const window = { top, zoom };
  const extent = Math.max(a.tokens, b.tokens);
  const onWindow = (next: Window) => go({ top: Math.floor(next.top * 100) / 100, zoom: next.zoom });
  const onChoose = (chosen: number, column: number | undefined) => go({ token: chosen, layer: column });
  const shared = { window, onWindow, onChoose, layer, extent, overview: false };
  const chosenIn = (side: Side) => (token !== undefined && token < side.tokens ? token : undefined);
  const titleOf = (side: Side, name: string) => `${name} trace, ${side.open.name}. Coloured where experts differ.`;
  return (
    <div class="split compare-split">
      <div class="split-main">
        <div class="toolbar">
          <ZoomButtons open={a.tokens >= b.tokens ? left : right} {...{ window, onWindow, height }} />
          <span class="soft">Colour marks what differs; pale cells are the same on both sides.</span>
        </div>
        <div class="pair" ref={element}>
          <TokenMap
            open={left}
            beside={{ open: right, offset: 0 }}
            token={chosenIn(a)}
            title={titleOf(a, "Left")}
            {...shared}
          />
          <TokenMap
            open={right}
            beside={{ open: left, offset: 0 }}
            token={chosenIn(b)}
            title={titleOf(b, "Right")}
            {...shared}
          />
        </div>
      </div>
      <aside class="split-side" aria-label="Agreement">
        {fault === undefined ? null : <Fault message={fault} />}
        {result === undefined ? null : <Agreement {...{ result, a, b }} />}
        {done || result === undefined ? null : <Progress done={result.tokens} of={tokens} what="comparing" />}
        {token === undefined
          ? null
          : [
              { side: a, open: left },
              { side: b, open: right },
            ].map(({ side, open }, index) =>
              chosenIn(side) === undefined ? null : (
                <Section key={index === 0 ? "left" : "right"} title={index === 0 ? "Left" : "Right"}>
                  <TokenDetail open={open} token={token} layer={layer} />
                </Section>
              ),
            )}
      </aside>
    </div>
  );
}

function Agreement({ result, a, b }: { readonly result: Comparison; readonly a: Side; readonly b: Side }) {
  const { header } = a.open.trace;
  const { tokens, sameIds, agreement, sameFirst, overlap } = result;
  const strange = header.numExperts !== b.open.trace.header.numExperts || agreement.length !== header.layers.length;
  const mean = agreement.reduce((sum, value) => sum + value, 0) / agreement.length;
  return (
    <Section title="Agreement" aside={sameIds === 0 ? null : <b>{percent(mean)}</b>}>
      {strange ? <p class="fault">These traces are of models with different layers or experts.</p> : null}
      <p class="soft">
        {sameIds === tokens
          ? `The share of each token's experts that are the same, over ${count(tokens)} tokens.`
          : `${count(sameIds)} of ${count(tokens)} places have the same token; the first two columns are about those.`}
      </p>
      <table>
        <thead>
          <tr>
            <th scope="col">layer</th>
            <th scope="col">same experts</th>
            <th scope="col" class="number">
              first
            </th>
            <th scope="col" class="number" title="What the two distributions over experts have in common">
              usage
            </th>
          </tr>
        </thead>
        <tbody>
          {Array.from(agreement, (share, layer) => (
            <tr key={layer}>
              <th scope="row">{header.layers[layer]}</th>
              <td class="bar-cell">
                <ShareBar share={Number.isNaN(share) ? 0 : share} most={1} /> <span>{percent(share)}</span>
              </td>
              <td class="number soft">{percent(sameFirst[layer]!)}</td>
              <td class="number soft">{percent(overlap[layer]!)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Section>
  );
}

/** Router saturation: how much of the last checkpoint's routing each checkpoint has already. */
function Settling({ checkpoints }: { readonly checkpoints: readonly OpenTrace[] }) {
  const sources = checkpoints.map(({ source }) => source);
  const { result, done, fault } = useCounting<Analysed>(
    (onResult, onFault) => startCounting({ kind: "saturation", sources }, onResult, onFault),
    [sources.map(({ key }) => key).join()],
  );
  if (fault !== undefined) return <Fault message={fault} />;
  if (result?.results === undefined) {
    return done ? null : (
      <Progress done={result?.tokens ?? 0} of={checkpoints[0]!.trace.tokens} what="router saturation" />
    );
  }
  return <Figures results={result.results} />;
}
