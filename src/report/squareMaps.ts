/** Square heat maps side by side under one colour scale: how much of one expert's work another one shares. */
import type { TopLevelSpec } from "vega-lite";
import { ShapeError } from "../errors.ts";
import { finiteOrNull, gradientLegend, head, type Matrix, refuseRepeats } from "./charts.ts";
import { MISSING_COLOUR, SEQUENTIAL_COLOURS } from "./theme.ts";

export interface SquareMap {
  readonly title: string;
  /** Names of rows and columns. */
  readonly names: readonly string[];
  /** [names, names]; the diagonal is left blank. */
  readonly values: Matrix;
}

export interface SquareMapsOptions {
  readonly title: string;
  readonly subtitle?: string;
  readonly rowTitle: string;
  readonly columnTitle: string;
  readonly legendTitle: string;
  readonly maps: readonly SquareMap[];
  /** Maps side by side; default 3. */
  readonly perRow?: number;
}

/** @throws ShapeError where there is no map, or values are not square. ConfigError for a name that is used twice in a map. */
export function squareMaps(options: SquareMapsOptions): TopLevelSpec {
  const { maps, rowTitle, columnTitle, legendTitle, perRow = 3 } = options;
  if (maps.length === 0) throw new ShapeError("squareMaps: 0 maps, needs at least 1");
  const cells = maps.map(cellsOf);
  const most = cells.flat().reduce((high, { value }) => Math.max(high, value ?? 0), 0) || 1;
  const side = maps.length === 1 ? 480 : 290;
  const quiet = { domain: false, ticks: false, grid: false, labelFontSize: 9, labelPadding: 2 };
  return {
    ...head(options),
    columns: perRow,
    spacing: 26,
    resolve: { scale: { color: "shared", x: "independent", y: "independent" } },
    concat: maps.map(({ title, names }, index) => {
      const every = Math.ceil((names.length * 15) / side);
      const labels = names.filter((_, place) => place % every === 0);
      const scale = { domain: [...names], padding: 0.05 };
      return {
        title: { text: title, fontSize: 12, fontWeight: "bold" as const, offset: 6 },
        width: side,
        height: side,
        data: { values: cells[index]! },
        mark: { type: "rect" as const, invalid: null },
        encoding: {
          x: {
            field: "column",
            type: "nominal" as const,
            title: columnTitle,
            scale,
            axis: { ...quiet, values: labels, labelAngle: 0 },
          },
          y: { field: "row", type: "nominal" as const, title: rowTitle, scale, axis: { ...quiet, values: labels } },
          color: {
            condition: { test: "!isValid(datum.value)", value: MISSING_COLOUR },
            field: "value",
            type: "quantitative" as const,
            scale: {
              domain: SEQUENTIAL_COLOURS.map((_, step) => (most * step) / (SEQUENTIAL_COLOURS.length - 1)),
              range: [...SEQUENTIAL_COLOURS],
              interpolate: "lab" as const,
            },
            legend: gradientLegend(legendTitle, ".0%", [0, most / 2, most]),
          },
        },
      };
    }),
  };
}

function cellsOf({ title, names, values }: SquareMap) {
  refuseRepeats(`squareMaps: ${title}`, names);
  if (values.length !== names.length || values.some((row) => row.length !== names.length)) {
    throw new ShapeError(`squareMaps: ${title} has ${values.length} rows, expected ${names.length} x ${names.length}`);
  }
  return names.flatMap((row, r) =>
    names.flatMap((column, c) => (r === c ? [] : [{ row, column, value: finiteOrNull(values[r]![c]) }])),
  );
}
