/**
 * The kernel library as TypeScript sees it: kernels/kernels.h, name for name, where each function is documented.
 * A Pointer is what `Tensor.pointer` gives; 0 is null, allowed only where kernels.h says so.
 */
export type Pointer = number;

/** A flag as the C ABI takes it. */
export type Flag = 0 | 1;

export interface Kernels {
  cpuFeatures(): number;
  setThreads(count: number): number;
  fmaBurst(iterations: number): number;
  readBurst(x: Pointer, count: number, repeats: number): number;

  fill(x: Pointer, count: number, value: number): void;
  add(a: Pointer, b: Pointer, out: Pointer, count: number): void;
  clampForward(x: Pointer, ldx: number, y: Pointer, ldy: number, rows: number, cols: number, limit: number): void;
  clampBackward(
    x: Pointer,
    ldx: number,
    dy: Pointer,
    lddy: number,
    dx: Pointer,
    lddx: number,
    rows: number,
    cols: number,
    limit: number,
  ): void;
  sumSquares(x: Pointer, count: number): number;
  firstNonfinite(x: Pointer, count: number): number;

  gemm(
    transposeA: Flag,
    transposeB: Flag,
    m: number,
    n: number,
    k: number,
    a: Pointer,
    lda: number,
    b: Pointer,
    ldb: number,
    c: Pointer,
    ldc: number,
    accumulate: Flag,
  ): void;
  gemmF32(
    transposeA: Flag,
    transposeB: Flag,
    m: number,
    n: number,
    k: number,
    a: Pointer,
    lda: number,
    b: Pointer,
    ldb: number,
    c: Pointer,
    ldc: number,
    accumulate: Flag,
  ): void;

  embeddingForward(table: Pointer, ids: Pointer, out: Pointer, tokens: number, width: number): void;
  embeddingBackward(dtable: Pointer, ids: Pointer, dout: Pointer, tokens: number, width: number): void;

  rmsnormForward(
    x: Pointer,
    ldx: number,
    weight: Pointer,
    y: Pointer,
    ldy: number,
    rstd: Pointer,
    rows: number,
    width: number,
    epsilon: number,
  ): void;
  rmsnormBackward(
    x: Pointer,
    ldx: number,
    weight: Pointer,
    rstd: Pointer,
    dy: Pointer,
    lddy: number,
    dx: Pointer,
    lddx: number,
    dweight: Pointer,
    rows: number,
    width: number,
    accumulate: Flag,
  ): void;

  layernormForward(
    x: Pointer,
    ldx: number,
    weight: Pointer,
    bias: Pointer,
    y: Pointer,
    ldy: number,
    mean: Pointer,
    rstd: Pointer,
    rows: number,
    width: number,
    epsilon: number,
  ): void;
  layernormBackward(
    x: Pointer,
    ldx: number,
    weight: Pointer,
    mean: Pointer,
    rstd: Pointer,
    dy: Pointer,
    lddy: number,
    dx: Pointer,
    lddx: number,
    dweight: Pointer,
    dbias: Pointer,
    rows: number,
    width: number,
    accumulate: Flag,
  ): void;

  rope(
    x: Pointer,
    ldx: number,
    positions: Pointer,
    cosine: Pointer,
    sine: Pointer,
    tokens: number,
    heads: number,
    channels: number,
    inverse: Flag,
  ): void;

  attentionForward(
    q: Pointer,
    ldq: number,
    k: Pointer,
    ldk: number,
    v: Pointer,
    ldv: number,
    out: Pointer,
    ldo: number,
    lse: Pointer,
    kvStart: Pointer,
    batch: number,
    queries: number,
    keys: number,
    kvStride: number,
    heads: number,
    kvHeads: number,
    channels: number,
    scale: number,
  ): void;
  attentionBackward(
    q: Pointer,
    ldq: number,
    k: Pointer,
    ldk: number,
    v: Pointer,
    ldv: number,
    out: Pointer,
    ldo: number,
    lse: Pointer,
    kvStart: Pointer,
    dout: Pointer,
    lddo: number,
    dq: Pointer,
    lddq: number,
    dk: Pointer,
    lddk: number,
    dv: Pointer,
    lddv: number,
    batch: number,
    length: number,
    heads: number,
    kvHeads: number,
    channels: number,
    scale: number,
  ): void;

  cacheStore(
    k: Pointer,
    ldk: number,
    v: Pointer,
    ldv: number,
    pages: Pointer,
    slots: Pointer,
    tokens: number,
    kvHeads: number,
    channels: number,
    type: number,
  ): void;
  pagedAttention(
    q: Pointer,
    ldq: number,
    pages: Pointer,
    pageTable: Pointer,
    sequences: Pointer,
    out: Pointer,
    ldo: number,
    count: number,
    queries: number,
    keys: number,
    heads: number,
    kvHeads: number,
    channels: number,
    type: number,
    scale: number,
  ): void;

  swigluForward(gateUp: Pointer, y: Pointer, rows: number, inner: number): void;
  swigluBackward(gateUp: Pointer, dy: Pointer, dgateUp: Pointer, rows: number, inner: number): void;

