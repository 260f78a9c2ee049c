/**
 * Builders of charts: data in, vega-lite specs out. They know nothing of models, files or pages; `render.io.ts` and any
 * page with vega-lite draw the result. Numbers that are not finite are gaps, never zeros.
 */
import type { TopLevelSpec } from "vega-lite";
import { ConfigError, ShapeError } from "../errors.ts";
import {
  ABOVE_COLOURS,
  BELOW_COLOURS,
  INK,
  MISSING_COLOUR,
  SEQUENTIAL_COLOURS,
  SERIES_COLOURS,
  SOFT_INK,
  THEME,
} from "./theme.ts";

const SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json";

interface Titles {
  readonly title: string;
  /** One line under the title. */
  readonly subtitle?: string;
}

export function head({ title, subtitle }: Titles): Pick<TopLevelSpec, "$schema" | "config" | "title"> {
  return {
    $schema: SCHEMA,
    config: THEME,
    title: subtitle === undefined ? title : { text: title, subtitle },
  };
}

export function finiteOrNull(value: number | undefined): number | null {
  return value !== undefined && Number.isFinite(value) ? value : null;
}

export function refuseRepeats(place: string, names: readonly string[]): void {
  const seen = new Set<string>();
  for (const name of names) {
    if (seen.has(name)) throw new ConfigError(`${place}: name "${name}" is used twice, names must differ`);
    seen.add(name);
  }
}

/** Colours by series name in the order given; the hues start again after the sixth. */
export function seriesScale(names: readonly string[]) {
  return { domain: [...names], range: names.map((_, index) => SERIES_COLOURS[index % SERIES_COLOURS.length]!) };
}

/** 500, 1k, 2.5M; below 1 as the axis writes it. */
export const SHORT_NUMBER = "abs(datum.value) < 1 ? datum.label : format(datum.value, '~s')";

export interface LineSeries {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
  /** For what is not measured along x, such as a baseline. */
  readonly dashed?: boolean;
}

export interface LineChartOptions extends Titles {
  readonly xTitle: string;
  readonly yTitle: string;
  readonly series: readonly LineSeries[];
  /** Logarithmic y; values of 0 and below become gaps. */
  readonly logY?: boolean;
}

/**
 * Lines over a common x. The y axis need not start at zero.
 *
 * @throws ConfigError if two series have the same name.
 */
export function lineChart(options: LineChartOptions): TopLevelSpec {
  const { xTitle, yTitle, series, logY = false } = options;
  const names = series.map(({ name }) => name);
  refuseRepeats("lineChart", names);
  const values = series.flatMap(({ name, points }) =>
    points.map(([x, y]) => ({ series: name, x: finiteOrNull(x), y: logY && y <= 0 ? null : finiteOrNull(y) })),
  );
  const legend =
    names.length > 1 ? { title: null, orient: "top" as const, symbolType: "stroke", symbolSize: 200 } : null;
  return {
    ...head(options),
    width: 620,
    height: 320,
    data: { values },
    mark: { type: "line" },
    encoding: {
      x: {
        field: "x",
        type: "quantitative",
        title: xTitle,
        scale: { zero: false, nice: false },
        axis: { grid: false, tickCount: 8, labelExpr: SHORT_NUMBER },
      },
      y: {
        field: "y",
        type: "quantitative",
        title: yTitle,
        scale: logY ? { type: "log" } : { zero: false },
        axis: { domain: false, ticks: false, tickCount: 6 },
      },
      color: { field: "series", type: "nominal", scale: seriesScale(names), legend },
      strokeDash: {
        field: "series",
        type: "nominal",
        scale: { domain: names, range: series.map(({ dashed }) => (dashed === true ? [5, 4] : [1, 0])) },
        legend,
      },
    },
  };
}

export interface BarChartOptions extends Titles {
  readonly yTitle: string;
  /** Groups along x. */
  readonly groups: readonly string[];
  /** One bar in each group for each series; `values` in the order of the groups. */
  readonly series: readonly { readonly name: string; readonly values: ArrayLike<number> }[];
  /** Decimals of the number above each bar; the default is 2. */
  readonly decimals?: number;
}

/**
 * Bars side by side within groups, each with its number. The y axis starts at zero.
 *
 * @throws ConfigError if two groups or two series have the same name.
 * @throws ShapeError if a series has another number of values than there are groups.
 */
