/**
 * TensorBoard's event files: a sequence of TFRecords (length, masked CRC-32C of it, bytes, masked CRC-32C of them), each an
 * `Event` message in protocol buffers' wire format. Only scalars are written.
 * Formats: tensorflow/core/lib/io/record_writer.h, tensorflow/core/util/event.proto, tensorflow/core/framework/summary.proto.
 */
import { crc32c } from "../util/crc32c.ts";

/** TFRecord's mask: a CRC of data that holds CRCs itself would be weak. */
function maskedCrc(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

/** One TFRecord around some bytes. */
export function tfRecord(bytes: Uint8Array): Uint8Array {
  const record = new Uint8Array(16 + bytes.byteLength);
  const view = new DataView(record.buffer);
  view.setBigUint64(0, BigInt(bytes.byteLength), true);
  view.setUint32(8, maskedCrc(record.subarray(0, 8)), true);
  record.set(bytes, 12);
  view.setUint32(12 + bytes.byteLength, maskedCrc(bytes), true);
  return record;
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let end = 0;
  for (const part of parts) {
    bytes.set(part, end);
    end += part.byteLength;
  }
  return bytes;
}

/** A whole number from 0 to 2^53 in groups of seven bits, the lowest first. */
function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
  bytes.push(rest);
  return Uint8Array.from(bytes);
}

// A field is its number and wire type, then its content. Wire types: 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes.
const tag = (field: number, wireType: number) => varint(field * 8 + wireType);
const varintField = (field: number, value: number) => joined([tag(field, 0), varint(value)]);
const bytesField = (field: number, value: Uint8Array) => joined([tag(field, 2), varint(value.byteLength), value]);
const textField = (field: number, text: string) => bytesField(field, new TextEncoder().encode(text));

function doubleField(field: number, value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setFloat64(0, value, true);
  return joined([tag(field, 1), bytes]);
}

function floatField(field: number, value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setFloat32(0, value, true);
  return joined([tag(field, 5), bytes]);
}

/** Named numbers of one step. */
export interface ScalarEvent {
  /** Seconds since 1970. */
  readonly wallTime: number;
  readonly step: number;
  /** By tag; a slash groups tags in TensorBoard. Stored as f32. */
  readonly scalars: Readonly<Record<string, number>>;
}

/** One event as a record, to be appended to a file that starts with `eventFileHead`. */
export function scalarRecord({ wallTime, step, scalars }: ScalarEvent): Uint8Array {
  const values = Object.entries(scalars).map(([name, value]) =>
    bytesField(1, joined([textField(1, name), floatField(2, value)])),
  );
  return tfRecord(joined([doubleField(1, wallTime), varintField(2, step), bytesField(5, joined(values))]));
}

/**
 * What an event file starts with: its version, and the start of a session at step 0, at which TensorBoard drops what it has
 * read of the run before. So a file that is written again is not shown twice to who looks on.
 */
export function eventFileHead(wallTime: number): Uint8Array {
  const START = 1;
  const version = joined([doubleField(1, wallTime), textField(3, "brain.Event:2")]);
  const session = joined([doubleField(1, wallTime), varintField(2, 0), bytesField(7, varintField(1, START))]);
  return joined([tfRecord(version), tfRecord(session)]);
}