  routerForward(
    logits: Pointer,
    probs: Pointer,
    lse: Pointer,
    expertIds: Pointer,
    expertWeights: Pointer,
    tokens: number,
    experts: number,
    topK: number,
    normalise: Flag,
  ): void;
  routerBackward(
    probs: Pointer,
    lse: Pointer,
    expertIds: Pointer,
    expertWeights: Pointer,
    dweights: Pointer,
    probGrad: Pointer,
    tokenMask: Pointer,
    zCoef: number,
    dlogits: Pointer,
    tokens: number,
    experts: number,
    topK: number,
    normalise: Flag,
  ): void;
  routerStats(
    probs: Pointer,
    lse: Pointer,
    expertIds: Pointer,
    tokenMask: Pointer,
    stats: Pointer,
    tokens: number,
    experts: number,
    topK: number,
  ): void;

  expertChoice(
    probs: Pointer,
    expertIds: Pointer,
    expertWeights: Pointer,
    groups: number,
    length: number,
    experts: number,
    capacity: number,
  ): void;
  dropOverflow(
    chosenIds: Pointer,
    expertIds: Pointer,
    tokens: number,
    experts: number,
    topK: number,
    capacity: number,
  ): number;
  maskSlots(expertIds: Pointer, x: Pointer, y: Pointer, slots: number): void;

  moePlan(
    expertIds: Pointer,
    offsets: Pointer,
    rowSlot: Pointer,
    slotRow: Pointer,
    tokens: number,
    experts: number,
    topK: number,
  ): void;
  moeForward(
    x: Pointer,
    gateUp: Pointer,
    down: Pointer,
    weights: Pointer,
    offsets: Pointer,
    rowSlot: Pointer,
    slotRow: Pointer,
    hidden: Pointer,
    rows: Pointer,
    out: Pointer,
    tokens: number,
    experts: number,
    topK: number,
    width: number,
    inner: number,
  ): void;
  moeBackward(
    x: Pointer,
    gateUp: Pointer,
    down: Pointer,
    weights: Pointer,
    offsets: Pointer,
    rowSlot: Pointer,
    slotRow: Pointer,
    dout: Pointer,
    hidden: Pointer,
    rows: Pointer,
    activation: Pointer,
    dx: Pointer,
    dweights: Pointer,
    dgateUp: Pointer,
    ddown: Pointer,
    accumulateGateUp: Flag,
    accumulateDown: Flag,
    tokens: number,
    experts: number,
    topK: number,
    width: number,
    inner: number,
  ): void;

  decodeRows(type: number, rows: Pointer, out: Pointer, count: number, columns: number): void;
  encodeRows(type: number, x: Pointer, rows: Pointer, count: number, columns: number): void;
  difference(a: Pointer, b: Pointer, out: Pointer, count: number): void;
  storedLinear(
    type: number,
    parts: Pointer,
    partCount: number,
    rows: number,
    columns: number,
    x: Pointer,
    ldx: number,
    y: Pointer,
    ldy: number,
    tokens: number,
    activations: Flag,
  ): void;
  storedEmbedding(type: number, parts: Pointer, ids: Pointer, out: Pointer, tokens: number, width: number): void;
  storedExperts(
    gateUpType: number,
    gateUp: Pointer,
    downType: number,
    down: Pointer,
    x: Pointer,
    weights: Pointer,
    offsets: Pointer,
    rowSlot: Pointer,
    slotRow: Pointer,
    hidden: Pointer,
    rows: Pointer,
    out: Pointer,
    tokens: number,
    experts: number,
    topK: number,
    width: number,
    inner: number,
    activations: Flag,
  ): void;

  crossEntropy(
    logits: Pointer,
    labels: Pointer,
    losses: Pointer,
    tokens: number,
    vocabulary: number,
    scale: number,
  ): void;

  adamw(
    param: Pointer,
    grad: Pointer,
    m: Pointer,
    v: Pointer,
    count: number,
    lr: number,
    beta1: number,
    beta2: number,
    epsilon: number,
    weightDecay: number,
    bias1: number,
    bias2: number,
    gradScale: number,
  ): void;
}

/** Names of all kernels, for the bindings. */
export const KERNEL_NAMES = [
  "cpuFeatures",
  "setThreads",
  "fmaBurst",
  "readBurst",
  "fill",
  "add",
  "clampForward",
  "clampBackward",
  "sumSquares",
  "firstNonfinite",
  "gemm",
  "gemmF32",
  "embeddingForward",
  "embeddingBackward",
  "rmsnormForward",
  "rmsnormBackward",
  "layernormForward",
  "layernormBackward",
  "rope",
  "attentionForward",
  "attentionBackward",
  "cacheStore",
  "pagedAttention",
  "swigluForward",
  "swigluBackward",
  "routerForward",
  "routerBackward",
  "routerStats",
  "expertChoice",
  "dropOverflow",
  "maskSlots",
  "moePlan",
  "moeForward",
  "moeBackward",
  "decodeRows",
  "encodeRows",
  "difference",
  "storedLinear",
  "storedEmbedding",
  "storedExperts",
  "crossEntropy",
  "adamw",
] as const satisfies readonly (keyof Kernels)[];

/** `moeForward` -> `olmoe_moe_forward`, the name in the C ABI. */
export function symbolOf(kernel: keyof Kernels): string {
  return `olmoe_${kernel.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}`;
}

/** Functions under their C names, as a library exports them. */
export type KernelLibrary = Readonly<Record<string, (...values: number[]) => number>>;

/** The kernels of such a library. */
export function bindKernels(library: KernelLibrary): Kernels {
  return Object.fromEntries(KERNEL_NAMES.map((name) => [name, library[symbolOf(name)]])) as unknown as Kernels;
}
