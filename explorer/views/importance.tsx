/** What the model loses without an expert, where the ablation.json of `olmoe ablate` was opened. */
import { useRef } from "preact/hooks";
import type { AblatedExpert, AblationResult, LossChange } from "../../src/routing/ablation.ts";
import { Section, TokenText } from "../parts.tsx";
import { fault, report, Store, useStore } from "../state.ts";
import { count } from "../text.ts";

const ablation = new Store<AblationResult | undefined>(undefined);

const isChange = (value: unknown): value is LossChange => typeof (value as LossChange | null)?.change === "number";

/** @throws an Error that says what is missing. */
function readAblation(text: string): AblationResult {
  const { experts, domains } = JSON.parse(text) as Partial<AblationResult>;
  const whole = (expert: AblatedExpert) =>
    Number.isInteger(expert?.layer) &&
    Number.isInteger(expert.expert) &&
    isChange(expert.all) &&
    Array.isArray(expert.domains) &&
    expert.domains.every(isChange);
  if (!Array.isArray(domains) || !Array.isArray(experts) || !experts.every(whole)) {
    throw new Error("no ablation of experts, expected the ablation.json that olmoe ablate writes");
  }
  return JSON.parse(text) as AblationResult;
}

const signed = (value: number) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(4)}`;

/** @param layer as the model numbers it. */
export function Importance({ layer, expert }: { readonly layer: number; readonly expert: number }) {
  const result = useStore(ablation);
  const found = result?.experts.find((one) => one.layer === layer && one.expert === expert);
  if (result === undefined) return null;
  const rows = found?.domains.map((change, index) => ({ name: result.domains[index]?.domain ?? "", change })) ?? [];
  const all = found === undefined || rows.length < 2 ? [] : [{ name: "all", change: found.all }];
  return (
    <Section title="Loss without it">
      {found === undefined ? <p class="soft">The ablation has not measured it.</p> : null}
      <table>
        <tbody>
          {[...rows, ...all].map(({ name, change: { change, interval } }) => (
            <tr key={name}>
              <th scope="row">
                <TokenText text={name} most={28} />
              </th>
              <td class="number">{signed(change)}</td>
              <td class="number soft">{interval === null ? "" : `${signed(interval[0])} to ${signed(interval[1])}`}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <p class="soft">Nats a token, with 95 % intervals; above zero the model needs the expert.</p>
    </Section>
  );
}

export function ImportanceFile() {
  const input = useRef<HTMLInputElement>(null);
  const known = useStore(ablation);
  const read = async (file: File | undefined) => {
    if (file === undefined) return;
    try {
      ablation.set(readAblation(await file.text()));
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
        {known === undefined ? "Add importance (olmoe ablate)" : `Importance of ${count(known.experts.length)} experts`}
      </button>
    </>
  );
}
