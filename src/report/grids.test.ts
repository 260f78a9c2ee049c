/** Charts of several small ones: lines, bars, maps and flows in panels. */
import type { TopLevelSpec } from "vega-lite";
import { describe, expect, it } from "vitest";
import { barGrid } from "./barGrid.ts";
import { orderedColours, panelLines } from "./panelLines.ts";
import { renderSvg } from "./render.io.ts";
import { sankey } from "./sankey.ts";
import { squareMaps } from "./squareMaps.ts";

/** All lists of values in a spec, in the order in which they are drawn. */
function valuesOf(spec: TopLevelSpec): unknown[][] {
  const found: unknown[][] = [];
  JSON.stringify(spec, (key, value) => {
    if (key === "data" && Array.isArray(value?.values)) found.push(value.values);
    return value;
  });
  return found;
}

describe("panelLines", () => {
  const titles = { title: "Saturation", xTitle: "step", yTitle: "share", legendTitle: "layer" };
  const series = [
    {
      name: "0",
      points: [
        { x: 1, y: 0.5, interval: [0.4, 0.6] as const },
        { x: 2, y: Number.NaN },
      ],
    },
    { name: "1", points: [{ x: 1, y: 0.25 }] },
  ];

  it("draws lines, bands and a reference in every panel", async () => {
    const spec = panelLines({
      ...titles,
      percent: true,
      ordered: true,
      panels: [
        { title: "first expert", series, reference: { value: 0.125, label: "chance" } },
        { title: "first 8", series: [] },
      ],
    });
    expect(valuesOf(spec)).toEqual([
      [
        { series: "0", x: 1, y: 0.5, low: 0.4, high: 0.6 },
        { series: "0", x: 2, y: null, low: null, high: null },
        { series: "1", x: 1, y: 0.25, low: null, high: null },
      ],
      [{}],
      [{ x: 2 }],
      [],
    ]);
    const svg = await renderSvg(spec);
    for (const text of ["Saturation", "first expert", "first 8", "chance", "step", "share", "layer", "50%"]) {
      expect(svg).toContain(text);
    }
  });

  it("refuses no panel, and two series of one name", () => {
    expect(() => panelLines({ ...titles, panels: [] })).toThrow("panelLines: 0 panels, needs at least 1");
    const twice = [series[0]!, series[0]!];
    expect(() => panelLines({ ...titles, panels: [{ title: "a", series: twice }] })).toThrow(
      'panelLines: a: name "0" is used twice, names must differ',
    );
  });

  it("spreads colours over an order, ends included", () => {
    const three = orderedColours(3);
    expect([three[0], three[2]]).toEqual([orderedColours(16)[0], orderedColours(16)[15]]);
    expect(new Set(orderedColours(64)).size).toBe(64);
    expect(orderedColours(1)).toHaveLength(1);
    expect(orderedColours(0)).toEqual([]);
  });
});

describe("barGrid", () => {
  const names = { title: "Domains", xTitle: "expert", rows: ["arxiv", "c4"], columns: ["layer 0"] };

  it("draws a row for each domain, with a line across and marks over the bars", async () => {
    const spec = barGrid({
      ...names,
      subtitle: "shares",
      values: [[[0.5, 0]], [[Number.NaN, 0.25]]],
      marks: [[[0.4, 0.1]], [[0, 0]]],
      markNames: ["base", "tuned"],
      reference: { value: 0.125, label: "uniform" },
      percent: true,
    });
    expect(valuesOf(spec)).toEqual([
      [
        { x: 0.06, end: 0.94, value: 0.5, mark: 0.4 },
        { x: 1.06, end: 1.94, value: 0, mark: 0.1 },
      ],
      [{}],
      [
        { x: 0.06, end: 0.94, value: null, mark: 0 },
        { x: 1.06, end: 1.94, value: 0.25, mark: 0 },
      ],
      [{}],
    ]);
    const svg = await renderSvg(spec);
    for (const text of ["shares · bars: base, lines: tuned · dashed: uniform", "arxiv", "c4", "layer 0", "expert"]) {
      expect(svg).toContain(text);
    }
  });

  it("writes a range instead of numbers along x, and draws a line upwards", async () => {
    const spec = barGrid({
      ...names,
      values: [[[1, 4]], [[0, 0]]],
      xRange: [0, 1],
      upright: { value: 0.25, label: "even" },
      squareRoot: true,
    });
    const svg = await renderSvg(spec);
    for (const text of ["20%", "100%", "dashed: even"]) expect(svg).toContain(text);
  });

  it("refuses values of another shape, and a name that is used twice", () => {
    expect(() => barGrid({ ...names, values: [[[1]]] })).toThrow(
      "barGrid: 1 rows of 1 charts, there are 2 row and 1 column names",
    );
    expect(() => barGrid({ ...names, rows: ["a", "a"], values: [] })).toThrow(
      'barGrid: rows: name "a" is used twice, names must differ',
    );
  });
});

