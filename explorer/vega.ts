/** Unpacks what draws charts, which the page carries as inert text, the first time a chart is shown. */
import type { drawChart } from "./charts.ts";

type Draw = typeof drawChart;

let loading: Promise<Draw> | undefined;

async function load(): Promise<Draw> {
  const packed = Uint8Array.from(atob(document.getElementById("charts")!.textContent!), (c) => c.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = await new Response(unpacked).blob();
  const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  try {
    await new Promise<void>((resolve, reject) => {
      const element = document.createElement("script");
      element.src = url;
      element.onload = () => resolve();
      element.onerror = () => reject(new Error("what draws charts could not be loaded"));
      document.head.append(element);
    });
  } finally {
    URL.revokeObjectURL(url);
  }
  return (globalThis as unknown as { olmoeDrawChart: Draw }).olmoeDrawChart;
}

export function loadCharts(): Promise<Draw> {
  loading ??= load();
  return loading;
}
