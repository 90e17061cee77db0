/**
 * Which statements PostgreSQL keeps, parsed and planned, on each connection: those of prepared queries, and locks. They take a third to a half off
 * what a run costs the server. Texts that are made as they are needed (searches) are not kept: there is no end of them.
 *
 * A migration by a newer process makes kept plans stale: what they return would change. The first one that fails makes all
 * of them be prepared anew, under other names.
 */
import type { QueryConfig } from "pg";
import { LOCKS } from "./locks.ts";
import { isPrepared } from "./prepared.ts";

/** SQLSTATE of a plan of before a migration. */
export const STALE_PLAN = "0A000";

export class Plans {
  #names = new Map<string, string>();
  #made = 0;

  /** What node-postgres is asked; with a name it has the text prepared once for each connection. */
  query(text: string, values: readonly unknown[]): QueryConfig {
    const query = { text, values: values as unknown[] };
    return isPrepared(text) || LOCKS.has(text) ? { ...query, name: this.#nameOf(text) } : query;
  }

  /** Names are not used again. */
  forget(): void {
    this.#names = new Map();
  }

  #nameOf(text: string): string {
    const known = this.#names.get(text);
    if (known !== undefined) return known;
    const name = `skein_${this.#made++}`;
    this.#names.set(text, name);
    return name;
  }
}
