/** summary.json: what a finished run came to, for commands and programs that come later. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { replaceFile } from "../util/files.io.ts";

const bits = z.number();

const comparisonSchema = z.object({ name: z.string(), bySource: z.array(bits), all: bits });
const sampleSchema = z.object({ source: z.string(), prompt: z.string(), text: z.string() });

const summarySchema = z.object({
  /** Of the recipe. */
  name: z.string(),
  sources: z.array(z.string()),
  /** The trained model first, then what it is held against. */
  comparison: z.array(comparisonSchema),
  samples: z.array(sampleSchema),
  /** One sentence for each layer with experts. */
  experts: z.array(z.string()),
  trainingSeconds: z.number(),
  tokens: z.number(),
  /** Newest checkpoint. */
  checkpoint: z.string(),
  report: z.string(),
  /** The experts' heat map; absent for a dense model. */
  picture: z.string().optional(),
});

/** Bits per byte of one model on each source's held-out text, and over all of it. */
export type Comparison = Readonly<z.output<typeof comparisonSchema>>;
/** What the model wrote after the start of a held-out document. */
export type Sample = Readonly<z.output<typeof sampleSchema>>;
export type RunSummary = Readonly<z.output<typeof summarySchema>>;

const pathIn = (directory: string) => join(directory, "summary.json");

/** @throws ResourceError when it can not be written. */
export async function writeSummary(directory: string, summary: RunSummary): Promise<void> {
  await replaceFile(pathIn(directory), (file) => file.writeFile(`${JSON.stringify(summary, null, 2)}\n`));
}

/** The summary in a run's folder; undefined where there is none that can be read: the run then has to be finished first. */
export async function readSummary(directory: string): Promise<RunSummary | undefined> {
  try {
    return summarySchema.safeParse(JSON.parse(await readFile(pathIn(directory), "utf8"))).data;
  } catch {
    return undefined;
  }
}
