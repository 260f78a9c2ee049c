/** Which of several workers this process is: as the command line says, or as what has started it. */
import { UsageError } from "../errors.ts";

export interface TaskShare {
  /** From 0. */
  readonly index: number;
  readonly of: number;
}

/** Rank, number of ranks, and the number of the first rank, as launchers tell them. */
const LAUNCHERS = [
  // Open MPI; MPICH and Intel MPI; srun.
  ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"],
  ["PMI_RANK", "PMI_SIZE"],
  ["SLURM_PROCID", "SLURM_NTASKS"],
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
  const [id, first, last] = ["ID", "MIN", "MAX"].map((name) =>
    Number(environment[`SLURM_ARRAY_TASK_${name}`] ?? Number.NaN),
  );
  if (Number.isInteger(id) && Number.isInteger(first) && Number.isInteger(last)) {
    return { index: (id as number) - (first as number), of: (last as number) - (first as number) + 1 };
  }
  return { index: 0, of: 1 };
}
