import fc from "fast-check";
import { expect, it } from "vitest";
import { documentOf } from "../../../test/filters.ts";
import { attributeLine, parseAttributeLine } from "./attributeLine.ts";

const ROCKETS = documentOf("\u{1f680}a\u{1f680}b");

it("writes places as code points, with names of three parts", () => {
  const line = attributeLine(
    ROCKETS,
    {
      pii: {
        IP: [
          [0, 6, 1],
          [2, 3, 0.5],
        ],
        none: [],
      },
    },
    "run1",
  );
  expect(JSON.parse(line)).toEqual({
    id: "a",
    source: "web",
    attributes: {
      run1__pii__IP: [
        [0, 4, 1],
        [1, 2, 0.5],
      ],
      run1__pii__none: [],
    },
  });
});

it("reads what it wrote, for any text and spans at its characters", () => {
  fc.assert(
    fc.property(
      fc.string({ unit: "binary", maxLength: 50 }),
      fc.array(fc.tuple(fc.nat(), fc.nat(), fc.float({ noNaN: true, noDefaultInfinity: true }))),
      (text, marks) => {
        const borders = [0];
        for (const character of text) borders.push(borders.at(-1)! + character.length);
        const place = (mark: number) => borders[mark % borders.length] as number;
        const spans = marks.map(([a, b, score]) => {
          const [start, end] = [place(a), place(b)].sort((x, y) => x - y);
          return [start!, end!, score === 0 ? 0 : score] as const;
        });
        const attributes = { one: { x: spans, a__b: [] }, two: { y: spans } };
        const document = documentOf(text);
        expect(parseAttributeLine(attributeLine(document, attributes, "run"), document)).toEqual(attributes);
      },
    ),
  );
});

it("leaves out names without a filter, and takes none for an object's own", () => {
  const line = '{"id":"a","attributes":{"other":[],"run__constructor____proto__":[[0,1,1]]}}';
  const found = parseAttributeLine(line, ROCKETS);
  expect(Object.keys(found)).toEqual(["constructor"]);
  expect(Object.entries(found.constructor as object)).toEqual([["__proto__", [[0, 2, 1]]]]);
});

it("says what is wrong with a line", () => {
  const fault = (line: string) => () => parseAttributeLine(line, ROCKETS, "f.jsonl:3");
  expect(fault("{")).toThrow("f.jsonl:3: not JSON");
  expect(fault("[]")).toThrow("f.jsonl:3: not a line of attributes, expected an object with id and attributes");
  expect(fault('{"id":"b","attributes":{}}')).toThrow('f.jsonl:3: attributes of document "b", expected "a"');
  const spans = (value: unknown) => fault(JSON.stringify({ id: "a", attributes: { r__f__n: value } }));
  const expected = "expected [start, end, score] inside the text's 4 characters";
  for (const value of [[0, 5, 1], [-1, 2, 1], [2, 1, 1], [0, 1.5, 1], [0, 1], [0, 1, null], 7]) {
    expect(spans([value])).toThrow(`f.jsonl:3: r__f__n has ${JSON.stringify(value)}, ${expected}`);
  }
  expect(spans(7)).toThrow(`f.jsonl:3: r__f__n has 7, ${expected}`);
});
