/** The checkpoints of one run: when they are written, which stay, and which one the run can go back to. */
import type { Recipe } from "../config/recipe.ts";
import type { LoaderCursor } from "../data/loader.ts";
import { checkpointStep, listCheckpoints } from "../formats/runFolder.io.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import {
  readCheckpoint,
  readTrainerState,
  removeCheckpoint,
  type Trained,
  verifyCheckpoint,
  writeCheckpoint,
} from "./checkpoint.io.ts";
import type { Start } from "./resume.io.ts";
import type { RoutingMonitor } from "./routingMonitor.ts";
import { readRoutingState } from "./routingState.io.ts";
import type { SpikeDetector } from "./spikes.ts";

/** What a run's checkpoints are made of, and restored to. */
export interface RunParts {
  readonly recipe: Recipe;
  readonly tokenizer: Tokenizer;
  /** SHA-256 of each file of the prepared data. */
  readonly data: Readonly<Record<string, string>>;
  readonly trained: Pick<Trained, "parameters" | "optimizer">;
  readonly routing: RoutingMonitor;
  readonly spikes: SpikeDetector;
}

/** Where a run is. */
export interface RunPlace {
  readonly step: number;
  readonly tokens: number;
  readonly cursor: LoaderCursor;
  /** Returns to a checkpoint so far. */
  readonly rewinds: number;
}

export class RunCheckpoints {
  readonly #directory: string;
  readonly #parts: RunParts;
  /** Newest checkpoint, and the step it is of. */
  #newest: { readonly step: number; readonly path: string } | undefined;

  /** @param directory of checkpoints. */
  constructor(directory: string, parts: RunParts) {
    this.#directory = directory;
    this.#parts = parts;
  }

  /** Path of the newest checkpoint. */
  get newest(): string | undefined {
    return this.#newest?.path;
  }

  /**
   * Whether a step has a checkpoint in a run that nothing interrupts. A run that goes back after spikes starts with one,
   * because the first may come before the second.
   */
  isScheduled(step: number): boolean {
    const { saveEvery, steps, spikes } = this.#parts.recipe.train;
    if (step === 0) return spikes.action === "rewind";
    return step % saveEvery === 0 || step === steps;
  }

  /**
   * Writes a checkpoint, unless the newest one is of this step already or nothing is done yet.
   * @returns its path; undefined where none is written.
   * @throws ResourceError when the disk is full: earlier checkpoints are untouched.
   */
  async save({ step, tokens, cursor, rewinds }: RunPlace): Promise<string | undefined> {
    const { recipe, tokenizer, data, trained, routing, spikes } = this.#parts;
    if (step === this.#newest?.step || (step === 0 && !this.isScheduled(0))) return undefined;
    // One that an interruption causes must leave no trace in what the run writes down later.
    if (this.isScheduled(step)) routing.mark();
    const { state } = routing;
    const path = await writeCheckpoint(
      this.#directory,
      { ...trained, routing: state.reference.length === 0 ? undefined : state },
      tokenizer,
      {
        step,
        tokens,
        priorSteps: trained.optimizer.priorSteps || undefined,
        cursor,
        data,
        spikes: { losses: spikes.losses, rewinds },
        recipe,
      },
      { keep: recipe.train.keep, scheduled: (other) => this.isScheduled(other) },
    );
    this.#newest = { step, path };
    return path;
  }

  /** Restores everything but the place in the data. @throws CheckpointError for what does not fit. */
  async restore({ folder, state }: Start): Promise<void> {
    const { trained, routing, spikes } = this.#parts;
    await readCheckpoint(folder, trained, state);
    routing.restore(await readRoutingState(folder));
    spikes.restore(state.spikes?.losses ?? []);
    this.#newest = { step: state.step, path: folder };
  }

  /**
   * Goes back after a step that went wrong: restores the last good checkpoint and removes later ones. A checkpoint is good
   * once the step after it, the first to see its weights, went well; where only a younger one is left, that is taken.
   * Interruptions do not change which one it is.
   * @returns it; undefined where there is none.
   * @throws CheckpointError where it is damaged.
   */
  async rewind(wrongStep: number): Promise<Start | undefined> {
    const all = await listCheckpoints(this.#directory);
    const scheduled = all.filter((path) => this.isScheduled(checkpointStep(path)));
    const folder = scheduled.findLast((path) => checkpointStep(path) + 1 < wrongStep) ?? scheduled.at(-1);
    if (folder === undefined) return undefined;
    await verifyCheckpoint(folder);
    const start = { folder, state: await readTrainerState(folder) };
    for (const path of all) if (checkpointStep(path) > start.state.step) await removeCheckpoint(path);
    await this.restore(start);
    return start;
  }
}
