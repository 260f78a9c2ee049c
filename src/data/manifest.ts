/** manifest.json of prepared data: what each file holds and what it was made from. Written last, so it stands for all. */
import { z } from "zod";
import { DataError } from "../errors.ts";

const count = z.int().min(0);
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);

const fileSchema = z.strictObject({
  source: z.string(),
  split: z.enum(["training", "heldout"]),
  /** Token file, relative to the manifest. */
  file: z.string().regex(/^(?!.*\.\.)[^/\\][^\\]*\.npy$/, "must be a .npy file inside the folder"),
  tokens: count,
  documents: count,
  /** UTF-8 bytes of the text; 0 where they are not known. */
  textBytes: count,
  sha256,
});

const sourceSchema = z.strictObject({
  name: z.string(),
  /** The package with its version, the data set with its commit, or the path. */
  resolved: z.string(),
  files: count,
  /** Records of the files, broken and empty ones included. */
  records: count,
  /** Documents that were read, and UTF-8 bytes of their text. */
  documents: count,
  bytes: count,
  empty: count,
  broken: count,
  faults: z.array(z.string()),
  /** What the filters and deduplication have left of them. */
  keptDocuments: count,
  keptBytes: count,
  /** What each filter, and deduplication, made of them, with examples of what was dropped. */
  filters: z
    .array(
      z.strictObject({
        source: z.string(),
        filter: z.string(),
        documentsIn: count,
        bytesIn: count,
        documentsOut: count,
        bytesOut: count,
        documentsDropped: count,
        bytesDropped: count,
        spansMasked: count,
        examples: z
          .array(z.strictObject({ id: z.string(), reason: z.string(), text: z.string(), rank: z.number() }))
          .readonly(),
      }),
    )
    .readonly(),
});

export const manifestSchema = z.strictObject({
  version: z.literal(2),
  /** Of the recipe, the seed and the local files: the same digest gives the same files. */
  planSha256: sha256,
  /** The recipe with all defaults written out; null for token files that were made elsewhere. */
  recipe: z.unknown(),
  dtype: z.enum(["uint16", "uint32"]),
  tokenizer: z.strictObject({ file: z.string(), sha256, vocabSize: count, eosTokenId: count }),
  sources: z.array(sourceSchema),
  files: z.array(fileSchema),
});

export type Manifest = z.output<typeof manifestSchema>;
export type ManifestFile = z.output<typeof fileSchema>;

/**
 * Reads a manifest.
 * @throws DataError if it is not one.
 */
export function parseManifest(text: string, place: string): Manifest {
  const hint = "delete the folder it is in, so that the data is prepared again";
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new DataError(`${place}: not JSON`, { cause, hint });
  }
  const result = manifestSchema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new DataError(`${place}: not a manifest of prepared data, ${issue?.path.join(".")}: ${issue?.message}`, {
    hint,
  });
}

/** What a source has for training, over all its files. */
export interface TrainingCounts {
  readonly source: string;
  readonly tokens: number;
  readonly documents: number;
  readonly textBytes: number;
}

/** Sums over the training files of each source, in the manifest's order. */
export function trainingCounts({ files }: Manifest): TrainingCounts[] {
  const training = files.filter(({ split }) => split === "training");
  return [...new Set(training.map(({ source }) => source))].map((source) => {
    const own = training.filter((file) => file.source === source);
    const sum = (key: "tokens" | "documents" | "textBytes") => own.reduce((total, file) => total + file[key], 0);
    return { source, tokens: sum("tokens"), documents: sum("documents"), textBytes: sum("textBytes") };
  });
}
