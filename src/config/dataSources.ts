/** Sources of text in a recipe. */
import { z } from "zod";

const positive = z.number().positive();

/** Where text comes from: exactly one of `npm` and `path`. */
export const sourceSchema = z
  .strictObject({
    /** Name of the kind of text; held-out results and routing are reported by it. */
    name: z.string().regex(/^[a-z0-9][a-z0-9_-]*$/, "must be lower-case letters, digits, - and _"),
    /** An npm package with its version, such as "three@0.180.0", fetched when the recipe runs. */
    npm: z.string().min(1).optional(),
    /** A file or folder; relative to the recipe. */
    path: z.string().min(1).optional(),
    /** Globs inside the package or folder. */
    include: z.array(z.string().min(1)).min(1).default(["**/*.{txt,md,jsonl,jsonl.gz}"]),
    exclude: z.array(z.string().min(1)).default([]),
    /** How a file becomes documents. `auto` goes by the ending: JSONL by line, all else one document a file. */
    format: z.enum(["auto", "text", "jsonl", "email"]).default("auto"),
    /** JSONL field that holds the text. */
    textField: z.string().min(1).default("text"),
    /** Documents longer than this many characters are cut into pieces. */
    maxDocumentChars: z.int().min(100).default(8000),
    /** Share of training tokens, relative to the other sources. */
    weight: positive.default(1),
  })
  .superRefine((source, context) => {
    if ((source.npm === undefined) === (source.path === undefined)) {
      context.addIssue({ code: "custom", path: [], message: "needs exactly one of npm and path" });
    }
  });

export type SourceRecipe = z.output<typeof sourceSchema>;
