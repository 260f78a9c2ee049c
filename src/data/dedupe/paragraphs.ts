/**
 * Paragraph deduplication as Dolma's deduper does it: a paragraph is a piece between line feeds, and one that a Bloom filter
 * has seen before is cut. Here lengths are those of the paragraph itself (Dolma compares its end with `min_length`).
 */
import type { Span } from "../attributes.ts";
import { BucketFilters } from "./bloom.ts";
import { Rows } from "./places.ts";
import { bucketOf, inOrder, KEY_WORDS, RECORD_WORDS, type RecordBlock } from "./records.ts";

const [DOCUMENT, PARAGRAPH] = [KEY_WORDS.paragraphs, KEY_WORDS.paragraphs + 1];

/** What a partition reads. */
export interface ParagraphSource {
  /** Records of kind "paragraphs", tasks in order. */
  readonly blocks: AsyncIterable<RecordBlock>;
  /** First bucket of the partition. */
  readonly firstBucket: number;
  /** Records of each of its buckets. */
  readonly counts: ArrayLike<number>;
}

/**
 * Finds the paragraphs of a partition that came before: what one pass over the documents in order finds with a Bloom filter
 * for each bucket. Memory: 20 bits for each paragraph at an error rate of 1e-4.
 *
 * @yields task, document and paragraph of each, tasks in order.
 */
export async function* repeatedParagraphs(source: ParagraphSource, errorRate: number): AsyncGenerator<Uint32Array> {
  const filters = new BucketFilters(source.counts, errorRate);
  for await (const { task, records } of inOrder(source.blocks)) {
    const cuts = new Rows();
    for (let place = 0; place < records.length; place += RECORD_WORDS.paragraphs) {
      const high = records[place] as number;
      if (filters.add(bucketOf(high) - source.firstBucket, high, records[place + 1] as number)) {
        cuts.push(task, records[place + DOCUMENT] as number, records[place + PARAGRAPH] as number);
      }
    }
    yield cuts.words;
  }
}

/** Calls `visit` with the place of each paragraph, from 0; the line feed after it is not part of it. */
export function eachParagraph(text: string, visit: (paragraph: number, start: number, end: number) => void): void {
  let start = 0;
  for (let paragraph = 0; ; paragraph++) {
    const end = text.indexOf("\n", start);
    visit(paragraph, start, end === -1 ? text.length : end);
    if (end === -1) return;
    start = end + 1;
  }
}

/** Spans of some paragraphs of a text, each with the line feed after it, as in Dolma's attributes. */
export function paragraphSpans(text: string, paragraphs: ReadonlySet<number>): Span[] {
  const spans: Span[] = [];
  eachParagraph(text, (paragraph, start, end) => {
    if (paragraphs.has(paragraph)) spans.push([start, Math.min(end + 1, text.length), 1]);
  });
  return spans;
}
