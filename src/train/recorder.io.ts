/**
 * Everything a run writes down as it goes: `metrics.jsonl`, the source of truth, and beside it a TensorBoard event file
 * `events.out.tfevents.SECONDS.olmoe` with the same numbers. Whenever a run goes back, to resume or after a spike, the event
 * file is made anew from what metrics.jsonl keeps, so that no step is in it twice and none is missing.
 */
import { appendFile, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileError, replaceFile } from "../formats/files.io.ts";
import { eventFileHead, scalarRecord } from "../formats/tensorboard.ts";
import { type Metrics, MetricsFile, readMetrics } from "./metrics.io.ts";
import { scalarsOf } from "./scalars.ts";

/** TensorBoard takes any file whose name holds "tfevents"; the ending tells this library's from others. */
const EVENT_FILE = /^events\.out\.tfevents\.\d+\.olmoe$/;

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
    const now = seconds();
    this.#events = join(this.#directory, `events.out.tfevents.${Math.floor(now)}.olmoe`);
    await replaceFile(this.#events, async (file) => {
      await file.appendFile(eventFileHead(now));
      for (let start = 0; start < kept.length; start += RECORDS_AT_ONCE) {
        await file.appendFile(Buffer.concat(kept.slice(start, start + RECORDS_AT_ONCE).map(eventOf)));
      }
    });
    await this.#removeOthers();
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

  /** Removes the event files of earlier starts. */
  async #removeOthers(): Promise<void> {
    const names = (await readdir(this.#directory)).filter((name) => EVENT_FILE.test(name));
    for (const name of names) {
      const path = join(this.#directory, name);
      if (path !== this.#events) {
        await rm(path, { force: true }).catch((error: unknown) => {
          throw fileError("remove", path, error);
        });
      }
    }
  }
}
