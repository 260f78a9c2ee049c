import { describe, expect, it } from "vitest";
import { UsageError } from "../errors.ts";
import { shareOf } from "./taskShare.ts";

describe("the share of a worker", () => {
  it("is all of it where nothing says otherwise", () => {
    expect(shareOf(undefined, {})).toEqual({ index: 0, of: 1 });
    expect(shareOf(undefined, { OMPI_COMM_WORLD_RANK: "0", OMPI_COMM_WORLD_SIZE: "1" })).toEqual({ index: 0, of: 1 });
    expect(shareOf(undefined, { PMI_RANK: "", SLURM_ARRAY_TASK_ID: "x" })).toEqual({ index: 0, of: 1 });
  });

  it.each([
    ["1/1", { index: 0, of: 1 }],
    ["3/64", { index: 2, of: 64 }],
    ["64/64", { index: 63, of: 64 }],
  ])("is what the option %s says, whatever has started it", (text, share) => {
    expect(shareOf(text, { OMPI_COMM_WORLD_RANK: "1", OMPI_COMM_WORLD_SIZE: "2" })).toEqual(share);
  });

  it.each(["0/2", "3/2", "0/0", "2", "1/", "-1/2", "1/2/3", "a/b", "1.5/2", ""])("is not %j", (text) => {
    expect(() => shareOf(text, {})).toThrow(
      new UsageError(`--task: "${text}", expected i/n with i from 1 to n, such as 3/64`),
    );
  });

  it.each([
    ["Open MPI", { OMPI_COMM_WORLD_RANK: "1", OMPI_COMM_WORLD_SIZE: "4" }],
    ["MPICH and Intel MPI", { PMI_RANK: "1", PMI_SIZE: "4" }],
    ["srun", { SLURM_PROCID: "1", SLURM_NTASKS: "4", SLURM_STEP_NUM_TASKS: "4" }],
    ["mpirun in a task of srun", { OMPI_COMM_WORLD_RANK: "1", OMPI_COMM_WORLD_SIZE: "4", SLURM_PROCID: "0" }],
    ["an array from 0", { SLURM_ARRAY_TASK_ID: "1", SLURM_ARRAY_TASK_MIN: "0", SLURM_ARRAY_TASK_MAX: "3" }],
    ["an array from 7", { SLURM_ARRAY_TASK_ID: "8", SLURM_ARRAY_TASK_MIN: "7", SLURM_ARRAY_TASK_MAX: "10" }],
  ])("is the rank that %s gives", (_, environment) => {
    expect(shareOf(undefined, environment)).toEqual({ index: 1, of: 4 });
  });

  it("is all of it in a batch script of several tasks that has not called srun", () => {
    expect(shareOf(undefined, { SLURM_PROCID: "0", SLURM_NTASKS: "4" })).toEqual({ index: 0, of: 1 });
  });

  const array = (id: number, max: number, step: number, count: number) => ({
    SLURM_ARRAY_TASK_ID: String(id),
    SLURM_ARRAY_TASK_MIN: "1",
    SLURM_ARRAY_TASK_MAX: String(max),
    SLURM_ARRAY_TASK_STEP: String(step),
    SLURM_ARRAY_TASK_COUNT: String(count),
  });

  it("counts an array's tasks by their step", () => {
    expect(shareOf(undefined, array(5, 9, 4, 3))).toEqual({ index: 1, of: 3 });
  });

  it("of an array with gaps is not known, because nobody would do what falls into them", () => {
    expect(() => shareOf(undefined, array(5, 7, 1, 3))).toThrow(
      new UsageError("SLURM_ARRAY_TASK_COUNT: 3 tasks from 1 to 7, expected a row without gaps", {
        hint: "give --array=1-N, or say which share it is with --task i/n",
      }),
    );
  });
});
