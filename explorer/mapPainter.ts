/** Draws the map's cells: one row of layers for each token, or for each pixel where a pixel stands for several tokens. */
import { NO_EXPERT } from "../src/formats/trace.ts";
import { shownRange, type Window } from "./layout.ts";
import { css, inkOn, mix, type Rgb } from "./palette.ts";
import type { OpenTrace } from "./state.ts";

export interface MapLook {
  readonly background: Rgb;
  readonly line: Rgb;
  readonly accent: Rgb;
}

export const LIGHT_LOOK: MapLook = { background: [255, 255, 255], line: [120, 132, 146], accent: [28, 35, 43] };
export const DARK_LOOK: MapLook = { background: [20, 24, 29], line: [120, 132, 146], accent: [240, 244, 248] };

/** A trace beside which the painted one is drawn: what both have in common pales. */
export interface Beside {
  readonly open: OpenTrace;
  /** Its token that stands beside token 0 of the painted one. */
  readonly offset: number;
}

interface MapPicture {
  readonly open: OpenTrace;
  readonly window: Window;
  readonly height: number;
  /** Pixels of a layer's column. */
  readonly column: number;
  readonly look: MapLook;
  readonly token?: number | undefined;
  readonly layer?: number | undefined;
  /** Only cells with this expert keep their colour. */
  readonly expert?: number | undefined;
  readonly beside?: Beside | undefined;
}

/** From so many tokens a pixel on, buckets of them are drawn. */
const BUCKET_FROM = 8;
const PALE = 0.1;

/** Colours of one row of cells. */
type PaintRow = (token: number, target: Uint8ClampedArray, at: number) => void;

function put(target: Uint8ClampedArray, at: number, background: Rgb, colour: Rgb, share: number): void {
  target[at] = background[0] + (colour[0] - background[0]) * share;
  target[at + 1] = background[1] + (colour[1] - background[1]) * share;
  target[at + 2] = background[2] + (colour[2] - background[2]) * share;
  target[at + 3] = 255;
}

/** How much of its colour a cell keeps beside another trace: none of its experts is there: all of it. */
function difference(a: Int16Array, b: Int16Array, atA: number, atB: number, width: number, widthB: number): number {
  let [shared, chosen] = [0, 0];
  for (let slot = atA; slot < atA + width; slot++) {
    const expert = a[slot]!;
    if (expert === NO_EXPERT) continue;
    chosen += 1;
    for (let other = atB; other < atB + widthB; other++) if (b[other] === expert) shared += 1;
  }
  return chosen === 0 ? 0 : 1 - shared / chosen;
}

function tokenRows({ open, look, expert, beside }: MapPicture): PaintRow {
  const { blocks, colours, trace } = open;
  const { slots } = trace.header;
  const layers = trace.header.layers.length;
  return (token, target, at) => {
    const block = blocks.at(token);
    const partner = beside === undefined ? undefined : token + beside.offset;
    const other =
      beside === undefined || partner! < 0 || partner! >= beside.open.trace.tokens
        ? undefined
        : beside.open.blocks.at(partner!);
    for (let layer = 0; layer < layers; layer++) {
      const cell = at + 4 * layer;
      if (block === undefined) {
        put(target, cell, look.background, look.line, 0.12);
        continue;
      }
      const place = ((token - block.start) * layers + layer) * slots;
      const first = block.experts[place]!;
      let keep = first === NO_EXPERT ? 0 : 1;
      if (expert !== undefined) {
        keep = PALE;
        for (let slot = 0; slot < slots; slot++) if (block.experts[place + slot] === expert) keep = 1;
      }
      const header = beside?.open.trace.header;
      if (other !== undefined && header !== undefined && layer < header.layers.length) {
        const beyond = ((partner! - other.start) * header.layers.length + layer) * header.slots;
        const differs = difference(block.experts, other.experts, place, beyond, slots, header.slots);
        keep *= differs === 0 ? PALE : 0.25 + 0.75 * differs;
      }
      const shown = expert !== undefined && keep === 1 ? expert : first;
      put(target, cell, look.background, colours[shown] ?? look.background, keep);
    }
  };
}

/** Rows from the buckets that were counted; undefined while there are none that are fine enough. */
function bucketRows({ open, look, expert, window }: MapPicture): PaintRow | undefined {
  const levels = open.summary.value.summary?.levels;
  const level = levels?.findLast(({ bucket }) => bucket * window.zoom <= 1.5) ?? levels?.[0];
  if (level === undefined) return undefined;
  const layers = open.trace.header.layers.length;
  return (token, target, at) => {
    const row = Math.floor(token / level.bucket) * layers;
    for (let layer = 0; layer < layers; layer++) {
      const chosen = level.expert[row + layer]!;
      const share = (level.share[row + layer] ?? 0) / 255;
      const keep = expert === undefined || expert === chosen ? 0.35 + 0.65 * share : PALE;
      if (chosen === NO_EXPERT) put(target, at + 4 * layer, look.background, look.line, 0.12);
      else put(target, at + 4 * layer, look.background, open.colours[chosen] ?? look.background, keep);
    }
  };
}

let scratch: HTMLCanvasElement | undefined;

