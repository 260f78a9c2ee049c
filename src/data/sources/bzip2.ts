/**
 * bzip2 streams, one after the other, block by block: memory is that of one block whatever the file expands to. The
 * decoders on the registry either want the whole file or loop for ever on a run length that overflows.
 * Format: J. Seward's bzip2 1.0 as described by J. Tsai, "BZIP2: Format Specification" (2016).
 */
import { ByteReader } from "./byteReader.ts";
import { joinBytes } from "./lines.ts";

const BLOCK_MAGIC = [0x314159, 0x265359] as const;
const END_MAGIC = [0x177245, 0x385090] as const;
const MAX_CODE_LENGTH = 20;
/** Symbols that one Huffman table is used for. */
const GROUP_SIZE = 50;
const OUTPUT_BYTES = 65_536;

/** CRC-32 with its highest bit first, as bzip2 has it. */
const CRC_TABLE = Int32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 24;
  for (let bit = 0; bit < 8; bit++) crc = (crc << 1) ^ (crc < 0 ? 0x04c11db7 : 0);
  return crc;
});

/** Bits of a stream, highest first. `fill` gets bytes for whole blocks, so that reading bits needs no waiting. */
class BitReader {
  readonly #reader: ByteReader;
  #bytes: Uint8Array = new Uint8Array(0);
  #at = 0;
  #bits = 0;
  #bitCount = 0;

  constructor(reader: ByteReader) {
    this.#reader = reader;
  }

