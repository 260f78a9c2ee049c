import { describe, expect, it } from "vitest";
import { expectGradients, gradientBackends, Variables } from "../../../test/gradients.ts";
import { ShapeError } from "../../errors.ts";
import { Arena } from "../../tensor/arena.ts";
import { Graph } from "../graph.ts";
import { linearCrossEntropy } from "./crossEntropy.ts";

const LABELS = [3, -100, 0, 10, -1, 7, 7];
const [TOKENS, WIDTH, VOCABULARY] = [LABELS.length, 4, 11];

describe.each(gradientBackends)("linearCrossEntropy on %s", (_, backend) => {
  const setup = () => {
    const make = new Variables(backend, 1);
    return { x: make.variable([TOKENS, WIDTH]), weight: make.variable([VOCABULARY, WIDTH]) };
  };
  const sum = (values: Float32Array) => values.reduce((total, value) => total + value, 0);

  it.each([1, 2, 7, 100])("has the gradients of central differences with %i tokens in a chunk", (chunk) => {
    const { x, weight } = setup();
    const scale = 0.5;
    expectGradients(backend, { x, weight }, (graph) => {
      const losses = linearCrossEntropy(graph, x, weight, graph.ids(LABELS), { scale, chunk });
      return scale * sum(losses.data);
    });
  });

  it("gives -log p(label), 0 where there is no label, in the same bits for every chunk size", () => {
    const { x, weight } = setup();
    const [rows, columns] = [x.value.data.slice(), weight.value.data.slice()];
    const expected = LABELS.map((label, t) => {
      const logits = Array.from({ length: VOCABULARY }, (_, v) =>
        Array.from({ length: WIDTH }).reduce(
          (dot: number, _, d) => dot + (rows[t * WIDTH + d] as number) * (columns[v * WIDTH + d] as number),
          0,
        ),
      );
      const total = logits.reduce((all, logit) => all + Math.exp(logit), 0);
      return label < 0 ? 0 : Math.log(total) - (logits[label] as number);
    });
    const losses = [1, 3, undefined].map((chunk) => {
      const graph = new Graph(backend, new Arena(backend), { record: false });
      return linearCrossEntropy(graph, x, weight, graph.ids(LABELS), { scale: 1, ...(chunk && { chunk }) }).data;
    });
    expect(losses[0]).toBeAllClose(expected, { atol: 1e-6 });
    expect(losses[1]).toEqual(losses[0]);
    expect(losses[2]).toEqual(losses[0]);
  });

  it("is the logarithm of the vocabulary where all logits are equal", () => {
    const { weight } = setup();
    const graph = new Graph(backend, new Arena(backend), { record: false });
    const zero = new Variables(backend, 1).variable([TOKENS, WIDTH], new Float32Array(TOKENS * WIDTH));
    const losses = linearCrossEntropy(graph, zero, weight, graph.ids(LABELS), { scale: 1 }).data;
    expect(losses).toBeAllClose(
      LABELS.map((label) => (label < 0 ? 0 : Math.log(VOCABULARY))),
      { atol: 1e-6 },
    );
  });

  it("refuses a label outside the vocabulary", () => {
    const { x, weight } = setup();
    const graph = new Graph(backend, new Arena(backend), { record: true });
    expect(() => linearCrossEntropy(graph, x, weight, graph.ids([0, 1, 2, 11, 4, 5, 6]), { scale: 1 })).toThrow(
      new ShapeError("cross-entropy: label 11 at 3 is outside 0..10"),
    );
  });
});
