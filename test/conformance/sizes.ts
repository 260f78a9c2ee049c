/** Sizes that sit on, beside and between the tiles of the kernels. */
export const SIZES: readonly number[] = [1, 3, 5, 6, 7, 8, 16, 17, 32, 33, 47, 48, 49, 64, 100, 255, 256, 257];

/** Counts of flat kernels. */
export const COUNTS: readonly number[] = [0, ...SIZES, 1000, 4099];
