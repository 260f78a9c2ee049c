/** Writes results into a folder: JSON and CSV of each, figures as SVG and PNG, and one page with everything. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { htmlReport } from "../report/html.ts";
import { renderPng, renderSvg } from "../report/render.io.ts";
import { fileError, replaceFile } from "../util/files.io.ts";
import { ANALYSES, type AnalysisName } from "./allAnalyses.ts";
import { type Figure, figuresOf } from "./figures.ts";
import type { RoutingResult } from "./results.ts";
import { type ReportFacts, routingReport } from "./routingReport.ts";
import { csvOf, resultName, tableOf } from "./tables.ts";

export interface WriteResultsOptions extends Omit<ReportFacts, "figures" | "results"> {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((done: number, of: number) => void) | undefined;
}

const PICTURE_WIDTH = 1800;

/**
 * @returns the paths that were written, the page first.
 * @throws ResourceError where the folder can not be written; the signal's reason when it is aborted.
 */
export async function writeResults(
  directory: string,
  results: readonly RoutingResult[],
  { signal, onProgress, ...facts }: WriteResultsOptions,
): Promise<string[]> {
  await mkdir(directory, { recursive: true }).catch((error: unknown) => {
    throw fileError("write", directory, error);
  });
  const paths: string[] = [];
  const write = async (name: string, content: string | Uint8Array) => {
    signal?.throwIfAborted();
    const path = join(directory, name);
    await replaceFile(path, (file) => file.writeFile(content));
    paths.push(path);
  };
  for (const result of results) {
    await write(`${resultName(result)}.json`, `${JSON.stringify(result)}\n`);
    await write(`${resultName(result)}.csv`, csvOf(tableOf(result)));
  }
  const byAnalysis = ANALYSES.map((name): [AnalysisName, Figure[]] => [
    name,
    figuresOf(results.filter(({ analysis }) => analysis === name)),
  ]);
  const of = byAnalysis.reduce((sum, [, figures]) => sum + figures.length, 0);
  const drawn = new Map<AnalysisName, { figure: Figure; svg: string }[]>();
  let done = 0;
  for (const [name, figures] of byAnalysis) {
    for (const figure of figures) {
      const svg = await renderSvg(figure.spec);
      await write(`${figure.name}.svg`, svg);
      await write(`${figure.name}.png`, renderPng(svg, { width: PICTURE_WIDTH }));
      drawn.set(name, [...(drawn.get(name) ?? []), { figure, svg }]);
      onProgress?.(++done, of);
    }
  }
  await write("report.html", htmlReport(routingReport({ ...facts, results, figures: drawn })));
  return [paths.at(-1)!, ...paths.slice(0, -1)];
}