export function barChart(options: BarChartOptions): TopLevelSpec {
  const { yTitle, groups, series, decimals = 2 } = options;
  const names = series.map(({ name }) => name);
  refuseRepeats("barChart: series", names);
  refuseRepeats("barChart: groups", groups);
  for (const { name, values } of series) {
    if (values.length !== groups.length) {
      throw new ShapeError(`barChart: series "${name}" has ${values.length} values, there are ${groups.length} groups`);
    }
  }
  const values = series.flatMap(({ name, values }) =>
    groups.map((group, index) => ({ group, series: name, value: finiteOrNull(values[index]) })),
  );
  const xOffset = { field: "series", type: "nominal" as const, scale: { domain: names, paddingInner: 0.08 } };
  const legend = names.length > 1 ? { title: null, orient: "top" as const, symbolType: "square" } : null;
  return {
    ...head(options),
    width: 620,
    height: 280,
    data: { values },
    encoding: {
      x: {
        field: "group",
        type: "nominal",
        sort: null,
        title: null,
        scale: { paddingInner: 0.25, paddingOuter: 0.12 },
        axis: { labelAngle: 0, ticks: false, labelFontSize: 12, labelPadding: 8 },
      },
      xOffset,
      y: {
        field: "value",
        type: "quantitative",
        title: yTitle,
        scale: { zero: true },
        axis: { domain: false, ticks: false, tickCount: 5 },
      },
    },
    layer: [
      {
        mark: { type: "bar" },
        encoding: { color: { field: "series", type: "nominal", scale: seriesScale(names), legend } },
      },
      {
        mark: { type: "text", dy: -7, fontSize: 10, color: INK },
        encoding: { text: { field: "value", type: "quantitative", format: `.${decimals}f` } },
      },
    ],
  };
}

/** A number for each row and column. */
export type Matrix = readonly ArrayLike<number>[];

interface HeatScaleOptions {
  readonly rowTitle?: string;
  readonly columnTitle?: string;
  /** What the colour means, with its unit. */
  readonly legendTitle: string;
  /** The value of no colour, such as 1 for shares relative to an even share; without it the colours run from 0 up. */
  readonly midpoint?: number;
}

export interface HeatMapOptions extends Titles, HeatScaleOptions {
  readonly rows: readonly string[];
  readonly columns: readonly string[];
  /** [rows, columns]. */
  readonly values: Matrix;
}

export interface HeatMapPanel {
  /** Names the panel, such as "Layer 0". */
  readonly title: string;
  /** Column names, which may be in another order in each panel. */
  readonly columns: readonly string[];
  /** [rows, columns]. */
  readonly values: Matrix;
}

export interface HeatMapGridOptions extends Titles, HeatScaleOptions {
  readonly rows: readonly string[];
  readonly panels: readonly HeatMapPanel[];
}

function checkMatrix(place: string, rows: readonly string[], columns: readonly string[], values: Matrix): void {
  refuseRepeats(`${place}: rows`, rows);
  refuseRepeats(`${place}: columns`, columns);
  if (values.length !== rows.length) {
    throw new ShapeError(`${place}: ${values.length} rows of values, there are ${rows.length} row names`);
  }
  values.forEach((row, index) => {
    if (row.length === columns.length) return;
    throw new ShapeError(
      `${place}: row "${rows[index]}" has ${row.length} values, there are ${columns.length} column names`,
    );
  });
}

/**
 * The colour scale over all values. Without a midpoint it runs from 0 (or the least value below 0) up. Around a midpoint of
 * differences both sides reach equally far. Around a midpoint of ratios it starts at 0, and above the midpoint each hue
 * stands for the same factor, so that twice an even share shows beside eight times.
 */
function heatScale(matrices: readonly Matrix[], midpoint: number | undefined) {
  const { least, most } = extent(matrices);
  if (midpoint === undefined) {
    const low = Math.min(0, least);
    const high = most > low ? most : low + 1;
    const domain = spread(low, high, SEQUENTIAL_COLOURS.length);
    return { domain, range: [...SEQUENTIAL_COLOURS], ticks: [low, (low + high) / 2, high] };
  }
  const reach = Math.max(most - midpoint, midpoint - least) || 1;
  const range = [...BELOW_COLOURS, ...ABOVE_COLOURS.slice(1)];
  if (least < 0 || midpoint <= 0) {
    const below = spread(midpoint - reach, midpoint, BELOW_COLOURS.length);
    const above = spread(midpoint, midpoint + reach, ABOVE_COLOURS.length);
    return { domain: [...below, ...above.slice(1)], range, ticks: [below[0]!, midpoint, midpoint + reach] };
  }
  const doublings = Math.log2(Math.max(most / midpoint, 2));
  const above = spread(0, doublings, ABOVE_COLOURS.length).map((power) => midpoint * 2 ** power);
  const ticks = Array.from({ length: Math.floor(doublings) + 1 }, (_, power) => midpoint * 2 ** power)
    // The legend has room for this many numbers side by side.
    .filter((tick) => tick * 22 >= above.at(-1)!);
  return { domain: [...spread(0, midpoint, BELOW_COLOURS.length), ...above.slice(1)], range, ticks: [0, ...ticks] };
}

/** Least and most of the finite values; both 0 where there is none. */
function extent(matrices: readonly Matrix[]): { least: number; most: number } {
  let least = Number.POSITIVE_INFINITY;
  let most = Number.NEGATIVE_INFINITY;
  for (const row of matrices.flat()) {
    for (let column = 0; column < row.length; column++) {
      const value = row[column]!;
      if (!Number.isFinite(value)) continue;
      least = Math.min(least, value);
      most = Math.max(most, value);
    }
  }
  return least <= most ? { least, most } : { least: 0, most: 0 };
}

function spread(from: number, to: number, count: number): number[] {
  return Array.from({ length: count }, (_, index) => from + ((to - from) * index) / (count - 1));
}

