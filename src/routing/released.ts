/**
 * The counts that the paper's authors released (scripts/routing_output of their repository, as JSON), so that their
 * numbers go through the statistics of this package. The help of `olmoe analyze` describes the files.
 */
import { z } from "zod";
import { parseConfig } from "../config/check.ts";
import { ConfigError } from "../errors.ts";
import { byteCharacters } from "../tokenizer/byteLevel.ts";
import type { PathCounts } from "./crossLayer.ts";
import type { ExpertCounts } from "./expertCounts.ts";
import type { IdCounts } from "./idTables.ts";
import type { TokenIdCounts } from "./tokenIds.ts";
import type { VocabularyCounts } from "./vocabulary.ts";

/** A folder of these files. */
export interface ReleasedCounts {
  readonly experts: ReleasedExpertFile;
  readonly paths?: ReleasedPathFile;
  /** By domain, of the first k experts of `ID_MODEL`. */
  readonly ids: ReadonlyMap<string, VocabularyCounts>;
  /** Ids as byte-level vocabularies write them, of those whose text is told. */
  readonly vocabulary: ReadonlyMap<number, string>;
}

/** The model of eid2token_*.json.gz. */
export const ID_MODEL = "olmoe";

/** Which of the released countings: the first k experts of each token, or the first alone. */
export type ReleasedRanks = "topk" | "top1";

const count = z.number().int().nonnegative();
const domainCounts = z.object({ tokens: count, counts: z.array(z.array(count)) });
const byDomain = z.record(z.string(), domainCounts);
const expertFile = z.object({
  layers: z.array(count).min(1),
  models: z.record(
    z.string(),
    z.object({ num_experts: count.min(1), top_k: count.min(1), topk: byDomain, top1: byDomain.optional() }),
  ),
});
export type ReleasedExpertFile = z.output<typeof expertFile>;

const matrices = z.record(z.string(), z.array(z.array(z.array(count))));
const pathFile = z.object({
  layer_pairs: z.array(z.tuple([count, count])).min(1),
  models: z.record(z.string(), z.object({ num_experts: count.min(1), topk: matrices, top1: matrices })),
});
export type ReleasedPathFile = z.output<typeof pathFile>;

const idFile = z.object({
  layers: z.array(count).min(1),
  experts: z
    .array(
      z.array(
        z
          .tuple([z.array(count), z.array(count)])
          .refine(([ids, counts]) => ids.length === counts.length, { error: "expected as many ids as counts" }),
      ),
    )
    .min(1),
});
export type ReleasedIdFile = z.output<typeof idFile>;

const tokenFile = z.object({
  domains: z.record(
    z.string(),
    z.array(z.array(z.object({ top: z.array(z.tuple([count, z.string()]).rest(z.unknown())) }))),
  ),
});
export type ReleasedTokenFile = z.output<typeof tokenFile>;

/** @throws ConfigError listing what is wrong with the file. */
export const parseExpertFile = (value: unknown, place: string) => parseConfig(expertFile, value, place);
/** @throws ConfigError listing what is wrong with the file. */
export const parsePathFile = (value: unknown, place: string) => parseConfig(pathFile, value, place);
/** @throws ConfigError listing what is wrong with the file. */
export const parseIdFile = (value: unknown, place: string) => parseConfig(idFile, value, place);

/** @throws ConfigError listing what is wrong with the file. */
export const parseTokenFile = (value: unknown, place: string) => parseConfig(tokenFile, value, place);

/** top_tokens_per_expert.json: the texts of the most frequent ids. */
export function releasedVocabulary({ domains }: ReleasedTokenFile): Map<number, string> {
  const tops = Object.values(domains).flat(2);
  const encoder = new TextEncoder();
  const write = (text: string) => Array.from(encoder.encode(text), (byte) => byteCharacters[byte]).join("");
  return new Map(tops.flatMap(({ top }) => top.map(([id, text]) => [id, write(text)] as const)));
}

/** An entry by its name. @throws ConfigError naming those there are. */
function entryOf<T>(entries: Readonly<Record<string, T>>, name: string, what: string): T {
  const entry = Object.hasOwn(entries, name) ? entries[name] : undefined;
  if (entry !== undefined) return entry;
  throw new ConfigError(`counts: no ${what} "${name}", there are ${Object.keys(entries).join(", ")}`);
}

/** A table of counts as one array. @throws ConfigError where it has another shape. */
function flat(rows: readonly (readonly number[])[], numRows: number, numColumns: number, place: string): Float64Array {
  if (rows.length === numRows && rows.every((row) => row.length === numColumns)) return Float64Array.from(rows.flat());
  throw new ConfigError(`counts: ${place} is not ${numRows} rows of ${numColumns} numbers`);
}

