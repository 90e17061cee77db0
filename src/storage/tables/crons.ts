/** Crons: what runs when. `next_run_date` is the tick that is still to be fired; null when none is. */
import type { ExpressionBuilder, Selectable } from "kysely";
import type { CronFilter, CronSearch, OnRunCompleted } from "../../schemas/crons.ts";
import type { Database } from "../database.ts";
import { jsonEqualsAll, lockRows, passes } from "../expressions.ts";
import type { MetadataFilter } from "../filter.ts";
import { isShared, lockThread, shareAssistant } from "../locks.ts";
import { insertRows, prepared } from "../prepared.ts";
import type { CronRecord, Tx } from "../storage.ts";

type Row = Selectable<Database["crons"]>;

const COLUMNS = [
  "cron_id",
  "assistant_id",
  "thread_id",
  "on_run_completed",
  "schedule",
  "timezone",
  "end_time",
  "enabled",
  "next_run_date",
  "created_at",
  "updated_at",
  "metadata",
  "payload",
] as const;

/** What to search for among what may be seen; `visible` null or absent: all. */
export type VisibleCrons = CronFilter & { readonly visible?: MetadataFilter | null };

/** What to search for, and which part of it to return. Limit 10, newest first, when the caller does not say. */
export type CronQuery = VisibleCrons & Pick<CronSearch, "limit" | "offset" | "sort_by" | "sort_order">;

const insertRow = insertRows("crons", COLUMNS);

/** Inserts a cron; its thread must exist. */
export async function insert(tx: Tx, record: CronRecord): Promise<void> {
  await insertRow(tx, [toRow(record)]);
}

const findById = prepared<{ id: string }, Row>((db, slots) =>
  db.selectFrom("crons").selectAll().where("cron_id", "=", slots.id),
);

/** The cron, or undefined. */
export async function find(db: Tx, cron_id: string): Promise<CronRecord | undefined> {
  const [row] = (await findById(db, { id: cron_id })).rows;
  return row && toRecord(row);
}

const findByIdLocked = prepared<{ id: string }, Row>((db, slots) =>
  db.selectFrom("crons").selectAll().where("cron_id", "=", slots.id).modifyEnd(lockRows("update")),
);

/**
 * The cron, which nobody changes or fires until the transaction ends. What its run needs is locked first, as whoever removes
 * these does it.
 */
export async function findLocked(tx: Tx, cron_id: string): Promise<CronRecord | undefined> {
  if (!isShared(tx)) return find(tx, cron_id);
  const known = await find(tx, cron_id);
  if (known === undefined) return undefined;
  shareAssistant(tx, known.assistant_id);
  if (known.thread_id !== null) lockThread(tx, known.thread_id);
  const [row] = (await findByIdLocked(tx, { id: cron_id })).rows;
  return row && toRecord(row);
}

/** Writes all of the cron but its id. */
export async function update(tx: Tx, record: CronRecord): Promise<void> {
  const { cron_id, ...rest } = toRow(record);
  await tx.updateTable("crons").set(rest).where("cron_id", "=", cron_id).execute();
}

/** Deletes the cron; false when there was none. */
export async function remove(tx: Tx, cron_id: string): Promise<boolean> {
  const result = await tx.deleteFrom("crons").where("cron_id", "=", cron_id).executeTakeFirst();
  return result.numDeletedRows > 0n;
}

/** Deletes all crons of an assistant. */
export async function removeOfAssistant(tx: Tx, assistant_id: string): Promise<void> {
  await tx.deleteFrom("crons").where("assistant_id", "=", assistant_id).execute();
}

/** One page of the crons that match. Those that lack the field they are sorted by come last. */
export async function search(db: Tx, query: CronQuery): Promise<CronRecord[]> {
  const order = query.sort_order ?? "desc";
  const rows = await db
    .selectFrom("crons")
    .selectAll()
    .where((eb) => matching(eb, query))
    .orderBy(query.sort_by ?? "created_at", (by) => (order === "asc" ? by.asc() : by.desc()).nullsLast())
    .orderBy("cron_id", order)
    .limit(query.limit ?? 10)
    .offset(query.offset ?? 0)
    .execute();
  return rows.map(toRecord);
}

/** How many crons match. */
export async function count(db: Tx, filter: VisibleCrons): Promise<number> {
  const row = await db
    .selectFrom("crons")
    .select((eb) => eb.fn.countAll<number>().as("total"))
    .where((eb) => matching(eb, filter))
    .executeTakeFirstOrThrow();
  return Number(row.total);
}

function matching(eb: ExpressionBuilder<Database, "crons">, filter: VisibleCrons) {
  return eb.and([
    ...(filter.assistant_id == null ? [] : [eb("assistant_id", "=", filter.assistant_id)]),
    ...(filter.thread_id == null ? [] : [eb("thread_id", "=", filter.thread_id)]),
    ...(filter.enabled == null ? [] : [eb("enabled", "=", filter.enabled ? 1 : 0)]),
    ...jsonEqualsAll(eb.ref("metadata"), filter.metadata ?? {}),
    ...(filter.visible == null ? [] : [passes(eb.ref("crons.metadata"), filter.visible)]),
  ]);
}

/** A tick that is due. */
export interface DueTick {
  readonly cron_id: string;
  readonly next_run_date: number;
}

/** Ticks whose time has come, oldest first. */
export async function due(db: Tx, now: number): Promise<DueTick[]> {
  return db
    .selectFrom("crons")
    .select(["cron_id", "next_run_date"])
    .where("next_run_date", "is not", null)
    .where("next_run_date", "<=", now)
    .orderBy("next_run_date")
    .$narrowType<{ next_run_date: number }>()
    .execute();
}

/** When the next tick that is not due yet will be; undefined when none waits. */
export async function nextDue(db: Tx, now: number): Promise<number | undefined> {
  const row = await db
    .selectFrom("crons")
    .select((eb) => eb.fn.min<number | null>("next_run_date").as("due"))
    .where("next_run_date", "is not", null)
    .where("next_run_date", ">", now)
    .executeTakeFirst();
  return row?.due ?? undefined;
}

/** Takes a tick: sets the next one. False, and nothing written, when somebody else has taken it or the cron has changed. */
export async function advance(tx: Tx, tick: DueTick, next_run_date: number | null): Promise<boolean> {
  const result = await tx
    .updateTable("crons")
    .set({ next_run_date })
    .where("cron_id", "=", tick.cron_id)
    .where("next_run_date", "=", tick.next_run_date)
    .executeTakeFirst();
  return result.numUpdatedRows > 0n;
}

/** Who made it is kept with what its runs are asked to do, and like that encrypted at rest. */
const toRow = ({ made_by, ...record }: CronRecord): Row => ({
  ...record,
  enabled: record.enabled ? 1 : 0,
  metadata: JSON.stringify(record.metadata),
  payload: JSON.stringify({ ...record.payload, made_by }),
});

function toRecord(row: Row): CronRecord {
  const { made_by, ...payload } = JSON.parse(row.payload);
  return {
    ...row,
    on_run_completed: row.on_run_completed as OnRunCompleted | null,
    enabled: row.enabled !== 0,
    metadata: JSON.parse(row.metadata),
    payload,
    made_by,
  };
}
