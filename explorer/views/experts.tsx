/** One page for each expert: how much it serves, which tokens and texts, and beside whom. */
import { useState } from "preact/hooks";
import { startCounting } from "../jobs.ts";
import { css } from "../palette.ts";
import { ExpertChip, Fault, Progress, Section, Select, ShareBar, TokenText, TracePicker } from "../parts.tsx";
import { go, linkTo, type OpenTrace, route, useCounting, usePromise, useStore } from "../state.ts";
import type { ExpertFacts, Summary, TokenShare } from "../statistics.ts";
import { count, label, percent } from "../text.ts";
import { Importance, ImportanceFile } from "./importance.tsx";

export function ExpertsView({ open }: { readonly open: OpenTrace }) {
  const { layer = 0, expert } = useStore(route);
  const { summary, done } = useStore(open.summary);
  const { header, tokens } = open.trace;
  const index = Math.min(layer, header.layers.length - 1);
  const shares = sharesOf(open, summary, index);
  const busiest = shares.indexOf(Math.max(...shares));
  const chosen = expert !== undefined && expert < header.numExperts ? expert : Math.max(0, busiest);
  return (
    <div class="experts">
      <div class="toolbar">
        <TracePicker open={open} />
        <Select
          label="Layer"
          value={index}
          options={header.layers.map((number, value) => ({ value, name: String(number) }))}
          onChange={(value) => go({ layer: value })}
        />
        <ImportanceFile />
        {done ? null : <Progress done={summary?.tokens ?? 0} of={tokens} what="counting" />}
      </div>
      <Tiles {...{ open, shares, chosen }} layer={index} />
      <ExpertPage key={`${index}/${chosen}`} {...{ open, summary, shares }} layer={index} expert={chosen} />
    </div>
  );
}

/** [E] share of each expert in the slots of a layer. */
function sharesOf({ trace }: OpenTrace, summary: Summary | undefined, layer: number): number[] {
  const { numExperts } = trace.header;
  if (summary === undefined) return new Array(numExperts).fill(0);
  const counts = Array.from(summary.slots.subarray(layer * numExperts, (layer + 1) * numExperts));
  const sum = counts.reduce((a, b) => a + b, 0);
  return counts.map((times) => (sum === 0 ? 0 : times / sum));
}

/** All experts of the layer; the bar under each is its share, the mark an even one. */
function Tiles(props: {
  readonly open: OpenTrace;
  readonly shares: readonly number[];
  readonly chosen: number;
  readonly layer: number;
}) {
  const { open, shares, chosen, layer } = props;
  const even = 1 / shares.length;
  const most = Math.max(2 * even, ...shares);
  return (
    <section aria-label="Experts of the layer" class="tiles">
      {shares.map((share, expert) => (
        <a
          key={expert}
          class="tile"
          href={linkTo({ layer, expert })}
          aria-current={expert === chosen ? "true" : undefined}
          aria-label={`expert ${expert}, ${percent(share)} of the layer's slots`}
          title={`expert ${expert}: ${percent(share)}`}
        >
          <ExpertChip expert={expert} colours={open.colours} />
          <ShareBar share={share} most={most} mark={even} colour={css(open.colours[expert]!)} />
        </a>
      ))}
    </section>
  );
}

