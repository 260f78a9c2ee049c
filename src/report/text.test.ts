import { expect, test } from "vitest";
import { formatBytes, formatCount, formatDuration, formatRate, sparkline, table } from "./text.ts";

test("a table aligns its columns and ends no line with spaces", () => {
  const rows = [
    ["model", "loss", ""],
    ["MoE", "1.849", "best"],
    ["dense twin", "12.5"],
  ];
  expect(table(rows, { align: ["left", "right"] })).toBe(
    ["model        loss", "MoE         1.849  best", "dense twin   12.5"].join("\n"),
  );
});

test("a table without rows is empty", () => {
  expect(table([])).toBe("");
});

test("control characters in a cell become spaces", () => {
  expect(table([["a\u001b[31mb\nc", "d"]])).toBe("a [31mb c  d");
});

test("letters outside of the basic plane take one place", () => {
  expect(
    table([
      ["\u{1d400}", "x"],
      ["ab", "y"],
    ]),
  ).toBe("\u{1d400}   x\nab  y");
});

test("a sparkline runs from the lowest to the highest block", () => {
  expect(sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8)).toBe("\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588");
});

test("a sparkline averages what falls on one place", () => {
  expect(sparkline([0, 0, 1, 3, 4, 4], 3)).toBe("\u2581\u2585\u2588");
});

test("a sparkline leaves out what is not finite and stays within the width", () => {
  expect(sparkline([1, Number.NaN, Number.POSITIVE_INFINITY, 3], 10)).toBe("\u2581  \u2588");
  expect(sparkline([1, Number.NaN, 3, 3], 2)).toBe("\u2581\u2588");
  expect(sparkline([5, 5, 5], 3)).toBe("\u2581\u2581\u2581");
  expect(sparkline([Number.NaN], 3)).toBe(" ");
  expect(sparkline([], 3)).toBe("");
  expect(sparkline([1, 2], 0)).toBe("");
  expect(sparkline([-Number.MAX_VALUE, Number.MAX_VALUE], 2)).toBe("\u2581\u2588");
});

test("counts have three digits and a unit", () => {
  const counts = [0, 7, 999, 999.6, 1000, 1_200_000, 4_480_000, 6_919_000_000, 5.13e12, 4e18, -1500, 0.25, Number.NaN];
  expect(counts.map(formatCount)).toEqual([
    "0",
    "7",
    "999",
    "1 k",
    "1 k",
    "1.2 M",
    "4.48 M",
    "6.92 B",
    "5.13 T",
    "4000000 T",
    "-1.5 k",
    "0.25",
    "NaN",
  ]);
});

test("bytes have decimal units", () => {
  expect([0, 950, 1200, 999_700, 3.92e9].map(formatBytes)).toEqual(["0 B", "950 B", "1.2 kB", "1 MB", "3.92 GB"]);
});

test("durations take the two largest units and carry over when rounding", () => {
  const seconds = [0, 0.0123, 0.9996, 5.31, 59.96, 125, 3599.7, 3720, 86_399, 273_600, -2, Number.POSITIVE_INFINITY];
  expect(seconds.map(formatDuration)).toEqual([
    "0 ms",
    "12.3 ms",
    "1 s",
    "5.3 s",
    "1 m 00 s",
    "2 m 05 s",
    "1 h 00 m",
    "1 h 02 m",
    "1 d 00 h",
    "3 d 04 h",
    "-2 s",
    "Infinity",
  ]);
});

test("rates write thousands out", () => {
  expect([37.21, 999.7, 7580.4, 123_456, 1_200_000].map((rate) => formatRate(rate, "tokens"))).toEqual([
    "37.2 tokens/s",
    "1,000 tokens/s",
    "7,580 tokens/s",
    "123,456 tokens/s",
    "1.2 M tokens/s",
  ]);
});
