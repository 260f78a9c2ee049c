/** What the builder of the wasm kernels and the host that runs them agree on. */

/** The kernels for one thread, and for workers over a shared memory. */
export type WasmVariant = "simd128" | "simd128-threads";

/** Name of each variant's file in dist/, where packages carry it and pages fetch it. */
export const WASM_FILES: Readonly<Record<WasmVariant, string>> = {
  simd128: "kernels.wasm",
  "simd128-threads": "kernels-threads.wasm",
};

/** The unit of wasm memory. */
export const PAGE_BYTES = 65_536;

/** Size of the shared memory at the start: the kernels' data, the first stack, and room for a small model. */
export const INITIAL_PAGES = 256;

/** All that 32-bit addresses reach; only what is touched is taken from the machine. */
export const MAXIMUM_PAGES = 65_536;

/** Stack of each thread. */
export const STACK_BYTES = 2 ** 20;
