// Matrix products by jax-js on its wasm backend. Requests and answers are those of ../pytorch/gemm.py, without threads.
import { createInterface } from "node:readline";

const { blockUntilReady, defaultDevice, init, numpy: np } = await import(process.argv[2]);
await init("wasm");
defaultDevice("wasm");

/** An operand as kernels.h stores it, seen as [rows, columns]. */
function matrix(rows, columns, transpose) {
  const data = Float32Array.from({ length: rows * columns }, () => Math.random() - 0.5);
  return transpose ? np.array(data).reshape([columns, rows]).transpose() : np.array(data).reshape([rows, columns]);
}

let operands;

for await (const line of createInterface({ input: process.stdin })) {
  const { m, n, k, transposeA, transposeB, repeats } = JSON.parse(line);
  const key = [m, n, k, transposeA, transposeB].join();
  if (operands?.key !== key) {
    operands?.a.dispose();
    operands?.b.dispose();
    operands = { key, a: matrix(m, k, transposeA), b: matrix(k, n, transposeB) };
    await blockUntilReady([operands.a.ref, operands.b.ref]);
  }
  const start = performance.now();
  for (let repeat = 0; repeat < repeats; repeat++) {
    const product = await blockUntilReady(np.matmul(operands.a.ref, operands.b.ref));
    product.dispose();
  }
  console.log(JSON.stringify({ seconds: (performance.now() - start) / 1000 }));
}
