/** Dials for interventions: each is a line of data that goes to the engine as it is. */
import { useState } from "preact/hooks";
import { DIALS, type Dial, type DialKind, HAS_EXPERTS, interventionOf, NUMBERS } from "./interventionData.ts";
import { NumberField, Select, traceOptions } from "./parts.tsx";
import { latestText, type OpenTrace, Store, traces, useStore } from "./state.ts";

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
          const trace = (latestText() ?? traces.value.at(-1))?.name ?? "";
          const rest = { layers: "all", tokens: "all", experts: "", sequence: 0, on: true };
          dials.set([...list, { kind, value, trace, ...rest }]);
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
      {dial.kind === "replay" ? <ReplayFields {...{ dial, onChange }} /> : null}
      {HAS_EXPERTS.includes(dial.kind) ? (
        <TypedField {...{ dial, onChange }} field="experts" placeholder="3, 12" title="Numbers such as 3, 12" />
      ) : null}
      <TypedField {...{ dial, onChange }} field="layers" title="all, or numbers such as 0, 3-5" />
      <TypedField
        {...{ dial, onChange }}
        field="tokens"
        title="Positions in the text, its prompt included: all, or such as 0-11, 12- or 5"
      />
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

interface FieldProps {
  readonly dial: Dial;
  readonly onChange: (changes: Partial<Dial>) => void;
}

/** A field whose text is read when the dials are. */
function TypedField(
  props: FieldProps & {
    readonly field: "experts" | "layers" | "tokens";
    readonly title: string;
    readonly placeholder?: string;
  },
) {
  const { dial, onChange, field, title, placeholder } = props;
  return (
    <label class="field">
      <span>{field}</span>
      <input
        value={dial[field]}
        placeholder={placeholder}
        title={title}
        aria-label={`${DIALS[dial.kind]}: ${field}`}
        onInput={({ currentTarget }) => onChange({ [field]: currentTarget.value })}
      />
    </label>
  );
}

/** Which route is replayed: of one of the open traces, the texts that were generated among them. */
function ReplayFields({ dial, onChange }: FieldProps) {
  const list = useStore(traces);
  const open = list.find(({ name }) => name === dial.trace);
  // What the dial names stays in the list, so that it shows what would be read.
  const missing = { value: dial.trace, name: dial.trace === "" ? "none is open" : `${dial.trace}, closed` };
  return (
    <>
      <Select
        label="trace"
        title={`${DIALS.replay}: trace`}
        value={dial.trace}
        options={[...(open === undefined ? [missing] : []), ...traceOptions(list)]}
        onChange={(trace) => onChange({ trace, sequence: 0 })}
      />
      {open === undefined ? null : <SequenceField {...{ dial, onChange, open }} />}
    </>
  );
}

/** Nothing for a trace that has one sequence only. */
function SequenceField({ dial, onChange, open }: FieldProps & { readonly open: OpenTrace }) {
  const { summary } = useStore(open.summary);
  if ((summary?.sequences.length ?? 0) < 2) return null;
  return (
    <NumberField
      name="sequence"
      title={`${DIALS.replay}: sequence`}
      value={dial.sequence}
      least={0}
      most={2 ** 31}
      step={1}
      onChange={(sequence) => onChange({ sequence })}
    />
  );
}
