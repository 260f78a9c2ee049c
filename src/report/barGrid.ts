/** Small bar charts in rows and columns that share their axes, such as experts along x, a domain a row, a layer a column. */
import type { TopLevelSpec } from "vega-lite";
import { ShapeError } from "../errors.ts";
import { finiteOrNull, head, refuseRepeats, seriesScale } from "./charts.ts";
import { INK, SOFT_INK } from "./theme.ts";

export interface BarGridOptions {
  readonly title: string;
  readonly subtitle?: string;
  readonly xTitle: string;
  readonly rows: readonly string[];
  readonly columns: readonly string[];
  /** [rows][columns] of bars; those of a column have one length. */
  readonly values: readonly (readonly ArrayLike<number>[])[];
  /** Marks drawn over the bars, as `values`, such as what was measured before. */
  readonly marks?: readonly (readonly ArrayLike<number>[])[];
  /** What bars and marks are, where there are marks. */
  readonly markNames?: readonly [bars: string, marks: string];
  /** A dashed line across every chart. */
  readonly reference?: { readonly value: number; readonly label: string };
  /** A dashed line upwards, at a place along x from 0 to the number of bars. */
  readonly upright?: { readonly value: number; readonly label: string };
  /** What x means at its ends, instead of the bars' numbers. */
  readonly xRange?: readonly [from: number, to: number];
  /** Height of each chart; default 74. */
  readonly rowHeight?: number;
  /** Square-root y, which shows small bars beside large ones. */
  readonly squareRoot?: boolean;
  /** Writes y as percentages. */
  readonly percent?: boolean;
}

const WIDTH = 900;

/** @throws ShapeError where values are not [rows][columns]; ConfigError for a name that is used twice. */
export function barGrid(options: BarGridOptions): TopLevelSpec {
  const { rows, columns, values, marks, reference, percent = false, squareRoot = false, rowHeight = 74 } = options;
  refuseRepeats("barGrid: rows", rows);
  refuseRepeats("barGrid: columns", columns);
  for (const table of marks === undefined ? [values] : [values, marks]) checkGrid(rows, columns, table);
  const bars = Math.max(1, ...values.flatMap((row) => row.map(({ length }) => length)));
  const width = Math.round(Math.max(150, (WIDTH - 24 * (columns.length - 1)) / columns.length));
  const legend =
    reference === undefined && options.upright === undefined && marks === undefined ? [] : [keyOf(options)];
  const subtitle = [options.subtitle, ...legend].filter((line) => line !== undefined).join(" · ");
  return {
    ...head({ title: options.title, ...(subtitle === "" ? {} : { subtitle }) }),
    spacing: 10,
    vconcat: rows.map((row, r) => ({
      spacing: 4,
      hconcat: columns.map((column, c) => {
        const y = {
          type: "quantitative" as const,
          title: c === 0 ? row : null,
          scale: {
            type: squareRoot ? ("sqrt" as const) : ("linear" as const),
            domain: [0, mostOf(options) || 1],
            nice: false,
          },
          axis: {
            domain: false,
            ticks: false,
            tickCount: 3,
            // Labels that are not seen keep the columns' titles at one height.
            ...(c === 0 ? {} : { labelColor: "#ffffff" }),
            ...(squareRoot ? { values: [0, 0.05, 0.25, 0.5, 1] } : {}),
            titleColor: INK,
            titleFontSize: 12,
            titleFontWeight: "bold" as const,
            titleAngle: 0,
            titleAlign: "right" as const,
            titleX: -44,
            titleBaseline: "middle" as const,
            titleY: rowHeight / 2,
            ...(percent ? { format: ".0%" } : {}),
          },
        };
        const x = axisX(options, bars, r === rows.length - 1);
        return {
          ...(r === 0 ? { title: { text: column, fontSize: 12, fontWeight: "bold" as const, offset: 8 } } : {}),
          width,
          height: rowHeight,
          data: { values: barsOf(values[r]![c]!, marks?.[r]?.[c]) },
          layer: [
            {
              mark: { type: "rect" as const, clip: true },
              encoding: {
                x,
                x2: { field: "end" },
                y: { ...y, field: "value" },
                y2: { datum: 0 },
                color: {
                  datum: marks === undefined ? row : "",
                  type: "nominal" as const,
                  scale: marks === undefined ? seriesScale(rows) : { domain: [""], range: ["#9fc2de"] },
                  legend: null,
                },
              },
            },
            ...(marks === undefined
              ? []
              : [
                  {
                    mark: { type: "rule" as const, strokeWidth: 1.6, color: "#b8431c" },
                    encoding: { x, x2: { field: "end" }, y: { ...y, field: "mark" } },
                  },
                ]),
            ...(reference === undefined ? [] : [ruleAcross(reference.value)]),
            ...(options.upright === undefined ? [] : [ruleUp(options.upright.value)]),
          ],
        };
      }),
    })),
  };
}

