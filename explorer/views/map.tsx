/** The first view: the map or the running text on one side, the chosen token on the other. */
import { useEffect, useState } from "preact/hooks";
import type { Window } from "../layout.ts";
import { ExpertChip, Progress, Section, Segmented, TextToken, TokenText, TracePicker, useSize } from "../parts.tsx";
import { go, linkTo, type OpenTrace, route, useStore } from "../state.ts";
import type { Summary } from "../statistics.ts";
import { count, flowTexts, label } from "../text.ts";
import { TokenDetail } from "../tokenDetail.tsx";
import { TokenMap, ZoomButtons } from "../tokenMap.tsx";

const START: Window = { top: 0, zoom: 22 };

export function MapView({ open }: { readonly open: OpenTrace }) {
  const { token, layer, expert, top, zoom, text = false } = useStore(route);
  const { summary, done } = useStore(open.summary);
  const { element, height } = useSize<HTMLDivElement>();
  const { header, tokens } = open.trace;
  const window = { top: top ?? Math.max(0, (token ?? 0) - 5), zoom: zoom ?? START.zoom };
  const onWindow = (next: Window) => go({ top: Math.floor(next.top * 100) / 100, zoom: next.zoom });
  const chosen = token !== undefined && token < tokens ? token : undefined;
  const shownLayer = layer !== undefined && layer < header.layers.length ? layer : undefined;
  const onKey = (key: string) => {
    if (key === "t") go({ text: !text });
    else if (key === "Escape") go({ token: undefined, expert: undefined });
    else if (key === "Enter" && chosen !== undefined) void openExpert(open, chosen, shownLayer ?? 0);
    else return false;
    return true;
  };
  return (
    <div class="split">
      <div class="split-main">
        <div class="toolbar">
          <TracePicker open={open} />
          <Segmented
            label="Show tokens as"
            options={{ map: "Map", text: "Text" }}
            value={text ? "text" : "map"}
            onChange={(value) => go({ text: value === "text" })}
          />
          {text ? null : <ZoomButtons {...{ open, window, onWindow }} height={height} />}
          <GoTo {...{ open }} />
          <Highlight {...{ open }} />
        </div>
        <div ref={element} class={text ? "map-place text-place" : "map-place"}>
          {text ? (
            <RunningText open={open} token={chosen} layer={shownLayer ?? 0} start={Math.floor(window.top)} />
          ) : (
            <TokenMap
              {...{ open, window, onWindow, expert, onKey }}
              token={chosen}
              layer={shownLayer}
              title={`Map of ${count(tokens)} tokens and ${header.layers.length} layers. Arrow keys choose a token and a layer, plus and minus zoom, 0 shows all.`}
              onChoose={(nextToken, nextLayer) => go({ token: nextToken, layer: nextLayer })}
            />
          )}
        </div>
        {done ? null : <Progress done={summary?.tokens ?? 0} of={tokens} what="counting" />}
      </div>
      <aside class="split-side" aria-label="Chosen token">
        {chosen === undefined ? (
          <Overall open={open} />
        ) : (
          <div class="card">
            <TokenDetail open={open} token={chosen} layer={shownLayer} />
          </div>
        )}
      </aside>
      <Announce {...{ open }} token={chosen} layer={shownLayer} />
    </div>
  );
}

async function openExpert(open: OpenTrace, token: number, layer: number): Promise<void> {
  const block = await open.blocks.load(token);
  const { slots, layers } = open.trace.header;
  const expert = block.experts[((token - block.start) * layers.length + layer) * slots]!;
  go({ view: "experts", layer, expert: Math.max(0, expert) });
}

/** Says the chosen token to those who do not see the map. */
function Announce({ open, token, layer }: { open: OpenTrace; token?: number | undefined; layer?: number | undefined }) {
  const block = token === undefined ? undefined : open.blocks.at(token);
  const { slots, layers } = open.trace.header;
  let text = "";
  if (block !== undefined && token !== undefined) {
    const at = ((token - block.start) * layers.length + (layer ?? 0)) * slots;
    const experts = Array.from(block.experts.subarray(at, at + slots)).filter((expert) => expert >= 0);
    const word = label(open.text(block.ids[token - block.start]!));
    text = `Token ${token}, ${word}. Layer ${layers[layer ?? 0]}: experts ${experts.join(", ") || "none"}.`;
  }
  return (
    <p class="unseen" aria-live="polite">
      {text}
    </p>
  );
}

function GoTo({ open }: { readonly open: OpenTrace }) {
  const jump = (event: SubmitEvent) => {
    event.preventDefault();
    const input = (event.currentTarget as HTMLFormElement).elements.namedItem("token") as HTMLInputElement;
    const token = Number(input.value);
    if (!Number.isSafeInteger(token) || token < 0 || token >= open.trace.tokens) return;
    go({ token, top: Math.max(0, token - 5), zoom: START.zoom });
  };
  return (
    <form class="field" onSubmit={jump}>
      <label for="go-to">Go to</label>
      <input id="go-to" name="token" type="number" min={0} max={open.trace.tokens - 1} placeholder="token" />
    </form>
  );
}

function Highlight({ open }: { readonly open: OpenTrace }) {
  const { expert } = useStore(route);
  const { numExperts } = open.trace.header;
  return (
    <label class="field">
      <span>Only expert</span>
      <input
        type="number"
        min={0}
        max={numExperts - 1}
        placeholder="all"
        value={expert ?? ""}
        onInput={({ currentTarget: { value } }) => {
          const number = Number(value);
          go({
            expert: value !== "" && Number.isInteger(number) && number >= 0 && number < numExperts ? number : undefined,
          });
        }}
      />
    </label>
  );
}