function ExpertPage(props: {
  readonly open: OpenTrace;
  readonly layer: number;
  readonly expert: number;
  readonly summary: Summary | undefined;
  readonly shares: readonly number[];
}) {
  const { open, layer, expert, summary, shares } = props;
  const { source, trace } = open;
  const { result, done, fault } = useCounting<ExpertFacts>(
    (onResult, onFault) => startCounting({ kind: "expert", source, layer, expert }, onResult, onFault),
    [open, layer, expert],
  );
  const even = 1 / trace.header.numExperts;
  const number = trace.header.layers[layer]!;
  return (
    <article aria-label={`Expert ${expert} of layer ${number}`}>
      <header class="expert-head">
        <ExpertChip expert={expert} colours={open.colours} />
        <h1>
          Expert {expert} <span class="soft">of layer {number}</span>
        </h1>
        <nav class="toolbar" aria-label="Other experts">
          <button type="button" onClick={() => go({ expert: expert - 1 })} disabled={expert === 0}>
            Previous
          </button>
          <button
            type="button"
            onClick={() => go({ expert: expert + 1 })}
            disabled={expert + 1 >= trace.header.numExperts}
          >
            Next
          </button>
          <a class="button" href={linkTo({ view: "map", expert, layer, token: undefined })}>
            Show on the map
          </a>
        </nav>
      </header>
      {fault === undefined ? null : <Fault message={fault} />}
      {result === undefined ? (
        fault === undefined ? (
          <p class="soft">Reading …</p>
        ) : null
      ) : (
        <>
          {done ? null : <Progress done={result.tokens} of={trace.tokens} what="reading" />}
          <dl class="numbers">
            <Figure value={percent(shares[expert]!)} name={`of the layer's slots; an even share is ${percent(even)}`} />
            <Figure value={percent(result.served / result.tokens)} name={`of tokens, ${count(result.served)} in all`} />
            <Figure value={percent(result.first / Math.max(1, result.served))} name="of them as their first expert" />
            <Figure
              value={Number.isNaN(result.weight) ? "–" : result.weight.toFixed(3)}
              name="mean weight where it serves"
            />
          </dl>
          <div class="columns">
            <Section title="Tokens it serves most">
              <Tokens {...{ open }} list={result.mostServed} of={result.served} what="of its tokens" />
            </Section>
            <Section title="Tokens that go to it most reliably">
              <Tokens {...{ open }} list={result.mostOwn} what="of the token's places" />
            </Section>
            <Domains {...{ open, layer, expert, summary, even }} />
            <Partners {...{ open, layer, result }} />
            <Importance layer={number} expert={expert} />
          </div>
          <Section title="Where it weighs most">
            <Contexts {...{ open, layer, expert }} list={result.strongest} />
          </Section>
        </>
      )}
    </article>
  );
}

