/** Cases of RMSNorm, rotary positions and SwiGLU. */
import { Draw, ELEMENTWISE, input, type KernelCase, kernelCase, overwritten, SUM, updated } from "./harness.ts";
import { SIZES } from "./sizes.ts";

const draw = new Draw(13);
const EPSILON = 1e-5;

export function rmsnormForwardCase(rows: number, width: number, spread = 1): KernelCase {
  const x = draw.matrix({ rows, cols: width, padding: 3 }, spread);
  // The first row is zero: epsilon alone is left.
  if (rows > 1) x.fill(0, 0, width);
  const operands = {
    x: input(x),
    weight: input(draw.floats(width, 2)),
    y: overwritten({ rows, cols: width, padding: 5 }, ELEMENTWISE),
    rstd: overwritten({ rows: 1, cols: rows }, ELEMENTWISE),
  };
  return kernelCase("rmsnormForward", `of ${rows} x ${width} up to ${spread}`, operands, (kernels, at) =>
    kernels.rmsnormForward(at.x, width + 3, at.weight, at.y, width + 5, at.rstd, rows, width, EPSILON),
  );
}

export interface RmsnormBackwardOptions {
  readonly accumulate?: boolean;
  /** dx is dy. */
  readonly inPlace?: boolean;
  readonly withoutWeight?: boolean;
}

export function rmsnormBackwardCase(rows: number, width: number, options: RmsnormBackwardOptions = {}): KernelCase {
  const { accumulate = false, inPlace = false, withoutWeight = false } = options;
  const x = draw.matrix({ rows, cols: width, padding: 3 });
  const rstd = Float32Array.from({ length: rows }, (_, t) => {
    const row = x.subarray(t * (width + 3), t * (width + 3) + width);
    return 1 / Math.sqrt(row.reduce((sum, value) => sum + value ** 2, 0) / width + EPSILON);
  });
  const ofDy = { rows, cols: width, padding: 4 };
  const ofDx = { rows, cols: width, padding: 6 };
  const dy = draw.matrix(ofDy);
  const separateDx = accumulate ? updated(draw.matrix(ofDx), SUM, ofDx) : overwritten(ofDx);
  const operands = {
    x: input(x),
    weight: input(draw.floats(width, 2)),
    rstd: input(rstd),
    dy: inPlace ? updated(dy, SUM, ofDy) : input(dy),
    dx: inPlace ? null : separateDx,
    dweight: withoutWeight ? null : updated(draw.floats(width)),
  };
  const [dx, lddx] = inPlace ? (["dy", width + 4] as const) : (["dx", width + 6] as const);
  const name = `of ${rows} x ${width} ${JSON.stringify(options)}`;
  return kernelCase("rmsnormBackward", name, operands, (kernels, at) =>
    kernels.rmsnormBackward(
      at.x,
      width + 3,
      at.weight,
      at.rstd,
      at.dy,
      width + 4,
      at[dx],
      lddx,
      at.dweight,
      rows,
      width,
      accumulate ? 1 : 0,
    ),
  );
}

export function ropeCase(tokens: number, heads: number, channels: number, inverse: boolean, spread = 1): KernelCase {
  const table = 50;
  const half = channels / 2;
  const angles = Float64Array.from({ length: table * half }, (_, i) => {
    return Math.floor(i / half) * 10_000 ** (-(i % half) / half);
  });
  const layout = { rows: tokens, cols: heads * channels, padding: 5 };
  const operands = {
    x: updated(draw.matrix(layout, spread), SUM, layout),
    positions: input(draw.ints(tokens, 0, table - 1)),
    cosine: input(Float32Array.from(angles, Math.cos)),
    sine: input(Float32Array.from(angles, Math.sin)),
  };
  const name = `of ${tokens} x ${heads} x ${channels}${inverse ? " inverse" : ""} up to ${spread}`;
  return kernelCase("rope", name, operands, (kernels, at) =>
    kernels.rope(
      at.x,
      heads * channels + 5,
      at.positions,
      at.cosine,
      at.sine,
      tokens,
      heads,
      channels,
      inverse ? 1 : 0,
    ),
  );
}

