/** How much worse the model is without an expert, where a file of `olmoe ablate` was opened. */
import { useRef } from "preact/hooks";
import { fault, report, Store, useStore } from "../state.ts";

/** By "layer/expert", nats a token. */
const importance = new Store<ReadonlyMap<string, number>>(new Map());

/** @param layer as the model numbers it. */
export function useImportance(layer: number, expert: number): number | undefined {
  return useStore(importance).get(`${layer}/${expert}`);
}

/**
 * Finds lines with a layer, an expert and a change of loss anywhere in a JSON file.
 * @throws an error that says what is missing.
 */
export function readImportance(text: string): Map<string, number> {
  const found = new Map<string, number>();
  const visit = (value: unknown): void => {
    if (typeof value !== "object" || value === null) return;
    const { layer, expert, change, lossChange, delta, importance: rated } = value as Record<string, unknown>;
    const number = [lossChange, change, delta, rated].map(numberOf).find((candidate) => candidate !== undefined);
    if (typeof layer === "number" && typeof expert === "number" && number !== undefined) {
      if (!found.has(`${layer}/${expert}`)) found.set(`${layer}/${expert}`, number);
      return;
    }
    for (const inner of Object.values(value)) visit(inner);
  };
  visit(JSON.parse(text));
  if (found.size > 0) return found;
  throw new Error("no list of layers, experts and changes of loss in this file: write one with olmoe ablate --json");
}

/** A number, or the mean of an interval. */
function numberOf(value: unknown): number | undefined {
  if (typeof value === "number") return value;
  const { mean } = (value ?? {}) as { mean?: unknown };
  return typeof mean === "number" ? mean : undefined;
}

export function ImportanceFile() {
  const input = useRef<HTMLInputElement>(null);
  const known = useStore(importance);
  const read = async (file: File | undefined) => {
    if (file === undefined) return;
    try {
      importance.set(readImportance(await file.text()));
      fault.set(undefined);
    } catch (error) {
      report(new Error(`${file.name}: ${(error as Error).message}`));
    }
  };
  return (
    <>
      <input
        ref={input}
        type="file"
        class="unseen"
        tabIndex={-1}
        accept=".json"
        aria-label="Ablation file"
        onChange={({ currentTarget }) => {
          void read(currentTarget.files?.[0]);
          currentTarget.value = "";
        }}
      />
      <button type="button" class="quiet" onClick={() => input.current?.click()}>
        {known.size === 0 ? "Add importance (olmoe ablate)" : `Importance of ${known.size} experts`}
      </button>
    </>
  );
}
