/** log of the sum of exp of `count` values from `start` on; the largest is taken out so that no exp overflows. */
export function logSumExp(values: ArrayLike<number>, start: number, count: number): number {
  let largest = -Infinity;
  for (let i = 0; i < count; i++) largest = Math.max(largest, values[start + i]!);
  let sum = 0;
  for (let i = 0; i < count; i++) sum += Math.exp(values[start + i]! - largest);
  return largest + Math.log(sum);
}
