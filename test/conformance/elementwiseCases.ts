/** Cases of the elementwise kernels, the reductions, the embedding, the cross-entropy and the optimiser. */
import {
  Draw,
  EXACT,
  input,
  type KernelCase,
  kernelCase,
  overwritten,
  type Tolerance,
  updated,
  type Values,
} from "./harness.ts";
import { COUNTS, SIZES } from "./sizes.ts";

const draw = new Draw(11);

export function fillCase(count: number): KernelCase {
  const operands = { x: overwritten({ rows: 1, cols: count }, EXACT) };
  return kernelCase("fill", `of ${count}`, operands, (kernels, at) => kernels.fill(at.x, count, 0.1));
}

export function addCase(count: number, target: "out" | "a" | "b" = "out"): KernelCase {
  const values = (name: string) => (name === target ? updated(draw.floats(count), EXACT) : input(draw.floats(count)));
  const out = target === "out" ? overwritten({ rows: 1, cols: count }, EXACT) : null;
  const operands = { a: values("a"), b: values("b"), out };
  return kernelCase("add", `of ${count} to ${target}`, operands, (kernels, at) =>
    kernels.add(at.a, at.b, at[target], count),
  );
}

/** Clamp cases hold both limits themselves, their neighbours, infinities and NaN. */
function aroundLimits(rows: number, cols: number, padding: number): Float32Array {
  const x = draw.matrix({ rows, cols, padding });
  const special = [0.3, -0.3, 0.30000004, -0.30000004, Infinity, -Infinity, Number.NaN, 0].map(Math.fround);
  for (let i = 0; i < Math.min(cols, special.length); i++) if (rows > 0) x[i] = special[i]!;
  return x;
}

export function clampForwardCase(rows: number, cols: number, inPlace: boolean): KernelCase {
  const x = aroundLimits(rows, cols, 3);
  const layout = { rows, cols, padding: 3 };
  const operands = {
    x: inPlace ? updated(x, EXACT, layout) : input(x),
    y: inPlace ? null : overwritten({ rows, cols, padding: 5 }, EXACT),
  };
  return kernelCase("clampForward", `of ${rows} x ${cols}${inPlace ? " in place" : ""}`, operands, (kernels, at) =>
    kernels.clampForward(at.x, cols + 3, inPlace ? at.x : at.y, cols + (inPlace ? 3 : 5), rows, cols, 0.3),
  );
}

export function clampBackwardCase(rows: number, cols: number, inPlace: boolean): KernelCase {
  const layout = { rows, cols, padding: 4 };
  const dy = draw.matrix(layout);
  const operands = {
    x: input(aroundLimits(rows, cols, 3)),
    dy: inPlace ? updated(dy, EXACT, layout) : input(dy),
    dx: inPlace ? null : overwritten({ rows, cols, padding: 5 }, EXACT),
  };
  const [dx, lddx] = inPlace ? (["dy", cols + 4] as const) : (["dx", cols + 5] as const);
  return kernelCase("clampBackward", `of ${rows} x ${cols}${inPlace ? " in place" : ""}`, operands, (kernels, at) =>
    kernels.clampBackward(at.x, cols + 3, at.dy, cols + 4, at[dx], lddx, rows, cols, 0.3),
  );
}

/** The sum is one of f64, of squares that f32 may not hold. */
export function sumSquaresCase(count: number, spread = 1): KernelCase {
  return kernelCase(
    "sumSquares",
    `of ${count} up to ${spread}`,
    { x: input(draw.floats(count, spread)) },
    (kernels, at) => kernels.sumSquares(at.x, count),
    { relative: 1e-12 },
  );
}

export function firstNonfiniteCase(count: number, places: Readonly<Record<number, number>> = {}): KernelCase {
  const x = draw.floats(count, 3e38);
  for (const [place, value] of Object.entries(places)) x[Number(place)] = value;
  return kernelCase("firstNonfinite", `of ${count} with ${JSON.stringify(places)}`, { x: input(x) }, (kernels, at) =>
    kernels.firstNonfinite(at.x, count),
  );
}

export function embeddingForwardCase(tokens: number, width: number): KernelCase {
  const operands = {
    table: input(draw.floats(10 * width)),
    ids: input(draw.ints(tokens, 0, 9)),
    out: overwritten({ rows: tokens, cols: width }, EXACT),
  };
  return kernelCase("embeddingForward", `of ${tokens} x ${width}`, operands, (kernels, at) =>
    kernels.embeddingForward(at.table, at.ids, at.out, tokens, width),
  );
}

