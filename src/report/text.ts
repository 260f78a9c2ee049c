/** Pieces of terminal output as plain strings: tables, sparklines, and numbers as people read them. */

export type Align = "left" | "right";

/** Control characters move the cursor or break the columns, and may come from a model or a file. */
function printable(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029]/gu, " ");
}

/**
 * Columns with two spaces between them and no lines. A row may be shorter than the longest.
 *
 * @param align by column; columns without one are aligned to the left.
 * @returns one line for each row, without a last line break.
 */
export function table(
  rows: readonly (readonly string[])[],
  { align = [] }: { readonly align?: readonly Align[] } = {},
): string {
  const lines = rows.map((row) => row.map((cell) => [...printable(cell)]));
  const widths: number[] = [];
  for (const row of lines) {
    row.forEach((cell, column) => {
      widths[column] = Math.max(widths[column] ?? 0, cell.length);
    });
  }
  return lines
    .map((row) =>
      row
        .map((cell, column) => {
          const space = " ".repeat(widths[column]! - cell.length);
          return align[column] === "right" ? space + cell.join("") : cell.join("") + space;
        })
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

const BLOCKS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588";

/**
 * A line of block characters from the least to the most value. Several values that fall on one place are averaged;
 * values that are not finite are left out, and a place without any is a space.
 *
 * @param width most characters; fewer where there are fewer values.
 */
export function sparkline(values: ArrayLike<number>, width: number): string {
  const places = Math.min(values.length, Math.max(0, Math.floor(width)));
  const means = Array.from({ length: places }, (_, place) => {
    const end = Math.floor(((place + 1) * values.length) / places);
    return finiteMean(values, Math.floor((place * values.length) / places), end);
  });
  const finite = means.filter((mean) => mean !== undefined);
  const least = finite.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  const most = finite.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  return means
    .map((mean) => {
      if (mean === undefined) return " ";
      // Halved, because the difference of two large numbers can overflow.
      const height = most > least ? (mean / 2 - least / 2) / (most / 2 - least / 2) : 0;
      return BLOCKS[Math.round(height * (BLOCKS.length - 1))]!;
    })
    .join("");
}

function finiteMean(values: ArrayLike<number>, start: number, end: number): number | undefined {
  let mean = 0;
  let count = 0;
  for (let index = start; index < end; index++) {
    const value = values[index]!;
    if (!Number.isFinite(value)) continue;
    count += 1;
    mean += value / count - mean / count;
  }
  return count === 0 ? undefined : mean;
}

/** Three significant digits, without zeros at the end, and the largest unit that leaves at least 1. */
function scaled(value: number, units: readonly string[]): string {
  if (!Number.isFinite(value)) return String(value);
  let rest = Math.abs(value);
  let unit = 0;
  // 999.5 would round to 1000 of the smaller unit.
  while (rest >= 999.5 && unit < units.length - 1) {
    rest /= 1000;
    unit += 1;
  }
  const digits = rest >= 999.5 ? Math.round(rest).toString() : Number(rest.toPrecision(3)).toString();
  const number = value < 0 ? `-${digits}` : digits;
  return units[unit] === "" ? number : `${number} ${units[unit]}`;
}

/** 950, 1.2 k, 4.48 M, 6.92 B, 5.13 T. */
export function formatCount(value: number): string {
  return scaled(value, ["", "k", "M", "B", "T"]);
}

/** Decimal units: 950 B, 1.2 kB, 3.9 GB. */
export function formatBytes(bytes: number): string {
  return scaled(bytes, ["B", "kB", "MB", "GB", "TB"]);
}

/** 12 ms, 5.3 s, 2 m 05 s, 1 h 02 m, 3 d 04 h. */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds)) return String(seconds);
  if (seconds < 0) return `-${formatDuration(-seconds)}`;
  if (seconds < 0.9995) return `${Number((seconds * 1000).toPrecision(3))} ms`;
  if (seconds < 59.95) return `${Number(seconds.toFixed(1))} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return pair(whole, 60, "m", "s");
  const minutes = Math.round(seconds / 60);
  return minutes < 1440 ? pair(minutes, 60, "h", "m") : pair(Math.round(seconds / 3600), 24, "d", "h");
}

function pair(value: number, base: number, large: string, small: string): string {
  return `${Math.floor(value / base)} ${large} ${String(value % base).padStart(2, "0")} ${small}`;
}

/**
 * 37.2 tokens/s, 7,580 tokens/s, 1.2 M tokens/s.
 *
 * @param unit what is counted, in the plural.
 */
export function formatRate(perSecond: number, unit: string): string {
  const size = Math.abs(perSecond);
  if (size >= 999_999.5 || size < 999.5 || Number.isNaN(size)) return `${formatCount(perSecond)} ${unit}/s`;
  return `${Math.round(perSecond).toLocaleString("en-US")} ${unit}/s`;
}
