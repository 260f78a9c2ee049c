/** The style sheet of reports. */
export const STYLE = `:root {
  color-scheme: light dark;
  --page: #ffffff; --ink: #1f2933; --soft: #52606d; --line: #dde2e7; --panel: #f5f7f9; --accent: #2f6da3;
}
@media (prefers-color-scheme: dark) {
  :root { --page: #14181d; --ink: #e6eaee; --soft: #a3afbb; --line: #313a44; --panel: #1d232a; --accent: #7fb2de; }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif;
}
main { max-width: 58rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { font-size: clamp(1.5rem, 5vw, 2.1rem); line-height: 1.2; margin: 0 0 .5rem; letter-spacing: -.01em; }
h2 { font-size: 1.25rem; margin: 2.75rem 0 .75rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.5rem 0 .4rem; }
p, li { max-width: 44rem; }
p { margin: .75rem 0; }
.lead { font-size: 1.1rem; color: var(--soft); }
.scroll { overflow-x: auto; }
.scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
figure { margin: 1.25rem 0; }
figure .scroll { background: #ffffff; border: 1px solid var(--line); border-radius: 8px; padding: .25rem; }
figure svg { display: block; width: 100%; height: auto; margin: 0 auto; }
figcaption, caption { color: var(--soft); font-size: .9rem; text-align: left; max-width: 44rem; }
figcaption { margin-top: .5rem; }
caption { padding-bottom: .4rem; }
table { border-collapse: collapse; font-size: .95rem; font-variant-numeric: tabular-nums; margin: .75rem 0; }
th, td { padding: .35rem 1.25rem .35rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); white-space: nowrap; }
td:first-child { min-width: 8rem; }
th:last-child, td:last-child { padding-right: .25rem; }
.right { text-align: right; white-space: nowrap; }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; margin: 1.25rem 0; }
.numbers div { display: flex; flex-direction: column-reverse; justify-content: flex-end; background: var(--panel); border-radius: 8px; padding: .7rem .9rem; }
.numbers dt { color: var(--soft); font-size: .85rem; }
.numbers dd { margin: 0; font-size: 1.5rem; font-weight: 600; line-height: 1.25; font-variant-numeric: tabular-nums; }
pre {
  background: var(--panel); border-left: 3px solid var(--accent); border-radius: 0 8px 8px 0; margin: .75rem 0; padding: .8rem 1rem;
  font: .875rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; white-space: pre-wrap; overflow-wrap: anywhere;
}
pre b { color: var(--accent); }
@media print {
  :root { --page: #ffffff; --ink: #000000; --soft: #333333; --line: #cccccc; --panel: #f5f5f5; --accent: #2f6da3; }
  figure, pre, table { break-inside: avoid; }
}`;
