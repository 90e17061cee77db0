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
  /** Of the last row that is done: its rowid, on PostgreSQL the values of its primary key. Undefined: none is. */
  readonly row?: number | readonly unknown[];
  /** Columns of that key, looked up once for each table. */
  readonly key?: readonly string[];
  /** The second of two walks, on PostgreSQL. */
  readonly again?: boolean;
}

export const START: Place = { table: 0 };

const SEALED_TABLES = Object.entries(KEEPING).flatMap(([table, columns]) => {
  const sealed = Object.entries(columns).flatMap(([column, keeping]) => (keeping === "plain" ? [] : [column]));
  return sealed.length === 0 ? [] : [{ table, columns: sealed }];
});

/** The tables are known at run time only. */
type AnyTable = Kysely<Record<string, Record<string, unknown>>>;

/** Writes some rows as they are read, which seals them under the key of now. Where to go on; undefined at the end. */
export async function resealSome(tx: Tx, from: Place, limit: number): Promise<Place | undefined> {
  const db = tx as unknown as AnyTable;
  const next = SEALED_TABLES[from.table];
  if (next !== undefined) return isShared(tx) ? resealByKey(db, next, from, limit) : resealRows(db, next, from, limit);
  // Copies of threads are made by the database, as sealed as their source is: one may have come to lie behind the first walk.
  return isShared(tx) && from.again !== true ? { ...START, again: true } : undefined;
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
    .where(rowid, ">", typeof from.row === "number" ? from.row : -1)
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
  return last === undefined ? { table: from.table + 1 } : { table: from.table, row: last };
}

/**
 * Along the primary key, which a row keeps while others write it. What they do not write of it stays sealed as it was, and
 * the row comes to lie anywhere in the table: so not along the pages.
 */
async function resealByKey(db: AnyTable, { table, columns }: SealedTable, from: Place, limit: number): Promise<Place> {
  const key = from.key ?? (await primaryKeyOf(db, table));
  const columnsOfKey = sql.join(key.map((column) => sql.ref(column)));
  const place = sql`(${columnsOfKey})`;
  const after = Array.isArray(from.row) ? sql<boolean>`${place} > (${sql.join(from.row)})` : sql<boolean>`true`;
  const rows = await db
    .selectFrom(table)
    .select([...new Set([...key, ...columns])])
    .where(after)
    .orderBy(sql`${columnsOfKey}`)
    .limit(limit)
    .modifyEnd(lockRows("update"))
    .execute();
  const keyOf = (row: Readonly<Record<string, unknown>>): unknown[] => key.map((column) => row[column]);
  for (const row of rows) {
    const values = Object.fromEntries(columns.map((column) => [column, row[column]]));
    await db
      .updateTable(table)
      .set(values)
      .where(sql<boolean>`${place} = (${sql.join(keyOf(row))})`)
      .execute();
  }
  const last = rows.at(-1);
  const { table: index, again = false } = from;
  return last === undefined ? { table: index + 1, again } : { table: index, key, row: keyOf(last), again };
}

/** Columns of a table's primary key, in its order. */
async function primaryKeyOf(db: AnyTable, table: string): Promise<readonly string[]> {
  const { rows } = await sql<{ column: string }>`select a.attname as column from pg_index i
    cross join lateral unnest(i.indkey::int2[]) with ordinality as k (attnum, place)
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
    where i.indrelid = ${table}::regclass and i.indisprimary order by k.place`.execute(db);
  return rows.map(({ column }) => column);
}
