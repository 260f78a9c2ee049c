/**
 * One self-contained HTML page: no request leaves it, no script runs in it, and it reads in light and dark, on a phone and
 * on paper. All text is escaped; drawings are checked and must be SVG such as `renderSvg` returns.
 */
import { ConfigError, ShapeError } from "../errors.ts";
import { STYLE } from "./htmlStyle.ts";

export interface TextBlock {
  readonly kind: "text";
  /** Blank lines part paragraphs. */
  readonly text: string;
}

export interface ListBlock {
  readonly kind: "list";
  readonly items: readonly string[];
}

/** A few figures of merit in large type. */
export interface NumbersBlock {
  readonly kind: "numbers";
  readonly items: readonly { readonly value: string; readonly label: string }[];
}

export interface TableBlock {
  readonly kind: "table";
  readonly caption?: string;
  readonly columns: readonly { readonly name: string; readonly align?: "left" | "right" }[];
  /** [rows, columns]. */
  readonly rows: readonly (readonly string[])[];
}

export interface FigureBlock {
  readonly kind: "figure";
  readonly svg: string;
  /** What the figure shows, for those who do not see it. */
  readonly title: string;
  readonly caption?: string;
}

/** Text as it is, such as what a model wrote. */
export interface SampleBlock {
  readonly kind: "sample";
  readonly title?: string;
  /** What the model was given: stands before `text` and is set apart from it. */
  readonly prompt?: string;
  readonly text: string;
}

export type Block = TextBlock | ListBlock | NumbersBlock | TableBlock | FigureBlock | SampleBlock;

export interface ReportSection {
  readonly heading: string;
  readonly body: readonly Block[];
}

