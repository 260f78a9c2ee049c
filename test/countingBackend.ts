/** What a run really holds of a backend's memory, to compare predictions with. */
import type { Backend } from "../src/backend/backend.ts";

const MIB = 2 ** 20;

/** The same backend, keeping account of its blocks, rounded as native memory is. */
export function countingBackend({ name, isa, precision, threads, kernels, close, ...rest }: Backend) {
  const bytes = { held: 0, peak: 0 };
  const allocate: Backend["allocate"] = (byteLength) => {
    const block = rest.allocate(byteLength);
    const unit = byteLength >= 4 * MIB ? 2 * MIB : 64;
    const size = Math.ceil(byteLength / unit) * unit;
    bytes.held += size;
    bytes.peak = Math.max(bytes.peak, bytes.held);
    const release = () => {
      bytes.held -= size;
      block.release();
    };
    return {
      address: block.address,
      byteLength,
      release,
      get buffer() {
        return block.buffer;
      },
      get byteOffset() {
        return block.byteOffset;
      },
    };
  };
  return { backend: { name, isa, precision, threads, kernels, allocate, close } satisfies Backend, bytes };
}
