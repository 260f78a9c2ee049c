export function GenerateView(_: Record<string, unknown>) {
  return <p>soon</p>;
}
