/** Which documents of a source are kept out of training, drawn by hash, so that any number of tasks draws the same. */
import { DataError } from "../errors.ts";

/** Most of a source that may be held out. */
const MAX_HELD_OUT_SHARE = 0.2;
/** The held-out text comes from at least about this many places of a source. */
export const MIN_PLACES = 8;

/** Documents that are held out together: the pieces of one text, or a piece of a long one. */
export interface HeldOutUnit {
  /** Draws it: lower ones come first. */
  readonly hash: number;
  readonly bytes: number;
  /** Read task and documents in it. */
  readonly task: number;
  readonly documents: readonly number[];
}

/** The lowest by hash, up to about so many bytes; holds at most twice as many. */
export class LowestHashes<Item extends { readonly hash: number; readonly bytes: number }> {
  readonly #quota: number;
  #items: Item[] = [];
  #bytes = 0;

  constructor(quota: number) {
    this.#quota = quota;
  }

  add(item: Item): void {
    this.#items.push(item);
    this.#bytes += item.bytes;
    if (this.#bytes > 2 * this.#quota) this.#cut();
  }

  /** By hash; equal ones as they were added. */
  lowest(): Item[] {
    this.#cut();
    return this.#items;
  }

  #cut(): void {
    this.#items.sort((one, other) => one.hash - other.hash);
    let bytes = 0;
    const end = this.#items.findIndex((item) => {
      bytes += item.bytes;
      return bytes >= this.#quota;
    });
    if (end !== -1) this.#items.length = end + 1;
    this.#bytes = this.#items.reduce((sum, item) => sum + item.bytes, 0);
  }
}

/**
 * Draws about `heldOutBytes` of a source's text, at most a fifth of it.
 * @param units the lowest by hash of each task, at least.
 * @param total documents and bytes of the source that are left after its filters.
 * @throws DataError for a source with too few documents to divide.
 */
export function chooseHeldOut(
  units: readonly HeldOutUnit[],
  options: {
    readonly source: string;
    readonly heldOutBytes: number;
    readonly documents: number;
    readonly bytes: number;
  },
): HeldOutUnit[] {
  const { source, documents, bytes: total } = options;
  if (options.heldOutBytes === 0) return [];
  const most = total * MAX_HELD_OUT_SHARE;
  const target = Math.min(options.heldOutBytes, most);
  const chosen: HeldOutUnit[] = [];
  let bytes = 0;
  for (const unit of units.toSorted((one, other) => one.hash - other.hash || one.task - other.task)) {
    if (bytes >= target) break;
    if (bytes + unit.bytes > most) continue;
    bytes += unit.bytes;
    chosen.push(unit);
  }
  if (chosen.length > 0) return chosen;
  throw new DataError(
    `source "${source}": ${documents} documents of ${total} bytes, none is at most a fifth of them and can be held out`,
    { hint: "add text, set maxDocumentChars so that long texts are cut, or heldOutBytes: 0 for none" },
  );
}
