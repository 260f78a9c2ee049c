/** manifest.json of prepared data: what each file holds and what it was made from. Written last, so it stands for all. */
import { z } from "zod";
import { DataError } from "../errors.ts";

const count = z.int().min(0);
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);

const fileSchema = z.strictObject({
  source: z.string(),
  split: z.enum(["training", "heldout"]),
  /** Token file, relative to the manifest. */
  file: z.string().regex(/^(training|heldout)\/[a-z0-9_-]+\.npy$/),
  tokens: count,
  documents: count,
  /** UTF-8 bytes of the text. */
  textBytes: count,
  sha256,
});

const sourceSchema = z.strictObject({
  name: z.string(),
  /** The npm package with its version, or the path. */
  resolved: z.string(),
  files: count,
  documents: count,
  bytes: count,
  duplicates: count,
  empty: count,
  invalidFiles: count,
  lines: count,
  brokenLines: count,
  faults: z.array(z.string()),
});

export const manifestSchema = z.strictObject({
  version: z.literal(1),
  /** Of the recipe's data and tokenizer part, the seed and the local files: the same digest gives the same files. */
  recipeSha256: sha256,
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
