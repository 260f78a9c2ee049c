/** The one look of all charts: colours, fonts and axes, as a vega-lite config. */
import type { Config } from "vega-lite";

/** The first is the font that `renderPng` carries; the others have the same letter widths. */
export const FONT = "Arimo, Arial, Helvetica, Liberation Sans, sans-serif";

export const INK = "#1f2933";
export const SOFT_INK = "#52606d";
const HAIRLINE = "#cbd2d9";
const GRID = "#eceff2";

/** Six hues that stay apart in all common kinds of colour blindness and in grey (after Paul Tol's "bright" scheme). */
export const SERIES_COLOURS = ["#2f6da3", "#d9603b", "#2f8a57", "#8e4a90", "#c29a1f", "#45aecb"] as const;

/** From little to much. */
export const SEQUENTIAL_COLOURS = ["#f4f6f8", "#c3d7e8", "#7fadd0", "#3f7fb3", "#1b5284", "#0b2d52"] as const;

/** Below, at and above the midpoint: blue, near white, orange to brown. */
export const BELOW_COLOURS = ["#6f97bd", "#b5cbdf", "#f7f6f3"] as const;
export const ABOVE_COLOURS = ["#f7f6f3", "#f8c795", "#ea8a3f", "#bf4e17", "#651f07"] as const;

/** A cell without a value. */
export const MISSING_COLOUR = "#d5d8dc";

export const THEME: Config = {
  // Charts stand on white in light and dark pages alike, so that one picture serves both and print.
  background: "#ffffff",
  padding: 12,
  font: FONT,
  // The page describes each figure once; a description of every mark would swamp a screen reader and triple the file.
  aria: false,
  view: { stroke: null },
  title: {
    anchor: "start",
    frame: "group",
    color: INK,
    fontSize: 15,
    fontWeight: "bold",
    subtitleColor: SOFT_INK,
    subtitleFontSize: 12,
    subtitlePadding: 5,
    offset: 14,
  },
  axis: {
    domainColor: HAIRLINE,
    domainWidth: 1,
    tickColor: HAIRLINE,
    tickSize: 4,
    gridColor: GRID,
    gridWidth: 1,
    labelColor: SOFT_INK,
    labelFontSize: 11,
    labelPadding: 4,
    titleColor: SOFT_INK,
    titleFontSize: 12,
    titleFontWeight: "normal",
    titlePadding: 8,
  },
  legend: {
    labelColor: INK,
    labelFontSize: 12,
    titleColor: SOFT_INK,
    titleFontSize: 11,
    titleFontWeight: "normal",
    symbolStrokeWidth: 2.5,
  },
  header: { labelColor: INK, labelFontSize: 12, titleColor: SOFT_INK, titleFontSize: 12 },
  line: { strokeWidth: 2, strokeCap: "round", strokeJoin: "round" },
};
