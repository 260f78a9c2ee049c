/** Cases of the dense product. */
import { Draw, input, type KernelCase, kernelCase, overwritten, updated } from "./harness.ts";
import { SIZES } from "./sizes.ts";

const draw = new Draw(12);

export interface GemmSizes {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
  readonly accumulate?: boolean;
}

/** Rows are up to 9 floats longer than they have to be. `spreadA` and `spreadB` bound the entries. */
export function gemmCase(sizes: GemmSizes, spreadA = 1, spreadB = 1, kernel: "gemm" | "gemmF32" = "gemm"): KernelCase {
  const { m, n, k, transposeA = false, transposeB = false, accumulate = false } = sizes;
  const ofA = { rows: transposeA ? k : m, cols: transposeA ? m : k, padding: draw.int(0, 9) };
  const ofB = { rows: transposeB ? n : k, cols: transposeB ? k : n, padding: draw.int(0, 9) };
  const ofC = { rows: m, cols: n, padding: draw.int(0, 9) };
  const operands = {
    a: input(draw.matrix(ofA, spreadA)),
    b: input(draw.matrix(ofB, spreadB)),
    c: accumulate ? updated(draw.matrix(ofC, spreadA * spreadB), undefined, ofC) : overwritten(ofC),
  };
  const flags = `${transposeA ? "T" : "N"}${transposeB ? "T" : "N"}${accumulate ? " accumulating" : ""}`;
  const name = `${m} x ${n} x ${k} ${flags}, strides +${ofA.padding} +${ofB.padding} +${ofC.padding}`;
  return kernelCase(kernel, `${name}, entries to ${spreadA} and ${spreadB}`, operands, (kernels, at) =>
    kernels[kernel](
      transposeA ? 1 : 0,
      transposeB ? 1 : 0,
      m,
      n,
      k,
      at.a,
      ofA.cols + ofA.padding,
      at.b,
      ofB.cols + ofB.padding,
      at.c,
      ofC.cols + ofC.padding,
      accumulate ? 1 : 0,
    ),
  );
}

/** Infinities and NaN of A and B stay in their rows and columns of C. */
function infiniteCase(transposeA: boolean, transposeB: boolean): KernelCase {
  const [m, n, k] = [13, 19, 9];
  const made = gemmCase({ m, n, k, transposeA, transposeB });
  const a = made.operands.a!.values;
  const b = made.operands.b!.values;
  const strideA = a.length / (transposeA ? k : m);
  // A[0, 0] and A[12, 0] are infinite, A[5, 0] is no number; B[0, 0] is infinite.
  a[0] = Infinity;
  a[(m - 1) * (transposeA ? 1 : strideA)] = -Infinity;
  a[5 * (transposeA ? 1 : strideA)] = Number.NaN;
  b[0] = -Infinity;
  return { ...made, name: `${made.name} with infinities` };
}

const FLAGS = [false, true].flatMap((transposeA) =>
  [false, true].flatMap((transposeB) => [false, true].map((accumulate) => ({ transposeA, transposeB, accumulate }))),
);

function triples(): GemmSizes[] {
  const small = SIZES.filter((size) => size <= 100);
  return SIZES.flatMap((size) => [
    { m: size, n: draw.pick(small), k: draw.pick(small) },
    { m: draw.pick(small), n: size, k: draw.pick(small) },
    { m: draw.pick(small), n: draw.pick(small), k: size },
  ]);
}

export const gemmCases: readonly KernelCase[] = [
  ...triples().flatMap((sizes) => FLAGS.map((flags) => gemmCase({ ...sizes, ...flags }))),
  ...FLAGS.flatMap((flags) => [
    gemmCase({ m: 0, n: 5, k: 3, ...flags }),
    gemmCase({ m: 5, n: 0, k: 3, ...flags }),
    gemmCase({ m: 5, n: 7, k: 0, ...flags }),
    gemmCase({ m: 1, n: 1, k: 1, ...flags }),
    gemmCase({ m: 1, n: 300, k: 1000, ...flags }),
    gemmCase({ m: 9, n: 11, k: 1025, ...flags }),
    gemmCase({ m: 1030, n: 9, k: 11, ...flags }),
    gemmCase({ m: 9, n: 2051, k: 11, ...flags }),
    gemmCase({ m: 3, n: 4999, k: 5, ...flags }),
    gemmCase({ m: 17, n: 33, k: 49, ...flags }, 1e30, 1e-30),
  ]),
  ...FLAGS.filter(({ accumulate }) => !accumulate).map((f) => infiniteCase(f.transposeA, f.transposeB)),
  ...FLAGS.map((flags) => gemmCase({ m: 37, n: 70, k: 45, ...flags }, 1, 1, "gemmF32")),
  gemmCase({ m: 257, n: 256, k: 255 }),
  gemmCase({ m: 200, n: 300, k: 400, transposeB: true }),
];
