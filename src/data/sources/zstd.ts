/**
 * Zstandard streams (RFC 8878) of any number of frames. The frames are walked block by block here, so that memory is that
 * of one window and one block whatever the file says; fzstd decodes the blocks, and checksums are compared.
 */
import { Decompress } from "fzstd";
import { createXXHash64, type IHasher } from "hash-wasm";
import { ByteReader } from "./byteReader.ts";
import { joinBytes } from "./lines.ts";

const FRAME_MAGIC = 0xfd2fb528;
/** The zstd tool refuses larger windows, too, unless it is told otherwise. */
const MAX_WINDOW_BYTES = 128 * 2 ** 20;
const MAX_BLOCK_BYTES = 128 * 2 ** 10;

function littleEndian(bytes: Uint8Array): number {
  return bytes.reduceRight((value, byte) => value * 256 + byte, 0);
}

/** The part of XXH64 that a frame keeps; the library gives its bytes from the highest on. */
function lowWord(hash: IHasher): number {
  return littleEndian(hash.digest("binary").slice(4).reverse());
}

/** The bytes of a frame's header after its magic number, and whether a checksum ends the frame. */
async function readFrameHeader(reader: ByteReader): Promise<{ header: Uint8Array; checksum: boolean }> {
  const descriptor = await reader.take(1);
  const flags = descriptor[0] as number;
  const single = (flags & 32) !== 0;
  if ((flags & 8) !== 0) throw reader.damaged();
  const windowDescriptor = await reader.take(single ? 0 : 1);
  const dictionary = await reader.take([0, 1, 2, 4][flags & 3] as number);
  if (littleEndian(dictionary) !== 0) throw reader.damaged("needs a dictionary");
  const sizeBytes = flags >> 6 === 0 ? Number(single) : 1 << (flags >> 6);
  const size = await reader.take(sizeBytes);
  const [code = 0] = windowDescriptor;
  const contentBytes = littleEndian(size) + (sizeBytes === 2 ? 256 : 0);
  const windowBytes = single ? contentBytes : 2 ** (10 + (code >> 3)) * (1 + (code & 7) / 8);
  if (windowBytes > MAX_WINDOW_BYTES) throw reader.damaged(`window of ${windowBytes} bytes`);
  return { header: joinBytes([descriptor, windowDescriptor, dictionary, size]), checksum: (flags & 4) !== 0 };
}

/** The decoded bytes of one frame, whose magic number has been read. */
async function* readFrame(reader: ByteReader, magic: Uint8Array, hasher: IHasher): AsyncGenerator<Uint8Array> {
  const { header, checksum } = await readFrameHeader(reader);
  const hash = checksum ? hasher.init() : undefined;
  let output: Uint8Array[] = [];
  const decoder = new Decompress((bytes) => {
    output.push(bytes);
    hash?.update(bytes);
  });
  const decode = (bytes: Uint8Array, last = false): Uint8Array[] => {
    output = [];
    try {
      decoder.push(bytes, last);
    } catch (cause) {
      throw reader.damaged(cause);
    }
    return output;
  };
  yield* decode(joinBytes([magic, header]));
  for (let last = false; !last; ) {
    const blockHeader = await reader.take(3);
    const word = littleEndian(blockHeader);
    const [type, size] = [(word >> 1) & 3, word >> 3];
    if (type === 3 || size > MAX_BLOCK_BYTES) throw reader.damaged();
    last = (word & 1) === 1;
    yield* decode(joinBytes([blockHeader, await reader.take(type === 1 ? 1 : size)]));
  }
  const expected = await reader.take(checksum ? 4 : 0);
  yield* decode(expected, true);
  if (hash !== undefined && lowWord(hash) !== littleEndian(expected)) throw reader.damaged();
}

/**
 * The decoded bytes of a Zstandard stream.
 * @throws StreamError for a stream that is cut off, damaged, has a window above 128 MiB or needs a dictionary.
 */
export async function* decodeZstd(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = new ByteReader(chunks, "zstd");
  const hasher = await createXXHash64();
  while (!(await reader.atEnd())) {
    const magic = await reader.take(4);
    const number = littleEndian(magic);
    if (number === FRAME_MAGIC) yield* readFrame(reader, magic, hasher);
    // Frames of other programs' data.
    else if (number >= 0x184d2a50 && number <= 0x184d2a5f) await reader.skip(littleEndian(await reader.take(4)));
    else throw reader.damaged();
  }
}
