import { describe, expect, it } from "vitest";
import { ConfigError } from "../errors.ts";
import { renderSvg } from "./render.io.ts";
import { spreadChart, spreadOf } from "./spreadChart.ts";

describe("spreadOf", () => {
  it("has mean, least and most at every x that all runs have, in order of x", () => {
    const runs = [
      [
        [10, 3],
        [20, 2],
        [30, Number.NaN],
      ],
      [
        [20, 1],
        [10, 5],
        [30, 1],
        [40, 1],
      ],
    ] as const;
    expect(spreadOf(runs)).toEqual([
      { x: 10, mean: 4, least: 3, most: 5 },
      { x: 20, mean: 1.5, least: 1, most: 2 },
    ]);
    expect(spreadOf([])).toEqual([]);
  });
});

describe("spreadChart", () => {
  const chart = (...names: string[]) =>
    spreadChart({
      title: "Loss",
      xTitle: "tokens",
      yTitle: "bits",
      series: names.map((name, index) => ({
        name,
        runs: [0, 2].map((shift) => [
          [0, 5 + shift + index],
          [1, 3 + shift + index],
        ]),
      })),
    });

  it("draws a line and a band for each series", async () => {
    const { data } = chart("moe", "dense") as unknown as { data: { values: unknown[] } };
    expect(data.values).toEqual([
      { series: "moe", x: 0, mean: 6, least: 5, most: 7 },
      { series: "moe", x: 1, mean: 4, least: 3, most: 5 },
      { series: "dense", x: 0, mean: 7, least: 6, most: 8 },
      { series: "dense", x: 1, mean: 5, least: 4, most: 6 },
    ]);
    const svg = await renderSvg(chart("moe", "dense"));
    expect(svg.match(/mark-area/g)?.length).toBeGreaterThanOrEqual(1);
    for (const text of ["Loss", "tokens", "bits", ">moe<", ">dense<"]) expect(svg).toContain(text);
  });

  it("draws an empty chart where no run is done, and refuses two series of one name", async () => {
    expect(await renderSvg(chart())).toContain("Loss");
    expect(() => chart("a", "a")).toThrow(new ConfigError('spreadChart: name "a" is used twice, names must differ'));
  });
});
