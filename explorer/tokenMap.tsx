/** The map: a canvas of cells, tokens as text beside it where there is room, and an overview of the whole trace. */
import { useEffect, useRef, useState } from "preact/hooks";
import {
  clampWindow,
  describeZoom,
  leastZoom,
  MOST_ZOOM,
  reveal,
  shownRange,
  TEXT_ZOOM,
  tokenAt,
  type Window,
  zoomAt,
} from "./layout.ts";
import { type Beside, DARK_LOOK, LIGHT_LOOK, paintMap, paintOverview } from "./mapPainter.ts";
import { Fault, TokenText, useSize } from "./parts.tsx";
import { type OpenTrace, useDark, useStore } from "./state.ts";
import { count, label } from "./text.ts";

export interface TokenMapProps {
  readonly open: OpenTrace;
  readonly window: Window;
  readonly onWindow: (window: Window) => void;
  readonly token?: number | undefined;
  readonly layer?: number | undefined;
  readonly expert?: number | undefined;
  readonly beside?: Beside | undefined;
  /** Tokens that can be scrolled through, where there are more beside it. */
  readonly extent?: number | undefined;
  readonly overview?: boolean;
  /** Names the map for those who do not see it. */
  readonly title: string;
  readonly onChoose: (token: number, layer: number | undefined) => void;
  /** Keys that the map itself has no use for. */
  readonly onKey?: (key: string) => boolean;
}

const OVERVIEW = 40;
const DRAG_FROM = 4;

function labelWidth(width: number): number {
  return width < 460 ? 92 : width < 700 ? 130 : 168;
}

/** What the pointer is over. */
interface Spot {
  readonly token: number;
  readonly layer: number;
  readonly x: number;
  readonly y: number;
}

