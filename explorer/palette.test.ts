import { describe, expect, it } from "vitest";
import { contrast, expertColours, inkOn, luminance, mix, oklch } from "./palette.ts";

/** What an eye without red cones sees of a colour, roughly: Viénot, Brettel and Mollon, 1999. */
function protanope([red, green, blue]: readonly number[]): number[] {
  const linear = (value: number) => (value / 255) ** 2.2;
  const [r, g, b] = [linear(red!), linear(green!), linear(blue!)];
  return [0.11238 * r + 0.88762 * g, 0.11238 * r + 0.88762 * g, 0.00401 * r - 0.00401 * g + b].map(
    (value) => 255 * Math.max(0, value) ** (1 / 2.2),
  );
}

const distance = (a: readonly number[], b: readonly number[]) => Math.hypot(...a.map((value, i) => value - b[i]!));

describe("palette", () => {
  it("knows the corners of the colour space", () => {
    expect([oklch(0, 0, 0), oklch(1, 0, 0), oklch(0.5, 0, 90)]).toEqual([
      [0, 0, 0],
      [255, 255, 255],
      [99, 99, 99],
    ]);
    expect([luminance([0, 0, 0]), luminance([255, 255, 255]), contrast([0, 0, 0], [255, 255, 255])]).toEqual([
      0, 1, 21,
    ]);
  });

  it("gives 64 experts 64 colours, on each of which its number reads", () => {
    const colours = expertColours(64);
    expect(new Set(colours.map(String)).size).toBe(64);
    expect(colours.filter((colour) => contrast(colour, inkOn(colour)) < 4.5)).toEqual([]);
  });

  it("keeps experts with neighbouring numbers apart, also for eyes without red cones", () => {
    const colours = expertColours(64);
    const least = (see: (colour: readonly number[]) => readonly number[]) =>
      Math.min(...colours.slice(1).map((colour, index) => distance(see(colour), see(colours[index]!))));
    expect(least((colour) => colour)).toBeGreaterThan(30);
    expect(least(protanope)).toBeGreaterThan(15);
  });

  it("mixes colours", () => {
    expect([0, 0.5, 1].map((share) => mix([0, 100, 200], [100, 0, 0], share))).toEqual([
      [0, 100, 200],
      [50, 50, 100],
      [100, 0, 0],
    ]);
  });
});
