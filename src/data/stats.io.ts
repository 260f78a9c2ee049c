/** What a folder of token files is made of, counted over its documents. */
import path from "node:path";
import { openTokens } from "./open.io.ts";
import type { PreparedData } from "./prepare.io.ts";
import { documentSpans } from "./spans.io.ts";

/** Counts of one source. */
export interface SourceStats {
  readonly name: string;
  readonly trainingTokens: number;
  readonly heldOutTokens: number;
  readonly documents: number;
  /** UTF-8 bytes of the text; 0 where they are not known. */
  readonly textBytes: number;
  /** Documents of 1, 2 to 3, 4 to 7, 8 to 15 ... tokens, their end-of-text token included. */
  readonly lengths: readonly number[];
  readonly longest: number;
}

/** Index of the bin of a length: 2^bin is the least in it. */
const binOf = (length: number) => Math.floor(Math.log2(Math.max(1, length)));

/**
 * Counts the documents of all files.
 * @throws DataError for a damaged file or table; the signal's reason.
 */
export async function dataStats(data: PreparedData, signal?: AbortSignal): Promise<SourceStats[]> {
  const { directory, manifest } = data;
  const stats: SourceStats[] = [];
  for (const name of new Set(manifest.files.map(({ source }) => source))) {
    const counts = { trainingTokens: 0, heldOutTokens: 0, documents: 0, textBytes: 0, longest: 0 };
    const lengths: number[] = [];
    for (const entry of manifest.files.filter(({ source }) => source === name)) {
      counts[entry.split === "training" ? "trainingTokens" : "heldOutTokens"] += entry.tokens;
      counts.textBytes += entry.textBytes;
      const tokens = openTokens(data, entry);
      try {
        const spans = documentSpans(path.join(directory, entry.file), tokens, manifest.tokenizer.eosTokenId, signal);
        for await (const { start, end } of spans) {
          const bin = binOf(end - start);
          while (lengths.length <= bin) lengths.push(0);
          lengths[bin]! += 1;
          counts.documents++;
          counts.longest = Math.max(counts.longest, end - start);
        }
      } finally {
        tokens.close();
      }
    }
    stats.push({ name, ...counts, lengths });
  }
  return stats;
}
