/** The main text of a page, by html-to-text: no scripts, styles, menus or forms; blocks stay apart by line breaks. */
import { compile, type HtmlToTextOptions } from "html-to-text";
import { Parser } from "htmlparser2";

/** A page beyond this many characters is not prose, and its tree would take gigabytes. */
const MAX_HTML_CHARACTERS = 2 ** 24;

/** The parser's time grows with the square of the depth, and real pages have some dozens of levels. */
const MAX_DEPTH = 1000;

const SKIPPED = "nav,footer,aside,form,button,select,script,style,noscript,template,svg,iframe,img,video,audio";
const HEADINGS = ["h1", "h2", "h3", "h4", "h5", "h6"];

const OPTIONS: HtmlToTextOptions = {
  wordwrap: false,
  limits: { maxInputLength: MAX_HTML_CHARACTERS, maxDepth: MAX_DEPTH },
  selectors: [
    { selector: "a", options: { ignoreHref: true } },
    { selector: "ul", options: { itemPrefix: "- " } },
    ...HEADINGS.map((selector) => ({ selector, options: { uppercase: false } })),
    // Cells in a row, rows in lines.
    { selector: "tr", format: "block", options: { leadingLineBreaks: 1, trailingLineBreaks: 1 } },
    ...["td", "th"].map((selector) => ({ selector, format: "inlineSurround", options: { suffix: " " } })),
    ...SKIPPED.split(",").map((selector) => ({ selector, format: "skip" })),
  ],
};

/** Pages that mark their content; the others give all of their body. */
const mainText = compile({
  ...OPTIONS,
  baseElements: { selectors: ["main", "[role=main]", "article"], returnDomByDefault: false },
});
const bodyText = compile({ ...OPTIONS, baseElements: { selectors: ["body"] } });

function checkDepth(html: string): void {
  let depth = 0;
  const parser = new Parser({
    onopentagname: () => {
      if (++depth > MAX_DEPTH) throw new RangeError(`nested deeper than ${MAX_DEPTH} levels`);
    },
    onclosetag: () => {
      depth--;
    },
  });
  parser.end(html);
}

/**
 * What a reader of the page sees as its text.
 * @throws RangeError for a page of more than 2^24 characters or 1000 levels.
 */
export function htmlText(html: string): string {
  if (html.length > MAX_HTML_CHARACTERS) {
    throw new RangeError(`${html.length} characters, a page has at most ${MAX_HTML_CHARACTERS}`);
  }
  checkDepth(html);
  return (mainText(html) || bodyText(html)).replace(/[ \t]+$/gm, "");
}
