/** Line charts side by side over one y axis, such as the same lines for the first expert and for the first eight. */
import type { TopLevelSpec } from "vega-lite";
import { ShapeError } from "../errors.ts";
import { finiteOrNull, head, refuseRepeats, SHORT_NUMBER, seriesScale } from "./charts.ts";
import { SOFT_INK } from "./theme.ts";

/** From dark to light and from cold to warm, so that neighbours in an order can be followed. */
const ORDERED_COLOURS = ["#28306e", "#2f6da3", "#3aa6a0", "#8cc06a", "#e3b23c", "#d9603b", "#8a2c4a"] as const;

export interface PanelSeries {
  readonly name: string;
  readonly points: readonly {
    readonly x: number;
    readonly y: number;
    /** Of a band around the line. */
    readonly interval?: readonly [low: number, high: number] | undefined;
  }[];
}

export interface LinePanel {
  readonly title: string;
  readonly series: readonly PanelSeries[];
  /** A dashed line across, such as what chance would give. */
  readonly reference?: { readonly value: number; readonly label: string };
}

export interface PanelLinesOptions {
  readonly title: string;
  readonly subtitle?: string;
  readonly xTitle: string;
  readonly yTitle: string;
  /** At least one; all may have other series. */
  readonly panels: readonly LinePanel[];
  /** Series are steps of an order, such as layers: their colours are one scale, in the order in which they are first named. */
  readonly ordered?: boolean;
  /** What the series are, above their names. */
  readonly legendTitle?: string;
  /** Writes y as percentages. */
  readonly percent?: boolean;
  /** Whole numbers along x that are layers, ranks and the like, each with its label. */
  readonly wholeX?: boolean;
}

/** @throws ShapeError where there is no panel; ConfigError if a panel has two series of one name. */
export function panelLines(options: PanelLinesOptions): TopLevelSpec {
  const { panels, ordered = false, legendTitle, percent = false, wholeX = false } = options;
  if (panels.length === 0) throw new ShapeError("panelLines: 0 panels, needs at least 1");
  for (const { title, series } of panels) {
    refuseRepeats(
      `panelLines: ${title}`,
      series.map(({ name }) => name),
    );
  }
  const names = [...new Set(panels.flatMap(({ series }) => series.map(({ name }) => name)))];
  const points = panels.flatMap(({ series }) => series.flatMap((one) => one.points));
  const heights = points.flatMap(({ y, interval }) => [y, ...(interval ?? [])]);
  const most = [...heights, ...panels.map(({ reference }) => reference?.value ?? 0)]
    .filter(Number.isFinite)
    .reduce((a, b) => Math.max(a, b), 0);
  const xs = [...new Set(points.map(({ x }) => x))].sort((a, b) => a - b);
  const colour = {
    field: "series",
    type: "nominal" as const,
    scale: ordered ? { domain: names, range: orderedColours(names.length) } : seriesScale(names),
    legend:
      names.length === 1
        ? null
        : {
            title: legendTitle ?? null,
            orient: "right" as const,
            symbolType: "stroke",
            symbolSize: 160,
            symbolOpacity: 1,
            rowPadding: 1,
            labelFontSize: 11,
          },
  };
  const x = {
    field: "x",
    type: "quantitative" as const,
    title: options.xTitle,
    scale: { zero: false, nice: false, padding: 8 },
    axis: wholeX
      ? { grid: false, values: xs.length <= 20 ? xs : xs.filter((value) => value % 4 === 0), format: "d" }
      : { grid: false, tickCount: 5, labelExpr: SHORT_NUMBER },
  };
  return {
    ...head(options),
    spacing: 24,
    resolve: { scale: { y: "shared", color: "shared" }, legend: { color: "shared" } },
    hconcat: panels.map(({ title, series, reference }, index) => {
      const y = {
        type: "quantitative" as const,
        title: index === 0 ? options.yTitle : null,
        scale: { domainMin: 0, domainMax: percent && most > 0.6 ? 1 : most * 1.05, nice: false },
        axis: { domain: false, ticks: false, tickCount: 6, ...(percent ? { format: ".0%" } : {}) },
      };
      const values = series.flatMap(({ name, points }) =>
        points.map((point) => ({
          series: name,
          x: point.x,
          y: finiteOrNull(point.y),
          low: finiteOrNull(point.interval?.[0]),
          high: finiteOrNull(point.interval?.[1]),
        })),
      );
      return {
        title: { text: title, fontSize: 12, fontWeight: "bold" as const, offset: 8 },
        width: panels.length === 1 ? 560 : 300,
        height: 300,
        data: { values },
        encoding: { x, color: colour },
        layer: [
          ...(values.some(({ low }) => low !== null)
            ? [
                {
                  mark: { type: "area" as const, opacity: 0.16 },
                  encoding: { y: { ...y, field: "low" }, y2: { field: "high" } },
                },
              ]
            : []),
          {
            mark: {
              type: "line" as const,
              strokeWidth: names.length > 6 ? 1.7 : 2.2,
              point: { size: 26, filled: true },
            },
            encoding: { y: { ...y, field: "y" } },
          },
          ...(reference === undefined ? [] : referenceLayers(reference, xs.at(-1) ?? 0)),
        ],
      };
    }),
  };
}

/** The dashed line and its name at the right end. */
function referenceLayers({ value, label }: { readonly value: number; readonly label: string }, right: number) {
  const place = { datum: value, type: "quantitative" as const };
  return [
    {
      data: { values: [{}] },
      mark: { type: "rule" as const, strokeDash: [5, 4], color: SOFT_INK, strokeWidth: 1 },
      encoding: { y: place, x: {}, color: {} },
    },
    {
      data: { values: [{ x: right }] },
      mark: { type: "text" as const, align: "right" as const, dy: -7, fontSize: 10.5, color: SOFT_INK },
      encoding: { y: place, x: { field: "x", type: "quantitative" as const }, text: { value: label }, color: {} },
    },
  ];
}

/** So many colours, evenly spread over the scale. */
export function orderedColours(count: number): string[] {
  const parts = ORDERED_COLOURS.map((colour) =>
    [1, 3, 5].map((start) => Number.parseInt(colour.slice(start, start + 2), 16)),
  );
  return Array.from({ length: count }, (_, index) => {
    const place = count < 2 ? 1 : (index * (parts.length - 1)) / (count - 1);
    const [low, high] = [parts[Math.floor(place)]!, parts[Math.ceil(place)]!];
    const mixed = low.map((part, channel) => Math.round(part + (high[channel]! - part) * (place % 1)));
    return `#${mixed.map((part) => part.toString(16).padStart(2, "0")).join("")}`;
  });
}
