/** Text as a model writes it, each token with its route, and dials that change the routing. */
import { useRef, useState } from "preact/hooks";
import type { ChatMessage } from "../../src/tokenizer/chatTemplate.ts";
import { activeInterventions, Dials } from "../dials.tsx";
import { type DialData, withRoutes } from "../interventionData.ts";
import { answerOf, joinTokens, type LiveToken, type LiveTokens, liveHeader, splitTokens } from "../live.ts";
import { readLines } from "../ndjson.ts";
import { expertColours, type Rgb } from "../palette.ts";
import { Fault, NumberField, Section, TextToken, TokenText } from "../parts.tsx";
import { addTrace, go, latestText, linkTo, type Served, Store, traces, useStore } from "../state.ts";
import { count, flowTexts, label, writtenText } from "../text.ts";
import { Routes } from "../tokenDetail.tsx";

type ServedModel = NonNullable<Served["model"]>;

interface Live {
  readonly tokens: readonly LiveToken[];
  readonly busy: boolean;
  readonly status: string;
  readonly fault?: string;
  /** Name of the trace that it became. */
  readonly trace?: string;
}

interface Settings {
  readonly prompt: string;
  readonly chat: boolean;
  readonly maxTokens: number;
  readonly temperature: number;
  readonly seed: number;
}

/** Kept while other views are looked at. */
const live = new Store<Live>({ tokens: [], busy: false, status: "" });
const settings = new Store<Settings>({ prompt: "", chat: false, maxTokens: 100, temperature: 0.8, seed: 1 });
/** The turns that were written so far, each with its answer. */
const conversation = new Store<readonly ChatMessage[]>([]);
let running: AbortController | undefined;
let texts = 0;

async function generate(model: ServedModel, maxTokens: number): Promise<void> {
  const { prompt, chat, temperature, seed } = settings.value;
  const messages = chat ? [...conversation.value, { role: "user", content: prompt }] : undefined;
  const text = messages === undefined ? { prompt } : { messages };
  const controller = new AbortController();
  running = controller;
  const parts: LiveTokens[] = [];
  live.set({ tokens: [], busy: true, status: "reading the prompt" });
  let interventions: readonly DialData[] = [];
  const keepAll = async () => {
    const kept = await keep(model, parts, interventions, messages);
    // What was only routed has no answer.
    if (kept && messages !== undefined && maxTokens > 0) goOn(messages);
  };
  try {
    interventions = activeInterventions();
    const changes = await withRoutes(interventions, traces.value);
    const response = await fetch("api/generate", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ ...text, maxTokens, temperature, seed, interventions: changes }),
      signal: controller.signal,
    });
    await readLines(response, ({ tokens, end }) => {
      if (tokens !== undefined) {
        const part = tokens as LiveTokens;
        parts.push(part);
        const added = splitTokens(part, model.layers);
        live.set({ ...live.value, tokens: [...live.value.tokens, ...added], status: "" });
      }
      if (end !== undefined) finish(end as End);
    });
    await keepAll();
  } catch (error) {
    if (controller.signal.aborted) {
      live.set({ ...live.value, status: "stopped" });
      await keepAll();
    } else live.set({ ...live.value, fault: (error as Error).message, status: "" });
  } finally {
    live.set({ ...live.value, busy: false });
    running = undefined;
  }
}

/** Keeps the answer, also one that was stopped, and leaves room for the next message. */
function goOn(messages: readonly ChatMessage[]): void {
  conversation.set([...messages, { role: "assistant", content: answerOf(live.value.tokens) }]);
  // The next one may have been begun meanwhile.
  if (settings.value.prompt === messages.at(-1)?.content) settings.set({ ...settings.value, prompt: "" });
}

function beginAnew(): void {
  conversation.set([]);
  live.set({ tokens: [], busy: false, status: "" });
}

interface End {
  readonly finishReason: string;
  readonly tokensPerSec: number | null;
  readonly newTokens?: number;
  readonly last?: { readonly id: number; readonly text: string | undefined } | null;
}

