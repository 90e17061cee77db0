/** Webhook calls that must be made: written with the run's end, in one transaction, and deleted when done. Each call leaves a record. */
import { sql } from "kysely";
import { clock, integer, lockRows } from "../expressions.ts";
import { insertRows } from "../prepared.ts";
import type { DeliveryRecord, Tx, WebhookRecord } from "../storage.ts";

const insertRow = insertRows("webhooks", [
  "webhook_id",
  "run_id",
  "url",
  "payload",
  "attempts",
  "next_attempt_at",
  "created_at",
  "trace",
]);

/** Adds a call to be made. */
export async function insert(tx: Tx, record: WebhookRecord): Promise<void> {
  await insertRow(tx, [record]);
}

/** Calls whose time has come, longest waiting first. */
export async function due(db: Tx, now: number, limit: number): Promise<WebhookRecord[]> {
  return db
    .selectFrom("webhooks")
    .selectAll()
    .where("next_attempt_at", "<=", now)
    .orderBy("next_attempt_at")
    .limit(limit)
    .execute();
}

/**
 * As `due`, for processes that share the outbox: each call comes to one of them, which has `hold_ms` to make it. After that it is
 * due again.
 */
export async function takeDue(tx: Tx, now: number, limit: number, hold_ms: number): Promise<WebhookRecord[]> {
  const rows = await tx
    .updateTable("webhooks")
    .set({ next_attempt_at: sql<number>`${clock(now)} + ${integer(hold_ms)}` })
    .where("webhook_id", "in", ({ selectFrom }) =>
      selectFrom("webhooks as waiting")
        .select("waiting.webhook_id")
        .where("waiting.next_attempt_at", "<=", clock(now))
        .orderBy("waiting.next_attempt_at")
        .limit(limit)
        .modifyEnd(lockRows("update skip locked")),
    )
    .returningAll()
    .execute();
  return rows;
}

/** When the next call that is not due yet will be; undefined when none waits. */
export async function nextDue(db: Tx, now: number): Promise<number | undefined> {
  const row = await db
    .selectFrom("webhooks")
    .select((eb) => eb.fn.min<number | null>("next_attempt_at").as("due"))
    .where("next_attempt_at", ">", now)
    .executeTakeFirst();
  return row?.due ?? undefined;
}

/** Writes down a failed attempt and when to try again. */
export async function reschedule(tx: Tx, webhook_id: string, attempts: number, next_attempt_at: number): Promise<void> {
  await tx.updateTable("webhooks").set({ attempts, next_attempt_at }).where("webhook_id", "=", webhook_id).execute();
}

/** Forgets a call: delivered, or given up. */
export async function remove(tx: Tx, webhook_id: string): Promise<void> {
  await tx.deleteFrom("webhooks").where("webhook_id", "=", webhook_id).execute();
}

const insertDelivery = insertRows("webhook_deliveries", [
  "webhook_id",
  "attempt",
  "run_id",
  "target",
  "started_at",
  "duration_ms",
  "outcome",
  "status",
  "error",
]);

/** Writes down how a call went. */
export async function recordDelivery(tx: Tx, record: DeliveryRecord): Promise<void> {
  await insertDelivery(tx, [record]);
}

/** Deletes the records of calls made before. */
export async function sweepDeliveries(tx: Tx, started_before: number): Promise<void> {
  await tx.deleteFrom("webhook_deliveries").where("started_at", "<", started_before).execute();
}
