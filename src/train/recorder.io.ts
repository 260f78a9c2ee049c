/**
 * Everything a run writes down as it goes: `metrics.jsonl`, the source of truth, and beside it a TensorBoard event file
 * `events.out.tfevents.SECONDS.olmoe` with the same numbers. Whenever a run goes back, to resume or after a spike, the event
 * file is made anew from what metrics.jsonl keeps, so that no step is in it twice and none is missing; the one before is left
 * empty.
 */
import { appendFile, readdir, rm, stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import { eventFileHead, scalarRecord } from "../formats/tensorboard.ts";
import { fileError, replaceFile } from "../util/files.io.ts";
import { type Metrics, MetricsFile, readMetrics } from "./metrics.io.ts";
import { scalarsOf } from "./scalars.ts";

/** TensorBoard takes any file whose name holds "tfevents"; the ending tells this library's from others. */
const EVENT_FILE = /^events\.out\.tfevents\.(\d+)\.olmoe$/;
const eventFile = (second: number) => `events.out.tfevents.${second}.olmoe`;

const RECORDS_AT_ONCE = 1000;

const seconds = () => Date.now() / 1000;

/** A record's event; nothing where it has no numbers. */
function eventOf(record: Metrics): Uint8Array {
  const scalars = scalarsOf(record);
  if (record.type === "run" || Object.keys(scalars).length === 0) return new Uint8Array();
  return scalarRecord({ wallTime: record.time ?? seconds(), step: record.step, scalars });
}

/** Writes the records of one run's folder. */
export class Recorder {
  readonly #directory: string;
  readonly #path: string;
  readonly #metrics: MetricsFile;
  #events = "";

  constructor(directory: string) {
    this.#directory = directory;
    this.#path = join(directory, "metrics.jsonl");
    this.#metrics = new MetricsFile(this.#path);
  }

  /**
   * Drops what is later than a checkpoint; see MetricsFile.rewindTo. To be called once before anything is appended.
   * @returns what is kept.
   * @throws DataError for a file that is not metrics, ResourceError where it can not be written.
   */
  async rewindTo(step: number, rewinds: number): Promise<Metrics[]> {
    const kept = await this.#metrics.rewindTo(step, rewinds);
    await this.#startEvents(kept);
    return kept;
  }

  /** Losses of the steps after one, in order. */
  async lossesAfter(step: number): Promise<number[]> {
    const lines = await readMetrics(this.#path);
    return lines.flatMap((line) => (line.type === "train" && line.step > step ? [line.loss] : []));
  }

  /** Writes one record with the time. @throws ResourceError when the disk is full. */
  async append<M extends Metrics>(record: M): Promise<M> {
    const stamped = { ...record, time: seconds() };
    await this.#metrics.append(stamped);
    try {
      await appendFile(this.#events, eventOf(stamped));
    } catch (error) {
      throw fileError("write", this.#events, error);
    }
    return stamped;
  }

  /** Makes the metrics last through a power cut. The event file can be made again from them. */
  async flush(): Promise<void> {
    await this.#metrics.flush();
  }

  /**
   * Makes a new event file, empties the one before and removes those that are empty already. TensorBoard's loader in Python
   * never gets over a file that is gone while it reads it, but goes on from one that has ended to the next by name.
   */
  async #startEvents(records: readonly Metrics[]): Promise<void> {
    const names = await readdir(this.#directory).catch((error: unknown) => {
      throw fileError("read", this.#directory, error);
    });
    const earlier = names.flatMap((name) => EVENT_FILE.exec(name)?.[1] ?? []).map(Number);
    const now = seconds();
    this.#events = join(this.#directory, eventFile(Math.max(Math.floor(now), 1 + Math.max(0, ...earlier))));
    await replaceFile(this.#events, async (file) => {
      await file.appendFile(eventFileHead(now));
      for (let start = 0; start < records.length; start += RECORDS_AT_ONCE) {
        await file.appendFile(Buffer.concat(records.slice(start, start + RECORDS_AT_ONCE).map(eventOf)));
      }
    });
    for (const path of earlier.map((second) => join(this.#directory, eventFile(second)))) {
      try {
        if ((await stat(path)).size > 0) await truncate(path);
        else await rm(path);
      } catch (error) {
        throw fileError("change", path, error);
      }
    }
  }
}
