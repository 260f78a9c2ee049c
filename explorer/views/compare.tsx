export function CompareView(_: Record<string, unknown>) {
  return <p>soon</p>;
}