function finish({ tokensPerSec, newTokens, last }: End): void {
  const rate = tokensPerSec === null ? "" : `, ${tokensPerSec.toPrecision(3)} tokens/s`;
  const { tokens } = live.value;
  const unread = last
    ? [
        {
          id: last.id,
          text: writtenText(last.text ?? ""),
          entry: last.text ?? "",
          prompt: false,
          experts: [],
          weights: [],
        },
      ]
    : [];
  live.set({
    ...live.value,
    tokens: [...tokens, ...unread],
    status: newTokens === undefined ? `${tokensOf(tokens.length)} read` : `${tokensOf(newTokens, "new ")}${rate}`,
  });
}

const tokensOf = (number: number, kind = "") => `${count(number)} ${kind}${number === 1 ? "token" : "tokens"}`;

/** Makes a trace of it, for the other views. @returns whether there was anything. */
async function keep(
  model: ServedModel,
  parts: readonly LiveTokens[],
  interventions: readonly unknown[],
  messages: readonly ChatMessage[] = [],
): Promise<boolean> {
  const { slots, ...chunk } = joinTokens(parts, model.layers);
  if (chunk.tokens === 0) return false;
  texts += 1;
  const vocabulary = new Map(
    parts.flatMap(({ ids, texts: entries }) => ids.map((id, t) => [id, entries[t]!] as const)),
  );
  const first = live.value.tokens.slice(0, 6).map(({ text }) => text);
  const start = label((messages.at(-1)?.content ?? first.join("")).trim(), 24);
  const turn = messages.length === 0 ? "" : `, turn ${Math.ceil(messages.length / 2)}`;
  const changed = interventions.length === 0 ? "" : ", intervened";
  const header = liveHeader(model, slots, interventions);
  const name = `text ${texts}${turn}${changed}: ${start}`;
  const open = await addTrace({ kind: "memory", name, header, chunks: [chunk], sources: ["text"], vocabulary });
  if (open !== undefined) live.set({ ...live.value, trace: open.name });
  return true;
}