export function TokenMap(props: TokenMapProps) {
  const { open, token, layer, expert, beside, title, extent, overview = true } = props;
  const { element, width, height } = useSize<HTMLDivElement>();
  const canvas = useRef<HTMLCanvasElement>(null);
  const dark = useDark();
  const look = dark ? DARK_LOOK : LIGHT_LOOK;
  const summary = useStore(open.summary);
  const [, redraw] = useState({});
  const [spot, setSpot] = useState<Spot>();
  const layers = open.trace.header.layers;
  const frame = { height, tokens: extent ?? open.trace.tokens };
  const window = clampWindow(props.window, frame);
  const labels = labelWidth(width);
  const column = Math.max(
    3,
    Math.min(34, Math.floor((width - labels - (overview ? OVERVIEW + 14 : 0)) / layers.length)),
  );
  const picture = { open, window, height, column, look, token, layer, expert, beside };

  useEffect(() => {
    const changes = [open.blocks.onChange(() => redraw({}))];
    if (beside !== undefined) changes.push(beside.open.blocks.onChange(() => redraw({})));
    return () => {
      for (const end of changes) end();
    };
  }, [open, beside?.open]);

  // Drawn at the next frame, once, however often something has changed until then.
  useEffect(() => {
    if (height === 0) return;
    const frameNumber = requestAnimationFrame(() => canvas.current !== null && paintMap(canvas.current, picture));
    return () => cancelAnimationFrame(frameNumber);
  });

  const place = ({ clientX, clientY }: MouseEvent): Spot | undefined => {
    const box = canvas.current!.getBoundingClientRect();
    const [x, y] = [clientX - box.left, clientY - box.top];
    const found = tokenAt(window, y, frame);
    if (found === undefined) return undefined;
    return { token: found, layer: Math.max(0, Math.min(layers.length - 1, Math.floor(x / column))), x, y };
  };

  const pointers = usePointers({
    window,
    frame,
    onWindow: props.onWindow,
    top: () => canvas.current!.getBoundingClientRect().top,
    onTap: (event) => {
      const found = place(event);
      const onCells = (event.target as HTMLElement).tagName === "CANVAS";
      if (found !== undefined) props.onChoose(found.token, onCells ? found.layer : layer);
    },
  });

  const move = (by: number) => {
    const next = Math.max(0, Math.min(frame.tokens - 1, (token ?? Math.round(window.top) - Math.sign(by)) + by));
    props.onChoose(next, layer);
    props.onWindow(reveal(window, next, frame));
  };
  const zoom = (factor: number) => {
    const at = token === undefined ? height / 2 : Math.max(0, Math.min(height, (token - window.top) * window.zoom));
    props.onWindow(zoomAt(window, factor, at, frame));
  };
  const page = Math.max(1, Math.floor(height / window.zoom) - 1);
  const sideways = (by: number) => {
    const next = layer === undefined ? (by > 0 ? 0 : layers.length - 1) : layer + by;
    if (token !== undefined && next >= 0 && next < layers.length) props.onChoose(token, next);
  };
  const actions: Readonly<Record<string, () => void>> = {
    ArrowDown: () => move(1),
    ArrowUp: () => move(-1),
    ArrowRight: () => sideways(1),
    ArrowLeft: () => sideways(-1),
    PageDown: () => move(page),
    PageUp: () => move(-page),
    Home: () => move(-frame.tokens),
    End: () => move(frame.tokens),
    "+": () => zoom(1.5),
    "=": () => zoom(1.5),
    "-": () => zoom(1 / 1.5),
    "0": () => props.onWindow({ top: 0, zoom: leastZoom(frame) }),
    "1": () =>
      props.onWindow(
        zoomAt(window, 22 / window.zoom, token === undefined ? 0 : (token - window.top) * window.zoom, frame),
      ),
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const action = actions[event.key];
    if (action !== undefined) action();
    else if (props.onKey?.(event.key) !== true) return;
    event.preventDefault();
  };

  const [start, end] = shownRange(window, { height, tokens: open.trace.tokens });
  return (
    <div class="map-frame">
      <div class="map-head" aria-hidden="true" style={{ paddingLeft: `${labels}px` }}>
        {layers.map((number, index) => (
          <span
            key={number}
            class={index === layer ? "layer-name chosen" : "layer-name"}
            style={{ width: `${column}px` }}
          >
            {column >= 15 || index % Math.ceil(18 / column) === 0 ? number : ""}
          </span>
        ))}
      </div>
      <div
        ref={element}
        class="map"
        role="application"
        aria-roledescription="token map"
        aria-label={title}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: the map is moved with keys.
        tabIndex={0}
        onKeyDown={onKeyDown}
        {...pointers}
        onMouseMove={(event: MouseEvent) => setSpot(event.buttons === 0 ? place(event) : undefined)}
        onMouseLeave={() => setSpot(undefined)}
      >
        <div class="map-labels" style={{ width: `${labels}px` }}>
          {window.zoom >= TEXT_ZOOM ? (
            <Labels {...{ open, start, end, window, token }} />
          ) : (
            <Ticks {...{ window, height, tokens: frame.tokens }} />
          )}
        </div>
        <canvas
          ref={canvas}
          style={{ left: `${labels}px`, width: `${column * layers.length}px`, height: `${height}px` }}
        />
        {spot === undefined ? null : (
          <Tip {...{ open, spot, labels, column, layers, width, height }} zoom={window.zoom} />
        )}
        {overview ? (
          <Overview
            {...{ open, frame, window, look, onWindow: props.onWindow }}
            left={labels + column * layers.length + 14}
            counted={summary.summary?.tokens ?? 0}
          />
        ) : null}
      </div>
      {open.blocks.fault === undefined ? null : <Fault message={open.blocks.fault.message} />}
    </div>
  );
}

function Labels(props: {
  readonly open: OpenTrace;
  readonly start: number;
  readonly end: number;
  readonly window: Window;
  readonly token?: number | undefined;
}) {
  const { open, start, end, window, token } = props;
  const rows = [];
  for (let number = start; number < end; number++) {
    const block = open.blocks.at(number);
    const text = block === undefined ? "" : open.text(block.ids[number - block.start]!);
    const y = (number - window.top) * window.zoom;
    rows.push(
      <div
        key={number}
        class={number === token ? "map-label chosen" : "map-label"}
        style={{ transform: `translateY(${y}px)`, height: `${window.zoom}px` }}
      >
        <TokenText text={text} most={24} />
      </div>,
    );
  }
  return <>{rows}</>;
}

