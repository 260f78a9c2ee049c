/** Widths of text in Arimo, Arial, Helvetica and Liberation Sans, which agree. Source: the fonts' `hmtx` tables. */

/** Thousandths of the font size, and the printable ASCII characters that are so wide. */
const REGULAR: readonly (readonly [number, string])[] = [
  [191, "'"],
  [222, "ijl"],
  [260, "|"],
  [278, " !,./:;I[\\]ft"],
  [333, "()-`r"],
  [334, "{}"],
  [355, '"'],
  [389, "*"],
  [469, "^"],
  [500, "Jcksvxyz"],
  [584, "+<=>~"],
  [611, "FTZ"],
  [667, "&ABEKPSVXY"],
  [722, "CDHNRUw"],
  [778, "GOQ"],
  [833, "Mm"],
  [889, "%"],
  [944, "W"],
  [1015, "@"],
];

/** Digits, the other small letters and, as a fair guess, everything outside of ASCII. */
const USUAL_WIDTH = 556;
/** Bold text is wider by about this much. */
const BOLD = 1.07;

const WIDTHS = new Map(
  REGULAR.flatMap(([width, characters]) => [...characters].map((character) => [character, width])),
);

/** @returns pixels. */
export function textWidth(text: string, fontSize: number, bold: boolean): number {
  let sum = 0;
  for (const character of text) sum += WIDTHS.get(character) ?? USUAL_WIDTH;
  return (sum / 1000) * fontSize * (bold ? BOLD : 1);
}
