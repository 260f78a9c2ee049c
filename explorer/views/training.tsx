export function TrainingView(_: Record<string, unknown>) {
  return <p>soon</p>;
}
