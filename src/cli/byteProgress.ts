/** Shows how much of a long write is done: a bar on a terminal, else nothing until it is over. */
import cliProgress from "cli-progress";
import { formatBytes, formatDuration } from "../report/text.ts";
import type { Session } from "./common.ts";

export interface ByteProgress {
  /** @param what is being done now. */
  update(progress: { readonly bytes: number; readonly totalBytes: number }, what?: string): void;
  /** Takes the bar away; to be called whatever the end is. */
  stop(): void;
  /** Time since it was made, as people write it. */
  elapsed(): string;
}

export function byteProgress({ stderr }: Session): ByteProgress {
  const start = performance.now();
  const bar = stderr.isTTY
    ? new cliProgress.SingleBar({
        format: "{bar} {line}",
        barsize: 20,
        barCompleteChar: "#",
        barIncompleteChar: ".",
        hideCursor: true,
        clearOnComplete: true,
        stream: stderr as NodeJS.WriteStream,
      })
    : undefined;
  let drawing = false;
  return {
    update({ bytes, totalBytes }, what = "") {
      const seconds = (performance.now() - start) / 1000;
      const left = bytes === 0 ? "" : `, ${formatDuration((seconds * (totalBytes - bytes)) / bytes)} left`;
      const rate = `${formatBytes(bytes / seconds)}/s`;
      const line = `${formatBytes(bytes)} of ${formatBytes(totalBytes)}, ${rate}${left}  ${what}`;
      if (drawing) bar?.update(bytes, { line });
      else bar?.start(totalBytes, bytes, { line });
      drawing = true;
    },
    stop() {
      if (drawing) bar?.stop();
      drawing = false;
    },
    elapsed: () => formatDuration((performance.now() - start) / 1000),
  };
}