export interface Report {
  readonly title: string;
  /** What the report says, in one or two sentences. */
  readonly lead: string;
  readonly sections: readonly ReportSection[];
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** Escapes text for HTML content and attributes; control characters, which HTML forbids, become spaces. */
export function escapeHtml(text: string): string {
  return text
    .replace(/[&<>"']/g, (character) => ENTITIES[character]!)
    .replace(/[\p{Cc}\p{Cs}]/gu, (character) => (character === "\n" || character === "\t" ? character : " "));
}

/**
 * @returns a whole HTML document.
 * @throws ShapeError if a table row has another number of cells than there are columns.
 * @throws ConfigError if a figure is not an SVG drawing, or one that runs scripts or asks for outside resources.
 */
export function htmlReport({ title, lead, sections }: Report): string {
  let figures = 0;
  const render = (block: Block): string => {
    if (block.kind !== "figure") return renderBlock(block);
    figures += 1;
    return renderFigure(block, `figure-${figures}`);
  };
  const body = sections.map(
    (section) =>
      `<section>\n<h2>${escapeHtml(section.heading)}</h2>\n${section.body.map(render).join("\n")}\n</section>`,
  );
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escapeHtml(title)}</title>
<style>
${STYLE}
</style>
</head>
<body>
<main>
<h1>${escapeHtml(title)}</h1>
<p class="lead">${escapeHtml(lead)}</p>
${body.join("\n")}
</main>
</body>
</html>
`;
}

function renderBlock(block: Exclude<Block, FigureBlock>): string {
  switch (block.kind) {
    case "text":
      return block.text
        .split(/\n\s*\n/)
        .map((paragraph) => `<p>${escapeHtml(paragraph.trim())}</p>`)
        .join("\n");
    case "list":
      return `<ul>\n${block.items.map((item) => `<li>${escapeHtml(item)}</li>`).join("\n")}\n</ul>`;
    case "numbers":
      return `<dl class="numbers">\n${block.items
        .map(({ value, label }) => `<div><dt>${escapeHtml(label)}</dt><dd>${escapeHtml(value)}</dd></div>`)
        .join("\n")}\n</dl>`;
    case "table":
      return renderTable(block);
    case "sample":
      return renderSample(block);
  }
}

function renderTable({ caption, columns, rows }: TableBlock): string {
  const side = (column: number) => (columns[column]?.align === "right" ? ' class="right"' : "");
  const heads = columns.map(({ name }, column) => `<th scope="col"${side(column)}>${escapeHtml(name)}</th>`);
  const lines = rows.map((row, index) => {
    if (row.length !== columns.length) {
      throw new ShapeError(`report: table row ${index} has ${row.length} cells, there are ${columns.length} columns`);
    }
    return `<tr>${row.map((cell, column) => `<td${side(column)}>${escapeHtml(cell)}</td>`).join("")}</tr>`;
  });
  const label = escapeHtml(caption ?? columns.map(({ name }) => name).join(", "));
  return `<div class="scroll" role="region" aria-label="${label}" tabindex="0">
<table>
${caption === undefined ? "" : `<caption>${escapeHtml(caption)}</caption>\n`}<thead><tr>${heads.join("")}</tr></thead>
<tbody>
${lines.join("\n")}
</tbody>
</table>
</div>`;
}

function renderSample({ title, prompt, text }: SampleBlock): string {
  const before = prompt === undefined ? "" : `<b>${escapeHtml(prompt)}</b>`;
  // The parser drops a line break directly after <pre>, so that one is put there for it.
  const pre = `<pre>\n${before}${escapeHtml(text)}</pre>`;
  return title === undefined ? pre : `<h3>${escapeHtml(title)}</h3>\n${pre}`;
}

function renderFigure({ svg, title, caption }: FigureBlock, id: string): string {
  const under = caption === undefined ? "" : `\n<figcaption>${escapeHtml(caption)}</figcaption>`;
  return `<figure>
<div class="scroll" role="region" aria-label="${escapeHtml(title)}" tabindex="0">${inlineSvg(svg, title, id)}</div>${under}
</figure>`;
}

/** What a drawing never needs, and what would run code or call out. */
const FORBIDDEN: readonly (readonly [RegExp, string])[] = [
  [/<\s*(script|foreignObject|iframe|image|use|style|link|animate|set)\b/i, "an element that is not a drawing"],
  [/<[^>]*\son\w+\s*=/i, "an event handler"],
  [/<[^>]*\s(?:[\w-]+:)?(?:href|src)\s*=/i, "a link"],
  [/url\(\s*(?!#)/i, "an outside resource"],
  [/<!/, "a declaration or comment"],
];

/** A figure shrinks by no more than this, so that its smallest letters still read; narrower pages scroll it. */
const LEAST_SCALE = 0.8;

/** Fits a drawing into the page: its own ids, so that several can stand in one page, a title, and a width that follows the page. */
function inlineSvg(svg: string, title: string, id: string): string {
  const root = /^\s*<svg\b[^>]*?\bviewBox="([\d.\s-]+)"[^>]*>/.exec(svg);
  const end = svg.lastIndexOf("</svg>");
  const box = root?.[1];
  if (root === null || box === undefined || end < root[0].length) {
    throw new ConfigError(`report: figure "${title}" is not an SVG document with a viewBox`);
  }
  for (const [pattern, what] of FORBIDDEN) {
    if (pattern.test(svg)) throw new ConfigError(`report: figure "${title}" holds ${what}, only drawings are allowed`);
  }
  const width = Number(box.trim().split(/\s+/)[2]);
  const drawing = svg
    .slice(root[0].length, end)
    .replace(/(<[^>]*\s)id="([^"]*)"/g, `$1id="${id}-$2"`)
    .replace(/url\(#/g, `url(#${id}-`);
  const style = `max-width:${width}px;min-width:${Math.round(width * LEAST_SCALE)}px`;
  return `<svg viewBox="${box}" style="${style}" role="img" aria-labelledby="${id}-title"><title id="${id}-title">${escapeHtml(title)}</title>${drawing}</svg>`;
}
