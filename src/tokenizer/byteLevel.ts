/**
 * The byte-level alphabet of GPT-2's BPE: each of the 256 bytes is written as one printable character, so that any text is
 * a string over 256 letters. Printable Latin-1 bytes stand for themselves, the others for U+0100 and up, in order.
 */

function isPrintable(byte: number): boolean {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

/** The character that stands for each byte. */
export const byteCharacters: readonly string[] = (() => {
  let others = 0;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(isPrintable(byte) ? byte : 0x100 + others++));
})();

const bytesByCharacter: ReadonlyMap<string, number> = new Map(byteCharacters.map((text, byte) => [text, byte]));

/** The bytes a vocabulary entry stands for; an entry with a character outside the alphabet stands for its own UTF-8. */
export function tokenBytes(token: string): Uint8Array {
  const bytes: number[] = [];
  for (const character of token) {
    const byte = bytesByCharacter.get(character);
    if (byte === undefined) return new TextEncoder().encode(token);
    bytes.push(byte);
  }
  return Uint8Array.from(bytes);
}
