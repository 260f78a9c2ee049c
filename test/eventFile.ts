/**
 * Reads TensorBoard event files without the library's own code: protobufjs over the published message definitions, and a
 * bitwise CRC-32C.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import protobuf from "protobufjs";

/** tensorflow/core/util/event.proto and framework/summary.proto, as far as scalars go. */
const PROTO = `
syntax = "proto3";
message Summary {
  message Value { string node_name = 7; string tag = 1; oneof value { float simple_value = 2; } }
  repeated Value value = 1;
}
message SessionLog {
  enum SessionStatus { STATUS_UNSPECIFIED = 0; START = 1; STOP = 2; CHECKPOINT = 3; }
  SessionStatus status = 1;
}
message Event {
  double wall_time = 1;
  int64 step = 2;
  oneof what { string file_version = 3; bytes graph_def = 4; Summary summary = 5; SessionLog session_log = 7; }
}
`;

const EventMessage = protobuf.parse(PROTO, { keepCase: true }).root.lookupType("Event");

/** Division of polynomials bit by bit, as CRCs are defined. */
function maskedCrc(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (0x82f63b78 & -(crc & 1));
  }
  crc = ~crc >>> 0;
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

export interface ReadEvent {
  readonly wallTime: number;
  readonly step: number;
  readonly fileVersion?: string;
  readonly session?: string;
  readonly scalars?: Readonly<Record<string, number>>;
}

interface Message {
  readonly wall_time?: number;
  readonly step?: number;
  readonly file_version?: string;
  readonly session_log?: { readonly status: string };
  readonly summary?: { readonly value?: readonly { readonly tag: string; readonly simple_value: number }[] };
}

function eventOf(bytes: Uint8Array): ReadEvent {
  const decoded = EventMessage.decode(bytes);
  const message = EventMessage.toObject(decoded, { longs: Number, enums: String }) as Message;
  const { wall_time: wallTime = 0, step = 0, file_version: fileVersion, session_log: session, summary } = message;
  return {
    wallTime,
    step,
    ...(fileVersion === undefined ? {} : { fileVersion }),
    ...(session === undefined ? {} : { session: session.status }),
    ...(summary === undefined
      ? {}
      : { scalars: Object.fromEntries((summary.value ?? []).map((value) => [value.tag, value.simple_value])) }),
  };
}

/** All events of a file. @throws Error for a wrong checksum or a file that ends within a record. */
export function readEvents(file: Uint8Array): ReadEvent[] {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const events: ReadEvent[] = [];
  for (let start = 0; start < file.byteLength; ) {
    const length = Number(view.getBigUint64(start, true));
    const data = file.subarray(start + 12, start + 12 + length);
    if (maskedCrc(file.subarray(start, start + 8)) !== view.getUint32(start + 8, true)) throw new Error("length");
    if (maskedCrc(data) !== view.getUint32(start + 12 + length, true)) throw new Error("data");
    events.push(eventOf(data));
    start += 16 + length;
  }
  return events;
}

/** Names of the event files in a run's folder that hold something: that of the start before is left empty. */
export function eventFiles(run: string): string[] {
  return readdirSync(run).filter((name) => name.includes("tfevents") && statSync(join(run, name)).size > 0);
}

/** Steps and values of a run's scalars by tag, in the order of its one event file. */
export function scalarsIn(run: string): Map<string, [step: number, value: number][]> {
  const [name = "", ...others] = eventFiles(run);
  if (others.length > 0) throw new Error(`${others.length + 1} event files`);
  const series = new Map<string, [number, number][]>();
  for (const { step, scalars = {} } of readEvents(readFileSync(join(run, name)))) {
    for (const [tag, value] of Object.entries(scalars)) series.set(tag, [...(series.get(tag) ?? []), [step, value]]);
  }
  return series;
}
