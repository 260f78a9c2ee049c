/** Sources of text in a recipe. */
import { z } from "zod";

const positive = z.number().positive();

/** Files that hold text by their ending. A bare .json is often not by line (package.json), so it has to be asked for. */
export const DEFAULT_INCLUDE = [
  "**/*.{txt,text,md,markdown,rst,adoc,org,tex,html,htm,csv,tsv,parquet}",
  "**/*.{jsonl,ndjson}{,.gz,.zst,.bz2}",
  "**/*.json.{gz,zst,bz2}",
  "**/*.{c,h,cc,cpp,cxx,hh,hpp,cu,cs,go,java,kt,scala,swift,m,rs,zig,js,mjs,cjs,jsx,ts,mts,cts,tsx,vue,svelte,css}",
  "**/*.{py,rb,php,pl,pm,lua,r,R,jl,sh,bash,sql,hs,ml,mli,clj,ex,exs,erl,elm,lean,v,f90,pas,nim,dart,proto}",
];

/** A dataset's name on the hub: with or without an owner; no part leads out of a folder. */
const hubName = z
  .string()
  .regex(/^(?!.*(?:\.\.|--))(?:\w[\w.-]*\/)?\w[\w.-]*$/, 'must be the name of a dataset, such as "allenai/c4"');

/** Where text comes from: exactly one of `npm`, `path` and `hub`. */
export const sourceSchema = z
  .strictObject({
    /** Name of the kind of text; held-out results and routing are reported by it. */
    name: z.string().regex(/^[a-z0-9][a-z0-9_-]*$/, "must be lower-case letters, digits, - and _"),
    /** An npm package with its version, such as "three@0.180.0", fetched when the recipe runs. */
    npm: z.string().min(1).optional(),
    /** A file or folder; relative to the recipe. */
    path: z.string().min(1).optional(),
    /** A dataset of the Hugging Face hub, whose files are fetched as they are read. */
    hub: hubName.optional(),
    /** Branch, tag or commit of the dataset. Left out: main. */
    revision: z.string().min(1).optional(),
    /** Globs inside the package, folder or dataset. */
    include: z.array(z.string().min(1)).min(1).default(DEFAULT_INCLUDE),
    exclude: z.array(z.string().min(1)).default([]),
    /**
     * How a file becomes documents. `auto` goes by the ending: JSONL, CSV and Parquet by row, all else one document a file.
     * `dolma` is JSONL in a folder `documents`.
     */
    format: z.enum(["auto", "text", "markdown", "html", "jsonl", "csv", "parquet", "email", "dolma"]).default("auto"),
    /** Dolma attributes to read, by the names of their folders beside `documents`. */
    attributes: z.array(z.string().regex(/^\w[\w.-]*$/, "must be the name of a folder")).default([]),
    /** Field or column that holds the text. */
    textField: z.string().min(1).default("text"),
    /** Field or column that holds the document's id, where there is one. */
    idField: z.string().min(1).default("id"),
    /** Share of the records that may be broken and are skipped (ten in any case); more stop the run. */
    maxBrokenShare: z.number().min(0).max(1).default(0.01),
    /** Documents longer than this many characters are cut into pieces; null for none, as in OLMo's data. */
    maxDocumentChars: z.int().min(100).nullable().default(null),
    /** Share of training tokens, relative to the other sources. */
    weight: positive.default(1),
  })
  .superRefine(({ npm, path, hub, revision, format, attributes }, context) => {
    const fault = (key: string[], message: string) => context.addIssue({ code: "custom", path: key, message });
    if ([npm, path, hub].filter((value) => value !== undefined).length !== 1) {
      fault([], "needs exactly one of npm, path and hub");
    }
    if (revision !== undefined && hub === undefined) fault(["revision"], "is of a hub source only");
    if (attributes.length > 0 && format !== "dolma") fault(["attributes"], 'are read with format "dolma" only');
  });

export type SourceRecipe = z.output<typeof sourceSchema>;
