import { describe, expect, it } from "vitest";
import { readEvents } from "../../test/eventFile.ts";
import { crc32c, eventFileHead, scalarRecord, tfRecord } from "./tensorboard.ts";

describe("crc32c", () => {
  it("gives the values of RFC 3720, appendix B.4, and of the usual check string", () => {
    expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
    expect(crc32c(new Uint8Array(32).fill(0xff))).toBe(0x62a8ab43);
    expect(crc32c(Uint8Array.from({ length: 32 }, (_, index) => index))).toBe(0x46dd794e);
    expect(crc32c(Uint8Array.from({ length: 32 }, (_, index) => 31 - index))).toBe(0x113fdb5c);
    expect(crc32c(new TextEncoder().encode("123456789"))).toBe(0xe3069283);
    expect(crc32c(new Uint8Array())).toBe(0);
  });
});

describe("tfRecord", () => {
  it("frames bytes as TensorFlow does", () => {
    // The example of an empty record: length 0 and the masked checksums of eight zeros and of nothing.
    const empty = Buffer.from(tfRecord(new Uint8Array()));
    expect(empty.toString("hex")).toBe("000000000000000029039807d8ea82a2");
  });
});

describe("scalarRecord", () => {
  it("is read back by a decoder made from the published message definitions", () => {
    const scalars = { "train/loss": 2.5, "eval/sources/caf\u00e9/bits": 1e-3, zero: 0, negative: -3e38 };
    const file = Buffer.concat([
      eventFileHead(1000.5),
      scalarRecord({ wallTime: 1700000000.25, step: 7, scalars }),
      scalarRecord({ wallTime: 1700000001, step: 2 ** 40 + 3, scalars: { "train/loss": 1 } }),
      scalarRecord({ wallTime: 1700000002, step: 128, scalars: {} }),
    ]);
    expect(readEvents(file)).toEqual([
      { wallTime: 1000.5, step: 0, fileVersion: "brain.Event:2" },
      { wallTime: 1000.5, step: 0, session: "START" },
      {
        wallTime: 1700000000.25,
        step: 7,
        scalars: Object.fromEntries(Object.entries(scalars).map(([name, value]) => [name, Math.fround(value)])),
      },
      { wallTime: 1700000001, step: 2 ** 40 + 3, scalars: { "train/loss": 1 } },
      { wallTime: 1700000002, step: 128, scalars: {} },
    ]);
  });

  it("has checksums that notice a changed byte", () => {
    const file = scalarRecord({ wallTime: 1, step: 1, scalars: { a: 1 } });
    for (const place of [0, 9, 14, file.length - 1]) {
      const changed = Uint8Array.from(file);
      changed[place]! ^= 1;
      expect(() => readEvents(changed), `byte ${place}`).toThrow();
    }
  });
});
