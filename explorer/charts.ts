/** Vega-lite with all that draws its charts: loaded when the first chart is shown. */
import * as vega from "vega";
import { expressionInterpreter } from "vega-interpreter";
import { compile, type TopLevelSpec } from "vega-lite";

export interface DrawnChart {
  remove(): void;
}

/** Draws a chart into an element. Expressions are interpreted, so that the page needs no right to evaluate text. */
export async function drawChart(spec: TopLevelSpec, target: HTMLElement): Promise<DrawnChart> {
  const runtime = vega.parse(compile(spec, { logger: vega.logger(vega.Error) }).spec, undefined, { ast: true });
  const view = new vega.View(runtime, { expr: expressionInterpreter, renderer: "svg", container: target, hover: true });
  await view.runAsync();
  return { remove: () => view.finalize() };
}

Object.assign(globalThis, { olmoeDrawChart: drawChart });
