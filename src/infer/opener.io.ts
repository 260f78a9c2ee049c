/** Opens a model's files and an engine over them, in this thread or, as the module of a worker, in that one. */

import type { BackendName, InstructionSet } from "../backend/backend.ts";
import { openBackend } from "../backend/io.ts";
import type { TextFiles } from "../formats/ggufTokenizer.ts";
import { openStored } from "../formats/stored.io.ts";
import type { StoredModel } from "../formats/stored.ts";
import { Decoder } from "../model/decoder.ts";
import type { RopeScaling } from "../model/ropeScaling.ts";
import type { Activations } from "../tensor/stored.ts";
import { type EngineOptions, LocalEngine } from "./localEngine.ts";
import type { ModelInfo } from "./model.ts";
import type { OpenContext } from "./workerProtocol.ts";

/** Plain data, so that it can be sent to a worker. */
export interface EngineOpening {
  /** A GGUF file or a folder. */
  readonly path: string;
  /** What tells a changed file from the one that is open already. */
  readonly version?: string | undefined;
  /** Default "auto". */
  readonly backend?: BackendName | "auto" | undefined;
  readonly isa?: InstructionSet | undefined;
  readonly threads?: number | undefined;
  readonly activations?: Activations | undefined;
  readonly ropeScaling?: RopeScaling | undefined;
  readonly engine?: EngineOptions | undefined;
}

/** What there is to say of an opened model besides its config. */
export interface OpenedFacts {
  readonly backend: ModelInfo["backend"];
  readonly types: ModelInfo["types"];
  readonly text: TextFiles | undefined;
}

/**
 * @throws CheckpointError, ConfigError or TokenizerError for files that can not be used; UnsupportedError for a backend
 *   that this machine does not have; ResourceError where memory is short.
 */
export async function openEngine(
  opening: EngineOpening,
  { notice, progress }: OpenContext,
  signal?: AbortSignal,
): Promise<{ readonly engine: LocalEngine; readonly info: OpenedFacts }> {
  const { path, isa, threads, activations, ropeScaling } = opening;
  progress({ stage: "backend" });
  const backend = await openBackend({
    backend: isa === undefined ? (opening.backend ?? "auto") : "native",
    ...(isa === undefined ? {} : { isa }),
    ...(threads === undefined ? {} : { threads }),
    onNotice: notice,
  });
  let stored: StoredModel | undefined;
  let decoder: Decoder<StoredModel> | undefined;
  const dispose = () => {
    decoder?.dispose();
    stored?.dispose();
    backend.close();
  };
  try {
    progress({ stage: "weights" });
    const opened = await openStored(path, backend, { activations, signal });
    stored = opened;
    decoder = new Decoder(backend, opened, { ropeScaling });
    const engine = new LocalEngine(backend, decoder, opening.engine, { check: () => opened.check(), dispose });
    const { name, isa, threads } = backend;
    if (name === "dry") throw new Error("internal: a dry backend runs nothing");
    return {
      engine,
      info: { backend: { name, isa, threads }, types: Object.fromEntries(opened.types), text: opened.text },
    };
  } catch (error) {
    dispose();
    throw error;
  }
}
