/** Which keys seal the data, and sealing anew what was written under another key or none. */
import { type Kysely, type Selectable, sql } from "kysely";
import type { Database } from "../database.ts";
import { lockRows } from "../expressions.ts";
import { isShared } from "../locks.ts";
import { KEEPING } from "../sealed-columns.ts";
import type { Tx } from "../storage.ts";

export type EncryptionKey = Selectable<Database["encryption_keys"]>;

/** Keys that data in this file may be sealed under. */
export function keys(db: Tx): Promise<EncryptionKey[]> {
  return db.selectFrom("encryption_keys").selectAll().execute();
}

/** Says that from now on this key seals, and these members of JSON. What was sealed before stays to be sealed anew. */
export async function begin(tx: Tx, key_id: string, json_keys: readonly string[], now: number): Promise<void> {
  const row = { key_id, json_keys: JSON.stringify(json_keys), since: now, sealed_all_at: null };
  const { key_id: _, ...changed } = row;
  await tx
    .insertInto("encryption_keys")
    .values(row)
    .onConflict((conflict) => conflict.column("key_id").doUpdateSet(changed))
    .execute();
}

/** Says that everything is sealed under this key: the others are no longer needed. */
export async function finish(tx: Tx, key_id: string, now: number): Promise<void> {
  await tx.updateTable("encryption_keys").set({ sealed_all_at: now }).where("key_id", "=", key_id).execute();
  await tx.deleteFrom("encryption_keys").where("key_id", "!=", key_id).execute();
}

/** A place in the walk over all rows that hold sealed values. */
export interface Place {
  readonly table: number;
  /** The last row that is done; on PostgreSQL the last page of the table. */
  readonly row: number;
  /** Where the table ended when the walk came to it: what is written behind is sealed under the key of now. */
  readonly end?: number;
}

export const START: Place = { table: 0, row: -1 };

const SEALED_TABLES = Object.entries(KEEPING).flatMap(([table, columns]) => {
  const sealed = Object.entries(columns).flatMap(([column, keeping]) => (keeping === "plain" ? [] : [column]));
  return sealed.length === 0 ? [] : [{ table, columns: sealed }];
});

/** The tables are known at run time only. */
type AnyTable = Kysely<Record<string, Record<string, unknown>>>;

/** Writes some rows as they are read, which seals them under the key of now. Where to go on; undefined at the end. */
export async function resealSome(tx: Tx, from: Place, limit: number): Promise<Place | undefined> {
  const next = SEALED_TABLES[from.table];
  if (next === undefined) return undefined;
  const db = tx as unknown as AnyTable;
  return isShared(tx) ? resealPages(db, next, from) : resealRows(db, next, from, limit);
}

interface SealedTable {
  readonly table: string;
  readonly columns: readonly string[];
}

async function resealRows(db: AnyTable, { table, columns }: SealedTable, from: Place, limit: number): Promise<Place> {
  const rowid = sql.ref<number>("rowid");
  const rows = await db
    .selectFrom(table)
    .select([...columns, rowid.as("row_number")])
    .where(rowid, ">", from.row)
    .orderBy(rowid)
    .limit(limit)
    .execute();
  for (const { row_number, ...values } of rows) {
    await db
      .updateTable(table)
      .set(values)
      .where(rowid, "=", row_number as number)
      .execute();
  }
  const last = rows.at(-1)?.row_number as number | undefined;
  return last === undefined ? { table: from.table + 1, row: -1 } : { table: from.table, row: last };
}

/** Pages of a table that are read in one go, each a few dozen rows at most. */
const PAGES = 1;

/**
 * Along the pages of the table. A row that is written comes to lie on its page again, or on one behind, so one look at each page
 * that was there at the beginning meets all that was written before. A row that somebody else has written meanwhile has
 * moved, and is sealed.
 */
async function resealPages(db: AnyTable, { table, columns }: SealedTable, from: Place): Promise<Place> {
  const first = from.row + 1;
  const end = from.end ?? (await pagesOf(db, table));
  if (first >= end) return { table: from.table + 1, row: -1 };
  const ctid = sql.ref<string>("ctid");
  const rows = await db
    .selectFrom(table)
    .select([...columns, sql<string>`cast(ctid as text)`.as("row_place")])
    .where(ctid, ">=", sql<string>`cast(${`(${first},0)`} as tid)`)
    .where(ctid, "<", sql<string>`cast(${`(${first + PAGES},0)`} as tid)`)
    .modifyEnd(lockRows("update"))
    .execute();
  for (const { row_place, ...values } of rows) {
    await db.updateTable(table).set(values).where(ctid, "=", sql<string>`cast(${row_place} as tid)`).execute();
  }
  return { table: from.table, row: from.row + PAGES, end };
}

async function pagesOf(db: AnyTable, table: string): Promise<number> {
  const { rows } = await sql<{ pages: number }>`select pg_relation_size(${table}::regclass)
    / current_setting('block_size')::bigint as pages`.execute(db);
  return rows[0]?.pages ?? 0;
}
