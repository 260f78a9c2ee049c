/**
 * One colour for each expert. Numbers that follow one another get hues far apart, and three steps of lightness tell apart
 * what hues alone do not, for eyes that see fewer of them and in grey. Cells that are large enough carry the number, too.
 */

export type Rgb = readonly [red: number, green: number, blue: number];

/** The golden angle: however many hues were taken, the next is far from all of them. */
const HUE_STEP = 137.508;
const FIRST_HUE = 255;
const LIGHTNESS = [0.64, 0.78, 0.52] as const;
const CHROMA = 0.125;

/** Björn Ottosson's OKLCH to sRGB; components outside 0..1 are colours that a screen does not have. */
function linearOf(lightness: number, chroma: number, hue: number): [number, number, number] {
  const angle = (hue * Math.PI) / 180;
  const [a, b] = [chroma * Math.cos(angle), chroma * Math.sin(angle)];
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ];
}

const encoded = (value: number) => (value <= 0.0031308 ? 12.92 * value : 1.055 * value ** (1 / 2.4) - 0.055);

/** The colour of this lightness and hue with as much chroma as a screen has, up to what is asked for. */
export function oklch(lightness: number, chroma: number, hue: number): Rgb {
  for (let part = 1; part >= 0; part -= 0.05) {
    const linear = linearOf(lightness, chroma * part, hue);
    if (part > 0.05 && linear.some((value) => value < 0 || value > 1)) continue;
    const [red, green, blue] = linear.map((value) => Math.round(255 * encoded(Math.min(1, Math.max(0, value)))));
    return [red!, green!, blue!];
  }
  return [0, 0, 0];
}

/** Colours of experts 0 to `count` - 1. */
export function expertColours(count: number): readonly Rgb[] {
  return Array.from({ length: count }, (_, expert) =>
    oklch(LIGHTNESS[expert % LIGHTNESS.length]!, CHROMA, (FIRST_HUE + expert * HUE_STEP) % 360),
  );
}

export const css = ([red, green, blue]: Rgb) => `rgb(${red} ${green} ${blue})`;

/** Some of one colour on another: 0 is `under`, 1 is `over`. */
export function mix(under: Rgb, over: Rgb, share: number): Rgb {
  const part = (index: 0 | 1 | 2) => Math.round(under[index] + (over[index] - under[index]) * share);
  return [part(0), part(1), part(2)];
}

/** Relative luminance as WCAG has it, 0 to 1. */
export function luminance(colour: Rgb): number {
  const [red, green, blue] = colour.map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red! + 0.7152 * green! + 0.0722 * blue!;
}

/** Contrast of two colours as WCAG has it, 1 to 21. */
export function contrast(a: Rgb, b: Rgb): number {
  const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (high! + 0.05) / (low! + 0.05);
}

const DARK_INK: Rgb = [16, 20, 26];
const WHITE: Rgb = [255, 255, 255];

/** What reads best on a colour. */
export function inkOn(colour: Rgb): Rgb {
  return contrast(colour, DARK_INK) >= contrast(colour, WHITE) ? DARK_INK : WHITE;
}