function checkGrid(rows: readonly string[], columns: readonly string[], table: BarGridOptions["values"]): void {
  if (table.length === rows.length && table.every((row) => row.length === columns.length)) return;
  const shape = `${table.length} rows of ${[...new Set(table.map(({ length }) => length))].join(" and ")}`;
  throw new ShapeError(`barGrid: ${shape} charts, there are ${rows.length} row and ${columns.length} column names`);
}

/** The dashed lines and marks in words, for the line under the title. */
function keyOf({ reference, upright, markNames }: BarGridOptions): string {
  return [
    ...(markNames === undefined ? [] : [`bars: ${markNames[0]}, lines: ${markNames[1]}`]),
    ...[reference, upright].flatMap((line) => (line === undefined ? [] : [`dashed: ${line.label}`])),
  ].join(" · ");
}

function mostOf({ values, marks = [], reference }: BarGridOptions): number {
  let most = reference?.value ?? 0;
  for (const bars of [...values, ...marks].flat()) {
    for (let index = 0; index < bars.length; index++) if (bars[index]! > most) most = bars[index]!;
  }
  return most * 1.1;
}

/** Bars with a little room between them; numbers are cut where no eye can tell. */
function barsOf(values: ArrayLike<number>, marks: ArrayLike<number> | undefined) {
  return Array.from({ length: values.length }, (_, index) => ({
    x: index + 0.06,
    end: index + 0.94,
    value: finiteOrNull(values[index]),
    ...(marks === undefined ? {} : { mark: finiteOrNull(marks[index]) }),
  }));
}

function axisX({ xTitle, xRange }: BarGridOptions, bars: number, labelled: boolean) {
  const step = [1, 2, 4, 8, 16, 32, 64].find((every) => bars / every <= 10) ?? 128;
  const numbers = Array.from({ length: Math.ceil(bars / step) }, (_, index) => index * step + 0.5);
  const ends = Array.from({ length: 6 }, (_, index) => (index * bars) / 5);
  const span = xRange === undefined ? 0 : xRange[1] - xRange[0];
  return {
    field: "x",
    type: "quantitative" as const,
    title: labelled ? xTitle : null,
    scale: { domain: [0, bars], nice: false, zero: false },
    axis: {
      grid: false,
      ticks: false,
      labels: labelled,
      values: xRange === undefined ? numbers : ends,
      labelExpr:
        xRange === undefined
          ? "format(floor(datum.value), 'd')"
          : `format(${xRange[0]} + ${span} * datum.value / ${bars}, '.0%')`,
      labelFlush: xRange !== undefined,
    },
  };
}

const DASHED = { type: "rule" as const, strokeDash: [4, 3], color: SOFT_INK, strokeWidth: 1 };

function ruleAcross(value: number) {
  return {
    data: { values: [{}] },
    mark: DASHED,
    encoding: { y: { datum: value, type: "quantitative" as const } },
  };
}

function ruleUp(value: number) {
  return { data: { values: [{}] }, mark: DASHED, encoding: { x: { datum: value, type: "quantitative" as const } } };
}
