/** Dials for interventions: each is a line of data that goes to the engine as it is. */
import { useState } from "preact/hooks";
import { DIALS, type Dial, type DialKind, HAS_EXPERTS, interventionOf, NUMBERS } from "./interventionData.ts";
import { Store, useStore } from "./state.ts";

export const dials = new Store<readonly Dial[]>([]);

/** Of all dials that are on. @throws as `interventionOf`. */
export const activeInterventions = () => dials.value.filter(({ on }) => on).map(interventionOf);

export function Dials() {
  const list = useStore(dials);
  const [kind, setKind] = useState<DialKind>("mask");
  const change = (index: number, changes: Partial<Dial>) =>
    dials.set(list.map((dial, i) => (i === index ? { ...dial, ...changes } : dial)));
  return (
    <>
      <ul class="dials">
        {list.map((dial, index) => (
          <DialLine
            key={index}
            dial={dial}
            onChange={(changes) => change(index, changes)}
            onRemove={() => dials.set(list.filter((_, i) => i !== index))}
          />
        ))}
      </ul>
      <form
        class="toolbar"
        onSubmit={(event) => {
          event.preventDefault();
          const value = NUMBERS[kind]?.first ?? 0;
          dials.set([...list, { kind, layers: "all", experts: "", value, on: true }]);
        }}
      >
        <select
          aria-label="Kind of intervention"
          value={kind}
          onChange={({ currentTarget }) => setKind(currentTarget.value as DialKind)}
        >
          {Object.entries(DIALS).map(([value, name]) => (
            <option key={value} value={value}>
              {name}
            </option>
          ))}
        </select>
        <button type="submit">Add</button>
      </form>
    </>
  );
}

function DialLine(props: {
  readonly dial: Dial;
  readonly onChange: (changes: Partial<Dial>) => void;
  readonly onRemove: () => void;
}) {
  const { dial, onChange, onRemove } = props;
  const name = DIALS[dial.kind];
  const number = NUMBERS[dial.kind];
  return (
    <li class={dial.on ? "dial" : "dial off"}>
      <div class="dial-head">
        <label class="dial-name">
          <input
            type="checkbox"
            checked={dial.on}
            onChange={({ currentTarget }) => onChange({ on: currentTarget.checked })}
          />
          {name}
        </label>
        <button type="button" class="quiet" aria-label={`Remove: ${name}`} onClick={onRemove}>
          ✕
        </button>
      </div>
      {HAS_EXPERTS.includes(dial.kind) ? (
        <label class="field">
          <span>experts</span>
          <input
            class="short"
            value={dial.experts}
            placeholder="3, 12"
            aria-label={`${name}: experts`}
            onInput={({ currentTarget }) => onChange({ experts: currentTarget.value })}
          />
        </label>
      ) : null}
      <label class="field">
        <span>layers</span>
        <input
          class="short"
          value={dial.layers}
          aria-label={`${name}: layers`}
          onInput={({ currentTarget }) => onChange({ layers: currentTarget.value })}
        />
      </label>
      {number === undefined ? null : (
        <label class="field dial-number">
          <input
            type="range"
            min={number.least}
            max={number.most}
            step={number.step}
            value={dial.value}
            aria-label={`${name}: ${number.name}`}
            onInput={({ currentTarget }) => onChange({ value: Number(currentTarget.value) })}
          />
          <output>{dial.value}</output>
          <span>{number.name}</span>
        </label>
      )}
    </li>
  );
}
