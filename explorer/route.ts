/** What is shown, as the part of an address after #, so that a view can be linked to: `#map?token=12&layer=3`. */

export const VIEWS = ["map", "experts", "analyses", "compare", "generate", "training"] as const;
export type View = (typeof VIEWS)[number];

export interface Route {
  readonly view: View;
  /** Name of the trace that is looked at; default: the first that is open. */
  readonly trace?: string;
  /** The trace it is compared with. */
  readonly other?: string;
  /** Only this sequence of the trace, and of the other, is compared. */
  readonly sequence?: number;
  readonly otherSequence?: number;
  readonly token?: number;
  readonly layer?: number;
  readonly expert?: number;
  /** Pixels of a token along the map; below 1 a pixel stands for several tokens. */
  readonly zoom?: number;
  /** First token of the window. */
  readonly top?: number;
  /** Tokens as running text instead of rows. */
  readonly text?: boolean;
  /** Made-up data to try the page with, such as 1000000x16x64x8: tokens, layers, experts, experts of a token. */
  readonly example?: string;
}

const NUMBERS = ["sequence", "otherSequence", "token", "layer", "expert", "zoom", "top"] as const;
const TEXTS = ["trace", "other", "example"] as const;

/** Reads an address; what is not understood is left out. */
export function parseRoute(hash: string): Route {
  const [name = "", query = ""] = hash.replace(/^#\/?/, "").split("?");
  const view = VIEWS.find((known) => known === name) ?? "map";
  const values = new URLSearchParams(query);
  const route: Record<string, unknown> = { view };
  for (const key of NUMBERS) {
    const value = Number(values.get(key) ?? Number.NaN);
    const whole = key === "zoom" || key === "top" || Number.isSafeInteger(value);
    if (Number.isFinite(value) && value >= 0 && whole) route[key] = value;
  }
  for (const key of TEXTS) if (values.get(key)) route[key] = values.get(key);
  if (values.has("text")) route.text = true;
  return route as unknown as Route;
}

const shortNumber = (value: number) => String(Number.isInteger(value) ? value : Number(value.toPrecision(9)));

export function formatRoute({ view, text, ...rest }: Route): string {
  const values = new URLSearchParams();
  for (const key of [...TEXTS, ...NUMBERS]) {
    const value = rest[key];
    if (value !== undefined) values.set(key, typeof value === "number" ? shortNumber(value) : value);
  }
  if (text) values.set("text", "");
  const query = values.toString().replace(/=(?=&|$)/, "");
  return `#${view}${query === "" ? "" : `?${query}`}`;
}
