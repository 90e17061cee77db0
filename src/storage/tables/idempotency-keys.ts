/** Requests that may be repeated, by the key their clients gave them. */
import type { Json } from "../../executor/protocol.ts";
import type { IdempotencyRecord, Tx } from "../storage.ts";

/**
 * Takes the key for this request; undefined when it is taken by it. Otherwise the request that has it. A key
 * taken before `valid_since` counts as free. Inserted before it is read, so that of two requests at once one waits for the other.
 */
export async function take(
  tx: Tx,
  request: Omit<IdempotencyRecord, "runs">,
  valid_since: number,
): Promise<IdempotencyRecord | undefined> {
  const { numInsertedOrUpdatedRows } = await tx
    .insertInto("idempotency_keys")
    .values({ ...request, runs: "" })
    .onConflict((conflict) =>
      conflict
        .column("key")
        .doUpdateSet((eb) => ({
          fingerprint: eb.ref("excluded.fingerprint"),
          created_at: eb.ref("excluded.created_at"),
          runs: eb.ref("excluded.runs"),
        }))
        .where("idempotency_keys.created_at", "<", valid_since),
    )
    .executeTakeFirstOrThrow();
  if (numInsertedOrUpdatedRows === 1n) return undefined;
  return tx.selectFrom("idempotency_keys").selectAll().where("key", "=", request.key).executeTakeFirst();
}

/** Remembers what the request made. */
export async function answer(tx: Tx, key: string, runs: Json): Promise<void> {
  await tx.updateTable("idempotency_keys").set({ runs }).where("key", "=", key).execute();
}

/** Deletes the keys taken before; returns how many. */
export async function sweep(tx: Tx, taken_before: number): Promise<number> {
  const result = await tx.deleteFrom("idempotency_keys").where("created_at", "<", taken_before).executeTakeFirst();
  return Number(result.numDeletedRows);
}
