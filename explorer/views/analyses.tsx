/** The paper's analyses of a trace, with its figures. */
import { figuresOf } from "../../src/routing/figures.ts";
import type { RoutingResult } from "../../src/routing/results.ts";
import { type Analysed, startCounting } from "../jobs.ts";
import { Chart, Fault, Progress, Section, TracePicker } from "../parts.tsx";
import { type OpenTrace, useCounting } from "../state.ts";

export function AnalysesView({ open }: { readonly open: OpenTrace }) {
  const { source, trace } = open;
  const { result, fault } = useCounting<Analysed>(
    (onResult, onFault) => startCounting({ kind: "analyses", source }, onResult, onFault),
    [open],
  );
  return (
    <div class="analyses">
      <div class="toolbar">
        <TracePicker open={open} />
      </div>
      {fault === undefined ? null : <Fault message={fault} />}
      {fault !== undefined || result?.results !== undefined ? null : (
        <Progress done={result?.tokens ?? 0} of={trace.tokens} what="reading" />
      )}
      {result?.results === undefined ? null : <Figures results={result.results} />}
    </div>
  );
}

/** Figures with what each number is. */
export function Figures({ results }: { readonly results: readonly RoutingResult[] }) {
  return (
    <>
      {results.map((result) => {
        const figures = figuresOf([result]);
        return figures.length === 0 ? null : (
          <Section key={result.analysis} title={figures[0]!.title}>
            <p class="soft definition">{result.definition}</p>
            {figures.map(({ name, title, spec }) => (
              <Chart key={name} title={title} spec={spec} asPrinted />
            ))}
          </Section>
        );
      })}
    </>
  );
}
