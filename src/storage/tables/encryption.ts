/** Which keys seal the data, and sealing anew what was written under another key or none. */
import { type Kysely, type Selectable, sql } from "kysely";
import type { Database } from "../database.ts";
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
  /** The last row that is done. */
  readonly row: number;
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
  const { table, columns } = next;
  const db = tx as unknown as AnyTable;
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