  /** Holds `count` bytes, or all that are left; false where there is none. */
  async fill(count: number): Promise<boolean> {
    const parts = [this.#bytes.subarray(this.#at)];
    let size = this.#bytes.length - this.#at;
    while (size < count) {
      const part = await this.#reader.some(count);
      if (part.length === 0) break;
      parts.push(part);
      size += part.length;
    }
    if (parts.length > 1) {
      this.#bytes = joinBytes(parts);
      this.#at = 0;
    }
    return size > 0;
  }

  /** The next bits, at most 24. */
  read(count: number): number {
    while (this.#bitCount < count) {
      const byte = this.#bytes[this.#at++];
      if (byte === undefined) throw this.#reader.cutOff();
      this.#bits = ((this.#bits & 0xffffff) << 8) | byte;
      this.#bitCount += 8;
    }
    this.#bitCount -= count;
    return (this.#bits >>> this.#bitCount) & ((1 << count) - 1);
  }

  read32(): number {
    return (this.read(16) << 16) | this.read(16);
  }

  /** Passes over the rest of a byte. */
  align(): void {
    this.#bitCount -= this.#bitCount % 8;
  }
}

function check(condition: boolean): asserts condition {
  if (!condition) throw new RangeError("not a bzip2 block");
}

/** A canonical Huffman code: symbols in order of their codes, and for each length the first code past it. */
interface HuffmanTable {
  readonly symbols: Uint16Array;
  /** By length: codes of that length are below it. */
  readonly limits: Int32Array;
  /** By length: place of a code's symbol, less the code. */
  readonly offsets: Int32Array;
}

function readTable(bits: BitReader, symbolCount: number): HuffmanTable {
  let length = bits.read(5);
  const lengths = Array.from({ length: symbolCount }, () => {
    for (;;) {
      check(length >= 1 && length <= MAX_CODE_LENGTH);
      if (bits.read(1) === 0) return length;
      length += bits.read(1) === 0 ? 1 : -1;
    }
  });
  const order = lengths
    .map((_, symbol) => symbol)
    .sort((a, b) => (lengths[a] as number) - (lengths[b] as number) || a - b);
  const limits = new Int32Array(MAX_CODE_LENGTH + 1);
  const offsets = new Int32Array(MAX_CODE_LENGTH + 1);
  for (let size = 1, code = 0, place = 0; size <= MAX_CODE_LENGTH; size++) {
    offsets[size] = place - code;
    const count = lengths.filter((one) => one === size).length;
    code += count;
    place += count;
    limits[size] = code;
    check(code <= 2 ** size);
    code *= 2;
  }
  return { symbols: Uint16Array.from(order), limits, offsets };
}

function readSymbol(bits: BitReader, { symbols, limits, offsets }: HuffmanTable): number {
  let code = 0;
  for (let size = 1; size <= MAX_CODE_LENGTH; size++) {
    code = (code << 1) | bits.read(1);
    if (code < (limits[size] as number)) return symbols[code + (offsets[size] as number)] as number;
  }
  throw new RangeError("no such code");
}

/** Takes the entry at `index` and puts it first. */
function moveToFront(list: Uint8Array, index: number): number {
  const value = list[index] as number;
  list.copyWithin(1, 0, index);
  list[0] = value;
  return value;
}

/** The bytes that occur in a block, by two levels of bit maps. */
function readUsedBytes(bits: BitReader): number[] {
  const groups = bits.read(16);
  const used: number[] = [];
  for (let group = 0; group < 16; group++) {
    if ((groups & (0x8000 >> group)) === 0) continue;
    const members = bits.read(16);
    for (let member = 0; member < 16; member++) {
      if ((members & (0x8000 >> member)) !== 0) used.push(16 * group + member);
    }
  }
  check(used.length > 0);
  return used;
}

/** Which table each group of symbols is in. */
function readSelectors(bits: BitReader, tableCount: number): Uint8Array {
  const list = Uint8Array.from({ length: tableCount }, (_, table) => table);
  return Uint8Array.from({ length: bits.read(15) }, () => {
    let index = 0;
    while (bits.read(1) === 1) {
      index++;
      check(index < tableCount);
    }
    return moveToFront(list, index);
  });
}

/** The sorted block: Huffman codes, runs of the front entry and moves to the front undone. Bytes are in `block`. */
function readSortedBlock(bits: BitReader, block: Uint32Array): number {
  const list = Uint8Array.from(readUsedBytes(bits));
  const tableCount = bits.read(3);
  check(tableCount >= 2 && tableCount <= 6);
  const selectors = readSelectors(bits, tableCount);
  const end = list.length + 1;
  const tables = Array.from({ length: tableCount }, () => readTable(bits, list.length + 2));
  let length = 0;
  let run = 0;
  let runWeight = 1;
  for (let symbolIndex = 0; ; symbolIndex++) {
    const table = tables[selectors[Math.floor(symbolIndex / GROUP_SIZE)] ?? tableCount];
    check(table !== undefined);
    const symbol = readSymbol(bits, table);
    if (symbol <= 1) {
      run += runWeight << symbol;
      runWeight *= 2;
      check(length + run <= block.length);
      continue;
    }
    block.fill(list[0] as number, length, length + run);
    length += run;
    run = 0;
    runWeight = 1;
    if (symbol === end) return length;
    check(length < block.length);
    block[length++] = moveToFront(list, symbol - 1);
  }
}

/** For each place of the sorted block, the place of the byte that follows, above the place's own byte. */
function linkBlock(block: Uint32Array, length: number): void {
  const starts = new Uint32Array(257);
  for (let index = 0; index < length; index++) {
    const next = (block[index] as number) + 1;
    starts[next] = (starts[next] as number) + 1;
  }
  for (let byte = 0; byte < 256; byte++) starts[byte + 1] = (starts[byte + 1] as number) + (starts[byte] as number);
  for (let index = 0; index < length; index++) {
    const byte = (block[index] as number) & 0xff;
    const place = starts[byte] as number;
    starts[byte] = place + 1;
    block[place] = (block[place] as number) | (index << 8);
  }
}

/** Decodes a block whose magic number has been read, and gives its checksum. */
function* decodeBlock(bits: BitReader, block: Uint32Array): Generator<Uint8Array, number> {
  const expected = bits.read32();
  // Randomised blocks are of versions before 0.9.5.
  check(bits.read(1) === 0);
  const origin = bits.read(24);
  const length = readSortedBlock(bits, block);
  check(origin < length);
  linkBlock(block, length);
  let output = new Uint8Array(OUTPUT_BYTES);
  let filled = 0;
  let crc = -1;
  let entry = block[origin] as number;
  let last = -1;
  let equal = 0;
  for (let index = 0; index < length; index++) {
    entry = block[entry >>> 8] as number;
    const byte = entry & 0xff;
    // After four equal bytes comes the number of further ones.
    const repeated = equal === 4;
    equal = repeated ? 0 : byte === last ? equal + 1 : 1;
    const value = repeated ? last : byte;
    if (!repeated) last = byte;
    for (let count = repeated ? byte : 1; count > 0; count--) {
      if (filled === output.length) {
        yield output;
        output = new Uint8Array(OUTPUT_BYTES);
        filled = 0;
      }
      output[filled++] = value;
      crc = (crc << 8) ^ (CRC_TABLE[(crc >>> 24) ^ value] as number);
    }
  }
  yield output.subarray(0, filled);
  check(~crc === expected);
  return expected;
}

/** One stream, from its header to its checksum. */
async function* decodeStream(bits: BitReader): AsyncGenerator<Uint8Array> {
  check(bits.read(24) === 0x425a68);
  const level = bits.read(8) - 0x30;
  check(level >= 1 && level <= 9);
  const block = new Uint32Array(100_000 * level);
  let crc = 0;
  for (;;) {
    // The longest codes of a full block, its selectors and its tables.
    await bits.fill(level * 250_100 + 65_536);
    const magic = [bits.read(24), bits.read(24)];
    if (magic[0] === END_MAGIC[0] && magic[1] === END_MAGIC[1]) break;
    check(magic[0] === BLOCK_MAGIC[0] && magic[1] === BLOCK_MAGIC[1]);
    crc = ((crc << 1) | (crc >>> 31)) ^ (yield* decodeBlock(bits, block));
  }
  check(bits.read32() === crc);
  bits.align();
}

/**
 * The decoded bytes of one or more bzip2 streams.
 * @throws StreamError for a stream that is cut off or damaged.
 */
export async function* decodeBzip2(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = new ByteReader(chunks, "bzip2");
  const bits = new BitReader(reader);
  try {
    while (await bits.fill(4)) yield* decodeStream(bits);
  } catch (error) {
    if (error instanceof RangeError) throw reader.damaged(error);
    throw error;
  }
}