const TEXT_TOKENS = 400;

/** How tokens are written in the vocabulary; "" where they are not read yet. */
function entriesOf(open: OpenTrace, start: number, end: number): string[] {
  return Array.from({ length: end - start }, (_, index) => {
    const block = open.blocks.at(start + index);
    const id = block?.ids[start + index - block.start];
    return id === undefined ? "" : (open.trace.vocabulary.get(id) ?? `#${id}`);
  });
}

/** Tokens as text that reads on, each on the colour of its first expert in one layer. */
function RunningText({
  open,
  token,
  layer,
  start,
}: {
  open: OpenTrace;
  token?: number | undefined;
  layer: number;
  start: number;
}) {
  const { expert } = useStore(route);
  const [, redraw] = useState({});
  useEffect(() => open.blocks.onChange(() => redraw({})), [open]);
  const { header, tokens } = open.trace;
  const first = Math.max(0, Math.min(start, tokens - 1));
  const end = Math.min(tokens, first + TEXT_TOKENS);
  const texts = flowTexts(entriesOf(open, first, end));
  const spans = [];
  for (let number = first; number < end; number++) {
    const block = open.blocks.at(number);
    if (block === undefined) continue;
    const row = number - block.start;
    if (number > first && block.begins[row] === 1) spans.push(<hr key={`begin-${number}`} />);
    const at = (row * header.layers.length + layer) * header.slots;
    const chosen = Array.from(block.experts.subarray(at, at + header.slots));
    const shown = expert === undefined ? chosen[0]! : chosen.includes(expert) ? expert : -1;
    spans.push(
      <TextToken
        key={number}
        text={texts[number - first]!}
        colour={shown < 0 ? undefined : open.colours[shown]}
        title={`token ${number}: ${shown < 0 ? "" : `expert ${shown}`}`}
        chosen={number === token}
        onChoose={() => go({ token: number })}
      />,
    );
  }
  const pageBy = (by: number) => go({ top: Math.max(0, Math.min(tokens - 1, first + by)) });
  return (
    <div class="text-view">
      <div class="toolbar">
        <label class="field">
          <span>Layer</span>
          <input
            type="range"
            min={0}
            max={header.layers.length - 1}
            value={layer}
            onInput={({ currentTarget }) => go({ layer: Number(currentTarget.value) })}
          />
          <output>{header.layers[layer]}</output>
        </label>
        <button type="button" onClick={() => pageBy(-TEXT_TOKENS)} disabled={first === 0}>
          Earlier
        </button>
        <button type="button" onClick={() => pageBy(TEXT_TOKENS)} disabled={end >= tokens}>
          Later
        </button>
        <span class="soft">
          {count(first)} to {count(end - 1)} of {count(tokens)}
        </span>
      </div>
      <div class="running-text">{spans}</div>
    </div>
  );
}

/** What is said of a trace while no token is chosen. */
function Overall({ open }: { readonly open: OpenTrace }) {
  const { header, tokens, sources, unfinished } = open.trace;
  const { summary, fault } = useStore(open.summary);
  const rows: readonly (readonly [string, string])[] = [
    ["model", header.model.name],
    ["tokens", unfinished ? `unfinished: the first ${count(tokens)} tokens` : count(tokens)],
    ["layers with experts", String(header.layers.length)],
    ["experts of a layer", String(header.numExperts)],
    ["experts of a token", String(header.topK)],
    ["recorded from", header.origin],
    ...(header.step === undefined ? [] : [["training step", count(header.step)] as const]),
    ...(header.interventions === undefined ? [] : [["interventions", JSON.stringify(header.interventions)] as const]),
    ["columns", header.columns.join(", ")],
  ];
  return (
    <>
      <Section title={label(open.name, 40)}>
        <p class="soft">Choose a token in the map to see its experts in each layer.</p>
        <table class="plain">
          <tbody>
            {rows.map(([name, value]) => (
              <tr key={name}>
                <th scope="row">{name}</th>
                <td>
                  <TokenText text={value} most={160} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
        {fault === undefined ? null : <p class="fault">{fault}</p>}
      </Section>
      {summary === undefined ? null : (
        <Section title="Busiest experts">
          <Busiest {...{ open, summary }} />
        </Section>
      )}
      {sources.length > 1 && summary !== undefined ? (
        <Section title="Sources">
          <table class="plain">
            <tbody>
              {sources.slice(0, summary.sourceTokens.length).map((name, index) => (
                <tr key={name}>
                  <th scope="row">
                    <TokenText text={name} />
                  </th>
                  <td class="number">{count(summary.sourceTokens[index]!)} tokens</td>
                </tr>
              ))}
            </tbody>
          </table>
        </Section>
      ) : null}
    </>
  );
}

/** For each layer the experts with the largest share of its slots. */
function Busiest({ open, summary }: { readonly open: OpenTrace; readonly summary: Summary }) {
  const { layers, numExperts } = open.trace.header;
  return (
    <ol class="busiest">
      {layers.map((layer, index) => {
        const counts = Array.from(summary.slots.subarray(index * numExperts, (index + 1) * numExperts));
        const best = counts
          .map((times, expert) => ({ times, expert }))
          .sort((a, b) => b.times - a.times)
          .slice(0, 6);
        return (
          <li key={layer}>
            <span class="route-layer">
              <span class="unseen">layer </span>
              {layer}
            </span>
            {best.map(({ expert }) => (
              <a key={expert} class="chip-link" href={linkTo({ view: "experts", layer: index, expert })}>
                <span class="unseen">expert </span>
                <ExpertChip expert={expert} colours={open.colours} />
              </a>
            ))}
          </li>
        );
      })}
    </ol>
  );
}
