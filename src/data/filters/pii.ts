/**
 * Personal data: e-mail addresses, phone numbers and IP addresses, found by hand-written scanners for what the expressions
 * of Dolma's pii_regex_v2 describe (Soldaini et al. 2024, arXiv 2402.00159), in linear time on any text. As there, a few are
 * masked and a document with more is dropped. docs/data.md says where the scanners differ.
 */
import type { PiiRecipe } from "../../config/dataFilters.ts";
import { type Attributes, type Span, scoreOf, wholeText } from "../attributes.ts";
import { EMAIL_ADDRESS_MASK } from "../sources/email.ts";
import { AT, characterTable, DIGIT, DOT, LETTER } from "./characters.ts";
import { type Filter, KEEP, type Replacement } from "./filter.ts";
import { type TextFacts, textFacts } from "./textFacts.ts";

/** By attribute: tokens of their own in the OLMoE tokenizer. */
const MASKS: Readonly<Record<string, string>> = {
  EMAIL_ADDRESS: EMAIL_ADDRESS_MASK,
  PHONE_NUMBER: "|||PHONE_NUMBER|||",
  IP_ADDRESS: "|||IP_ADDRESS|||",
};

/** Numbers near one of these are taken for something else (Dolma's post-processing). */
const OTHER_NUMBERS = /isbn|doi|#/i;
const CONTEXT_CHARACTERS = 100;
const NOT_IN_LOCAL_PART = "@,?!;:()<>[]{}\"'|`=";

type Place = readonly [start: number, end: number];

function digitsFrom(text: string, place: number, most: number): number {
  let count = 0;
  for (; count < most; count++) {
    const unit = text.charCodeAt(place + count);
    if (!(unit >= 48 && unit <= 57)) break;
  }
  return count;
}

/** The address around an "@" between `from` and `to`: something before it, and a domain with a dot after it. */
function emailAround(text: string, at: number, from: number, to: number): Place | undefined {
  const kinds = characterTable();
  let start = at;
  while (start > from && !NOT_IN_LOCAL_PART.includes(text[start - 1] as string)) start -= 1;
  while (start < at && text[start] === ".") start += 1;
  let end = at + 1;
  while (end < to && (text[end] === "-" || (kinds[text.charCodeAt(end)]! & (LETTER | DIGIT | DOT)) !== 0)) end += 1;
  while (text[end - 1] === "." || text[end - 1] === "-") end -= 1;
  return start < at && text.slice(at + 2, end).includes(".") ? [start, end] : undefined;
}

/** Addresses inside one word. */
function* emails(text: string, start: number, end: number): Generator<Place> {
  let from = start;
  for (let at = text.indexOf("@", start); at !== -1 && at < end; at = text.indexOf("@", at + 1)) {
    const found = emailAround(text, at, from, end);
    if (found !== undefined) yield found;
    from = Math.max(at + 1, found?.[1] ?? 0);
  }
}

/** Four numbers up to 255 with dots between them, and no further number before or after; inside one word. */
function* ipAddresses(text: string, start: number, end: number): Generator<Place> {
  for (let place = start; place < end; place++) {
    if (digitsFrom(text, place, 1) === 0) continue;
    const first = place;
    let [numbers, small] = [0, true];
    for (;;) {
      const digits = digitsFrom(text, place, end - place);
      small &&= digits <= 3 && Number(text.slice(place, place + digits)) <= 255;
      place += digits;
      numbers += 1;
      if (text[place] !== "." || digitsFrom(text, place + 1, 1) === 0) break;
      place += 1;
    }
    if (numbers === 4 && small) yield [first, place];
  }
}

/** Ten digits as in "(555) 123-4567", where a word starts. It may go on over spaces into further words. */
function phoneAt(text: string, start: number): Place | undefined {
  let place = text[start] === "(" ? start + 1 : start;
  if (digitsFrom(text, place, 3) < 3) return undefined;
  place += 3;
  if (text[place] === ")") place += 1;
  while (text[place] === " " || text[place] === "-" || text[place] === ".") place += 1;
  if (digitsFrom(text, place, 3) < 3) return undefined;
  place += 3;
  if (text[place] === " " || text[place] === "-" || text[place] === ".") place += 1;
  return digitsFrom(text, place, 5) === 4 ? [start, place + 4] : undefined;
}

/** Whether a number is what it looks like, by the text around it. */
function isPersonal(text: string, [start, end]: Place): boolean {
  return !OTHER_NUMBERS.test(text.slice(Math.max(0, start - CONTEXT_CHARACTERS), end + CONTEXT_CHARACTERS));
}

/** Spans of the three kinds, and how many there are. */
function findAll({ text, words, starts, ends, kinds, allKinds }: TextFacts): Attributes {
  const [addresses, phones, ips]: [Span[], Span[], Span[]] = [[], [], []];
  let past = 0;
  const add = (spans: Span[], place: Place) => {
    if (place[0] < past || (spans !== addresses && !isPersonal(text, place))) return;
    spans.push([...place, 1]);
    past = place[1];
  };
  const either = AT | DIGIT;
  const last = (allKinds & either) === 0 ? 0 : words;
  for (let word = 0; word < last; word++) {
    const kind = kinds[word] as number;
    if ((kind & either) === 0) continue;
    const [start, end] = [starts[word] as number, ends[word] as number];
    if ((kind & AT) !== 0) for (const place of emails(text, start, end)) add(addresses, place);
    if ((kind & DIGIT) === 0) continue;
    if ((kind & DOT) !== 0) for (const place of ipAddresses(text, start, end)) add(ips, place);
    const phone = phoneAt(text, start);
    if (phone !== undefined) add(phones, phone);
  }
  return {
    EMAIL_ADDRESS: addresses,
    PHONE_NUMBER: phones,
    IP_ADDRESS: ips,
    doc_count: wholeText(text, addresses.length + phones.length + ips.length),
  };
}

function maskAll(attributes: Attributes): Replacement[] {
  return Object.entries(MASKS)
    .flatMap(([name, text]) => (attributes[name] ?? []).map(([start, end]) => ({ start, end, text })))
    .sort((a, b) => a.start - b.start);
}

export function piiFilter(name: string, { maxMasked }: PiiRecipe): Filter {
  return {
    name,
    tag: (document) => findAll(textFacts(document)),
    judge(attributes) {
      const count = scoreOf(attributes, "doc_count") ?? 0;
      if (count > maxMasked) return { drop: `${count} e-mail addresses, phone numbers and IPs, at most ${maxMasked}` };
      return count === 0 ? KEEP : { replace: maskAll(attributes) };
    },
  };
}