/** Paints rows of cells and stretches them to their place. */
function paintCells(
  context: CanvasRenderingContext2D,
  rows: number,
  layers: number,
  paint: PaintRow,
  tokenOf: (row: number) => number,
  place: { readonly y: number; readonly width: number; readonly height: number },
): void {
  if (rows === 0) return;
  const image = new ImageData(layers, rows);
  for (let row = 0; row < rows; row++) paint(tokenOf(row), image.data, row * layers * 4);
  scratch ??= document.createElement("canvas");
  if (scratch.width !== layers || scratch.height < rows) {
    scratch.width = layers;
    scratch.height = Math.max(rows, 256);
  }
  scratch.getContext("2d")!.putImageData(image, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(scratch, 0, 0, layers, rows, 0, place.y, place.width, place.height);
}

/** Draws all of the map into a canvas that is `column` x layers wide. */
export function paintMap(canvas: HTMLCanvasElement, picture: MapPicture): void {
  const { open, window, height, column, look } = picture;
  const { tokens, header } = open.trace;
  const layers = header.layers.length;
  const ratio = globalThis.devicePixelRatio || 1;
  const width = column * layers;
  resize(canvas, width * ratio, height * ratio);
  const context = canvas.getContext("2d", { alpha: false })!;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.fillStyle = css(look.background);
  context.fillRect(0, 0, width, height);
  const { top, zoom } = window;
  if (zoom >= 1) {
    const [start, end] = shownRange(window, { height, tokens });
    const y = (start - top) * zoom;
    paintCells(context, end - start, layers, tokenRows(picture), (row) => start + row, {
      y,
      width,
      height: (end - start) * zoom,
    });
    decorate(context, picture, start, end);
  } else {
    const rows = Math.min(Math.round(height * ratio), Math.ceil((tokens - top) * zoom * ratio));
    const step = 1 / (zoom * ratio);
    // Rows stand for fixed tokens, whatever the window's edge: else the picture would flicker while it moves.
    const grain = 2 ** Math.floor(Math.log2(Math.max(1, step)));
    const tokenOf = (row: number) => Math.min(tokens - 1, Math.floor((top + row * step) / grain) * grain);
    const paint =
      (1 / zoom >= BUCKET_FROM && picture.beside === undefined ? bucketRows(picture) : undefined) ?? tokenRows(picture);
    paintCells(context, rows, layers, paint, tokenOf, { y: 0, width, height: rows / ratio });
  }
  if (column >= 5) separate(context, picture, width);
  outline(context, picture, width);
}

export function resize(canvas: HTMLCanvasElement, width: number, height: number): void {
  const [w, h] = [Math.max(1, Math.round(width)), Math.max(1, Math.round(height))];
  if (canvas.width !== w) canvas.width = w;
  if (canvas.height !== h) canvas.height = h;
}

/** Lines between tokens and before sequences, and the experts' numbers where there is room. */
function decorate(context: CanvasRenderingContext2D, picture: MapPicture, start: number, end: number): void {
  const { open, window, column, look, beside, expert } = picture;
  const { layers, slots } = open.trace.header;
  const { top, zoom } = window;
  const width = column * layers.length;
  const numbers = zoom >= 17 && column >= 19;
  context.font = `${Math.min(11, column * 0.45)}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  for (let token = start; token < end; token++) {
    const y = (token - top) * zoom;
    const block = open.blocks.at(token);
    if (block === undefined) continue;
    const row = token - block.start;
    if (numbers && beside === undefined && expert === undefined) {
      for (let layer = 0; layer < layers.length; layer++) {
        const first = block.experts[(row * layers.length + layer) * slots]!;
        if (first === NO_EXPERT) continue;
        context.fillStyle = css(inkOn(open.colours[first]!));
        context.fillText(String(first), (layer + 0.5) * column, y + zoom / 2 + 0.5);
      }
    }
    if (zoom >= 7) {
      context.fillStyle = css(look.background);
      context.fillRect(0, y - 0.5, width, 1);
    }
    if (block.begins[row] === 1 && zoom >= 3 && token > 0) {
      context.fillStyle = css(mix(look.background, look.line, 0.9));
      context.fillRect(0, y - 0.5, width, 1);
    }
  }
}

/** Lines between layers. */
function separate(context: CanvasRenderingContext2D, { column, look, height }: MapPicture, width: number): void {
  context.fillStyle = css(look.background);
  for (let x = column; x < width; x += column) context.fillRect(x - 0.5, 0, 1, height);
}

/** The chosen token, and the cell of the chosen layer. */
function outline(context: CanvasRenderingContext2D, picture: MapPicture, width: number): void {
  const { token, layer, window, column, look } = picture;
  if (token === undefined) return;
  const y = (token - window.top) * window.zoom;
  const height = Math.max(2, window.zoom);
  context.strokeStyle = css(look.accent);
  context.lineWidth = 1.5;
  context.strokeRect(0.75, y + 0.25, width - 1.5, height - 0.5);
  if (layer === undefined || window.zoom < 8) return;
  context.lineWidth = 2.5;
  context.strokeRect(layer * column + 1.25, y + 1.25, column - 2.5, height - 2.5);
}

/** Draws the whole trace into a narrow canvas. */
export function paintOverview(
  canvas: HTMLCanvasElement,
  open: OpenTrace,
  width: number,
  height: number,
  look: MapLook,
) {
  const { tokens, header } = open.trace;
  const layers = header.layers.length;
  const ratio = globalThis.devicePixelRatio || 1;
  resize(canvas, width * ratio, height * ratio);
  const context = canvas.getContext("2d", { alpha: false })!;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.fillStyle = css(look.background);
  context.fillRect(0, 0, width, height);
  const rows = Math.round(height * ratio);
  const window = { top: 0, zoom: height / Math.max(1, tokens) };
  const picture = { open, window, height, column: width / layers, look };
  const few = tokens <= 2048;
  const paint = few ? tokenRows(picture) : bucketRows(picture);
  if (paint === undefined || tokens === 0) return;
  const tokenOf = (row: number) => Math.min(tokens - 1, Math.floor(((row + 0.5) * tokens) / rows));
  paintCells(context, rows, layers, paint, tokenOf, { y: 0, width, height });
}
