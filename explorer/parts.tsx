/** Small parts that views share. */
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { TopLevelSpec } from "vega-lite";
import { SERIES_COLOURS } from "../src/report/theme.ts";
import { css, inkOn, mix, type Rgb } from "./palette.ts";
import { closeTrace, go, type OpenTrace, traces, useDark, useStore } from "./state.ts";
import { count, label, percent, visible } from "./text.ts";
import { loadCharts } from "./vega.ts";

/** Text of a token: never more than text, whatever is in it. */
export function TokenText({ text, most = 32 }: { readonly text: string; readonly most?: number }) {
  return <bdi class="token-text">{label(text, most)}</bdi>;
}

/** A token of a text that reads on, on its expert's colour; where it ends a line, a new one begins. */
export function TextToken(props: {
  readonly text: string;
  /** undefined: none. */
  readonly colour: Rgb | undefined;
  /** Of the colour over the ground, from 0 to 1. */
  readonly strength?: number;
  readonly title: string;
  readonly prompt?: boolean;
  readonly chosen: boolean;
  readonly onChoose: () => void;
}) {
  const { text, colour, strength = 1, title, prompt = false, chosen, onChoose } = props;
  const dark = useDark();
  const ground: Rgb = dark ? [20, 24, 29] : [255, 255, 255];
  const background = colour && mix(ground, colour, (dark ? 0.75 : 0.62) * strength);
  return (
    <>
      <button
        type="button"
        class={prompt ? "text-token prompt-token" : "text-token"}
        aria-pressed={chosen}
        style={background === undefined ? {} : { background: css(background), color: css(inkOn(background)) }}
        title={title}
        onClick={onChoose}
      >
        <bdi>{visible(text.length > 200 ? `${text.slice(0, 200)}…` : text)}</bdi>
      </button>
      {text.includes("\n") ? <br /> : null}
    </>
  );
}

/** The number of an expert on its colour. */
export function ExpertChip({ expert, colours }: { readonly expert: number; readonly colours: readonly Rgb[] }) {
  const colour = colours[expert] ?? [128, 128, 128];
  return (
    <span class="chip" style={{ background: css(colour), color: css(inkOn(colour)) }}>
      {expert}
    </span>
  );
}

/** A choice of few. */
export function Segmented<T extends string>(props: {
  readonly label: string;
  readonly options: Readonly<Record<T, string>>;
  readonly value: T;
  readonly onChange: (value: T) => void;
}) {
  return (
    <fieldset class="segmented">
      <legend class="unseen">{props.label}</legend>
      {(Object.entries(props.options) as [T, string][]).map(([value, name]) => (
        <button type="button" key={value} aria-pressed={value === props.value} onClick={() => props.onChange(value)}>
          {name}
        </button>
      ))}
    </fieldset>
  );
}

/** A share against another as a bar with a mark, such as an expert's against an even one. */
export function ShareBar(props: {
  readonly share: number;
  readonly most: number;
  readonly mark?: number;
  readonly colour?: string;
}) {
  const { share, most, mark, colour } = props;
  const scale = (value: number) => `${Math.min(100, (100 * value) / most)}%`;
  return (
    <span class="bar" aria-hidden="true">
      <span class="bar-fill" style={{ width: scale(share), ...(colour === undefined ? {} : { background: colour }) }} />
      {mark === undefined ? null : <span class="bar-mark" style={{ left: scale(mark) }} />}
    </span>
  );
}

export function Select<T extends string | number>(props: {
  readonly label: string;
  /** Its full name, where the label alone does not tell it from others. */
  readonly title?: string;
  readonly value: T;
  readonly options: readonly { readonly value: T; readonly name: string }[];
  readonly onChange: (value: T) => void;
}) {
  return (
    <label class="field">
      <span>{props.label}</span>
      <select
        value={props.value}
        aria-label={props.title}
        onChange={({ currentTarget }) => {
          const chosen = props.options[currentTarget.selectedIndex];
          if (chosen !== undefined) props.onChange(chosen.value);
        }}
      >
        {props.options.map(({ value, name }) => (
          <option key={value} value={value} selected={value === props.value}>
            {name}
          </option>
        ))}
      </select>
    </label>
  );
}

/** Gives on only numbers within its bounds. */
export function NumberField(props: {
  readonly name: string;
  /** Its full name, where the other does not tell it from others. */
  readonly title?: string;
  readonly value: number;
  readonly least: number;
  readonly most: number;
  readonly step: number;
  readonly onChange: (value: number) => void;
}) {
  const { name, title, value, least, most, step, onChange } = props;
  return (
    <label class="field">
      <span>{name}</span>
      <input
        type="number"
        aria-label={title}
        min={least}
        max={most}
        step={step}
        value={value}
        onChange={({ currentTarget }) => {
          const number = Number(currentTarget.value);
          if (currentTarget.value !== "" && number >= least && number <= most) onChange(number);
        }}
      />
    </label>
  );
}

export function Progress({ done, of, what }: { readonly done: number; readonly of: number; readonly what: string }) {
  return (
    <p class="progress">
      <progress value={done} max={Math.max(1, of)} aria-label={what} />
      <span>
        {what} {percent(of === 0 ? 1 : done / of)}
      </span>
    </p>
  );
}

