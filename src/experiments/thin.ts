/** Points a chart of a few hundred pixels can show; beyond them a mean of neighbours is drawn. */
const MOST_POINTS = 300;

/** Means of as many neighbouring points as it takes to have few enough for a chart. */
export function thinned(points: readonly (readonly [number, number])[]): [number, number][] {
  const size = Math.ceil(points.length / MOST_POINTS);
  return Array.from({ length: Math.ceil(points.length / Math.max(1, size)) }, (_, index) => {
    const group = points.slice(index * size, (index + 1) * size);
    const mean = (axis: 0 | 1) => group.reduce((sum, point) => sum + point[axis], 0) / group.length;
    return [mean(0), mean(1)];
  });
}
