/** What an ablation found, as a table of values and as a picture. */
import type { TopLevelSpec } from "vega-lite";
import { heatMapGrid } from "../report/charts.ts";
import type { AblationResult, LossChange } from "./ablation.ts";

/** One line for each expert and domain, and one for all domains together where there are several. */
export function ablationCsv({ domains, loss, tokens, experts }: AblationResult): string {
  const lines = ["layer,expert,domain,tokens,loss,change,low,high"];
  for (const { layer, expert, domains: changes, all } of experts) {
    const line = (domain: string, count: number, base: number, { change, interval }: LossChange) => {
      lines.push([layer, expert, domain, count, base + change, change, ...(interval ?? ["", ""])].join(","));
    };
    for (const [index, one] of domains.entries()) line(one.domain, one.tokens, one.loss, changes[index] as LossChange);
    if (domains.length > 1) line("all", tokens, loss, all);
  }
  return `${lines.join("\n")}\n`;
}

/** A heat map of layers and experts for each domain, and one for all together where there are several. */
export function ablationChart({ domains, experts, tokens }: AblationResult, model: string): TopLevelSpec {
  const layers = [...new Set(experts.map(({ layer }) => layer))].sort((a, b) => a - b);
  const columns = [...new Set(experts.map(({ expert }) => expert))].sort((a, b) => a - b);
  const panel = (title: string, changeOf: (place: number) => LossChange | undefined) => {
    const values = layers.map((layer) =>
      columns.map((expert) => {
        const place = experts.findIndex((one) => one.layer === layer && one.expert === expert);
        return changeOf(place)?.change ?? Number.NaN;
      }),
    );
    return { title, columns: columns.map(String), values };
  };
  const panels = domains.map(({ domain }, index) => panel(domain, (place) => experts[place]?.domains[index]));
  const all = domains.length > 1 ? [panel("All text", (place) => experts[place]?.all)] : [];
  return heatMapGrid({
    title: `What ${model} loses without each expert`,
    subtitle: `Change of the loss when one expert of one layer is masked; ${tokens.toLocaleString("en-US")} tokens`,
    rows: layers.map(String),
    rowTitle: "layer",
    columnTitle: "expert",
    legendTitle: "nats per token",
    midpoint: 0,
    panels: [...all, ...panels],
  });
}
