/** Stand-in */
import { replaceFile, writeAll } from "../src/formats/files.io.ts";
import { STORAGE_TYPES, type StorageType } from "../src/tensor/stored.ts";

export type GgufValue =
  | { type: "UINT32" | "FLOAT32"; value: number }
  | { type: "STRING"; value: string }
  | { type: "BOOL"; value: boolean }
  | { type: "ARRAY"; of: "STRING"; value: readonly string[] }
  | { type: "ARRAY"; of: "INT32"; value: ArrayLike<number> };

export interface GgufTensorToWrite {
  readonly name: string;
  readonly type: StorageType;
  readonly shape: readonly number[];
  readonly byteLength: number;
  readonly data: () => Iterable<Uint8Array>;
}

const encoder = new TextEncoder();
function prefix(metadata: ReadonlyMap<string, GgufValue>, tensors: readonly GgufTensorToWrite[]): Uint8Array {
  const parts: Buffer[] = [];
  const u32 = (v: number) => {
    const b = Buffer.alloc(4);
    b.writeUInt32LE(v);
    parts.push(b);
  };
  const u64 = (v: number) => {
    const b = Buffer.alloc(8);
    b.writeBigUInt64LE(BigInt(v));
    parts.push(b);
  };
  const str = (t: string) => {
    const b = encoder.encode(t);
    u64(b.length);
    parts.push(Buffer.from(b));
  };
  parts.push(Buffer.from("GGUF"));
  u32(3);
  u64(tensors.length);
  u64(metadata.size);
  for (const [key, v] of metadata) {
    str(key);
    switch (v.type) {
      case "UINT32":
        u32(4);
        u32(v.value);
        break;
      case "FLOAT32": {
        u32(6);
        const b = Buffer.alloc(4);
        b.writeFloatLE(v.value);
        parts.push(b);
        break;
      }
      case "BOOL":
        u32(7);
        parts.push(Buffer.from([v.value ? 1 : 0]));
        break;
      case "STRING":
        u32(8);
        str(v.value);
        break;
      case "ARRAY":
        u32(9);
        u32(v.of === "STRING" ? 8 : 5);
        u64(v.value.length);
        for (let i = 0; i < v.value.length; i++) {
          if (v.of === "STRING") str(v.value[i] as string);
          else {
            const b = Buffer.alloc(4);
            b.writeInt32LE(v.value[i] as number);
            parts.push(b);
          }
        }
    }
  }
  let offset = 0;
  for (const t of tensors) {
    str(t.name);
    u32(t.shape.length);
    for (const d of t.shape.toReversed()) u64(d);
    u32(STORAGE_TYPES[t.type].id);
    u64(offset);
    offset += Math.ceil(t.byteLength / 32) * 32;
  }
  const head = Buffer.concat(parts);
  return Buffer.concat([head, Buffer.alloc((32 - (head.length % 32)) % 32)]);
}

export async function writeGguf(
  path: string,
  metadata: ReadonlyMap<string, GgufValue>,
  tensors: readonly GgufTensorToWrite[],
  { signal }: { signal?: AbortSignal | undefined },
): Promise<void> {
  await replaceFile(path, async (file) => {
    await writeAll(file, prefix(metadata, tensors));
    for (const t of tensors) {
      for (const bytes of t.data()) {
        signal?.throwIfAborted();
        await writeAll(file, bytes);
      }
      await writeAll(file, new Uint8Array((32 - (t.byteLength % 32)) % 32));
    }
  });
}
