/** The numbers of a record under stable names, for TensorBoard. */
import type { Metrics } from "./metrics.io.ts";

/** Not measurements, or the axis itself. */
const LEFT_OUT: ReadonlySet<string> = new Set(["type", "step", "time", "layers"]);

/**
 * Every finite number of a record: its name is the record's type and the path of its field, such as `train/loss`,
 * `eval/sources/novel/bits_per_byte` or `routing/churn/layer_3`. A list has one number for each layer of the
 * decoder or, in `routing/`, for each layer with experts; those of single steps are left out, because `routing/` has them in
 * steadier form, and so are the losses that a rewind undid.
 */
export function scalarsOf(record: Metrics): Record<string, number> {
  const scalars: Record<string, number> = {};
  const add = (name: string, value: unknown): void => {
    if (typeof value === "number" && Number.isFinite(value)) scalars[name] = value;
    else if (Array.isArray(value)) {
      if (record.type === "routing" || record.type === "norms") {
        const layers = record.type === "routing" ? record.layers : undefined;
        for (const [index, number] of value.entries()) add(`${name}/layer_${layers?.[index] ?? index}`, number);
      }
    } else if (typeof value === "object" && value !== null) {
      for (const [key, inner] of Object.entries(value)) add(`${name}/${key}`, inner);
    }
  };
  for (const [key, value] of Object.entries(record)) if (!LEFT_OUT.has(key)) add(`${record.type}/${key}`, value);
  return scalars;
}
