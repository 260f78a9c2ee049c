import { relative } from "node:path";

/** A path as the user would type it here: relative where it lies below the working folder. */
export function shownPath(path: string): string {
  const short = relative(process.cwd(), path);
  return short === "" || short.startsWith("..") ? path : short;
}
