/** Event logs of runs: chunks of consecutive events, one row each. */
import { type Selectable, sql } from "kysely";
import type { Database } from "../database.ts";
import { clock, perDialect } from "../expressions.ts";
import { insertRows, prepared } from "../prepared.ts";
import type { EventChunk, EventLogRecord, Tx } from "../storage.ts";

/** What a log without events has of the numbers of its thread: its end, and what readers are told behind it. */
const NUMBERS_OF_NONE = 4;

/** What holds the number of a log's last event. */
const NO_EVENTS = "[]";

const openLog = insertRows("event_logs", ["run_id", "thread_id", "ended_at", "place"], (insert) =>
  insert.onConflict((conflict) => conflict.column("run_id").doNothing()),
);

/** Makes the run's log known; nothing happens when it is. */
export async function open(tx: Tx, run_id: string, thread_id: string, place = 0): Promise<void> {
  await openLog(tx, [{ run_id, thread_id, ended_at: null, place }]);
}

/** As `open`, of a run that ends before it began: it stands behind all of its thread that are known, and before those that come. */
export async function openLast(tx: Tx, run_id: string, thread_id: string, now: number): Promise<void> {
  const others = sql<number>`(select coalesce(max(place), 0) + ${sql.lit(NUMBERS_OF_NONE)} from event_logs where thread_id = ${thread_id})`;
  const here = sql<number>`${clock(now)} * 1000`;
  await tx
    .insertInto("event_logs")
    .values({
      run_id,
      thread_id,
      ended_at: null,
      place: perDialect(sql`max(${here}, ${others})`, sql`greatest(${here}, ${others})`),
    })
    .onConflict((conflict) => conflict.column("run_id").doNothing())
    .execute();
}

const appendChunks = insertRows("event_chunks", ["run_id", "first", "last", "events"]);

/** Adds chunks. Throws when a chunk that starts with the same event is there. */
export async function append(tx: Tx, chunks: readonly EventChunk[]): Promise<void> {
  await appendChunks(tx, chunks);
}

interface Page {
  readonly run_id: string;
  readonly after: number;
  readonly next: number;
  readonly limit: number;
}

/** Starts at the chunk that holds the event `next`, so a long log is not walked from its beginning. */
const readChunks = prepared<Page, Selectable<Database["event_chunks"]>>((db, slots) =>
  db
    .selectFrom("event_chunks")
    .selectAll()
    .where("run_id", "=", slots.run_id)
    .where("first", ">=", ({ selectFrom }) =>
      selectFrom("event_chunks as start")
        .select(({ fn }) => fn.coalesce(fn.max("start.first"), sql.lit(0)).as("first"))
        .where("start.run_id", "=", slots.run_id)
        .where("start.first", "<=", slots.next),
    )
    .where("last", ">", slots.after)
    .orderBy("first")
    .limit(slots.limit),
);

/** Chunks that hold events later than `after`, in order. The first may also hold earlier ones. */
export async function read(db: Tx, run_id: string, after: number, max_chunks: number): Promise<EventChunk[]> {
  return (await readChunks(db, { run_id, after, next: after + 1, limit: max_chunks })).rows;
}

const findLog = prepared<{ run_id: string }, EventLogRecord>((db, slots) =>
  db.selectFrom("event_logs").selectAll().where("run_id", "=", slots.run_id),
);

/** The run's log, or undefined. */
export async function log(db: Tx, run_id: string): Promise<EventLogRecord | undefined> {
  return (await findLog(db, { run_id })).rows[0];
}

/** Logs of a thread from a place on, in order. */
export async function logsOfThread(db: Tx, thread_id: string, from: number): Promise<EventLogRecord[]> {
  return db
    .selectFrom("event_logs")
    .selectAll()
    .where("thread_id", "=", thread_id)
    .where("place", ">=", from)
    .orderBy("place")
    .execute();
}

const lastOf = prepared<{ run_id: string }, { last: number }>((db, slots) =>
  db
    .selectFrom("event_chunks")
    .select("last")
    .where("run_id", "=", slots.run_id)
    .orderBy("first", "desc")
    .limit(sql.lit(1)),
);

/** Index of the last stored event, -1 when there is none. */
export async function last(db: Tx, run_id: string): Promise<number> {
  return (await lastOf(db, { run_id })).rows[0]?.last ?? -1;
}

const endLog = prepared<{ run_id: string; now: number }>((db, slots) =>
  db.updateTable("event_logs").set({ ended_at: slots.now }).where("run_id", "=", slots.run_id),
);