/** Exact, because the order of the sum is given; most ids come several times. */
export function embeddingBackwardCase(tokens: number, width: number): KernelCase {
  const operands = {
    dtable: updated(draw.floats(10 * width), EXACT),
    ids: input(draw.ints(tokens, 0, 9)),
    dout: input(draw.floats(tokens * width)),
  };
  return kernelCase("embeddingBackward", `of ${tokens} x ${width}`, operands, (kernels, at) =>
    kernels.embeddingBackward(at.dtable, at.ids, at.dout, tokens, width),
  );
}

/** The error of a loss follows the size of the logits; gradients are within 1e-5 of themselves and 1e-6 of scale. */
export function crossEntropyCase(tokens: number, vocabulary: number, scale: number, spread = 4): KernelCase {
  const logits = draw.floats(tokens * vocabulary, spread);
  const labels = Int32Array.from({ length: tokens }, (_, t) =>
    t % 4 === 2 ? draw.pick([-100, -1]) : draw.int(0, vocabulary - 1),
  );
  const operands = {
    logits: scale === 0 ? input(logits) : updated(logits, { relative: 1e-5, absolute: 1e-6 * Math.abs(scale) }),
    labels: input(labels),
    losses: overwritten({ rows: 1, cols: tokens }, { relative: 1e-6, absolute: 1e-6 * spread }),
  };
  const name = `of ${tokens} x ${vocabulary}, logits to ${spread}, scale ${scale}`;
  return kernelCase("crossEntropy", name, operands, (kernels, at) =>
    kernels.crossEntropy(at.logits, at.labels, at.losses, tokens, vocabulary, scale),
  );
}

export function adamwCase(count: number, step: number, weightDecay: number): KernelCase {
  const close: Tolerance = { relative: 1e-5, absolute: 1e-6 };
  const positive = (values: Values) => Float32Array.from(values, Math.abs);
  const operands = {
    param: updated(draw.floats(count), close),
    grad: input(draw.floats(count, 8)),
    m: updated(draw.floats(count), close),
    v: updated(positive(draw.floats(count)), { relative: 1e-5 }),
  };
  const [bias1, bias2] = [1 - 0.9 ** step, 1 - 0.95 ** step];
  return kernelCase("adamw", `of ${count}, step ${step}, decay ${weightDecay}`, operands, (kernels, at) =>
    kernels.adamw(at.param, at.grad, at.m, at.v, count, 0.1, 0.9, 0.95, 1e-2, weightDecay, bias1, bias2, 0.25),
  );
}

const shapes = SIZES.map((size) => [draw.pick([1, 2, 5]), size] as const).concat([
  [0, 5],
  [3, 0],
  [257, 3],
]);

export const elementwiseCases: readonly KernelCase[] = [
  ...COUNTS.flatMap((count) => [
    fillCase(count),
    addCase(count),
    addCase(count, "a"),
    addCase(count, "b"),
    sumSquaresCase(count),
    firstNonfiniteCase(count),
    adamwCase(count, 1 + (count % 3), count % 2 === 0 ? 0.5 : 0),
  ]),
  ...shapes.flatMap(([rows, cols]) => [
    clampForwardCase(rows, cols, false),
    clampForwardCase(rows, cols, true),
    clampBackwardCase(rows, cols, false),
    clampBackwardCase(rows, cols, true),
    embeddingForwardCase(rows, cols),
    embeddingBackwardCase(rows, cols),
  ]),
  embeddingForwardCase(100, 33),
  embeddingBackwardCase(100, 33),
  sumSquaresCase(100, 1e30),
  sumSquaresCase(100_000),
  firstNonfiniteCase(100, { 0: Number.NaN }),
  firstNonfiniteCase(100, { 99: -Infinity, 77: Infinity }),
  firstNonfiniteCase(100_000, { 99999: Number.NaN }),
  firstNonfiniteCase(100_000, { 70001: -Infinity, 3: Number.NaN, 4: Infinity }),
];

export const crossEntropyCases: readonly KernelCase[] = [
  ...[1, 2, 5, 17, 48, 100, 255, 256, 257, 1000, 5003].flatMap((vocabulary) =>
    [0, 1, -1 / 7].map((scale) => crossEntropyCase(draw.pick([1, 3, 5]), vocabulary, scale)),
  ),
  crossEntropyCase(0, 10, 1),
  crossEntropyCase(64, 33, 1 / 64),
  crossEntropyCase(7, 100, 1, 1e4),
  crossEntropyCase(7, 100, 0, 1e4),
];
