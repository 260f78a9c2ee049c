/** Files of a source, as a plan keeps them, and where they are looked for. */

export interface SourceFile {
  /** Inside the source, with "/". */
  readonly path: string;
  /** Size as it is stored, packed or not. */
  readonly bytes: number;
  /** Changes with the content: size and time of change, the package's version, or the hub's digest. */
  readonly fingerprint: string;
  /** Of a file of Dolma documents: its attribute files, in the order of the source's `attributes`. */
  readonly attributes?: readonly SourceFile[];
}

export interface SourceOptions {
  /** Relative paths start here: the recipe's folder. */
  readonly baseDirectory: string;
  /** Packages are kept in `npm` below it, files of datasets in `hub`. */
  readonly cacheDirectory: string;
  /** Left out: the environment's HF_ENDPOINT, or huggingface.co. */
  readonly hubUrl?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}
