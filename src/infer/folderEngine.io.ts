/** An engine over a model folder, to be opened in a worker (worker.io.ts) or in place. */
import { type BackendOptions, openBackend } from "../backend/io.ts";
import { openModel } from "../formats/model.io.ts";
import { type EngineOptions, LocalEngine } from "./localEngine.ts";
import type { OpenContext } from "./workerProtocol.ts";

export interface FolderEngineOptions {
  /** Holds config.json and weights. */
  readonly folder: string;
  readonly backend?: Omit<BackendOptions, "onNotice"> | undefined;
  readonly engine?: EngineOptions | undefined;
}

/** What kernels run on. */
export interface BackendInfo {
  readonly backend: string;
  readonly isa: string;
  readonly threads: number;
}

/** @throws CheckpointError for a folder without a model; UnsupportedError for a backend that is not to be had. */
export async function openEngine(
  { folder, backend: options = {}, engine = {} }: FolderEngineOptions,
  context: OpenContext,
): Promise<{ readonly engine: LocalEngine; readonly info: BackendInfo }> {
  const backend = await openBackend({ ...options, onNotice: (message) => context.notice(message) });
  const owned: { dispose(): void }[] = [{ dispose: () => backend.close() }];
  const dispose = () => {
    for (const each of owned) each.dispose();
  };
  try {
    const decoder = await openModel(folder, backend);
    owned.unshift(decoder, decoder.parameters);
    const { name, isa, threads } = backend;
    return { engine: new LocalEngine(backend, decoder, engine, { dispose }), info: { backend: name, isa, threads } };
  } catch (error) {
    dispose();
    throw error;
  }
}
