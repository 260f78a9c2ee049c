/** Which of several workers this process is: as the command line says, or as what has started it. */
import { UsageError } from "../errors.ts";

export interface TaskShare {
  /** From 0. */
  readonly index: number;
  readonly of: number;
}

/** Rank and number of ranks, as launchers tell them. */
const LAUNCHERS = [
  // Open MPI; MPICH and Intel MPI; srun.
  ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"],
  ["PMI_RANK", "PMI_SIZE"],
  // Not SLURM_NTASKS, which the one process of a batch script has, too.
  ["SLURM_PROCID", "SLURM_STEP_NUM_TASKS"],
] as const;

/**
 * @param text "i/n", from 1, as the option gives it.
 * @param environment variables of mpirun, srun or a Slurm array.
 * @returns the only worker where nothing says otherwise.
 * @throws UsageError for anything else.
 */
export function shareOf(
  text: string | undefined,
  environment: Readonly<Record<string, string | undefined>>,
): TaskShare {
  if (text !== undefined) {
    const [, index, of] = /^(\d+)\/(\d+)$/.exec(text) ?? [];
    if (index === undefined || Number(index) < 1 || Number(index) > Number(of)) {
      throw new UsageError(`--task: "${text}", expected i/n with i from 1 to n, such as 3/64`);
    }
    return { index: Number(index) - 1, of: Number(of) };
  }
  for (const [rank, size] of LAUNCHERS) {
    const [index, of] = [Number(environment[rank] ?? Number.NaN), Number(environment[size] ?? Number.NaN)];
    if (Number.isInteger(index) && Number.isInteger(of) && of > 1) return { index, of };
  }
  return arrayShare(environment) ?? { index: 0, of: 1 };
}

/** The share of a Slurm array's task. @throws UsageError where numbers are missing between the first and the last. */
function arrayShare(environment: Readonly<Record<string, string | undefined>>): TaskShare | undefined {
  const [id, first, last, step, count] = ["ID", "MIN", "MAX", "STEP", "COUNT"].map((name) =>
    Number(environment[`SLURM_ARRAY_TASK_${name}`] ?? Number.NaN),
  ) as [number, number, number, number, number];
  if (!Number.isInteger(id) || !Number.isInteger(first) || !Number.isInteger(last)) return undefined;
  const [index, of] = [(id - first) / (step || 1), (last - first) / (step || 1) + 1];
  if (Number.isInteger(index) && (Number.isNaN(count) || count === of)) return { index, of };
  throw new UsageError(`SLURM_ARRAY_TASK_COUNT: ${count} tasks from ${first} to ${last}, expected a row without gaps`, {
    hint: "give --array=1-N, or say which share it is with --task i/n",
  });
}
