/** What Linux says of a process in /proc, as bytes. */

/** A line of /proc/PID/status such as "VmHWM:   1234 kB". @throws Error when there is none. */
export function statusBytes(status: string, field: string): number {
  const kilobytes = new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(status)?.[1];
  if (kilobytes === undefined) throw new Error(`internal: /proc/self/status has no ${field}`);
  return Number(kilobytes) * 1024;
}

/** Resident bytes of a file's mappings, by /proc/PID/smaps. */
export function mappedBytes(smaps: string, path: string): number {
  let bytes = 0;
  let inside = false;
  for (const line of smaps.split("\n")) {
    // A mapping begins with its range of addresses and ends with the file's path.
    if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) inside = line.endsWith(` ${path}`);
    const kilobytes = inside ? /^Rss:\s+(\d+) kB$/.exec(line)?.[1] : undefined;
    if (kilobytes !== undefined) bytes += Number(kilobytes) * 1024;
  }
  return bytes;
}
