import { describe, expect, it } from "vitest";
import { crc32c } from "./crc32c.ts";

describe("crc32c", () => {
  it("gives the values of RFC 3720, appendix B.4, and of the usual check string", () => {
    expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
    expect(crc32c(new Uint8Array(32).fill(0xff))).toBe(0x62a8ab43);
    expect(crc32c(Uint8Array.from({ length: 32 }, (_, index) => index))).toBe(0x46dd794e);
    expect(crc32c(Uint8Array.from({ length: 32 }, (_, index) => 31 - index))).toBe(0x113fdb5c);
    expect(crc32c(new TextEncoder().encode("123456789"))).toBe(0xe3069283);
    expect(crc32c(new Uint8Array())).toBe(0);
  });

  it("goes on from the checksum of what came before, wherever the bytes are cut", () => {
    const bytes = Uint8Array.from({ length: 40 }, (_, index) => (index * 73) & 0xff);
    const parts = (at: number) => crc32c(bytes.subarray(at), crc32c(bytes.subarray(0, at)));
    expect(Array.from({ length: 41 }, (_, at) => parts(at))).toEqual(new Array(41).fill(crc32c(bytes)));
  });
});
