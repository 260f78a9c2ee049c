/** The page around the views: what is open, where one is, how it looks. */
import { useEffect, useRef, useState } from "preact/hooks";
import { Fault } from "./parts.tsx";
import { parseRoute, type View } from "./route.ts";
import {
  addExample,
  addFiles,
  addTrace,
  chooseTheme,
  fault,
  go,
  linkTo,
  opening,
  report,
  route,
  type Served,
  served,
  themeChoice,
  useDark,
  useStore,
  useTrace,
} from "./state.ts";
import { AnalysesView } from "./views/analyses.tsx";
import { CompareView } from "./views/compare.tsx";
import { ExpertsView } from "./views/experts.tsx";
import { GenerateView } from "./views/generate.tsx";
import { MapView } from "./views/map.tsx";
import { TrainingView } from "./views/training.tsx";

const EXAMPLE = "20000x16x64x8x4";

const NAMES: Readonly<Record<View, string>> = {
  map: "Map",
  experts: "Experts",
  analyses: "Analyses",
  compare: "Compare",
  generate: "Generate",
  training: "Training",
};

async function askServer(): Promise<void> {
  if (!location.protocol.startsWith("http")) return;
  const response = await fetch("api/session");
  if (!response.ok) throw new Error(`the server answered ${response.status}`);
  const session: Served = await response.json();
  const { hash } = location;
  served.set(session);
  for (const { name, url, bytes } of session.traces) {
    // A worker made from a blob has no address of its own that others could be relative to.
    await addTrace({ kind: "address", name, url: new URL(url, location.href).href, bytes });
  }
  if (hash !== "") return;
  if (session.run !== null) go({ view: "training" });
  else if (session.traces.length === 0 && session.model !== null) go({ view: "generate" });
}

export function App() {
  const dark = useDark();
  const choice = useStore(themeChoice);
  const { view } = useStore(route);
  useEffect(() => {
    document.documentElement.dataset.theme = dark ? "dark" : "light";
  }, [dark]);
  useEffect(() => {
    const read = () => route.set(parseRoute(location.hash));
    addEventListener("hashchange", read);
    addEventListener("popstate", read);
    const { example } = route.value;
    (example === undefined ? askServer() : addExample(example)).catch(report);
    return () => {
      removeEventListener("hashchange", read);
      removeEventListener("popstate", read);
    };
  }, []);
  useEffect(() => {
    document.title = `${NAMES[view]} – OLMoE explorer`;
  }, [view]);
  return (
    <DropPlace>
      <button type="button" class="skip" onClick={() => document.getElementById("main")?.focus()}>
        Skip to the view
      </button>
      <header class="top">
        <span class="brand">
          <Mark />
          OLMoE <span class="soft">explorer</span>
        </span>
        <Navigation />
        <div class="top-end">
          <OpenButton />
          <button
            type="button"
            class="quiet"
            aria-label={`Colours: ${choice}. Change to ${NEXT_THEME[choice]}`}
            title={`Colours: ${choice}`}
            onClick={() => chooseTheme(NEXT_THEME[choice])}
          >
            {THEME_SIGNS[choice]}
          </button>
        </div>
      </header>
      <main id="main" tabIndex={-1}>
        <Messages />
        <CurrentView />
      </main>
    </DropPlace>
  );
}

const NEXT_THEME = { system: "light", light: "dark", dark: "system" } as const;
const THEME_SIGNS = { system: "◐", light: "○", dark: "●" } as const;

/** Three tokens through two layers. */
function Mark() {
  return (
    <svg class="mark" viewBox="0 0 18 18" aria-hidden="true">
      {["#2f6da3", "#d9603b", "#2f8a57", "#c29a1f", "#8e4a90", "#45aecb", "#2f8a57", "#2f6da3", "#d9603b"].map(
        (fill, i) => (
          <rect
            key={i}
            x={(i % 3) * 6 + 0.5}
            y={Math.floor(i / 3) * 6 + 0.5}
            width="5"
            height="5"
            rx="1.2"
            fill={fill}
          />
        ),
      )}
    </svg>
  );
}