export function GenerateView({ model }: { readonly model: ServedModel }) {
  const { busy, status, fault, tokens, trace } = useStore(live);
  const form = useStore(settings);
  const turns = useStore(conversation);
  const [chosen, setChosen] = useState<number>();
  const [layer, setLayer] = useState(Math.floor(model.layers.length / 2));
  const area = useRef<HTMLTextAreaElement>(null);
  const colours = useRef(expertColours(model.numExperts)).current;
  const set = (changes: Partial<Settings>) => settings.set({ ...form, ...changes });
  const start = (maxTokens: number) => {
    setChosen(undefined);
    void generate(model, maxTokens);
  };
  const shown = chosen ?? tokens.findLastIndex(({ experts }) => experts.length > 0);
  const token = tokens[shown];
  return (
    <div class="split">
      <div class="split-main">
        <form
          class="card prompt"
          onSubmit={(event) => {
            event.preventDefault();
            if (!busy) start(form.maxTokens);
          }}
        >
          <label class="unseen" for="prompt">
            {form.chat ? "Message" : "Prompt"}
          </label>
          <textarea
            id="prompt"
            ref={area}
            rows={3}
            placeholder={form.chat && turns.length > 0 ? "The next message" : "Call me"}
            value={form.prompt}
            onInput={({ currentTarget }) => set({ prompt: currentTarget.value })}
            onKeyDown={(event) => {
              if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
              event.preventDefault();
              if (!busy) start(form.maxTokens);
            }}
          />
          <div class="toolbar">
            {busy ? (
              <button type="button" class="primary" onClick={() => running?.abort()}>
                Stop
              </button>
            ) : (
              <button type="submit" class="primary" title="Ctrl+Enter">
                Generate
              </button>
            )}
            <button type="button" disabled={busy} onClick={() => start(0)}>
              Route only
            </button>
            <NumberField
              name="tokens"
              value={form.maxTokens}
              least={1}
              most={10_000}
              step={1}
              onChange={(maxTokens) => set({ maxTokens })}
            />
            <NumberField
              name="temperature"
              value={form.temperature}
              least={0}
              most={5}
              step={0.1}
              onChange={(temperature) => set({ temperature })}
            />
            <NumberField
              name="seed"
              value={form.seed}
              least={0}
              most={2 ** 31}
              step={1}
              onChange={(seed) => set({ seed })}
            />
            {model.chat ? (
              <label class="field">
                <input
                  type="checkbox"
                  checked={form.chat}
                  onChange={({ currentTarget }) => set({ chat: currentTarget.checked })}
                />
                as a conversation
              </label>
            ) : null}
            {form.chat && turns.length > 0 ? (
              <button type="button" disabled={busy} onClick={beginAnew}>
                New conversation
              </button>
            ) : null}
          </div>
        </form>
        {fault === undefined ? null : <Fault message={fault} />}
        {tokens.length === 0 ? (
          <p class="soft">Each token of the text gets the colour of its first expert in one layer.</p>
        ) : (
          <>
            <div class="toolbar">
              <label class="field">
                <span>Layer</span>
                <input
                  type="range"
                  min={0}
                  max={model.layers.length - 1}
                  value={layer}
                  onInput={({ currentTarget }) => setLayer(Number(currentTarget.value))}
                />
                <output>{model.layers[layer]}</output>
              </label>
              <span class="soft" role="status">
                {status}
              </span>
              {trace === undefined || busy ? null : <After trace={trace} />}
            </div>
            <LiveText
              {...{ tokens, colours, layer, chosen: shown, layers: model.layers.length }}
              onChoose={setChosen}
            />
          </>
        )}
      </div>
      <aside class="split-side" aria-label="Token and interventions">
        <Section title="Interventions">
          <Dials />
        </Section>
        {token === undefined || token.experts.length === 0 ? null : (
          <div class="card">
            <h2 class="token-title">
              <TokenText text={token.text} most={80} />
            </h2>
            <Routes routes={routesOf(token, model)} colours={colours} chosen={layer} />
          </div>
        )}
      </aside>
    </div>
  );
}

function routesOf({ experts, weights }: LiveToken, { layers }: ServedModel) {
  const slots = experts.length / layers.length;
  return layers.map((layer, index) => {
    const own = experts.slice(index * slots, (index + 1) * slots);
    return {
      layer,
      experts: own.filter((expert) => expert >= 0),
      weights: weights.slice(index * slots, (index + 1) * slots).filter((_, slot) => own[slot]! >= 0),
    };
  });
}

/** Where to go on with what was generated. */
function After({ trace }: { readonly trace: string }) {
  const before = latestText(trace)?.name;
  return (
    <>
      <a href={linkTo({ view: "map", trace, token: undefined })}>Open as a map</a>
      {before === undefined ? null : (
        <button type="button" onClick={() => go({ view: "compare", trace: before, other: trace })}>
          Compare with the text before
        </button>
      )}
    </>
  );
}

function LiveText(props: {
  readonly tokens: readonly LiveToken[];
  readonly colours: readonly Rgb[];
  readonly layer: number;
  readonly layers: number;
  readonly chosen: number;
  readonly onChoose: (token: number) => void;
}) {
  const { tokens, colours, layer, layers, chosen, onChoose } = props;
  const texts = flowTexts(tokens.map(({ entry }) => entry));
  return (
    <div class="running-text">
      {tokens.map(({ prompt, experts }, index) => {
        const expert = experts[(layer * experts.length) / layers] ?? -1;
        return (
          <TextToken
            key={index}
            text={texts[index]!}
            colour={colours[expert]}
            strength={prompt ? 0.5 : 1}
            title={expert < 0 ? "not read by the model" : `expert ${expert}`}
            prompt={prompt}
            chosen={index === chosen}
            onChoose={() => onChoose(index)}
          />
        );
      })}
    </div>
  );
}
