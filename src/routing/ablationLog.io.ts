/**
 * What an ablation has measured so far, one JSON value a line, so that an interrupted one goes on: first what was measured,
 * then the nats of each sequence by the whole model, then those without each expert.
 */
import { createHash } from "node:crypto";
import { appendFile, readFile, writeFile } from "node:fs/promises";
import { z } from "zod";
import { DataError } from "../errors.ts";
import { fileError, isMissing } from "../util/files.io.ts";
import type { Ablation } from "./ablation.ts";
import type { Sequence } from "./recordTrace.ts";

const recipeSchema = z.strictObject({
  /** Of this file. */
  version: z.literal(1),
  model: z.string(),
  /** Of the texts: their sources and tokens. */
  text: z.string(),
  sequences: z.int().min(1),
});
export type AblationRecipe = Readonly<z.output<typeof recipeSchema>>;

const nats = z.array(z.number());
const baselineSchema = z.strictObject({ baseline: nats });
const ablationSchema = z.strictObject({ layer: z.int().min(0), expert: z.int().min(0), nats });

/** What is measured. @param model digest of its weights. */
export function ablationRecipe(model: string, sequences: readonly Sequence[]): AblationRecipe {
  const hash = createHash("sha256");
  for (const { source, ids } of sequences) hash.update(`${source} ${ids.join()}\n`);
  return { version: 1, model, text: `sha256:${hash.digest("hex")}`, sequences: sequences.length };
}

export class AblationLog {
  readonly path: string;
  /** [sequences] of the whole model; undefined until it is measured. */
  baseline: readonly number[] | undefined;
  readonly ablations: Ablation[] = [];

  private constructor(path: string) {
    this.path = path;
  }

  /**
   * Opens a log or begins it.
   * @throws DataError for a file that is of another model or other texts, or is no log; ResourceError of the system.
   */
  static async open(path: string, recipe: AblationRecipe): Promise<AblationLog> {
    const log = new AblationLog(path);
    const text = await readFile(path, "utf8").catch((error: unknown) => {
      if (isMissing(error)) return "";
      throw fileError("read", path, error);
    });
    // A line that was cut off is measured again.
    const whole = text.slice(0, text.lastIndexOf("\n") + 1);
    const lines = whole.split("\n").slice(0, -1);
    if (lines.length === 0) await log.#write(() => writeFile(path, `${JSON.stringify(recipe)}\n`));
    else {
      log.#read(lines, recipe);
      if (whole.length < text.length) await log.#write(() => writeFile(path, whole));
    }
    return log;
  }

  has({ layer, expert }: { readonly layer: number; readonly expert: number }): boolean {
    return this.ablations.some((one) => one.layer === layer && one.expert === expert);
  }

  async addBaseline(values: ArrayLike<number>): Promise<void> {
    this.baseline = Array.from(values);
    await this.#append({ baseline: this.baseline });
  }

  async add({ layer, expert, nats: values }: Ablation): Promise<void> {
    const ablation = { layer, expert, nats: Array.from(values) };
    this.ablations.push(ablation);
    await this.#append(ablation);
  }

  #read(lines: readonly string[], recipe: AblationRecipe): void {
    const values = lines.map((line, index) => this.#parse(line, index + 1));
    const first = recipeSchema.safeParse(values[0]);
    if (!first.success) throw this.#fault("line 1 is not the head of an ablation");
    for (const key of ["model", "text"] as const) {
      if (first.data[key] === recipe[key]) continue;
      throw this.#fault(`it is of another ${key} (${first.data[key]}, expected ${recipe[key]})`);
    }
    for (const [index, value] of values.slice(1).entries()) {
      const line = (index === 0 ? baselineSchema : ablationSchema).safeParse(value);
      const found = line.success ? ("baseline" in line.data ? line.data.baseline : line.data.nats) : [];
      if (!line.success || found.length !== recipe.sequences) {
        throw this.#fault(`line ${index + 2} is not what it should be`);
      }
      if ("baseline" in line.data) this.baseline = line.data.baseline;
      else this.ablations.push(line.data);
    }
  }

  #parse(line: string, number: number): unknown {
    try {
      return JSON.parse(line);
    } catch {
      throw this.#fault(`line ${number} is not valid JSON`);
    }
  }

  #fault(fault: string): DataError {
    return new DataError(`${this.path}: ${fault}`, { hint: "choose another --out, or begin anew with --force" });
  }

  #append(value: object): Promise<void> {
    return this.#write(() => appendFile(this.path, `${JSON.stringify(value)}\n`));
  }

  async #write(write: () => Promise<void>): Promise<void> {
    try {
      await write();
    } catch (error) {
      throw fileError("write", this.path, error);
    }
  }
}