/** Numbers of tokens at round places, where the map is too dense for text. */
function Ticks({
  window,
  height,
  tokens,
}: {
  readonly window: Window;
  readonly height: number;
  readonly tokens: number;
}) {
  const wanted = 64 / window.zoom;
  const power = 10 ** Math.floor(Math.log10(wanted));
  const step = Math.max(1, power * ([1, 2, 5, 10].find((factor) => factor * power >= wanted) ?? 10));
  const [start, end] = shownRange(window, { height, tokens });
  const marks: number[] = [];
  for (let token = Math.ceil(start / step) * step; token < end; token += step) marks.push(token);
  return (
    <>
      {marks.map((token) => (
        <div
          key={token}
          class="map-tick"
          style={{ transform: `translateY(${Math.max(9, (token - window.top) * window.zoom)}px)` }}
        >
          {count(token)}
        </div>
      ))}
    </>
  );
}

function Tip(props: {
  readonly open: OpenTrace;
  readonly spot: Spot;
  readonly labels: number;
  readonly column: number;
  readonly layers: readonly number[];
  readonly width: number;
  readonly height: number;
  readonly zoom: number;
}) {
  const { open, spot, labels, layers, width, height } = props;
  const { slots } = open.trace.header;
  const block = open.blocks.at(spot.token);
  if (block === undefined || spot.x < 0 || spot.x > props.column * layers.length) return null;
  const row = spot.token - block.start;
  const place = (row * layers.length + spot.layer) * slots;
  const experts = Array.from(block.experts.subarray(place, place + slots)).filter((expert) => expert >= 0);
  const x = Math.min(labels + spot.x + 14, Math.max(0, width - 210));
  const y = spot.y > height - 90 ? spot.y - 84 : spot.y + 16;
  return (
    <div class="tip" style={{ transform: `translate(${x}px, ${y}px)` }} aria-hidden="true">
      <b>
        <bdi>{label(open.text(block.ids[row]!), 28)}</bdi>
      </b>
      <span class="soft">
        token {count(spot.token)}, layer {layers[spot.layer]}
      </span>
      <span>experts {experts.slice(0, 8).join(", ") || "none"}</span>
    </div>
  );
}

function Overview(props: {
  readonly open: OpenTrace;
  readonly frame: { readonly height: number; readonly tokens: number };
  readonly window: Window;
  readonly look: typeof LIGHT_LOOK;
  readonly onWindow: (window: Window) => void;
  readonly left: number;
  /** Tokens that are counted: with them the picture changes. */
  readonly counted: number;
}) {
  const { open, frame, window, look, counted } = props;
  const canvas = useRef<HTMLCanvasElement>(null);
  const [blocks, setBlocks] = useState(0);
  useEffect(() => open.blocks.onChange(() => open.trace.tokens <= 2048 && setBlocks((value) => value + 1)), [open]);
  useEffect(() => {
    if (frame.height > 0) paintOverview(canvas.current!, open, OVERVIEW, frame.height, look);
  }, [open, frame.height, look, counted, blocks]);
  const shown = frame.height / window.zoom;
  const top = (window.top / Math.max(1, frame.tokens)) * frame.height;
  const size = Math.max(4, Math.min(frame.height, (shown / Math.max(1, frame.tokens)) * frame.height));
  const jump = (event: PointerEvent) => {
    const box = canvas.current!.getBoundingClientRect();
    const middle = ((event.clientY - box.top) / box.height) * frame.tokens;
    props.onWindow(clampWindow({ zoom: window.zoom, top: middle - shown / 2 }, frame));
  };
  return (
    <div
      class="overview"
      aria-hidden="true"
      style={{ left: `${props.left}px` }}
      onPointerDown={(event) => {
        event.stopPropagation();
        event.currentTarget.setPointerCapture(event.pointerId);
        jump(event);
      }}
      onPointerMove={(event) => event.buttons > 0 && jump(event)}
    >
      <canvas ref={canvas} style={{ width: `${OVERVIEW}px`, height: `${frame.height}px` }} />
      <div class="overview-window" style={{ transform: `translateY(${top}px)`, height: `${size}px` }} />
    </div>
  );
}

