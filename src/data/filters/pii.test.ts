import { expect, it } from "vitest";
import { documentOf, filterRecipe, verdictOf } from "../../../test/filters.ts";
import { piiFilter } from "./pii.ts";
import { applyReplacements } from "./replacements.ts";

const filter = piiFilter("pii", filterRecipe({ kind: "pii" }));

async function masked(text: string): Promise<string> {
  const { replace = [] } = await verdictOf(filter, text);
  return applyReplacements(text, replace);
}

it("tags each find and counts all", () => {
  expect(filter.tag(documentOf("Ask jo@a.org or 555-123-4567, from 10.0.0.1."))).toEqual({
    EMAIL_ADDRESS: [[4, 12, 1]],
    PHONE_NUMBER: [[16, 28, 1]],
    IP_ADDRESS: [[35, 43, 1]],
    doc_count: [[0, 44, 3]],
  });
});

it("masks addresses without the punctuation around them", async () => {
  const cases: [string, string][] = [
    ["a.b+c@d-e.co.uk", "|||EMAIL_ADDRESS|||"],
    ["(jo@a.org), or mailto:jo@a.org.", "(|||EMAIL_ADDRESS|||), or mailto:|||EMAIL_ADDRESS|||."],
    ["<jo@a.org>,<al@b.org>", "<|||EMAIL_ADDRESS|||>,<|||EMAIL_ADDRESS|||>"],
    ["\u00e9l@\u00fc.de", "|||EMAIL_ADDRESS|||"],
  ];
  for (const [text, expected] of cases) expect(await masked(text)).toBe(expected);
});

it("leaves what only looks like an address", async () => {
  for (const text of ["@jo", "jo@", "jo@home", "5 @ 3.20", "a@.b", "@@", "...@a.org"])
    expect(await masked(text)).toBe(text);
});

it("masks phone numbers of ten digits where a word starts", async () => {
  const numbers = ["555-123-4567", "(555) 123-4567", "(555)1234567", "555.123.4567", "555 123 4567", "5551234567"];
  for (const number of numbers) expect(await masked(`call ${number}!`)).toBe("call |||PHONE_NUMBER|||!");
  for (const text of ["call 555-123-45678", "call 55-123-4567", "x555-123-4567", "call 555\n123-4567"]) {
    expect(await masked(text)).toBe(text);
  }
});

it("masks four numbers up to 255 with dots between them", async () => {
  expect(await masked("host=192.168.1.255/24 and 0.0.0.0")).toBe("host=|||IP_ADDRESS|||/24 and |||IP_ADDRESS|||");
  for (const text of ["1.2.3", "1.2.3.4.5", "256.1.1.1", "1.2.3.0001"]) expect(await masked(text)).toBe(text);
});

it("leaves numbers near isbn, doi or #, within 100 characters", async () => {
  const near = `ISBN ${"x".repeat(94)} 123-456-7890`;
  expect(await masked(near)).toBe(near);
  expect(await masked(`ISBN ${"x".repeat(98)} 123-456-7890`)).toContain("|||PHONE_NUMBER|||");
  expect(await masked("#1 is 10.0.0.1")).toBe("#1 is 10.0.0.1");
});

it("does not mask one place twice", async () => {
  expect(await masked("10.0.0.1@10.0.0.1.org")).toBe("|||EMAIL_ADDRESS|||");
  expect(await masked("10.0.0.1@a.org,10.0.0.2")).toBe("|||EMAIL_ADDRESS|||,|||IP_ADDRESS|||");
});

it("masks up to five finds and drops a document with six", async () => {
  expect((await verdictOf(filter, "a@b.org ".repeat(5))).replace).toHaveLength(5);
  expect(await verdictOf(filter, "a@b.org ".repeat(6))).toEqual({
    drop: "6 e-mail addresses, phone numbers and IPs, at most 5",
  });
});