function Navigation() {
  const { view } = useStore(route);
  const offered = useStore(served);
  const shown: readonly View[] = [
    "map",
    "experts",
    "analyses",
    "compare",
    ...(offered?.model ? (["generate"] as const) : []),
    ...(offered?.run ? (["training"] as const) : []),
  ];
  return (
    <nav aria-label="Views">
      {shown.map((name) => (
        <a
          key={name}
          href={linkTo({ view: name })}
          aria-current={name === view ? "page" : undefined}
          onClick={(event) => {
            event.preventDefault();
            go({ view: name });
          }}
        >
          {NAMES[name]}
        </a>
      ))}
    </nav>
  );
}

function OpenButton() {
  const input = useRef<HTMLInputElement>(null);
  return (
    <>
      <input
        ref={input}
        type="file"
        multiple
        class="unseen"
        tabIndex={-1}
        aria-label="Trace files"
        onChange={({ currentTarget }) => {
          void addFiles([...(currentTarget.files ?? [])]);
          currentTarget.value = "";
        }}
      />
      <button type="button" onClick={() => input.current?.click()}>
        Open
      </button>
    </>
  );
}

function Messages() {
  const message = useStore(fault);
  const busy = useStore(opening);
  return (
    <>
      {message === undefined ? null : (
        <div class="message">
          <Fault message={message} />
          <button type="button" class="quiet" aria-label="Close the message" onClick={() => fault.set(undefined)}>
            ✕
          </button>
        </div>
      )}
      {busy > 0 ? (
        <p class="soft message" role="status">
          Opening …
        </p>
      ) : null}
    </>
  );
}

function CurrentView() {
  const { view } = useStore(route);
  const open = useTrace();
  const offered = useStore(served);
  const busy = useStore(opening);
  if (view === "generate" && offered?.model) return <GenerateView model={offered.model} />;
  if (view === "training" && offered?.run) return <TrainingView run={offered.run} />;
  if (open === undefined) return busy > 0 ? null : <Welcome />;
  if (view === "experts") return <ExpertsView key={open.name} open={open} />;
  if (view === "analyses") return <AnalysesView key={open.name} open={open} />;
  if (view === "compare") return <CompareView />;
  return <MapView key={open.name} open={open} />;
}

function Welcome() {
  const [busy, setBusy] = useState(false);
  return (
    <div class="welcome">
      <Mark />
      <h1>Which expert fired?</h1>
      <p class="lead">Drop a routing trace anywhere on this page to see where each token went, layer by layer.</p>
      <p class="welcome-actions">
        <OpenButton />
        <button
          type="button"
          class="quiet"
          disabled={busy}
          onClick={() => {
            setBusy(true);
            void addExample(EXAMPLE).finally(() => setBusy(false));
          }}
        >
          Look at made-up data
        </button>
      </p>
      <p class="soft">
        Record one with <code>olmoe trace MODEL text.txt --out text.trace</code>. Nothing leaves this page.
      </p>
    </div>
  );
}

/** Files can be dropped anywhere. */
function DropPlace({ children }: { readonly children: preact.ComponentChildren }) {
  const [over, setOver] = useState(false);
  useEffect(() => {
    const hasFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") === true;
    const onOver = (event: DragEvent) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      setOver(true);
    };
    const onLeave = (event: DragEvent) => event.relatedTarget === null && setOver(false);
    const onDrop = (event: DragEvent) => {
      setOver(false);
      if (!hasFiles(event)) return;
      event.preventDefault();
      void addFiles([...event.dataTransfer!.files]);
    };
    addEventListener("dragover", onOver);
    addEventListener("dragleave", onLeave);
    addEventListener("drop", onDrop);
    return () => {
      removeEventListener("dragover", onOver);
      removeEventListener("dragleave", onLeave);
      removeEventListener("drop", onDrop);
    };
  }, []);
  return (
    <>
      {children}
      {over ? <div class="drop-veil">Drop to open</div> : null}
    </>
  );
}
