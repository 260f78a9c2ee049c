import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { clampWindow, describeZoom, leastZoom, MOST_ZOOM, reveal, shownRange, tokenAt, zoomAt } from "./layout.ts";

const frame = { height: 600, tokens: 1_000_000 };
const anyFrame = fc.record({ height: fc.integer({ min: 50, max: 2000 }), tokens: fc.integer({ min: 1, max: 1e7 }) });
const anyWindow = fc.record({
  top: fc.double({ min: -1e3, max: 2e7, noNaN: true }),
  zoom: fc.double({ min: 1e-6, max: 100, noNaN: true }),
});

describe("the map's layout", () => {
  it("shows all tokens at the least zoom, and lines for a few", () => {
    expect([leastZoom(frame), leastZoom({ height: 600, tokens: 3 })]).toEqual([0.0006, MOST_ZOOM]);
    expect(shownRange({ top: 0, zoom: 0.0006 }, frame)).toEqual([0, 1_000_000]);
    expect(shownRange({ top: 10.5, zoom: 20 }, frame)).toEqual([10, 41]);
    expect(shownRange({ top: 0, zoom: 28 }, { height: 600, tokens: 0 })).toEqual([0, 0]);
  });

  it("stays within the tokens", () => {
    expect(clampWindow({ top: 999_999, zoom: 20 }, frame)).toEqual({ top: 999_970, zoom: 20 });
    expect(clampWindow({ top: -5, zoom: 1e-9 }, frame)).toEqual({ top: 0, zoom: 0.0006 });
    expect(tokenAt({ top: 10, zoom: 20 }, 45, frame)).toBe(12);
    expect(tokenAt({ top: 0, zoom: 28 }, 599, { height: 600, tokens: 3 })).toBeUndefined();
  });

  it("zooms around a place", () => {
    fc.assert(
      fc.property(anyFrame, anyWindow, fc.double({ min: 0.2, max: 5, noNaN: true }), (any, window, factor) => {
        const before = clampWindow(window, any);
        const y = any.height / 3;
        const after = zoomAt(before, factor, y, any);
        expect(after).toEqual(clampWindow(after, any));
        const last = Math.max(0, any.tokens - any.height / after.zoom);
        if (after.top > 0 && after.top < last) {
          expect(after.top + y / after.zoom).toBeCloseTo(before.top + y / before.zoom, 3);
        }
      }),
    );
  });

  it("moves to a token, and not at all where it is shown already", () => {
    expect(reveal({ top: 100, zoom: 20 }, 110, frame)).toEqual({ top: 100, zoom: 20 });
    expect(reveal({ top: 100, zoom: 20 }, 99, frame)).toEqual({ top: 96, zoom: 20 });
    expect(reveal({ top: 100, zoom: 20 }, 200, frame)).toEqual({ top: 174, zoom: 20 });
    fc.assert(
      fc.property(anyFrame, anyWindow, fc.nat(), (any, window, place) => {
        const token = place % any.tokens;
        const [start, end] = shownRange(reveal(clampWindow(window, any), token, any), any);
        expect(start <= token && token < end).toBe(true);
      }),
    );
  });

  it("says how far it is zoomed", () => {
    expect([22, 1, 0.25, 0.0008].map(describeZoom)).toEqual([
      "22 px a token",
      "1 px a token",
      "4.0 tokens a px",
      "1,250 tokens a px",
    ]);
  });
});
