/**
 * Attributes as lines of Dolma's files: {"id", "source", "attributes": {"EXPERIMENT__FILTER__NAME": [[start, end, score]]}}.
 * Places are code points there, as Python counts them, and UTF-16 units here.
 */
import { DataError } from "../../errors.ts";
import type { Attributes, Span } from "../attributes.ts";
import type { Document } from "../document.ts";
import { countCharacters } from "./characters.ts";

/** By filter. */
export type AttributesByFilter = Readonly<Record<string, Attributes>>;

const SEPARATOR = "__";

/** Whether places differ between code points and UTF-16 units. */
function hasPairs(text: string): boolean {
  return /[\ud800-\udbff][\udc00-\udfff]/.test(text);
}

/**
 * Other names of places of a text, for places that are asked in any order: they are sorted, and the text is gone through
 * once.
 * @param from unit that the places count; they lie inside the text.
 */
function converter(text: string, places: Iterable<number>, from: "units" | "characters"): (place: number) => number {
  if (!hasPairs(text)) return (place) => place;
  const wanted = Float64Array.from(new Set(places)).sort();
  const converted = new Map<number, number>();
  let [units, characters, next] = [0, 0, 0];
  while (next < wanted.length) {
    const here = from === "units" ? units : characters;
    // A place inside a pair is the end of its character.
    if (here >= wanted[next]! || units >= text.length) {
      converted.set(wanted[next++] as number, from === "units" ? characters : units);
      continue;
    }
    units += text.codePointAt(units)! > 0xffff ? 2 : 1;
    characters += 1;
  }
  return (place) => converted.get(place) as number;
}

/** All spans by their full names. */
function flatten(attributes: AttributesByFilter, experiment: string): [string, readonly Span[]][] {
  return Object.entries(attributes).flatMap(([filter, found]) =>
    Object.entries(found).map(([name, spans]): [string, readonly Span[]] => [
      [experiment, filter, name].join(SEPARATOR),
      spans,
    ]),
  );
}

const placesOf = (spans: readonly (readonly Span[])[]) => spans.flat().flatMap((span) => span.slice(0, 2));

/**
 * One line, without a line end.
 * @param experiment name of the attribute folder; like a filter's name it has no "__".
 */
export function attributeLine(
  { id, source, text }: Document,
  attributes: AttributesByFilter,
  experiment: string,
): string {
  const entries = flatten(attributes, experiment);
  const places = placesOf(entries.map(([, spans]) => spans));
  const convert = converter(text, places, "units");
  return JSON.stringify({
    id,
    source,
    attributes: Object.fromEntries(
      entries.map(([name, spans]) => [name, spans.map(([start, end, score]) => [convert(start), convert(end), score])]),
    ),
  });
}

interface Line {
  readonly id: unknown;
  readonly attributes: Readonly<Record<string, unknown>>;
}

function parseLine(line: string, place: string): Line {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new DataError(`${place}: not JSON`, { cause });
  }
  const { id, attributes } = (typeof value === "object" && value !== null ? value : {}) as Partial<Line>;
  if (typeof attributes === "object" && attributes !== null && !Array.isArray(attributes)) return { id, attributes };
  throw new DataError(`${place}: not a line of attributes, expected an object with id and attributes`);
}

function isSpan(value: unknown): value is Span {
  return Array.isArray(value) && value.length === 3 && value.every(Number.isFinite);
}

function checkSpans(name: string, value: unknown, length: number, place: string): readonly Span[] {
  const spans: readonly unknown[] = Array.isArray(value) ? value : [undefined];
  for (const span of spans) {
    const [start, end] = isSpan(span) ? span : [-1, -1];
    if (Number.isInteger(start) && Number.isInteger(end) && start >= 0 && start <= end && end <= length) continue;
    const found = JSON.stringify(span ?? value)?.slice(0, 60);
    throw new DataError(
      `${place}: ${name} has ${found}, expected [start, end, score] inside the text's ${length} characters`,
    );
  }
  return spans as readonly Span[];
}

/**
 * Attributes of a document, by filter, from a line of its attribute file. Names that do not have two "__" are left out:
 * other tools' files may have them.
 * @param place file and line, for messages.
 * @throws DataError for a line that is damaged or of another document.
 */
export function parseAttributeLine(
  line: string,
  { id, text }: Pick<Document, "id" | "text">,
  place = "attributes",
): Record<string, Record<string, Span[]>> {
  const parsed = parseLine(line, place);
  if (parsed.id !== id) {
    throw new DataError(`${place}: attributes of document ${JSON.stringify(parsed.id)}, expected "${id}"`, {
      hint: "attribute files have the lines of their document files in the same order",
    });
  }
  const length = countCharacters(text);
  const entries = Object.entries(parsed.attributes).map(
    ([name, spans]) => [name, checkSpans(name, spans, length, place)] as const,
  );
  const convert = converter(text, placesOf(entries.map(([, spans]) => spans)), "characters");
  const found = new Map<string, [string, Span[]][]>();
  for (const [full, spans] of entries) {
    const [, filter, ...rest] = full.split(SEPARATOR);
    if (filter === undefined || rest.length === 0) continue;
    const named = found.get(filter) ?? [];
    found.set(filter, named);
    named.push([rest.join(SEPARATOR), spans.map(([start, end, score]) => [convert(start), convert(end), score])]);
  }
  // Not by assignment, which would take a name such as "__proto__" for something else.
  return Object.fromEntries(Array.from(found, ([filter, named]) => [filter, Object.fromEntries(named)]));
}
