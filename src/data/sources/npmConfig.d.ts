/** The part of npm's own configuration reader that is used here; the packages have no types. */
declare module "@npmcli/config" {
  export default class Config {
    constructor(options: {
      npmPath: string;
      cwd: string;
      argv: readonly string[];
      env: NodeJS.ProcessEnv;
      definitions: unknown;
      shorthands: unknown;
      flatten: unknown;
      warn: boolean;
    });
    load(): Promise<void>;
    /** Options in the form that pacote takes. */
    readonly flat: Record<string, unknown> & { readonly registry: string };
  }
}

declare module "@npmcli/config/lib/definitions/index.js" {
  const lists: { readonly definitions: unknown; readonly shorthands: unknown; readonly flatten: unknown };
  export default lists;
}
