/** Cases of LayerNorm, with and without its parameters. */
import {
  Draw,
  ELEMENTWISE,
  input,
  type KernelCase,
  kernelCase,
  overwritten,
  SUM,
  type Tolerance,
  updated,
} from "./harness.ts";
import { SIZES } from "./sizes.ts";

const draw = new Draw(17);
const EPSILON = 1e-5;
/** A normalised value is a difference that may cancel: it is right to a few roundings of the row's largest. */
const NORMALISED: Tolerance = { ofLargest: 1e-5, relative: 1e-5, absolute: 1e-37 };

export interface LayernormForwardOptions {
  readonly spread?: number;
  /** Added to every value: the variance must not drown in the mean. */
  readonly offset?: number;
  readonly weight?: boolean;
  readonly bias?: boolean;
}

export function layernormForwardCase(rows: number, width: number, options: LayernormForwardOptions = {}): KernelCase {
  const { spread = 1, offset = 0, weight = true, bias = true } = options;
  const x = draw.matrix({ rows, cols: width, padding: 3 }, spread).map((value) => value + offset);
  // The first row has no variance: epsilon alone is left.
  if (rows > 1) x.fill(offset, 0, width);
  const operands = {
    x: input(x),
    weight: weight ? input(draw.floats(width, 2)) : null,
    bias: bias ? input(draw.floats(width, 2)) : null,
    y: overwritten({ rows, cols: width, padding: 5 }, offset === 0 ? NORMALISED : { ofLargest: 1e-3 }),
    mean: overwritten({ rows: 1, cols: rows }, SUM),
    rstd: overwritten({ rows: 1, cols: rows }, offset === 0 ? ELEMENTWISE : { relative: 1e-3 }),
  };
  const name = `of ${rows} x ${width} ${JSON.stringify(options)}`;
  return kernelCase("layernormForward", name, operands, (kernels, at) =>
    kernels.layernormForward(
      at.x,
      width + 3,
      at.weight,
      at.bias,
      at.y,
      width + 5,
      at.mean,
      at.rstd,
      rows,
      width,
      EPSILON,
    ),
  );
}

export interface LayernormBackwardOptions {
  readonly accumulate?: boolean;
  /** dx is dy. */
  readonly inPlace?: boolean;
  /** Parameters that are there. */
  readonly weight?: boolean;
  readonly dweight?: boolean;
  readonly dbias?: boolean;
}

export function layernormBackwardCase(rows: number, width: number, options: LayernormBackwardOptions = {}): KernelCase {
  const { accumulate = false, inPlace = false, weight = true, dweight = true, dbias = true } = options;
  const x = draw.matrix({ rows, cols: width, padding: 3 });
  const row = (t: number) => x.subarray(t * (width + 3), t * (width + 3) + width);
  const means = Float32Array.from({ length: rows }, (_, t) => row(t).reduce((sum, value) => sum + value / width, 0));
  const rstd = means.map((mean, t) => {
    const squares = row(t).reduce((sum, value) => sum + (value - mean) ** 2, 0);
    return 1 / Math.sqrt(squares / width + 0.1);
  });
  const ofDy = { rows, cols: width, padding: 4 };
  const ofDx = { rows, cols: width, padding: 6 };
  const dy = draw.matrix(ofDy);
  const separateDx = accumulate ? updated(draw.matrix(ofDx), SUM, ofDx) : overwritten(ofDx);
  const operands = {
    x: input(x),
    weight: weight ? input(draw.floats(width, 2)) : null,
    mean: input(means),
    rstd: input(rstd),
    dy: inPlace ? updated(dy, SUM, ofDy) : input(dy),
    dx: inPlace ? null : separateDx,
    dweight: dweight ? updated(draw.floats(width)) : null,
    dbias: dbias ? updated(draw.floats(width)) : null,
  };
  const [dx, lddx] = inPlace ? (["dy", width + 4] as const) : (["dx", width + 6] as const);
  const name = `of ${rows} x ${width} ${JSON.stringify(options)}`;
  return kernelCase("layernormBackward", name, operands, (kernels, at) =>
    kernels.layernormBackward(
      at.x,
      width + 3,
      at.weight,
      at.mean,
      at.rstd,
      at.dy,
      width + 4,
      at[dx],
      lddx,
      at.dweight,
      at.dbias,
      rows,
      width,
      accumulate ? 1 : 0,
    ),
  );
}

export const layernormCases: readonly KernelCase[] = [
  ...SIZES.flatMap((width) => {
    const rows = draw.pick([1, 3, 7, 17]);
    return [
      layernormForwardCase(rows, width),
      layernormForwardCase(rows, width, { bias: false }),
      layernormForwardCase(rows, width, { weight: false, bias: false }),
      layernormBackwardCase(rows, width),
      layernormBackwardCase(rows, width, { accumulate: true }),
      layernormBackwardCase(rows, width, { inPlace: true, dweight: false }),
      layernormBackwardCase(rows, width, { weight: false, dweight: false, dbias: false }),
      layernormBackwardCase(rows, width, { accumulate: true, inPlace: true, dbias: false }),
    ];
  }),
  layernormForwardCase(0, 8),
  layernormBackwardCase(0, 8),
  layernormForwardCase(257, 33),
  layernormBackwardCase(257, 33, { accumulate: true }),
  layernormForwardCase(5, 100, { spread: 1e15 }),
  layernormForwardCase(5, 100, { spread: 1e-15 }),
  layernormForwardCase(5, 100, { offset: 1000 }),
];