const PLOT_WIDTH = 780;

/** Cells as high as they are wide, within what is readable. */
function cellHeight(columns: number): number {
  return Math.max(16, Math.min(26, PLOT_WIDTH / Math.max(1, columns)));
}

function cells(rows: readonly string[], columns: readonly string[], values: Matrix) {
  return rows.flatMap((row, r) => columns.map((column, c) => ({ row, column, value: finiteOrNull(values[r]?.[c]) })));
}

/** Names that would touch each other are thinned out evenly. */
function columnLabels(columns: readonly string[], step: number): string[] {
  const widest = Math.max(0, ...columns.map((name) => name.length));
  const every = Math.max(1, Math.ceil((widest * 5.6 + 3) / step));
  return columns.filter((_, index) => index % every === 0);
}

/** What the colours of cells mean, above the chart. */
export function gradientLegend(title: string, format: string, values: readonly number[]) {
  return {
    title,
    orient: "top" as const,
    direction: "horizontal" as const,
    gradientLength: 220,
    gradientThickness: 9,
    titleOrient: "left" as const,
    titleAnchor: "middle" as const,
    labelFontSize: 10,
    labelColor: SOFT_INK,
    format,
    values: [...values],
  };
}

function heatEncoding(
  options: HeatScaleOptions & { readonly rows: readonly string[] },
  columns: readonly string[],
  matrices: readonly Matrix[],
  showColumns: { readonly labels: boolean; readonly title: boolean },
) {
  const { rows, rowTitle, columnTitle, legendTitle, midpoint } = options;
  const { domain, range, ticks } = heatScale(matrices, midpoint);
  const labels = columnLabels(columns, PLOT_WIDTH / Math.max(1, columns.length));
  const quiet = { domain: false, ticks: false, grid: false };
  const gap = columns.length > 80 ? 0 : 0.07;
  return {
    x: {
      field: "column",
      type: "nominal" as const,
      title: showColumns.title ? (columnTitle ?? null) : null,
      scale: { domain: [...columns], paddingInner: gap, paddingOuter: gap / 2 },
      axis: { ...quiet, labelAngle: 0, labelFontSize: 10, labels: showColumns.labels, values: labels },
    },
    y: {
      field: "row",
      type: "nominal" as const,
      title: rowTitle ?? null,
      scale: { domain: [...rows], paddingInner: gap, paddingOuter: gap / 2 },
      axis: { ...quiet, labelColor: INK, labelFontSize: 12, labelLimit: 110, labelPadding: 6 },
    },
    color: {
      condition: { test: "!isValid(datum.value)", value: MISSING_COLOUR },
      field: "value",
      type: "quantitative" as const,
      scale: { type: "linear" as const, domain, range, interpolate: "lab" as const },
      legend: gradientLegend(legendTitle, ".3~g", ticks),
    },
  };
}

/**
 * A matrix as coloured cells.
 *
 * @throws ShapeError if `values` is not [rows, columns].
 * @throws ConfigError if a row or column name is used twice.
 */
export function heatMap(options: HeatMapOptions): TopLevelSpec {
  const { rows, columns, values } = options;
  checkMatrix("heatMap", rows, columns, values);
  return {
    ...head(options),
    width: PLOT_WIDTH,
    height: Math.max(1, rows.length) * cellHeight(columns.length),
    data: { values: cells(rows, columns, values) },
    mark: { type: "rect", invalid: null },
    encoding: heatEncoding(options, columns, [values], { labels: true, title: true }),
  };
}

/**
 * Heat maps of the same rows below each other under one colour scale, about 900 px wide. Columns may be in another order
 * in each panel; where all panels share one order, only the last shows it.
 *
 * @throws ShapeError if a panel's values are not [rows, its columns], or if there is no panel.
 * @throws ConfigError if a row name, or a column name within a panel, is used twice.
 */
export function heatMapGrid(options: HeatMapGridOptions): TopLevelSpec {
  const { rows, panels } = options;
  if (panels.length === 0) throw new ShapeError("heatMapGrid: 0 panels, needs at least 1");
  for (const { title, columns, values } of panels) checkMatrix(`heatMapGrid: ${title}`, rows, columns, values);
  const order = (panel: HeatMapPanel) => JSON.stringify(panel.columns);
  const sameOrder = panels.every((panel) => order(panel) === order(panels[0]!));
  const matrices = panels.map(({ values }) => values);
  return {
    ...head(options),
    spacing: sameOrder ? 12 : 16,
    resolve: { scale: { x: "independent", color: "shared" } },
    vconcat: panels.map(({ title, columns, values }, index) => {
      const last = index === panels.length - 1;
      return {
        title: { text: title, fontSize: 12, fontWeight: "bold", offset: 5 },
        width: PLOT_WIDTH,
        height: Math.max(1, rows.length) * cellHeight(columns.length),
        data: { values: cells(rows, columns, values) },
        mark: { type: "rect", invalid: null },
        encoding: heatEncoding(options, columns, matrices, { labels: last || !sameOrder, title: last }),
      };
    }),
  };
}
