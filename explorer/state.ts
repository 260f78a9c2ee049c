/** What the page knows and shows: open traces, the route, the server it came from. Views read it with `useStore`. */
import { useEffect, useMemo, useState } from "preact/hooks";
import type { Trace } from "../src/formats/trace.ts";
import { BlockCache } from "./blocks.ts";
import { parseExample } from "./example.ts";
import { fetchBlock, startCounting } from "./jobs.ts";
import { expertColours, type Rgb } from "./palette.ts";
import { formatRoute, parseRoute, type Route } from "./route.ts";
import { type KnownSource, openSource, type TraceSource } from "./sources.ts";
import type { Summary } from "./statistics.ts";
import { writtenText } from "./text.ts";

export class Store<T> {
  #value: T;
  readonly #listeners = new Set<() => void>();
  #start: (() => void) | undefined;

  /** @param start called when somebody is interested for the first time. */
  constructor(value: T, start?: () => void) {
    this.#value = value;
    this.#start = start;
  }

  get value(): T {
    return this.#value;
  }

  set(value: T): void {
    if (value === this.#value) return;
    this.#value = value;
    for (const listener of [...this.#listeners]) listener();
  }

  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    this.#start?.();
    this.#start = undefined;
    return () => this.#listeners.delete(listener);
  }
}

export function useStore<T>(store: Store<T>): T {
  const [, redraw] = useState({});
  const { value } = store;
  useEffect(() => {
    // It may have changed after this was drawn.
    if (store.value !== value) redraw({});
    return store.subscribe(() => redraw({}));
  }, [store]);
  return value;
}

/** A trace with what is kept beside it while it is open. */
export interface OpenTrace {
  /** Its own among the open ones. */
  readonly name: string;
  readonly source: KnownSource;
  readonly trace: Trace;
  readonly blocks: BlockCache;
  readonly colours: readonly Rgb[];
  /** The text of a token. */
  readonly text: (id: number) => string;
  /** Counted when it is looked at. */
  readonly summary: Store<Counted>;
  /** Ends the counting. */
  readonly stop: () => void;
}

export interface Counted {
  readonly summary?: Summary;
  readonly done: boolean;
  readonly fault?: string;
}

/** What a server of `olmoe explore` offers. */
export interface Served {
  readonly traces: readonly { readonly name: string; readonly url: string; readonly bytes: number }[];
  readonly model: null | {
    readonly name: string;
    readonly numExperts: number;
    readonly topK: number;
    readonly layers: readonly number[];
    readonly vocabSize: number;
    readonly context: number;
    readonly chat: boolean;
  };
  readonly run: null | { readonly name: string };
}

export const traces = new Store<readonly OpenTrace[]>([]);
/** What went wrong last, for the line under the header. */
export const fault = new Store<string | undefined>(undefined);
export const served = new Store<Served | undefined>(undefined);
/** Traces that are being opened. */
export const opening = new Store(0);
export const route = new Store<Route>(parseRoute(location.hash));

/** Changes what is shown. A change of view is a step that the browser's back button undoes. */
export function go(changes: Partial<Record<keyof Route, unknown>>): void {
  const next = Object.fromEntries(
    Object.entries({ ...route.value, ...changes }).filter(([, value]) => value !== undefined && value !== false),
  ) as unknown as Route;
  const hash = formatRoute(next);
  if (hash === formatRoute(route.value)) return;
  const newView = next.view !== route.value.view;
  route.set(next);
  writeAddress(hash, newView);
}

let pending: number | undefined;

/** Browsers refuse addresses that change at every frame: of those that follow one another fast, the last is written. */
function writeAddress(hash: string, newView: boolean): void {
  clearTimeout(pending);
  if (newView) history.pushState(null, "", hash);
  else pending = setTimeout(() => history.replaceState(null, "", hash), 150) as unknown as number;
}

/** Shows what the address says: it was changed by a link, by hand, or by the way back. */
export function readAddress(): void {
  clearTimeout(pending);
  route.set(parseRoute(location.hash));
}

/** Follows links within the page at once: the address may be behind what is shown, and a link to it would lead nowhere. */
export function followLink(event: MouseEvent): void {
  const href = (event.target as Element | null)?.closest?.("a")?.getAttribute("href");
  const plainClick = event.button === 0 && !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey);
  if (!href?.startsWith("#") || !plainClick || event.defaultPrevented) return;
  event.preventDefault();
  route.set(parseRoute(href));
  writeAddress(href, true);
}

/** A link to the same page with other details. */
export const linkTo = (changes: Partial<Record<keyof Route, unknown>>) =>
  formatRoute({ ...route.value, ...changes } as Route);

const messageOf = (error: unknown) => {
  const { message, hint } = error as Error & { hint?: string };
  return hint === undefined ? message : `${message}\n${hint}`;
};

export function report(error: unknown): void {
  fault.set(messageOf(error));
}

function uniqueName(name: string): string {
  const taken = new Set(traces.value.map((open) => open.name));
  for (let number = 2, tried = name; ; number++) {
    if (!taken.has(tried)) return tried;
    tried = `${name} (${number})`;
  }
}

let keys = 0;

/** Opens a trace and shows it in the list. @returns undefined where that failed, which the page then says. */
export async function addTrace(given: TraceSource): Promise<OpenTrace | undefined> {
  const source = { ...given, name: uniqueName(given.name), key: ++keys };
  opening.set(opening.value + 1);
  try {
    const trace = await openSource(source);
    const open = openTrace(source, trace);
    // Files that were dropped together may have come in any order: checkpoints go by their steps.
    const order = ({ trace: { header } }: OpenTrace) => header.step ?? Number.POSITIVE_INFINITY;
    traces.set([...traces.value, open].sort((a, b) => order(a) - order(b) || 0));
    fault.set(undefined);
    return open;
  } catch (error) {
    report(error);
    return undefined;
  } finally {
    opening.set(opening.value - 1);
  }
}

function openTrace(source: KnownSource, trace: Trace): OpenTrace {
  let stop: (() => void) | undefined;
  const summary: Store<Counted> = new Store<Counted>({ done: false }, () => {
    stop = startCounting(
      { kind: "summary", source },
      (result, done) => summary.set({ summary: result, done }),
      (message) => summary.set({ ...summary.value, done: true, fault: message }),
    );
  });
  const texts = new Map<number, string>();
  const text = (id: number) => {
    let known = texts.get(id);
    if (known === undefined) {
      const entry = trace.vocabulary.get(id);
      known = entry === undefined ? `#${id}` : writtenText(entry);
      texts.set(id, known);
    }
    return known;
  };
  const colours = expertColours(trace.header.numExperts);
  return {
    name: source.name,
    source,
    trace,
    blocks: new BlockCache((number) => fetchBlock(source, number)),
    colours,
    text,
    summary,
    stop: () => stop?.(),
  };
}

/** The newest of the texts that were generated in the page. @param other not this one. */
export const latestText = (other?: string) =>
  traces.value.findLast(({ name, source }) => name !== other && source.kind === "memory");

export function closeTrace(open: OpenTrace): void {
  open.stop();
  traces.set(traces.value.filter((other) => other !== open));
}

export async function addFiles(files: Iterable<File>): Promise<void> {
  for (const file of files) await addTrace({ kind: "file", name: file.name, blob: file });
}

export async function addExample(text: string): Promise<void> {
  const size = parseExample(text);
  if (size === undefined) {
    fault.set(`example: "${text}", expected tokens x layers x experts x experts of a token, such as 20000x16x64x8`);
    return;
  }
  for (let step = 1; step <= size.checkpoints; step++) {
    await addTrace({ kind: "example", name: `example ${step}`, size, step });
  }
}

/** The trace that the route names, or the last of the list, which is the newest checkpoint. */
export function useTrace(): OpenTrace | undefined {
  const list = useStore(traces);
  const { trace } = useStore(route);
  return list.find(({ name }) => name === trace) ?? list.at(-1);
}

export const themeChoice = new Store<"system" | "light" | "dark">(readChoice());

function readChoice() {
  try {
    const kept = localStorage.getItem("olmoe-theme");
    return kept === "light" || kept === "dark" ? kept : "system";
  } catch {
    // A page from a file may have no storage.
    return "system";
  }
}

export function chooseTheme(choice: "system" | "light" | "dark"): void {
  themeChoice.set(choice);
  try {
    localStorage.setItem("olmoe-theme", choice);
  } catch {
    // As above: then the choice lasts as long as the page.
  }
}

/** Whether the page is shown in dark colours. */
export function useDark(): boolean {
  const choice = useStore(themeChoice);
  const systemDark = useMemo(() => matchMedia("(prefers-color-scheme: dark)"), []);
  const [system, setSystem] = useState(systemDark.matches);
  useEffect(() => {
    const listener = () => setSystem(systemDark.matches);
    systemDark.addEventListener("change", listener);
    return () => systemDark.removeEventListener("change", listener);
  }, []);
  return choice === "system" ? system : choice === "dark";
}

/** Runs a job anew whenever its parts change; what it has counted so far, or its fault. */
export function useCounting<R>(
  start: (onResult: (result: R, done: boolean) => void, onFault: (message: string) => void) => () => void,
  parts: readonly unknown[],
): { readonly result?: R; readonly done: boolean; readonly fault?: string } {
  const [state, setState] = useState<{ result?: R; done: boolean; fault?: string }>({ done: false });
  useEffect(() => {
    setState({ done: false });
    return start(
      (result, done) => setState({ result, done }),
      (message) => setState({ done: true, fault: message }),
    );
  }, parts);
  return state;
}

/** What a promise gives, undefined until then; the newest that was asked for wins. */
export function usePromise<T>(make: () => Promise<T>, parts: readonly unknown[]): { value?: T; fault?: string } {
  const [state, setState] = useState<{ value?: T; fault?: string }>({});
  const promise = useMemo(make, parts);
  useEffect(() => {
    let current = true;
    promise.then(
      (value) => current && setState({ value }),
      (error: unknown) => current && setState({ fault: messageOf(error) }),
    );
    return () => {
      current = false;
    };
  }, [promise]);
  return state;
}