function Figure({ value, name }: { readonly value: string; readonly name: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

function Tokens(props: {
  readonly open: OpenTrace;
  readonly list: readonly TokenShare[];
  /** Tokens that the expert serves in all; without it shares are of the token's own places. */
  readonly of?: number;
  readonly what: string;
}) {
  const { open, list, of, what } = props;
  const [all, setAll] = useState(false);
  const shareOf = ({ served, all }: TokenShare) => served / (of ?? all);
  const most = Math.max(1e-9, ...list.map(shareOf));
  if (list.length === 0) return <p class="soft">There is none.</p>;
  return (
    <>
      <table>
        <thead>
          <tr>
            <th scope="col">token</th>
            <th scope="col">{what}</th>
            <th scope="col" class="number">
              served
            </th>
          </tr>
        </thead>
        <tbody>
          {list.slice(0, all ? list.length : 8).map((row) => (
            <tr key={row.id}>
              <td>
                <TokenText text={open.text(row.id)} most={20} />
              </td>
              <td class="bar-cell">
                <ShareBar share={shareOf(row)} most={most} /> <span>{percent(shareOf(row))}</span>
              </td>
              <td class="number soft">
                {count(row.served)} of {count(row.all)}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {list.length > 8 ? (
        <button type="button" class="quiet" onClick={() => setAll(!all)}>
          {all ? "Fewer" : `All ${list.length}`}
        </button>
      ) : null}
    </>
  );
}

/** The expert's share in each source, against an even one. */
function Domains(props: {
  readonly open: OpenTrace;
  readonly layer: number;
  readonly expert: number;
  readonly summary: Summary | undefined;
  readonly even: number;
}) {
  const { open, layer, expert, summary, even } = props;
  if (summary === undefined) return null;
  const { numExperts } = open.trace.header;
  const rows = summary.bySource.map((counts, index) => {
    const row = counts.subarray(layer * numExperts, (layer + 1) * numExperts);
    const sum = row.reduce((a, b) => a + b, 0);
    return { name: open.trace.sources[index] ?? "", share: sum === 0 ? 0 : row[expert]! / sum };
  });
  const most = Math.max(2 * even, ...rows.map(({ share }) => share));
  return (
    <Section title="Domains">
      <table>
        <thead>
          <tr>
            <th scope="col">source</th>
            <th scope="col">share of slots</th>
            <th scope="col" class="number">
              × even
            </th>
          </tr>
        </thead>
        <tbody>
          {rows.map(({ name, share }) => (
            <tr key={name}>
              <td>
                <TokenText text={name} most={28} />
              </td>
              <td class="bar-cell">
                <ShareBar share={share} most={most} mark={even} /> <span>{percent(share)}</span>
              </td>
              <td class="number soft">{(share / even).toFixed(2)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Section>
  );
}

function Partners({
  open,
  layer,
  result,
}: {
  readonly open: OpenTrace;
  readonly layer: number;
  readonly result: ExpertFacts;
}) {
  const list = Array.from(result.together, (times, expert) => ({ times, expert }))
    .filter(({ times }) => times > 0)
    .sort((a, b) => b.times - a.times)
    .slice(0, 8);
  const most = Math.max(1, ...list.map(({ times }) => times));
  return (
    <Section title="Serves together with">
      {list.length === 0 ? <p class="soft">It is always alone.</p> : null}
      <table>
        <tbody>
          {list.map(({ expert, times }) => (
            <tr key={expert}>
              <td>
                <a class="chip-link" href={linkTo({ layer, expert })} aria-label={`expert ${expert}`}>
                  <ExpertChip expert={expert} colours={open.colours} />
                </a>
              </td>
              <td class="bar-cell">
                <ShareBar share={times} most={most} /> <span>{percent(times / result.served)}</span>
              </td>
              <td class="number soft">{count(times)} tokens</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Section>
  );
}

const BEFORE = 12;
const AFTER = 10;

interface Context {
  readonly token: number;
  readonly weight: number;
  readonly before: string;
  readonly text: string;
  readonly after: string;
  readonly source: string;
}

/** The text around a token, within its sequence. */
async function contextOf(open: OpenTrace, token: number, weight: number): Promise<Context> {
  const start = Math.max(0, token - BEFORE);
  const end = Math.min(open.trace.tokens, token + AFTER + 1);
  const tokens: { text: string; sequence: number; source: number }[] = [];
  for await (const { ids, runs } of open.trace.chunks({ columns: ["ids"], start, end })) {
    let place = 0;
    for (const { sequence, source, tokens: length } of runs) {
      for (const id of ids!.subarray(place, place + length)) tokens.push({ text: open.text(id), sequence, source });
      place += length;
    }
  }
  const own = tokens[token - start]!;
  const joined = (list: typeof tokens) =>
    list
      .filter(({ sequence }) => sequence === own.sequence)
      .map(({ text }) => label(text, 24).replace(/^·/, " "))
      .join("");
  return {
    token,
    weight,
    before: joined(tokens.slice(0, token - start)),
    text: label(own.text, 40),
    after: joined(tokens.slice(token - start + 1)),
    source: open.trace.sources[own.source] ?? "",
  };
}

function Contexts(props: {
  readonly open: OpenTrace;
  readonly layer: number;
  readonly expert: number;
  readonly list: ExpertFacts["strongest"];
}) {
  const { open, layer, list } = props;
  const key = list.map(({ token }) => token).join();
  const make = () => Promise.all(list.slice(0, 14).map(({ token, weight }) => contextOf(open, token, weight)));
  const { value = [], fault } = usePromise(make, [open, key]);
  if (fault !== undefined) return <Fault message={fault} />;
  return (
    <ol class="contexts">
      {value.map(({ token, weight, before, text, after, source }) => (
        <li key={token}>
          <a href={linkTo({ view: "map", token, layer, top: Math.max(0, token - 8), zoom: 22, text: undefined })}>
            <bdi class="context-before">{before}</bdi>
            <mark>
              <bdi>{text}</bdi>
            </mark>
            <bdi class="context-after">{after}</bdi>
          </a>
          <span class="soft">
            {weight.toFixed(3)}
            <span class="unseen"> weight,</span> <bdi>{label(source, 24)}</bdi>
          </span>
        </li>
      ))}
    </ol>
  );
}
