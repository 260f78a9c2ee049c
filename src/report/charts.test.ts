import { expect, test } from "vitest";
import { barChart, heatMap, heatMapGrid, lineChart } from "./charts.ts";
import { ABOVE_COLOURS, BELOW_COLOURS, SERIES_COLOURS } from "./theme.ts";

const NAMES = { title: "t", rows: ["a", "b"], legendTitle: "share" };

/** The parts of a spec that the tests read. */
interface SpecView {
  data: { values: unknown[] };
  encoding: { color: { scale: { domain: unknown; range: unknown }; legend: { values: unknown } }; strokeDash: unknown };
  vconcat: { encoding: { x: { axis: { labels: boolean }; title: unknown } } }[];
}

function view(spec: unknown): SpecView {
  return spec as SpecView;
}

test("a line chart turns what is not finite into gaps", () => {
  const spec = lineChart({
    title: "loss",
    xTitle: "step",
    yTitle: "loss",
    logY: true,
    series: [
      {
        name: "a",
        points: [
          [0, 1],
          [1, Number.NaN],
          [2, 0],
        ],
      },
      { name: "b", points: [[0, 2]], dashed: true },
    ],
  });
  expect(view(spec).data.values).toEqual([
    { series: "a", x: 0, y: 1 },
    { series: "a", x: 1, y: null },
    { series: "a", x: 2, y: null },
    { series: "b", x: 0, y: 2 },
  ]);
  expect(view(spec).encoding.color.scale).toEqual({ domain: ["a", "b"], range: SERIES_COLOURS.slice(0, 2) });
  expect(view(spec).encoding.strokeDash).toMatchObject({
    scale: {
      domain: ["a", "b"],
      range: [
        [1, 0],
        [5, 4],
      ],
    },
  });
});

test("two series of one name are refused", () => {
  const series = [
    { name: "a", points: [] },
    { name: "a", points: [] },
  ];
  expect(() => lineChart({ title: "", xTitle: "", yTitle: "", series })).toThrow(
    'lineChart: name "a" is used twice, names must differ',
  );
});

test("a bar chart wants one value for each group", () => {
  const series = [{ name: "a", values: [1] }];
  expect(() => barChart({ title: "", yTitle: "", groups: ["x", "y"], series })).toThrow(
    'barChart: series "a" has 1 values, there are 2 groups',
  );
});

test("a heat map of ratios starts at 0, has its midpoint where colour is missing, and doubles from there", () => {
  const spec = heatMap({
    ...NAMES,
    columns: ["0", "1"],
    values: [[0.5, 16], new Float32Array([1, Number.NaN])],
    midpoint: 1,
  });
  const { color } = view(spec).encoding;
  expect(color.scale).toMatchObject({
    domain: [0, 0.5, 1, 2, 4, 8, 16],
    range: [...BELOW_COLOURS, ...ABOVE_COLOURS.slice(1)],
  });
  expect(color.legend.values).toEqual([0, 1, 2, 4, 8, 16]);
  expect(view(spec).data.values).toEqual([
    { row: "a", column: "0", value: 0.5 },
    { row: "a", column: "1", value: 16 },
    { row: "b", column: "0", value: 1 },
    { row: "b", column: "1", value: null },
  ]);
});

test("an even load shows no strong colour: the scale reaches twice the midpoint at least", () => {
  const spec = heatMap({ ...NAMES, columns: ["0"], values: [[1], [1.01]], midpoint: 1 });
  expect(view(spec).encoding.color.legend.values).toEqual([0, 1, 2]);
});

test("a heat map of differences reaches equally far on both sides", () => {
  const spec = heatMap({ ...NAMES, columns: ["0"], values: [[-1], [4]], midpoint: 0 });
  expect(view(spec).encoding.color.legend.values).toEqual([-4, 0, 4]);
});

test("a heat map without a midpoint starts at 0, also when all values are alike or missing", () => {
  const ticks = (values: number[][]) =>
    view(heatMap({ ...NAMES, columns: ["0"], values })).encoding.color.legend.values;
  expect(ticks([[0.2], [0.6]])).toEqual([0, 0.3, 0.6]);
  expect(ticks([[0], [0]])).toEqual([0, 0.5, 1]);
  expect(ticks([[Number.NaN], [Number.NaN]])).toEqual([0, 0.5, 1]);
});

test("a matrix of another shape is refused", () => {
  expect(() => heatMap({ ...NAMES, columns: ["0"], values: [[1]] })).toThrow(
    "heatMap: 1 rows of values, there are 2 row names",
  );
  expect(() => heatMap({ ...NAMES, columns: ["0"], values: [[1], [1, 2]] })).toThrow(
    'heatMap: row "b" has 2 values, there are 1 column names',
  );
  expect(() =>
    heatMap({
      ...NAMES,
      columns: ["0", "0"],
      values: [
        [1, 2],
        [1, 2],
      ],
    }),
  ).toThrow('heatMap: columns: name "0" is used twice, names must differ');
});

test("a grid names the columns of each panel only where their order differs", () => {
  const panel = (title: string, columns: string[]) => ({
    title,
    columns,
    values: [
      [1, 2],
      [3, 4],
    ],
  });
  const labels = (...panels: ReturnType<typeof panel>[]) =>
    view(heatMapGrid({ ...NAMES, panels, columnTitle: "expert" })).vconcat.map(({ encoding: { x } }) => [
      x.axis.labels,
      x.title,
    ]);
  expect(labels(panel("0", ["0", "1"]), panel("1", ["0", "1"]))).toEqual([
    [false, null],
    [true, "expert"],
  ]);
  expect(labels(panel("0", ["0", "1"]), panel("1", ["1", "0"]))).toEqual([
    [true, null],
    [true, "expert"],
  ]);
  expect(() => labels()).toThrow("heatMapGrid: 0 panels, needs at least 1");
});
