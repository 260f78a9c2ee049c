/** Charts of a bench's rows, for docs/performance.md. */
import { writeFile } from "node:fs/promises";
import { lineChart } from "../src/report/charts.ts";
import { renderPng, renderSvg } from "../src/report/render.io.ts";
import type { Row } from "./harness.ts";

/** The number in a row's case, such as 64 of "64 experts". */
function numberOf({ case: name }: Row): number {
  return Number(/\d+/.exec(name)?.[0]);
}

/** Time per token without the optimiser, relative to that of the first row, over the number of experts. */
export function expertsChart(rows: readonly Row[]) {
  const [first] = rows;
  if (first === undefined) throw new Error("internal: a chart needs rows");
  const relative = (row: Row, value: number): [number, number] => [numberOf(row), first.value / value];
  const points = rows.map((row) => relative(row, row.value));
  return lineChart({
    title: "Cost of a token by the number of experts, eight of which it uses",
    subtitle: `forward and backward pass, relative to ${first.case}; ${first.machine.cores} cores of ${first.machine.cpu}`,
    xTitle: "experts of a layer",
    yTitle: "time per token, relative",
    series: [
      { name: "measured", points },
      { name: "equal arithmetic", points: points.map(([x]) => [x, 1]), dashed: true },
    ],
  });
}

/** Draws the rows of `experts` to an SVG file, or to a PNG where the name ends so. */
export async function writeExpertsChart(rows: readonly Row[], path: string): Promise<void> {
  const svg = await renderSvg(expertsChart(rows));
  await writeFile(path, path.endsWith(".png") ? renderPng(svg, { width: 1400 }) : svg);
}
