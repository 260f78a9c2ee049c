/** Flows between columns of nodes, drawn as bands: where tokens go from layer to layer. */
import type { TopLevelSpec } from "vega-lite";
import { ShapeError } from "../errors.ts";
import { head } from "./charts.ts";
import { orderedColours } from "./panelLines.ts";
import { INK } from "./theme.ts";

export interface SankeyPanel {
  readonly title: string;
  readonly columns: readonly {
    readonly title: string;
    /** From top to bottom. The last may be the rest of all, which is drawn in grey. */
    readonly nodes: readonly string[];
  }[];
  /** [column, but the last][nodes of the column][nodes of the next] amounts; all columns have one sum. */
  readonly flows: readonly (readonly ArrayLike<number>[])[];
}

export interface SankeyOptions {
  readonly title: string;
  readonly subtitle?: string;
  readonly panels: readonly SankeyPanel[];
  /** A node of this name is grey. */
  readonly rest: string;
  /** Flows below this share of all are left out; default 0.002. */
  readonly least?: number;
  /** Panels side by side; default 2. */
  readonly perRow?: number;
}

const REST_COLOUR = "#c5ccd3";
const WIDTH = 430;
const HEIGHT = 330;
/** Of the panel's height, between all nodes of a column together. */
const GAPS = 0.12;
/** Half a node's width, where columns are 1 apart. */
const HALF = 0.022;
const CURVE_POINTS = 24;

interface Node {
  readonly name: string;
  readonly top: number;
  readonly height: number;
  readonly colour: string;
}

/** @throws ShapeError where there is no panel, or flows do not fit the nodes. */
export function sankey(options: SankeyOptions): TopLevelSpec {
  const { panels, rest, least = 0.002, perRow = 2 } = options;
  if (panels.length === 0) throw new ShapeError("sankey: 0 panels, needs at least 1");
  return {
    ...head(options),
    columns: perRow,
    spacing: 30,
    concat: panels.map((panel) => {
      checkFlows(panel);
      const columns = panel.columns.map((_, index) => nodesOf(panel, index, rest));
      const x = {
        field: "x",
        type: "quantitative" as const,
        axis: null,
        scale: { domain: [-0.14, panel.columns.length - 0.86], nice: false, zero: false },
      };
      const y = {
        field: "y",
        type: "quantitative" as const,
        axis: null,
        scale: { domain: [1, -0.06], nice: false, zero: false },
      };
      const colour = { field: "colour", type: "nominal" as const, scale: null, legend: null };
      return {
        title: { text: panel.title, fontSize: 12, fontWeight: "bold" as const, offset: 4 },
        width: WIDTH,
        height: HEIGHT,
        layer: [
          {
            data: { values: bandsOf(panel, columns, least) },
            mark: { type: "area" as const, opacity: 0.5, line: false },
            encoding: { x, y, y2: { field: "y2" }, color: colour, detail: { field: "flow", type: "nominal" as const } },
          },
          {
            data: { values: columns.flatMap(boxesOf) },
            mark: { type: "rect" as const },
            encoding: { x, x2: { field: "x2" }, y, y2: { field: "y2" }, color: colour },
          },
          {
            data: { values: columns.flatMap(labelsOf) },
            mark: {
              type: "text" as const,
              fontSize: 9.5,
              color: INK,
              align: { expr: "datum.align" },
              baseline: "middle" as const,
            },
            encoding: { x, y, text: { field: "name" } },
          },
          {
            data: { values: panel.columns.map(({ title }, index) => ({ x: index, y: -0.035, title })) },
            mark: { type: "text" as const, fontSize: 10.5, color: INK },
            encoding: { x, y, text: { field: "title" } },
          },
        ],
      };
    }),
  };
}

function checkFlows({ title, columns, flows }: SankeyPanel): void {
  const fits = flows.every(
    (table, index) =>
      table.length === columns[index]?.nodes.length &&
      table.every((row) => row.length === columns[index + 1]?.nodes.length),
  );
  if (fits && flows.length === columns.length - 1) return;
  throw new ShapeError(`sankey: flows of ${title} do not fit its ${columns.length} columns of nodes`);
}

/** What flows through each node of a column, over all. */
function heights({ columns, flows }: SankeyPanel, index: number): number[] {
  const out = flows[index]?.map((row) => sum(row));
  const into = columns[index]!.nodes.map((_, node) => sum(flows[index - 1]?.map((row) => row[node]!) ?? []));
  const amounts = out ?? into;
  const total = sum(amounts) || 1;
  return amounts.map((amount) => amount / total);
}

function sum(values: ArrayLike<number>): number {
  return Array.from(values).reduce((total, value) => total + value, 0);
}

function nodesOf(panel: SankeyPanel, index: number, rest: string): Node[] {
  const { nodes } = panel.columns[index]!;
  const shares = heights(panel, index);
  const gap = nodes.length > 1 ? GAPS / (nodes.length - 1) : 0;
  const room = nodes.length > 1 ? 1 - GAPS : 1;
  const named = nodes.filter((name) => name !== rest);
  const colours = orderedColours(named.length);
  let top = 0;
  return nodes.map((name, node) => {
    const height = shares[node]! * room;
    const made = { name, top, height, colour: name === rest ? REST_COLOUR : colours[named.indexOf(name)]! };
    top += height + gap;
    return made;
  });
}

/** Points of every band: its upper and lower edge along a curve that leaves and arrives level. */
function bandsOf({ flows }: SankeyPanel, columns: readonly (readonly Node[])[], least: number) {
  return flows.flatMap((table, index) => {
    const [from, to] = [columns[index]!, columns[index + 1]!];
    const total = sum(table.map(sum)) || 1;
    const filled = to.map(() => 0);
    return table.flatMap((row, node) => {
      let used = 0;
      return Array.from(row).flatMap((amount, target) => {
        const [a, b] = [from[node]!, to[target]!];
        const sizes = [a, b].map(({ height }, side) => {
          const whole = side === 0 ? sum(row) : sum(table.map((other) => other[target]!));
          return whole === 0 ? 0 : (height * amount) / whole;
        }) as [number, number];
        const starts = [a.top + used, b.top + filled[target]!] as const;
        used += sizes[0];
        filled[target]! += sizes[1];
        if (amount / total < least) return [];
        return Array.from({ length: CURVE_POINTS + 1 }, (_, point) => {
          const share = point / CURVE_POINTS;
          const bend = share * share * (3 - 2 * share);
          const y = starts[0] + (starts[1] - starts[0]) * bend;
          const size = sizes[0] + (sizes[1] - sizes[0]) * bend;
          const x = index + HALF + share * (1 - 2 * HALF);
          return {
            flow: `${index}/${node}/${target}`,
            x: round(x),
            y: round(y),
            y2: round(y + size),
            colour: a.colour,
          };
        });
      });
    });
  });
}

const round = (value: number) => Math.round(value * 1e4) / 1e4;

function boxesOf(nodes: readonly Node[], index: number) {
  return nodes.map(({ top, height, colour }) => ({
    x: index - HALF,
    x2: index + HALF,
    y: round(top),
    y2: round(top + height),
    colour,
  }));
}

/** Names beside their nodes: to the left of the first column, to the right of the others. */
function labelsOf(nodes: readonly Node[], index: number) {
  const left = index === 0;
  return nodes.map(({ name, top, height }) => ({
    x: left ? index - HALF - 0.015 : index + HALF + 0.015,
    y: round(top + height / 2),
    name,
    align: left ? "right" : "left",
  }));
}
