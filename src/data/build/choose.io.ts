/** Decides what becomes of each document of a read task, and proposes what is held out and what the tokenizer learns from. */
import { createHash } from "node:crypto";
import path from "node:path";
import { paragraphSpans } from "../dedupe/paragraphs.ts";
import { type Copy, readCopies, readCuts } from "../dedupe/steps.io.ts";
import { type Document, utf8Bytes } from "../document.ts";
import { parseAttributeLine } from "../filters/attributeLine.ts";
import { KEEP, type Verdict } from "../filters/filter.ts";
import { FilterRecorder, type FilterReport } from "../filters/report.ts";
import { readValues, writingLines } from "../lines.io.ts";
import { readLines } from "../sources/bytes.io.ts";
import { type HeldOutUnit, LowestHashes, MIN_PLACES } from "../split.ts";
import { Meter, type TaskContext, type TaskOutput } from "./context.ts";
import { COPIES_FILE } from "./dedupe.io.ts";
import { filtersFor, judgeAll } from "./filters.io.ts";
import { type Plan, type PlannedRead, partName } from "./plan.ts";
import { attributesFile, documentsFile } from "./read.io.ts";
import { choiceOf, chosenText, type NamedVerdict } from "./verdicts.ts";

export interface ChooseCounts {
  /** Documents that are kept, and UTF-8 bytes of what is left of their text. */
  readonly documents: number;
  readonly bytes: number;
  readonly units: readonly HeldOutUnit[];
  /** What each filter did. */
  readonly report: FilterReport;
}

/** A text that the tokenizer may learn from. */
export interface Sample {
  readonly hash: number;
  readonly bytes: number;
  /** Document in the task. */
  readonly index: number;
  readonly text: string;
}

export const choicesFile = (part: string) => `work/choices/${part}.jsonl.gz`;
export const samplesFile = (part: string) => `work/samples/${part}.jsonl.gz`;

/** A draw that depends on a document's place alone. */
function drawOf(seed: number, purpose: string, { source, path, line }: Document, piece = ""): number {
  return createHash("sha256")
    .update(JSON.stringify([seed, purpose, source, path, line, piece]))
    .digest()
    .readUIntBE(0, 6);
}

/** Each of the source's tasks proposes four times its share, so that unequal ones still cover it. */
function quotaOf(plan: Plan, source: number, bytes: number): number {
  const tasks = plan.reads.filter((read) => read.source === source).length;
  return Math.min(2 * bytes, (4 * bytes) / tasks);
}

/** Gathers documents that are pieces of one text, and proposes them together unless they are a large part of the split. */
class HeldOutProposals {
  readonly #lowest: LowestHashes<HeldOutUnit>;
  readonly #largest: number;
  readonly #seed: number;
  readonly #task: number;
  #pieces: { readonly document: Document; readonly index: number; readonly bytes: number }[] = [];

  constructor(plan: Plan, task: number, seed: number) {
    const { heldOutBytes } = plan.recipe;
    this.#lowest = new LowestHashes(quotaOf(plan, (plan.reads[task] as PlannedRead).source, heldOutBytes));
    this.#largest = heldOutBytes / MIN_PLACES;
    this.#seed = seed;
    this.#task = task;
  }

  add(document: Document, index: number, bytes: number): void {
    const first = this.#pieces[0]?.document;
    if (first?.path !== document.path || first.line !== document.line) this.#flush();
    this.#pieces.push({ document, index, bytes });
  }

  lowest(): HeldOutUnit[] {
    this.#flush();
    return this.#lowest.lowest();
  }

  #flush(): void {
    const pieces = this.#pieces;
    this.#pieces = [];
    if (pieces.length === 0) return;
    const bytes = pieces.reduce((sum, piece) => sum + piece.bytes, 0);
    const units = bytes <= this.#largest ? [pieces] : pieces.map((piece) => [piece]);
    for (const unit of units) {
      const { document, index } = unit[0]!;
      this.#lowest.add({
        hash: drawOf(this.#seed, "held-out", document, units.length === 1 ? "" : String(index - pieces[0]!.index)),
        bytes: unit.reduce((sum, piece) => sum + piece.bytes, 0),
        task: this.#task,
        documents: unit.map((piece) => piece.index),
      });
    }
  }
}