describe("squareMaps", () => {
  const options = { title: "Pairs", rowTitle: "expert", columnTitle: "other", legendTitle: "share" };

  it("leaves the diagonal out, and gaps where there is no number", async () => {
    const map = {
      title: "layer 7",
      names: ["3", "5"],
      values: [
        [1, 0.5],
        [Number.NaN, 1],
      ],
    };
    const spec = squareMaps({ ...options, maps: [map] });
    expect(valuesOf(spec)).toEqual([
      [
        { row: "3", column: "5", value: 0.5 },
        { row: "5", column: "3", value: null },
      ],
    ]);
    const svg = await renderSvg(spec);
    for (const text of ["Pairs", "layer 7", "expert", "other", "share", "50%"]) expect(svg).toContain(text);
  });

  it("refuses no map, and one that is not square", () => {
    expect(() => squareMaps({ ...options, maps: [] })).toThrow("squareMaps: 0 maps, needs at least 1");
    expect(() => squareMaps({ ...options, maps: [{ title: "a", names: ["1", "2"], values: [[1, 2]] }] })).toThrow(
      "squareMaps: a has 1 rows, expected 2 x 2",
    );
  });
});

describe("sankey", () => {
  const panel = {
    title: "wiki",
    columns: [
      { title: "layer 0", nodes: ["4", "other"] },
      { title: "layer 7", nodes: ["9"] },
      { title: "layer 15", nodes: ["1", "2"] },
    ],
    flows: [[[0.25], [0.75]], [[1, 0]]],
  };

  it("gives nodes their share of the height, and bands that fill them", async () => {
    const spec = sankey({ title: "Paths", rest: "other", panels: [panel] });
    const [bands, boxes, labels] = valuesOf(spec) as {
      x: number;
      y: number;
      y2: number;
      flow?: string;
      name?: string;
    }[][];
    // The gap takes 12 % of a column of two nodes; a node that nothing reaches has no height.
    expect(boxes!.map(({ x, y, y2 }) => [x, y, y2])).toEqual([
      [-0.022, 0, 0.22],
      [-0.022, 0.34, 1],
      [0.978, 0, 1],
      [1.978, 0, 0.88],
      [1.978, 1, 1],
    ]);
    const ends = (flow: string) => {
      const points = bands!.filter((band) => band.flow === flow);
      return [points[0]!, points.at(-1)!].map(({ x, y, y2 }) => [x, y, y2]);
    };
    expect([...new Set(bands!.map(({ flow }) => flow))]).toEqual(["0/0/0", "0/1/0", "1/0/0"]);
    expect(ends("0/0/0")).toEqual([
      [0.022, 0, 0.22],
      [0.978, 0, 0.25],
    ]);
    expect(ends("0/1/0")).toEqual([
      [0.022, 0.34, 1],
      [0.978, 0.25, 1],
    ]);
    expect(ends("1/0/0")).toEqual([
      [1.022, 0, 1],
      [1.978, 0, 0.88],
    ]);
    expect(labels!.map(({ name }) => name)).toEqual(["4", "other", "9", "1", "2"]);
    const svg = await renderSvg(spec);
    for (const text of ["Paths", "wiki", "layer 0", "layer 7", "layer 15", "other"]) expect(svg).toContain(text);
  });

  it("draws nothing of nothing", async () => {
    const empty = { ...panel, flows: [[[0], [0]], [[0, 0]]] };
    expect(await renderSvg(sankey({ title: "Paths", rest: "other", panels: [empty] }))).toContain("wiki");
  });

  it("refuses no panel, and flows that do not fit", () => {
    expect(() => sankey({ title: "", rest: "", panels: [] })).toThrow("sankey: 0 panels, needs at least 1");
    expect(() => sankey({ title: "", rest: "", panels: [{ ...panel, flows: [[[1]]] }] })).toThrow(
      "sankey: flows of wiki do not fit its 3 columns of nodes",
    );
  });
});
