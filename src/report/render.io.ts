/**
 * Draws vega-lite specs without a browser, a canvas or a network. Pictures carry their font, so that they are the same on
 * every machine.
 */
import { createRequire } from "node:module";
import { Resvg } from "@resvg/resvg-js";
import type * as Vega from "vega";
import type { TopLevelSpec } from "vega-lite";
import { UnsupportedError } from "../errors.ts";
import { textWidth } from "./textWidth.ts";

const require = createRequire(import.meta.url);
const FONT_FILES = ["400Regular/Arimo_400Regular.ttf", "700Bold/Arimo_700Bold.ttf"];

/** Vega asks for a text's width through this object, which its type declarations leave out. */
interface TextMetrics {
  width(item: { fontSize?: number; fontWeight?: string | number }, text: unknown): number;
}

/** Without a canvas vega takes all letters as equally wide, which leaves holes beside labels and in legends. */
function measureWithoutCanvas(vega: typeof Vega): void {
  const { textMetrics } = vega as unknown as { textMetrics: TextMetrics };
  textMetrics.width = (item, text) =>
    textWidth(String(text ?? ""), item.fontSize ?? 11, item.fontWeight === "bold" || Number(item.fontWeight) >= 600);
}

/** Vega numbers gradients and clips over the life of the process; here equal specs give equal files. */
function renumberIds(svg: string): string {
  const numbers = new Map<string, number>();
  return svg.replace(/(<[^>]*\sid="|url\(#)((?:gradient|clip|pattern)_?\d+)/g, (_, before: string, id: string) => {
    if (!numbers.has(id)) numbers.set(id, numbers.size);
    return `${before}def${numbers.get(id)}`;
  });
}

/**
 * @returns the chart as one SVG document with text as text.
 * @throws UnsupportedError if the spec names data outside of itself.
 */
export async function renderSvg(spec: TopLevelSpec): Promise<string> {
  // Half of what a command would take to start: only those wait for it who draw.
  const [vega, { compile }] = await Promise.all([import("vega"), import("vega-lite")]);
  measureWithoutCanvas(vega);
  const faults: unknown[] = [];
  const logger = vega.logger(vega.Error);
  logger.error = (...args) => {
    faults.push(...args);
    return logger;
  };
  const refuse = (uri: string) => {
    const fault = new UnsupportedError(`chart: data from "${uri}", a chart must hold its own data`);
    faults.push(fault);
    return Promise.reject(fault);
  };
  const loader = { load: refuse, sanitize: refuse, http: refuse, file: refuse };
  const view = new vega.View(vega.parse(compile(spec, { logger }).spec), { renderer: "none", loader, logger });
  try {
    const svg = await view.toSVG();
    if (faults[0] instanceof Error) throw faults[0];
    if (faults.length > 0) throw new Error(`internal: chart: ${faults.join(" ")}`);
    return renumberIds(svg);
  } finally {
    view.finalize();
  }
}

/**
 * @param width of the picture in pixels; the height follows.
 * @returns a PNG on white. Letters outside of Latin, Greek, Cyrillic and Hebrew are left out.
 */
export function renderPng(svg: string, { width }: { readonly width: number }): Uint8Array {
  const fontFiles = FONT_FILES.map((file) => require.resolve(`@expo-google-fonts/arimo/${file}`));
  const picture = new Resvg(svg, {
    background: "#ffffff",
    fitTo: { mode: "width", value: width },
    font: { loadSystemFonts: false, fontFiles, defaultFontFamily: "Arimo", sansSerifFamily: "Arimo" },
  });
  return picture.render().asPng();
}
