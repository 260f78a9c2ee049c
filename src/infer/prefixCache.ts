/**
 * Full pages of the key/value cache under the tokens they were computed from, so that a sequence which starts like an
 * earlier one takes its pages over. A tree: the way from the root to a page spells all tokens up to its end.
 */

import type { RoutePage } from "./routes.ts";

/** What the cache needs of whoever owns the pages. */
export interface PageOwner {
  readonly freePages: number;
  /** Adds a reference to a page. */
  retain(page: number): void;
  /** Takes one away; a page without any is free. */
  release(page: number): void;
}

/** One page in the tree. */
export interface PrefixNode {
  readonly parent: PrefixNode | undefined;
  /** Key among the parent's children. */
  readonly key: number;
  /** The tokens of the page. */
  readonly ids: Int32Array;
  readonly page: number;
  /** The map that it is in. */
  readonly siblings: Map<number, PrefixNode>;
  readonly children: Map<number, PrefixNode>;
  /** Sequences that hold the page now. */
  users: number;
  /** The routing of its tokens, where a sequence that has computed it kept that. */
  routes?: RoutePage;
}

/** FNV-1a over ids. Keys only lead to a candidate, whose ids are then compared. */
function keyOf(ids: Int32Array): number {
  let key = 0x811c9dc5;
  for (const id of ids) key = Math.imul(key ^ id, 0x01000193) ^ (key >>> 15);
  return key | 0;
}

function equalIds(a: Int32Array, b: Int32Array): boolean {
  for (let index = 0; index < a.length; index++) if (a[index] !== b[index]) return false;
  return true;
}

export class PrefixCache {
  readonly #owner: PageOwner;
  /** First pages, by what else their content depends on beside the tokens. */
  readonly #roots = new Map<string, Map<number, PrefixNode>>();
  /**
   * Nodes that no sequence holds, the one to go first in front. A sequence gives back its pages from the last to the
   * first, and whoever holds a page holds all before it: so a page stands before those it continues, and the first
   * one has no children.
   */
  readonly #kept = new Set<PrefixNode>();

  constructor(owner: PageOwner) {
    this.#owner = owner;
  }

  /** Pages that are kept although no sequence holds them. */
  get kept(): number {
    return this.#kept.size;
  }

  /** Pages that can be had: free ones, and those that would be dropped for it. */
  get available(): number {
    return this.#owner.freePages + this.#kept.size;
  }

  /**
   * The page after `parent` (undefined: the first) that holds these tokens, a whole page of them.
   * @param scope pages of another scope are as if they were not there.
   */
  find(parent: PrefixNode | undefined, ids: Int32Array, scope = ""): PrefixNode | undefined {
    const node = (parent?.children ?? this.#roots.get(scope))?.get(keyOf(ids));
    return node !== undefined && equalIds(node.ids, ids) ? node : undefined;
  }

  /** Counts a sequence as one that holds a node and has the reference of its own to the page. */
  hold(node: PrefixNode): void {
    if (node.users === 0) this.#kept.delete(node);
    node.users += 1;
  }

  /**
   * Adds a page that a sequence has filled, and counts the sequence as one that holds it.
   * @returns the node; one that is there already, with a page of its own, where another sequence was faster, and
   *   undefined in the rare case that other tokens have the same key: then the page is not kept.
   */
  add(parent: PrefixNode | undefined, ids: Int32Array, page: number, scope = ""): PrefixNode | undefined {
    const key = keyOf(ids);
    const siblings = parent?.children ?? this.#rootsOf(scope);
    const there = siblings.get(key);
    if (there !== undefined && !equalIds(there.ids, ids)) return undefined;
    const node = there ?? { parent, key, ids: ids.slice(), page, siblings, children: new Map(), users: 0 };
    if (there === undefined) {
      siblings.set(key, node);
      this.#owner.retain(page);
      node.users = 1;
    } else this.hold(node);
    return node;
  }

  /** Ends a sequence's hold on a node and all before it. */
  letGo(last: PrefixNode | undefined): void {
    for (let node = last; node !== undefined; node = node.parent) {
      node.users -= 1;
      if (node.users === 0) this.#kept.add(node);
    }
  }

  /** Drops pages, the least recently used first, until `pages` are free. @returns false when there are not so many. */
  makeFree(pages: number): boolean {
    if (this.available < pages) return false;
    for (const node of this.#kept) {
      if (this.#owner.freePages >= pages) break;
      this.#drop(node);
    }
    return true;
  }

  /** Drops all that no sequence holds. */
  clear(): void {
    for (const node of this.#kept) this.#drop(node);
  }

  #drop(node: PrefixNode): void {
    this.#kept.delete(node);
    node.siblings.delete(node.key);
    this.#owner.release(node.page);
    if (node.parent !== undefined || node.siblings.size > 0) return;
    for (const [scope, roots] of this.#roots) if (roots === node.siblings) this.#roots.delete(scope);
  }

  #rootsOf(scope: string): Map<number, PrefixNode> {
    const roots = this.#roots.get(scope) ?? new Map<number, PrefixNode>();
    this.#roots.set(scope, roots);
    return roots;
  }
}