export function Fault({ message }: { readonly message: string }) {
  return (
    <p class="fault" role="alert">
      {message}
    </p>
  );
}

export function Section({
  title,
  aside,
  children,
}: {
  title: string;
  aside?: ComponentChildren;
  children: ComponentChildren;
}) {
  return (
    <section class="card">
      <header class="card-head">
        <h2>{title}</h2>
        {aside}
      </header>
      {children}
    </section>
  );
}

/** The size of an element, kept up to date. */
export function useSize<E extends HTMLElement>() {
  const element = useRef<E>(null);
  const [size, setSize] = useState({ width: 0, height: 0 });
  useEffect(() => {
    const target = element.current;
    if (target === null) return;
    const read = () => setSize({ width: target.clientWidth, height: target.clientHeight });
    const observer = new ResizeObserver(read);
    observer.observe(target);
    read();
    return () => observer.disconnect();
  }, []);
  return { element, ...size };
}

/** A vega-lite chart, in the page's colours and as wide as its place, or as reports have it: on white, in its own size. */
export function Chart({
  spec,
  title,
  asPrinted = false,
}: {
  readonly spec: TopLevelSpec;
  readonly title: string;
  readonly asPrinted?: boolean;
}) {
  const { element, width } = useSize<HTMLDivElement>();
  const dark = useDark();
  const [fault, setFault] = useState<string>();
  const key = JSON.stringify(spec);
  useEffect(() => {
    const target = element.current;
    if (target === null || target.clientWidth === 0) return;
    let drawn: { remove(): void } | undefined;
    let gone = false;
    loadCharts()
      .then((draw) => {
        const inner = document.createElement("div");
        // The figure has a name; thousands of unnamed marks would only be in a screen reader's way.
        inner.setAttribute("aria-hidden", "true");
        return draw(asPrinted ? spec : fitted(spec, width, dark), inner).then((chart) => {
          if (gone) chart.remove();
          else {
            target.replaceChildren(inner);
            drawn = chart;
          }
        });
      })
      .catch((error: Error) => setFault(error.message));
    return () => {
      gone = true;
      drawn?.remove();
    };
  }, [key, asPrinted || [width, dark].join()]);
  return (
    <figure class={asPrinted ? "chart printed" : "chart"} tabIndex={asPrinted ? 0 : undefined} aria-label={title}>
      <div ref={element} role="img" aria-label={title} />
      {fault === undefined ? null : <Fault message={`chart: ${fault}`} />}
    </figure>
  );
}

/** The colours of series for a dark ground. */
const LIGHTER: Readonly<Record<string, string>> = Object.fromEntries(
  SERIES_COLOURS.map((colour, index) => [
    colour,
    ["#6aa9e0", "#f08a67", "#58bd84", "#c184c3", "#dcb94a", "#6fcbe3"][index]!,
  ]),
);

/** A chart as wide as its place; in the dark, with light letters on no ground. */
function fitted(spec: TopLevelSpec, width: number, dark: boolean): TopLevelSpec {
  const config = (spec.config ?? {}) as Record<string, object>;
  const soft = dark ? "#a3afbb" : "#52606d";
  const ink = dark ? "#e6eaee" : "#1f2933";
  const line = dark ? "#3a444f" : "#cbd2d9";
  const colours = {
    background: "transparent",
    padding: 4,
    title: { ...config.title, color: ink, subtitleColor: soft },
    axis: {
      ...config.axis,
      labelColor: soft,
      titleColor: soft,
      domainColor: line,
      tickColor: line,
      gridColor: dark ? "#242c34" : "#eceff2",
    },
    legend: { ...config.legend, labelColor: ink, titleColor: soft },
  };
  const sized = { ...spec, width, autosize: { type: "fit-x", contains: "padding" }, config: { ...config, ...colours } };
  return JSON.parse(JSON.stringify(sized), (_, value) => (dark ? (LIGHTER[value] ?? value) : value)) as TopLevelSpec;
}

/** Names of open traces for a choice. */
export const traceOptions = (list: readonly OpenTrace[]) =>
  list.map(({ name }) => ({ value: name, name: label(name, 48) }));

/** Which trace a view is about; nothing where there is one only. */
export function TracePicker({ open }: { readonly open: OpenTrace }) {
  const list = useStore(traces);
  if (list.length < 2) return null;
  return (
    <Select label="Trace" value={open.name} options={traceOptions(list)} onChange={(name) => go({ trace: name })} />
  );
}

/** The open traces, each with a way to close it. */
export function OpenTraces() {
  const list = useStore(traces);
  return (
    <ul class="traces">
      {list.map((open) => (
        <li key={open.name}>
          {label(open.name, 40)} <span class="soft">{count(open.trace.tokens)} tokens</span>
          <button
            type="button"
            class="quiet"
            aria-label={`Close ${label(open.name, 40)}`}
            onClick={() => closeTrace(open)}
          >
            ✕
          </button>
        </li>
      ))}
    </ul>
  );
}