/** Says that nothing more comes; from now on the log may be swept. */
export async function end(tx: Tx, run_id: string, now: number): Promise<void> {
  await endLog(tx, { run_id, now });
}

/** Deletes the log and its chunks. */
export async function remove(tx: Tx, run_id: string): Promise<void> {
  await tx.deleteFrom("event_chunks").where("run_id", "=", run_id).execute();
  await tx.deleteFrom("event_logs").where("run_id", "=", run_id).execute();
}

/**
 * Deletes the events of a run that goes, and ends its log: whoever has seen some of them hears of the end. `next`: behind the
 * last event, of a log that was not all stored. Nothing happens where there is no log.
 */
export async function erase(
  tx: Tx,
  run_id: string,
  { next = 0, now }: { readonly next?: number | undefined; readonly now: number },
): Promise<void> {
  const at = Math.max(await last(tx, run_id), next - 1);
  await tx.deleteFrom("event_chunks").where("run_id", "=", run_id).execute();
  // It holds the number.
  if (at >= 0) await append(tx, [{ run_id, first: at, last: at, events: NO_EVENTS }]);
  await end(tx, run_id, now);
}

/** Whether nothing is left of the run's events, as `erase` leaves them: not so of a run that went with its thread. */
export async function isErased(db: Tx, run_id: string): Promise<boolean> {
  const [first] = await read(db, run_id, -1, 1);
  return first === undefined || first.events === NO_EVENTS;
}

/** Runs of a thread that are gone and of which a log is left. */
export async function erased(db: Tx, thread_id: string): Promise<ReadonlySet<string>> {
  const rows = await db
    .selectFrom("event_logs")
    .select("run_id")
    .where("thread_id", "=", thread_id)
    .where("run_id", "not in", (eb) => eb.selectFrom("runs").select("run_id").where("runs.thread_id", "=", thread_id))
    .execute();
  return new Set(rows.map(({ run_id }) => run_id));
}

/** Deletes the logs of a thread's runs, and what is left of those that are gone. */
export async function removeOfThread(tx: Tx, thread_id: string): Promise<void> {
  const logs = tx.selectFrom("event_logs").select("run_id").where("thread_id", "=", thread_id);
  await tx.deleteFrom("event_chunks").where("run_id", "in", logs).execute();
  await tx.deleteFrom("event_logs").where("thread_id", "=", thread_id).execute();
}

/** Deletes the logs that ended before, and notes at their runs how far they went; returns how many. */
export async function sweep(tx: Tx, ended_before: number): Promise<number> {
  const over = tx.selectFrom("event_logs").select("run_id").where("ended_at", "<", ended_before);
  // The end of a run has the number behind its last event.
  const told_to = sql<number>`(select log.place + 1 + coalesce((select max(chunk.last) from event_chunks as chunk
    where chunk.run_id = log.run_id), -1) from event_logs as log where log.run_id = runs.run_id)`;
  await tx.updateTable("runs").set({ told_to }).where("run_id", "in", over).execute();
  await tx.deleteFrom("event_chunks").where("run_id", "in", over).execute();
  const result = await tx.deleteFrom("event_logs").where("ended_at", "<", ended_before).executeTakeFirst();
  return Number(result.numDeletedRows);
}

/**
 * Deletes the logs of runs that are over which nobody ended: spilled from the memory of a process that is gone. Of runs made
 * before a time only, where one is given: their ids begin with it (UUID version 7).
 */
export async function sweepLeftovers(tx: Tx, made_before: number | null): Promise<void> {
  const leftovers = tx
    .selectFrom("event_logs")
    .select("run_id")
    .where("ended_at", "is", null)
    .$if(made_before !== null, (query) => query.where("run_id", "<", firstId(made_before ?? 0)))
    .where("run_id", "not in", (eb) =>
      eb
        .selectFrom("runs")
        .select("run_id")
        .where("status", "in", [sql.lit("pending"), sql.lit("running")]),
    );
  await tx.deleteFrom("event_chunks").where("run_id", "in", leftovers).execute();
  await tx.deleteFrom("event_logs").where("run_id", "in", leftovers).execute();
}

/** The first id of that millisecond, as far as its time tells. */
export function firstId(ms: number): string {
  const hex = ms.toString(16).padStart(12, "0");
  return `${hex.slice(0, 8)}-${hex.slice(8)}`;
}
