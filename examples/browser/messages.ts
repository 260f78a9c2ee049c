/** What the page and its worker say to each other. */

export type ToWorker =
  | { readonly type: "open"; readonly source: string | Readonly<Record<string, File>> }
  | {
      readonly type: "generate";
      readonly prompt: string;
      readonly maxTokens: number;
      readonly temperature: number;
      readonly seed: number;
    }
  | { readonly type: "stop" };

/** A token and the experts that each of its layers chose, the most probable first. */
export interface ShownToken {
  readonly text: string;
  /** By layer. */
  readonly experts: readonly (readonly { readonly expert: number; readonly weight: number }[])[];
}

export type FromWorker =
  | { readonly type: "progress"; readonly text: string }
  | { readonly type: "opened"; readonly text: string }
  | { readonly type: "piece"; readonly text: string; readonly tokens: readonly ShownToken[] }
  | { readonly type: "ended"; readonly text: string }
  | { readonly type: "error"; readonly text: string };
