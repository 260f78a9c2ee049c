import { expect, it } from "vitest";
import { FilterRecorder, filterExamples, filterTable, mergeFilterReports } from "./report.ts";

const document = (id: string, source = "web", text = `text of ${id}`) => ({ id, text, source, path: "a", line: 1 });

/** A recorder that has seen documents a to b - 1, of which every second is dropped and the others lose two spans. */
function recorded(a: number, b: number, seed = 1) {
  const recorder = new FilterRecorder(seed);
  for (let number = a; number < b; number++) {
    const verdict =
      number % 2 === 0
        ? { drop: "even" }
        : {
            replace: [
              { start: 0, end: 1, text: "" },
              { start: 2, end: 3, text: "" },
            ],
          };
    const bytesOut = number % 2 === 0 ? 0 : 8;
    recorder.add({ filter: "parity", document: document(`d${number}`), verdict, bytesIn: 10, bytesOut });
  }
  return recorder.report();
}

it("counts documents, bytes and spans by source and filter", () => {
  const [{ examples, ...tally } = { examples: [] }] = recorded(0, 101);
  expect(tally).toEqual({
    source: "web",
    filter: "parity",
    documentsIn: 101,
    bytesIn: 1010,
    documentsOut: 50,
    bytesOut: 400,
    documentsDropped: 51,
    bytesDropped: 510,
    spansMasked: 100,
  });
  expect(examples).toHaveLength(10);
  expect(examples.every(({ id, reason, text }) => reason === "even" && text === `text of ${id}`)).toBe(true);
});

it("gives the same report however the documents are divided, and other examples for another seed", () => {
  const whole = recorded(0, 100);
  expect(mergeFilterReports([recorded(0, 3), recorded(3, 50), recorded(50, 100)])).toEqual(whole);
  expect(mergeFilterReports([whole])).toEqual(whole);
  expect(JSON.parse(JSON.stringify(whole))).toEqual(whole);
  const ids = (seed: number) => recorded(0, 100, seed)[0]?.examples.map(({ id }) => id);
  expect(ids(2)).not.toEqual(ids(1));
});

it("keeps 200 characters of an example, none of them half", () => {
  const recorder = new FilterRecorder(1);
  const text = `a${"\u{1f680}".repeat(300)}`;
  recorder.add({
    filter: "f",
    document: document("a", "web", text),
    verdict: { drop: "long" },
    bytesIn: 9,
    bytesOut: 0,
  });
  expect(recorder.report()[0]?.examples[0]?.text).toBe(`a${"\u{1f680}".repeat(199)}`);
});

it("is a table, and a list of examples", () => {
  const recorder = new FilterRecorder(1);
  recorder.add({ filter: "length", document: document("a"), verdict: {}, bytesIn: 3000, bytesOut: 3000 });
  const dropped = document("b", "web", "two\nlines");
  recorder.add({ filter: "length", document: dropped, verdict: { drop: "short" }, bytesIn: 9, bytesOut: 0 });
  expect(filterTable(recorder.report())).toBe(
    [
      "source  filter  documents  dropped              text  dropped          spans masked",
      "web     length          2        1  50.00 %  3.01 kB      9 B  0.30 %             0",
    ].join("\n"),
  );
  expect(filterExamples(recorder.report())).toBe(
    'dropped from web by length, for example:\n  b\n    short\n    "two\\nlines"\n',
  );
  expect(filterExamples([])).toBe("");
});
