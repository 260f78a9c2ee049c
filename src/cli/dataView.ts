/** Shows the making of data on the terminal, and what came of it. */

import { join } from "node:path";
import { DROPPED_FILE } from "../data/build/merge.io.ts";
import type { RunProgress } from "../data/build/run.io.ts";
import { filterTable } from "../data/filters/report.ts";
import { type Manifest, trainingCounts } from "../data/manifest.ts";
import { formatBytes, formatCount, formatDuration, table } from "../report/text.ts";
import { shownPath } from "../util/shownPath.io.ts";
import type { Session } from "./common.ts";
import { ProgressLine } from "./progressLine.ts";

const PHASES = {
  read: "reading",
  pairs: "finding duplicates",
  copies: "finding duplicates",
  cuts: "finding duplicates",
  choose: "filtering",
  select: "making the tokenizer",
  encode: "tokenising",
} as const;

/** Give `show` to a run as its `onProgress`, and call `stop` at the end, whatever the end is. */
export class DataProgress {
  readonly #session: Session;
  readonly #line: ProgressLine;
  #phase = "";
  #start = 0;
  #bytes = 0;
  #documents = 0;

  constructor(session: Session) {
    this.#session = session;
    this.#line = new ProgressLine(session);
  }

  show = ({ phase, bytes, documents, totalBytes, done, tasks, waiting }: RunProgress): void => {
    if (phase !== this.#phase) this.#begin(phase);
    this.#bytes += bytes;
    this.#documents += documents;
    const seconds = (performance.now() - this.#start) / 1000;
    const rate = this.#bytes / Math.max(seconds, 1e-3);
    // The size is a guess while compressed files are read.
    const share = Math.min(0.99, totalBytes === 0 ? done / Math.max(tasks, 1) : this.#bytes / totalBytes);
    const left = share <= 0 ? "" : `, ${formatDuration((seconds * (1 - share)) / share)} left`;
    const others = waiting === 0 ? "" : `, waiting for ${waiting} tasks of others`;
    this.#line.show(
      share,
      `${PHASES[phase]}: ${formatBytes(this.#bytes)}, ${formatBytes(rate)}/s, ${formatCount(this.#documents)} documents, task ${done} of ${tasks}${left}${others}`,
    );
  };

  /** Takes the live line away, and says what the last phase came to. */
  stop(): void {
    this.#line.stop();
    if (this.#phase === "" || this.#bytes === 0) return;
    const seconds = (performance.now() - this.#start) / 1000;
    const name = PHASES[this.#phase as keyof typeof PHASES];
    this.#session.stderr.write(
      `${name.padEnd(22)} ${formatBytes(this.#bytes).padStart(8)} in ${formatDuration(seconds)}, ${formatBytes(this.#bytes / seconds)}/s\n`,
    );
    this.#bytes = 0;
  }

  #begin(phase: string): void {
    this.stop();
    this.#phase = phase;
    this.#start = performance.now();
    this.#documents = 0;
  }
}

/** A row for each source: what was read, what is left, what it came to. */
export function printManifest(manifest: Manifest, directory: string, { stdout }: Session): void {
  const counts = new Map(trainingCounts(manifest).map((entry) => [entry.source, entry]));
  const total = [...counts.values()].reduce((sum, { tokens }) => sum + tokens, 0);
  const rows = manifest.sources.map(({ name, files, documents, bytes, keptDocuments, keptBytes, broken }) => {
    const { tokens = 0 } = counts.get(name) ?? {};
    return [
      name,
      formatCount(files),
      formatCount(documents),
      formatBytes(bytes),
      formatCount(broken),
      formatCount(keptDocuments),
      formatBytes(keptBytes),
      formatCount(tokens),
      `${((100 * tokens) / total).toFixed(1)} %`,
    ];
  });
  const header = ["source", "files", "documents", "text", "broken", "kept", "text kept", "training tokens", "share"];
  const align = header.map((_, index) => (index === 0 ? ("left" as const) : ("right" as const)));
  stdout.write(`${table([header, ...rows], { align })}\n\n`);
  const report = manifest.sources.flatMap(({ filters }) => filters);
  if (report.length > 0) stdout.write(`${filterTable(report)}\n\n`);
  if (report.some(({ examples }) => examples.length > 0)) {
    stdout.write(`what was dropped  ${shownPath(join(directory, DROPPED_FILE))}\n`);
  }
  stdout.write(
    `${formatCount(total)} training tokens of a vocabulary of ${manifest.tokenizer.vocabSize}, in ${shownPath(directory)}\n`,
  );
}