/** Dragging, pinching, the wheel, and taps. */
function usePointers(options: {
  readonly window: Window;
  readonly frame: { readonly height: number; readonly tokens: number };
  readonly onWindow: (window: Window) => void;
  readonly onTap: (event: PointerEvent) => void;
  readonly top: () => number;
}) {
  const latest = useRef(options);
  latest.current = options;
  const down = useRef(new Map<number, { y: number; moved: boolean }>());
  const onPointerDown = (event: PointerEvent) => {
    down.current.set(event.pointerId, { y: event.clientY, moved: false });
  };
  const onPointerMove = (event: PointerEvent) => {
    const pointer = down.current.get(event.pointerId);
    if (pointer === undefined) return;
    const { window, frame, onWindow, top } = latest.current;
    const by = event.clientY - pointer.y;
    if (!pointer.moved && Math.abs(by) < DRAG_FROM) return;
    if (!pointer.moved) (event.currentTarget as HTMLElement).setPointerCapture(event.pointerId);
    pointer.moved = true;
    const other = [...down.current].find(([id]) => id !== event.pointerId)?.[1];
    if (other === undefined) onWindow(clampWindow({ ...window, top: window.top - by / window.zoom }, frame));
    else {
      const before = Math.max(8, Math.abs(pointer.y - other.y));
      const after = Math.max(8, Math.abs(event.clientY - other.y));
      onWindow(zoomAt(window, after / before, other.y - top(), frame));
    }
    pointer.y = event.clientY;
  };
  const onPointerUp = (event: PointerEvent) => {
    const pointer = down.current.get(event.pointerId);
    down.current.delete(event.pointerId);
    if (pointer?.moved === false) latest.current.onTap(event);
  };
  const onPointerCancel = (event: PointerEvent) => down.current.delete(event.pointerId);
  const onWheel = (event: WheelEvent) => {
    const { window, frame, onWindow, top } = latest.current;
    const pixels = event.deltaMode === 1 ? event.deltaY * 16 : event.deltaY;
    event.preventDefault();
    if (event.ctrlKey || event.metaKey) onWindow(zoomAt(window, Math.exp(-pixels / 300), event.clientY - top(), frame));
    else onWindow(clampWindow({ ...window, top: window.top + pixels / window.zoom }, frame));
  };
  return { onPointerDown, onPointerMove, onPointerUp, onPointerCancel, onWheel };
}

/** Buttons that zoom, with what the zoom is. */
export function ZoomButtons(props: {
  readonly open: OpenTrace;
  readonly window: Window;
  readonly height: number;
  readonly onWindow: (window: Window) => void;
}) {
  const frame = { height: props.height, tokens: props.open.trace.tokens };
  const window = clampWindow(props.window, frame);
  const by = (factor: number) => () => props.onWindow(zoomAt(window, factor, props.height / 2, frame));
  return (
    <fieldset class="zoom">
      <legend class="unseen">Zoom</legend>
      <button
        type="button"
        onClick={() => props.onWindow({ top: 0, zoom: leastZoom(frame) })}
        disabled={window.zoom <= leastZoom(frame)}
      >
        All
      </button>
      <button type="button" aria-label="Zoom out" onClick={by(0.5)} disabled={window.zoom <= leastZoom(frame)}>
        −
      </button>
      <button type="button" aria-label="Zoom in" onClick={by(2)} disabled={window.zoom >= MOST_ZOOM}>
        +
      </button>
      <output>{describeZoom(window.zoom)}</output>
    </fieldset>
  );
}
