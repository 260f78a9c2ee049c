/** Which documents of a source are kept out of training. */
import { DataError } from "../errors.ts";
import { createRandom, shuffledOrder } from "../util/random.ts";
import { type Document, utf8Bytes } from "./document.ts";

/** Most of a source that may be held out. */
const MAX_HELD_OUT_SHARE = 0.2;
/** The held-out text comes from at least about this many places of a source. */
const MIN_PLACES = 8;

export interface Split {
  readonly training: Document[];
  readonly heldOut: Document[];
}

interface Unit {
  readonly documents: Document[];
  bytes: number;
}

/** Neighbours that are pieces of one text, together; apart where the text alone would be a large part of the split. */
function splitUnits(documents: readonly Document[], largest: number): Unit[] {
  const units: Unit[] = [];
  for (const document of documents) {
    const last = units.at(-1);
    const bytes = utf8Bytes(document.text);
    const first = last?.documents[0];
    if (last !== undefined && first?.path === document.path && first.line === document.line) {
      last.documents.push(document);
      last.bytes += bytes;
    } else {
      units.push({ documents: [document], bytes });
    }
  }
  return units.flatMap((unit) =>
    unit.bytes <= largest
      ? [unit]
      : unit.documents.map((document) => ({ documents: [document], bytes: utf8Bytes(document.text) })),
  );
}

/**
 * Draws about `heldOutBytes` of a source's text, at most a fifth of it. Texts are drawn whole, with all their pieces; only
 * of texts longer than an eighth of the held-out part pieces are drawn, so that it does not come from one or two places.
 * Both lists keep the order of the source.
 *
 * @throws DataError for a source with too few documents to divide.
 */
export function splitHeldOut(
  documents: readonly Document[],
  options: { readonly source: string; readonly heldOutBytes: number; readonly seed: number },
): Split {
  const total = documents.reduce((sum, document) => sum + utf8Bytes(document.text), 0);
  const most = total * MAX_HELD_OUT_SHARE;
  const target = Math.min(options.heldOutBytes, most);
  const units = splitUnits(documents, target / MIN_PLACES);
  const chosen = new Set<Document>();
  let bytes = 0;
  for (const index of shuffledOrder(units.length, createRandom(options.seed, `held-out/${options.source}`))) {
    const unit = units[index] as Unit;
    if (bytes >= target) break;
    if (bytes + unit.bytes > most) continue;
    bytes += unit.bytes;
    for (const document of unit.documents) chosen.add(document);
  }
  if (chosen.size === 0) {
    throw new DataError(
      `source "${options.source}": ${documents.length} documents of ${total} bytes, none is at most a fifth of them and can be held out`,
      { hint: "add text, or lower maxDocumentChars so that long texts are cut" },
    );
  }
  return {
    training: documents.filter((document) => !chosen.has(document)),
    heldOut: documents.filter((document) => chosen.has(document)),
  };
}
