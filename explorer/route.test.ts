import fc from "fast-check";
import { expect, it } from "vitest";
import { formatRoute, parseRoute, type Route, VIEWS } from "./route.ts";

it("reads addresses", () => {
  expect(parseRoute("")).toEqual({ view: "map" });
  expect(parseRoute("#experts?layer=3&expert=12&trace=a%20b.trace")).toEqual({
    view: "experts",
    layer: 3,
    expert: 12,
    trace: "a b.trace",
  });
  expect(parseRoute("#nonsense?token=-1&layer=x&zoom=0.5&top=-1.5&text&other=")).toEqual({
    view: "map",
    zoom: 0.5,
    text: true,
  });
});

it("reads back what it writes", () => {
  const number = fc.option(fc.nat(), { nil: undefined });
  const text = fc.option(fc.string({ minLength: 1, unit: "grapheme" }), { nil: undefined });
  const anyRoute = fc.record({
    view: fc.constantFrom(...VIEWS),
    trace: text,
    other: text,
    token: number,
    layer: number,
    expert: number,
    top: number,
    text: fc.constantFrom(true as const, undefined),
  });
  fc.assert(
    fc.property(anyRoute, (route) => {
      const given = Object.fromEntries(Object.entries(route).filter(([, value]) => value !== undefined));
      expect(parseRoute(formatRoute(given as unknown as Route))).toEqual(given);
    }),
  );
});