/**
 * expert_counts.json: how many tokens of each domain each expert served.
 * @param domains those that are wanted; default: all but Tulu, which is of another kind and not of every model.
 */
export function releasedExperts(
  { layers, models }: ReleasedExpertFile,
  model: string,
  ranks: ReleasedRanks,
  domains?: readonly string[],
): ExpertCounts {
  const { num_experts: numExperts, top_k: topK, ...countings } = entryOf(models, model, "model");
  const byDomain = countings[ranks] ?? {};
  const names = domains ?? Object.keys(byDomain).filter((name) => name !== "tulu");
  return {
    k: ranks === "topk" ? topK : 1,
    layers,
    numExperts,
    sources: names.map((name) => {
      const { tokens, counts } = entryOf(byDomain, name, "domain");
      const all = flat(counts, layers.length, numExperts, `${model}, ${name}`);
      return { name, tokens, counts: all, units: [{ tokens, counts: all }] };
    }),
  };
}

/**
 * crosslayer_counts.json: tokens that go from an expert of one layer to one of another; those of the first k were counted
 * by equal rank. Every token has k of them in each pair of layers.
 */
export function releasedPaths(
  { layer_pairs: steps, models }: ReleasedPathFile,
  model: string,
  ranks: ReleasedRanks,
  topK: number,
): PathCounts {
  const { num_experts: numExperts, ...countings } = entryOf(models, model, "model");
  const k = ranks === "topk" ? topK : 1;
  return {
    k,
    numExperts,
    // A token has one path between its first experts, however paths are counted.
    paths: k === 1 ? "pairs" : "equal-ranks",
    steps,
    sources: Object.entries(countings[ranks]).map(([name, tables]) => {
      if (tables.length !== steps.length) {
        throw new ConfigError(
          `counts: ${model}, ${name} has ${tables.length} tables, there are ${steps.length} pairs of layers`,
        );
      }
      const counts = tables.map((table) => flat(table, numExperts, numExperts, `${model}, ${name}`));
      return { name, tokens: (counts[0]?.reduce((sum, value) => sum + value, 0) ?? 0) / k, counts };
    }),
  };
}

/**
 * eid2token_DOMAIN.json.gz: for each layer and expert the ids of its tokens and how many of each there are. An id's
 * occurrences are what its experts have together, over k.
 */
export function releasedIds({ layers, experts }: ReleasedIdFile, k: number): VocabularyCounts {
  const numExperts = experts[0]!.length;
  const found = new Set(experts.flat().flatMap(([ids]) => ids));
  const ids = Int32Array.from(found).sort();
  const rowOf = new Map(Array.from(ids, (id, row) => [id, row]));
  const tables = layers.map((_, layer) => {
    const table = new Float64Array(ids.length * numExperts);
    for (const [expert, [own, counts]] of experts[layer]!.entries()) {
      for (const [index, id] of own.entries()) table[rowOf.get(id)! * numExperts + expert] = counts[index]!;
    }
    return table;
  });
  const occurrences = Float64Array.from(ids, (_, row) => {
    const slots = tables[0]!.subarray(row * numExperts, (row + 1) * numExperts);
    return slots.reduce((sum, value) => sum + value, 0) / k;
  });
  const counts: IdCounts = { ids, occurrences, rows: ids.map((_, row) => row), tables, width: numExperts };
  return { kind: "input", k, layers, numExperts, ids: counts };
}

/** The same counts by domain, of one layer and a few experts, for histograms. */
export function releasedTokenIds(
  domains: ReadonlyMap<string, VocabularyCounts>,
  { layers, experts }: { readonly layers: readonly number[]; readonly experts: readonly number[] },
): TokenIdCounts {
  const [first] = domains.values();
  if (first === undefined) throw new ConfigError("counts: no eid2token_*.json.gz, expected at least one");
  return {
    k: first.k,
    layers,
    numExperts: first.numExperts,
    experts,
    sources: Array.from(domains, ([name, { ids, numExperts, layers: all }]) => {
      const tables = layers.map((layer) => {
        const table = ids.tables[all.indexOf(layer)]!;
        return Float64Array.from({ length: ids.ids.length * experts.length }, (_, place) => {
          const [row, column] = [Math.floor(place / experts.length), place % experts.length];
          return table[row * numExperts + experts[column]!]!;
        });
      });
      return { name, ids: { ...ids, tables, width: experts.length } };
    }),
  };
}
