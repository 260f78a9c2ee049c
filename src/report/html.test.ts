import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { heatMap } from "./charts.ts";
import { type Block, escapeHtml, htmlReport } from "./html.ts";
import { renderSvg } from "./render.io.ts";

const VOID = new Set(["meta", "br"]);

function report(...body: Block[]): string {
  return htmlReport({ title: "T", lead: "L", sections: [{ heading: "H", body }] });
}

/** What the first section holds after its heading. */
function bodyOf(...body: Block[]): string {
  return report(...body)
    .split("<h2>H</h2>\n")[1]!
    .split("\n</section>")[0]!;
}

/** Throws unless every tag is closed in order and every id is unique; returns the names of all elements. */
function checkWellFormed(html: string): Set<string> {
  const open: string[] = [];
  const names = new Set<string>();
  const ids = new Set<string>();
  const content = html.replace(/^<!doctype html>\n/, "").replace(/<style>.*?<\/style>/s, "");
  for (const [tag, close, name, attributes, selfClose] of content.matchAll(
    /<(\/?)([a-zA-Z0-9]+)((?:\s+[\w:-]+="[^"<]*")*)\s*(\/?)>|</g,
  )) {
    if (name === undefined) throw new Error(`stray "${tag}"`);
    if (close === "/") {
      const expected = open.pop();
      if (expected !== name) throw new Error(`</${name}> closes <${expected}>`);
      continue;
    }
    names.add(name);
    const id = /\sid="([^"]*)"/.exec(attributes ?? "")?.[1];
    if (id !== undefined && ids.has(id)) throw new Error(`id ${id} is used twice`);
    if (id !== undefined) ids.add(id);
    if (selfClose !== "/" && !VOID.has(name)) open.push(name);
  }
  if (open.length > 0) throw new Error(`open at the end: ${open.join(", ")}`);
  for (const [, id] of content.matchAll(/url\(#([^)]*)\)/g)) if (!ids.has(id!)) throw new Error(`no id ${id}`);
  return names;
}

test("a whole report is one well-formed page that asks for nothing outside", async () => {
  const spec = (title: string, value: number) =>
    heatMap({ title, rows: ["a"], columns: ["0", "1"], values: [[0, value]], legendTitle: "share" });
  const html = htmlReport({
    title: "Quickstart <1>",
    lead: "It works & learns.",
    sections: [
      {
        heading: "Results",
        body: [
          { kind: "numbers", items: [{ value: "1.85", label: "bits per byte" }] },
          { kind: "figure", svg: await renderSvg(spec("One", 1)), title: "Load", caption: "Caption" },
          { kind: "figure", svg: await renderSvg(spec("Two", 2)), title: "Load again" },
        ],
      },
      {
        heading: "Text",
        body: [
          { kind: "text", text: "One.\n\nTwo." },
          { kind: "list", items: ["first", "second"] },
          { kind: "table", columns: [{ name: "kind" }], rows: [["novel"]] },
          { kind: "sample", title: "Sample", prompt: "Call me", text: " Ishmael\n<script>" },
        ],
      },
    ],
  });
  const folder = await mkdtemp(join(tmpdir(), "olmoe-report-"));
  try {
    await writeFile(join(folder, "report.html"), html);
    const page = await readFile(join(folder, "report.html"), "utf8");
    const names = checkWellFormed(page);
    for (const name of ["script", "link", "img", "iframe"]) expect(names).not.toContain(name);
    expect(page).not.toMatch(/https?:/);
    expect(page).not.toMatch(/\s(src|href)=/);
    expect(page).toContain(
      `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">`,
    );
    expect(page).toContain('role="img" aria-labelledby="figure-2-title"><title id="figure-2-title">Load again</title>');
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("text is escaped", () => {
  expect(escapeHtml('<a href="x">\'&\u0000\u001b\ud800\t\n')).toBe("&lt;a href=&quot;x&quot;&gt;&#39;&amp;   \t\n");
});

test("blank lines part paragraphs", () => {
  expect(bodyOf({ kind: "text", text: "One\ntwo.\n \nThree <3." })).toBe("<p>One\ntwo.</p>\n<p>Three &lt;3.</p>");
});

test("a table has a caption, column heads and aligned cells", () => {
  const columns = [{ name: "kind" }, { name: "loss", align: "right" as const }];
  expect(bodyOf({ kind: "table", caption: "Loss & kind", columns, rows: [["<novel>", "2.06"]] })).toBe(
    `<div class="scroll" role="region" aria-label="Loss &amp; kind" tabindex="0">
<table>
<caption>Loss &amp; kind</caption>
<thead><tr><th scope="col">kind</th><th scope="col" class="right">loss</th></tr></thead>
<tbody>
<tr><td>&lt;novel&gt;</td><td class="right">2.06</td></tr>
</tbody>
</table>
</div>`,
  );
});

test("a table row with too few cells is refused", () => {
  expect(() => report({ kind: "table", columns: [{ name: "a" }, { name: "b" }], rows: [["1", "2"], ["1"]] })).toThrow(
    "report: table row 1 has 1 cells, there are 2 columns",
  );
});

test("a sample keeps its line breaks and sets the prompt apart", () => {
  expect(bodyOf({ kind: "sample", prompt: "\nCall", text: " me\n" })).toBe("<pre>\n<b>\nCall</b> me\n</pre>");
});

test("a drawing gets its own ids and the width of the page", () => {
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="100" height="50" viewBox="0 0 100 50"><defs><linearGradient id="def0"/></defs><rect fill="url(#def0)"/></svg>`;
  expect(bodyOf({ kind: "figure", svg, title: "A > B" })).toBe(
    `<figure>
<div class="scroll" role="region" aria-label="A &gt; B" tabindex="0"><svg viewBox="0 0 100 50" style="max-width:100px;min-width:80px" role="img" aria-labelledby="figure-1-title"><title id="figure-1-title">A &gt; B</title><defs><linearGradient id="figure-1-def0"/></defs><rect fill="url(#figure-1-def0)"/></svg></div>
</figure>`,
  );
});

test.each([
  ["<p>no drawing</p>", 'report: figure "f" is not an SVG document with a viewBox'],
  [`<svg viewBox="0 0 1 1">`, 'report: figure "f" is not an SVG document with a viewBox'],
  [
    `<svg viewBox="0 0 1 1"><script>1</script></svg>`,
    'report: figure "f" holds an element that is not a drawing, only drawings are allowed',
  ],
  [`<svg viewBox="0 0 1 1" onload="x"></svg>`, 'report: figure "f" holds an event handler, only drawings are allowed'],
  [
    `<svg viewBox="0 0 1 1"><a xlink:href="http://x"></a></svg>`,
    'report: figure "f" holds a link, only drawings are allowed',
  ],
  [
    `<svg viewBox="0 0 1 1"><rect fill="url(http://x)"/></svg>`,
    'report: figure "f" holds an outside resource, only drawings are allowed',
  ],
])("the figure %s is refused", (svg, message) => {
  expect(() => report({ kind: "figure", svg, title: "f" })).toThrow(message);
});
