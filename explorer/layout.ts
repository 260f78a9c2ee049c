/** Where tokens are in the map: `top` is the token at the upper edge (with a fraction), `zoom` the pixels of a token. */

export interface Window {
  readonly top: number;
  readonly zoom: number;
}

/** The map as it lies on the screen, in CSS pixels. */
export interface Frame {
  readonly height: number;
  readonly tokens: number;
}

export const MOST_ZOOM = 28;
/** From here on a token is a line of text. */
export const TEXT_ZOOM = 14;

/** The zoom that shows all tokens, or as many as fit as lines. */
export function leastZoom({ height, tokens }: Frame): number {
  return Math.min(MOST_ZOOM, height / Math.max(1, tokens));
}

/** The nearest window that shows tokens only. */
export function clampWindow({ top, zoom }: Window, frame: Frame): Window {
  const pixels = Math.min(MOST_ZOOM, Math.max(leastZoom(frame), zoom));
  const last = Math.max(0, frame.tokens - frame.height / pixels);
  return { zoom: pixels, top: Math.min(last, Math.max(0, top)) };
}

/** Zooms by a factor so that what is at `y` stays there. */
export function zoomAt(window: Window, factor: number, y: number, frame: Frame): Window {
  const { zoom } = clampWindow({ ...window, zoom: window.zoom * factor }, frame);
  return clampWindow({ zoom, top: window.top + y / window.zoom - y / zoom }, frame);
}

/** Moves just so far that a token is in the window, with some of its neighbours. */
export function reveal(window: Window, token: number, frame: Frame): Window {
  const shown = frame.height / window.zoom;
  const margin = Math.min(3, Math.max(0, (shown - 1) / 2));
  const top = Math.min(window.top, token - margin);
  return clampWindow({ zoom: window.zoom, top: Math.max(top, token + 1 + margin - shown) }, frame);
}

/** The token at a height of the map; undefined beside all tokens. */
export function tokenAt({ top, zoom }: Window, y: number, { tokens }: Frame): number | undefined {
  const token = Math.floor(top + y / zoom);
  return token >= 0 && token < tokens ? token : undefined;
}

/** Tokens that are at least partly shown. */
export function shownRange({ top, zoom }: Window, { height, tokens }: Frame): readonly [start: number, end: number] {
  const start = Math.min(tokens, Math.max(0, Math.floor(top)));
  return [start, Math.max(start, Math.min(tokens, Math.ceil(top + height / zoom)))];
}

/** "2 tokens a pixel", "a token is 12 pixels". */
export function describeZoom(zoom: number): string {
  if (zoom >= 0.95) return `${Math.round(zoom)} px a token`;
  const tokens = 1 / zoom;
  return `${tokens < 9.95 ? tokens.toFixed(1) : Math.round(tokens).toLocaleString("en")} tokens a px`;
}