/** silu crosses zero, hence the absolute part. */
const SILU = { relative: 1e-5, absolute: 2e-6 };

/** Gates of both signs up to `spread`, some of them zero. */
function gateUpValues(rows: number, inner: number, spread: number): Float32Array {
  return draw.floats(rows * 2 * inner).map((value, i) => {
    if (i % 11 === 3) return 0;
    return i % (2 * inner) < inner ? value * spread : value;
  });
}

export function swigluForwardCase(rows: number, inner: number, spread = 8): KernelCase {
  const operands = {
    gateUp: input(gateUpValues(rows, inner, spread)),
    y: overwritten({ rows, cols: inner }, SILU),
  };
  return kernelCase("swigluForward", `of ${rows} x ${inner}, gates to ${spread}`, operands, (kernels, at) =>
    kernels.swigluForward(at.gateUp, at.y, rows, inner),
  );
}

export function swigluBackwardCase(rows: number, inner: number, inPlace: boolean, spread = 8): KernelCase {
  const gateUp = gateUpValues(rows, inner, spread);
  const operands = {
    gateUp: inPlace ? updated(gateUp, SILU) : input(gateUp),
    dy: input(draw.floats(rows * inner)),
    dgateUp: inPlace ? null : overwritten({ rows, cols: 2 * inner }, SILU),
  };
  const name = `of ${rows} x ${inner}, gates to ${spread}${inPlace ? " in place" : ""}`;
  return kernelCase("swigluBackward", name, operands, (kernels, at) =>
    kernels.swigluBackward(at.gateUp, at.dy, inPlace ? at.gateUp : at.dgateUp, rows, inner),
  );
}

export const rmsnormCases: readonly KernelCase[] = [
  ...SIZES.flatMap((width) => {
    const rows = draw.pick([1, 3, 7, 17]);
    return [
      rmsnormForwardCase(rows, width),
      rmsnormBackwardCase(rows, width),
      rmsnormBackwardCase(rows, width, { accumulate: true }),
      rmsnormBackwardCase(rows, width, { inPlace: true }),
      rmsnormBackwardCase(rows, width, { withoutWeight: true }),
      rmsnormBackwardCase(rows, width, { accumulate: true, inPlace: true, withoutWeight: true }),
    ];
  }),
  rmsnormForwardCase(0, 8),
  rmsnormBackwardCase(0, 8),
  rmsnormForwardCase(257, 33),
  rmsnormBackwardCase(257, 33, { accumulate: true }),
  rmsnormForwardCase(5, 100, 1e15),
  rmsnormForwardCase(5, 100, 1e-15),
];

export const ropeCases: readonly KernelCase[] = [
  ...[2, 4, 8, 16, 32, 64, 96, 128].flatMap((channels) =>
    [false, true].flatMap((inverse) => [
      ropeCase(1, 1, channels, inverse),
      ropeCase(draw.pick([3, 7, 17]), draw.pick([2, 3, 5]), channels, inverse),
    ]),
  ),
  ropeCase(0, 2, 8, false),
  ropeCase(257, 2, 16, false),
  ropeCase(5, 2, 16, true, 1e30),
];

export const swigluCases: readonly KernelCase[] = [
  ...SIZES.flatMap((inner) => [
    swigluForwardCase(draw.pick([1, 2, 7]), inner),
    swigluBackwardCase(draw.pick([1, 2, 7]), inner, false),
    swigluBackwardCase(draw.pick([1, 2, 7]), inner, true),
  ]),
  swigluForwardCase(0, 8),
  swigluBackwardCase(0, 8, false),
  ...[100, 1e4, 1e30].flatMap((spread) => [swigluForwardCase(5, 33, spread), swigluBackwardCase(5, 33, false, spread)]),
];
