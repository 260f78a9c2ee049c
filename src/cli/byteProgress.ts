/** Shows how much of a long write is done. */
import { formatBytes, formatDuration } from "../report/text.ts";
import type { Session } from "./common.ts";
import { ProgressLine } from "./progressLine.ts";

export interface ByteProgress {
  /** @param what is being done now. */
  update(progress: { readonly bytes: number; readonly totalBytes: number }, what?: string): void;
  /** Takes the bar away; to be called whatever the end is. */
  stop(): void;
  /** Time since it was made, as people write it. */
  elapsed(): string;
}

export function byteProgress(session: Session): ByteProgress {
  const start = performance.now();
  const line = new ProgressLine(session);
  return {
    update({ bytes, totalBytes }, what = "") {
      const seconds = (performance.now() - start) / 1000;
      const left = bytes === 0 ? "" : `, ${formatDuration((seconds * (totalBytes - bytes)) / bytes)} left`;
      const rate = `${formatBytes(bytes / seconds)}/s`;
      line.show(bytes / totalBytes, `${formatBytes(bytes)} of ${formatBytes(totalBytes)}, ${rate}${left}  ${what}`);
    },
    stop: () => line.stop(),
    elapsed: () => formatDuration((performance.now() - start) / 1000),
  };
}