/** What deduplication says of a task's documents. */
async function findDuplicates(task: number, cutFiles: readonly string[], { plan, directory }: TaskContext) {
  const { exact, near, paragraphs } = plan.recipe.deduplicate;
  const at = (file: string) => path.join(directory, file);
  const copies: Map<number, Copy> = exact || near !== null ? await readCopies(at(COPIES_FILE), task) : new Map();
  const cuts = await readCuts(cutFiles.map(at), task);
  const dropOf = (copy: Copy | undefined, reason: Copy["reason"]): Verdict => {
    if (copy?.reason !== reason) return KEEP;
    const { document, task: other } = copy.original;
    return {
      drop: `${reason === "exact" ? "the same as" : "nearly the same as"} document ${document} of task ${other}`,
    };
  };
  return (index: number, { text }: Document): NamedVerdict[] => {
    const copy = copies.get(index);
    const cut = cuts.get(index);
    const spans = cut === undefined ? [] : paragraphSpans(text, cut);
    return [
      ...(exact ? [["exact", dropOf(copy, "exact")] as const] : []),
      ...(near === null ? [] : [["near", dropOf(copy, "near")] as const]),
      ...(paragraphs === null
        ? []
        : [["paragraphs", { replace: spans.map(([start, end]) => ({ start, end, text: "" })) }] as const]),
    ];
  };
}

/** Counts what each filter makes of a document that those before it have left. @returns bytes of what is left at the end. */
function record(recorder: FilterRecorder, document: Document, verdicts: readonly NamedVerdict[]): number {
  let bytes = utf8Bytes(document.text);
  const before: NamedVerdict[] = [];
  for (const [filter, verdict] of verdicts) {
    before.push([filter, verdict]);
    const isChanged = verdict.drop !== undefined || (verdict.replace?.length ?? 0) > 0;
    const left = isChanged ? utf8Bytes(chosenText(document.text, choiceOf(before))) : bytes;
    const bytesOut = verdict.drop === undefined ? left : 0;
    recorder.add({ filter, document, verdict, bytesIn: bytes, bytesOut });
    bytes = bytesOut;
    if (verdict.drop !== undefined) break;
  }
  return bytes;
}

/** Lines of a task's attributes, as text. */
async function* attributeLines(directory: string, file: string, signal?: AbortSignal): AsyncGenerator<string> {
  for await (const line of readLines(path.join(directory, file), file, signal)) yield Buffer.from(line).toString();
}

/** @param cutFiles what all cuts tasks have written. */
export async function chooseTask(
  index: number,
  cutFiles: readonly string[],
  context: TaskContext,
): Promise<TaskOutput<ChooseCounts>> {
  const { plan, directory, signal } = context;
  const { recipe } = plan;
  const { source } = plan.reads[index] as PlannedRead;
  const seed = recipe.seed;
  const part = partName(plan, index);
  const proposals = new HeldOutProposals(plan, index, seed);
  const wanted = recipe.tokenizer.file === undefined ? recipe.tokenizer.trainBytes + 2 * recipe.heldOutBytes : 0;
  const samples = new LowestHashes<Sample>(quotaOf(plan, source, wanted));
  const meter = new Meter(context, "choose", recipe.sources[source]?.name);
  const counts = { documents: 0, bytes: 0 };
  const recorder = new FilterRecorder(seed);
  const filters = await filtersFor(recipe.sources[source]!.name, context);
  const duplicates = await findDuplicates(index, cutFiles, context);
  const files = await writingLines(directory, [choicesFile(part), samplesFile(part)], async (choices, texts) => {
    let number = 0;
    const found = attributeLines(directory, attributesFile(part), signal);
    for await (const document of readValues<Document>(directory, documentsFile(part), signal)) {
      const place = number++;
      const attributes = parseAttributeLine((await found.next()).value ?? "", document, `${part}:${number}`);
      const verdicts = [...judgeAll(filters, attributes), ...duplicates(place, document)];
      const choice = choiceOf(verdicts);
      await choices!.write(choice);
      const bytes = record(recorder, document, verdicts);
      const text = chosenText(document.text, choice);
      meter.add(bytes);
      if (choice.drop !== undefined) continue;
      counts.documents++;
      counts.bytes += bytes;
      if (recipe.heldOutBytes > 0) proposals.add(document, place, bytes);
      if (wanted > 0)
        samples.add({ hash: drawOf(seed, "tokenizer", document, document.id), bytes, index: place, text });
    }
    for (const sample of samples.lowest()) await texts!.write(sample);
  });
  meter.flush();
  return { files, value: { ...counts, units: proposals.lowest(), report: recorder.report() } };
}
