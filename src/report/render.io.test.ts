import { describe, expect, test } from "vitest";
import { barChart, heatMap, heatMapGrid, lineChart } from "./charts.ts";
import { renderPng, renderSvg } from "./render.io.ts";
import { textWidth } from "./textWidth.ts";

const rows = ["code", "novel"];
const heat = heatMap({
  title: "Heat",
  rows,
  columns: ["0", "1"],
  values: [
    [1, 2],
    [0, Number.NaN],
  ],
  legendTitle: "share",
});
const empty = { title: "Empty", legendTitle: "share", rows: [], columns: [], values: [] };

/** The text of an SVG in order. */
function textOf(svg: string): string[] {
  return [...svg.matchAll(/<text[^>]*>(?:<tspan[^>]*>)?([^<]*)</g)].map((match) => match[1]!);
}

/** Width and height from a PNG's header. */
function pngSize(png: Uint8Array): [number, number] {
  const header = new DataView(png.buffer, png.byteOffset);
  return [header.getUint32(16), header.getUint32(20)];
}

describe("renderSvg", () => {
  test("draws a heat map with its labels, and a cell without a value in grey", async () => {
    const svg = await renderSvg(heat);
    expect(textOf(svg)).toEqual(["0", "1", "2", "share", "Heat", "0", "1", "code", "novel"]);
    expect(svg.match(/fill="#d5d8dc"/g)).toHaveLength(1);
  });

  test("gives the same file each time, also when several are drawn at once", async () => {
    const first = await renderSvg(heat);
    const again = await Promise.all([renderSvg(heat), renderSvg(heat)]);
    expect(again).toEqual([first, first]);
    expect(first).toContain('id="def0"');
  });

  test("escapes names", async () => {
    const svg = await renderSvg(
      lineChart({
        title: "<b>&",
        xTitle: '"x"',
        yTitle: "y",
        series: [
          {
            name: "a",
            points: [
              [0, 1],
              [1, 2],
            ],
          },
        ],
      }),
    );
    expect(svg).toContain("&lt;b&gt;&amp;");
    expect(svg).not.toContain("<b>");
  });

  test.each([
    ["heat map", heatMap(empty)],
    ["heat map grid", heatMapGrid({ ...empty, panels: [{ title: "Layer 0", columns: [], values: [] }] })],
    ["line chart", lineChart({ title: "Empty", xTitle: "x", yTitle: "y", series: [] })],
    [
      "log line chart of zeros",
      lineChart({ title: "Empty", xTitle: "x", yTitle: "y", logY: true, series: [{ name: "a", points: [[0, 0]] }] }),
    ],
    ["bar chart", barChart({ title: "Empty", yTitle: "y", groups: [], series: [] })],
  ])("draws a %s without data", async (_, spec) => {
    const svg = await renderSvg(spec);
    expect(textOf(svg)).toContain("Empty");
    expect(svg).not.toContain("NaN");
  });

  test("refuses data from outside", async () => {
    const spec = { data: { url: "file:///etc/hostname" }, mark: "point" as const, encoding: {} };
    await expect(renderSvg(spec)).rejects.toThrow(
      'chart: data from "file:///etc/hostname", a chart must hold its own data',
    );
  });
});

describe("renderPng", () => {
  test("has the width asked for and draws text from the font it carries", async () => {
    const svg = await renderSvg(heat);
    const png = renderPng(svg, { width: 400 });
    const [, boxWidth, boxHeight] = /viewBox="0 0 (\d+) (\d+)"/.exec(svg)!.map(Number);
    expect(pngSize(png)).toEqual([400, Math.round((400 * boxHeight!) / boxWidth!)]);
    const withoutText = renderPng(svg.replace(/<text.*?<\/text>/gs, ""), { width: 400 });
    expect(png.length).toBeGreaterThan(1.5 * withoutText.length);
  });
});

test("text is as wide as in Arial", () => {
  expect(textWidth("", 10, false)).toBe(0);
  // 0.722 for H, 0.556 for e, 0.222 for l twice, 0.556 for o.
  expect(textWidth("Hello", 10, false)).toBeCloseTo(22.78, 10);
  expect(textWidth("Hello", 10, true)).toBeCloseTo(24.3746, 10);
});
