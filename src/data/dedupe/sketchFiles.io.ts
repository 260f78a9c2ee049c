/** Record files that a read task leaves: digests, bands, signatures and paragraph hashes of its documents. */
import type { DedupeOptions } from "../../config/dataDedupe.ts";
import { bandsFor } from "./bands.ts";
import { SIGNATURE_BYTES } from "./minhash.ts";
import { RecordWriter } from "./recordFile.io.ts";
import { type KeyKind, keyRecords } from "./records.ts";
import type { Sketch } from "./sketch.ts";

/** The file of a kind beside the others of its task. */
export function recordPath(base: string, kind: KeyKind | "signatures"): string {
  return `${base}.${kind}`;
}

/** What the writer and the readers of a kind have to agree on, as one number. */
export function settingOf(kind: KeyKind, { near, paragraphs }: DedupeOptions): number {
  if (kind === "near") return near === null ? 0 : bandsFor(near.threshold).rows;
  return kind === "paragraphs" ? (paragraphs?.minLength ?? 0) : 0;
}

/** The kinds of keys that the options ask for. */
export function kindsOf({ exact, near, paragraphs }: DedupeOptions): KeyKind[] {
  const asked = { exact, near: near !== null, paragraphs: paragraphs !== null };
  return (Object.keys(asked) as KeyKind[]).filter((kind) => asked[kind]);
}

/** Writes the sketches of one task; ends with `finish`, or with `discard` where anything failed. */
export class SketchWriter {
  readonly #keys: ReadonlyMap<KeyKind, RecordWriter>;
  readonly #signatures: RecordWriter | undefined;

  private constructor(keys: ReadonlyMap<KeyKind, RecordWriter>, signatures: RecordWriter | undefined) {
    this.#keys = keys;
    this.#signatures = signatures;
  }

  /**
   * @param base path that the names of all files start with.
   * @throws ResourceError or DataError where a file can not be written, as all methods do.
   */
  static async create(base: string, options: DedupeOptions): Promise<SketchWriter> {
    const keys = new Map<KeyKind, RecordWriter>();
    try {
      for (const kind of kindsOf(options)) {
        keys.set(kind, await RecordWriter.create(recordPath(base, kind), kind, settingOf(kind, options)));
      }
      const path = recordPath(base, "signatures");
      const signatures = keys.has("near") ? await RecordWriter.create(path, "signatures") : undefined;
      return new SketchWriter(keys, signatures);
    } catch (error) {
      for (const writer of keys.values()) await writer.discard();
      throw error;
    }
  }

  /** @param document its index in the task; indexes rise, and those left out are no one's duplicates. */
  async add(document: number, { digest, signature, bandKeys, paragraphs }: Sketch): Promise<void> {
    await this.#keys.get("exact")?.add(keyRecords("exact", digest, document));
    await this.#keys.get("near")?.add(keyRecords("near", bandKeys, document));
    await this.#keys.get("paragraphs")?.add(keyRecords("paragraphs", paragraphs, document));
    if (signature.length > 0) await this.#addSignature(document, signature);
  }

  /** Makes the files appear. @returns how many keys of each kind they hold. */
  async finish(): Promise<Partial<Record<KeyKind, number>>> {
    for (const writer of this.#writers()) await writer.finish();
    return Object.fromEntries([...this.#keys].map(([kind, { records }]) => [kind, records]));
  }

  async discard(): Promise<void> {
    for (const writer of this.#writers()) await writer.discard();
  }

  /** Signatures stand at the place of their document; those of documents without one are zero. */
  async #addSignature(document: number, signature: Uint8Array): Promise<void> {
    const writer = this.#signatures as RecordWriter;
    const none = new Uint32Array(SIGNATURE_BYTES / 4);
    while (writer.records < document) await writer.add(none);
    await writer.add(new Uint32Array(signature.slice().buffer));
  }

  #writers(): RecordWriter[] {
    return [...this.#keys.values(), ...(this.#signatures === undefined ? [] : [this.#signatures])];
  }
}
