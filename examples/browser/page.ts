/** The page: choose a model, write a prompt, watch the text and its experts. */
import type { FromWorker, ShownToken, ToWorker } from "./messages.ts";

function element<E extends HTMLElement>(id: string): E {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`internal: no element ${id}`);
  return found as E;
}

const [output, status, routing] = [element("output"), element("status"), element("routing")];
const [generate, stop] = [element<HTMLButtonElement>("generate"), element<HTMLButtonElement>("stop")];
const fieldOf = (id: string) => element<HTMLInputElement>(id).value;

const worker = new Worker("/worker.js", { type: "module" });
const ask = (message: ToWorker) => worker.postMessage(message);

function say(text: string, error = false): void {
  status.textContent = text;
  status.classList.toggle("error", error);
}

let opened = false;

/** Whether there is something to generate with, and nothing is being generated. */
function ready(can: boolean): void {
  generate.disabled = !can;
  stop.disabled = true;
}

/** A row for each layer: its experts with their weights. */
function showExperts({ text, experts }: ShownToken, place: HTMLElement): void {
  output.querySelector(".chosen")?.classList.remove("chosen");
  place.classList.add("chosen");
  element("experts").hidden = false;
  element("token").textContent = text;
  routing.replaceChildren(
    ...experts.map((slots, layer) => {
      const row = document.createElement("tr");
      const cells = [`layer ${layer}`, ...slots.map(({ expert, weight }) => `${expert} (${weight.toFixed(3)})`)];
      row.append(...cells.map((cell) => Object.assign(document.createElement("td"), { textContent: cell })));
      return row;
    }),
  );
}

/** One span for each piece; a click shows the experts of its first token. */
function showPiece(text: string, tokens: readonly ShownToken[]): void {
  const span = document.createElement("span");
  span.textContent = text;
  const token = tokens[0];
  if (token !== undefined) span.addEventListener("click", () => showExperts(token, span));
  output.append(span);
}

worker.onmessage = ({ data }: MessageEvent<FromWorker>) => {
  if (data.type === "piece") return showPiece(data.text, data.tokens);
  say(data.text, data.type === "error");
  if (data.type === "opened") opened = true;
  if (data.type !== "progress") ready(opened);
};
worker.onerror = ({ message }) => say(message, true);

element("open").addEventListener("submit", (event) => {
  event.preventDefault();
  const files = [...(element<HTMLInputElement>("files").files ?? [])];
  const url = fieldOf("url");
  if (files.length === 0 && url === "") return say("choose files or give an address", true);
  say("opening");
  opened = false;
  generate.disabled = true;
  ask({ type: "open", source: files.length > 0 ? Object.fromEntries(files.map((file) => [file.name, file])) : url });
});

element("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  output.replaceChildren();
  element("experts").hidden = true;
  generate.disabled = true;
  stop.disabled = false;
  say("generating");
  const [maxTokens, temperature, seed] = ["maxTokens", "temperature", "seed"].map((id) => Number(fieldOf(id)));
  ask({ type: "generate", prompt: fieldOf("prompt"), maxTokens: maxTokens!, temperature: temperature!, seed: seed! });
});

stop.addEventListener("click", () => ask({ type: "stop" }));
