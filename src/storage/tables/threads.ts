import { type Selectable, sql } from "kysely";
import type { Json } from "../../executor/protocol.ts";
import type { ThreadStatus } from "../../schemas/threads.ts";
import type { Database } from "../database.ts";
import { jsonEquals } from "../expressions.ts";
import { insertRows, prepared } from "../prepared.ts";
import type { ThreadRecord, Tx } from "../storage.ts";
import * as checkpoints from "./checkpoints.ts";

type Row = Omit<Selectable<Database["threads"]>, "rest_status">;

const COLUMNS = [
  "thread_id",
  "status",
  "metadata",
  "config",
  "values",
  "interrupts",
  "created_at",
  "updated_at",
  "state_updated_at",
] as const;

const insertNew = insertRows("threads", [...COLUMNS, "rest_status"], (insert) =>
  insert.onConflict((conflict) => conflict.column("thread_id").doNothing()),
);

/** Inserts the thread; false, and nothing written, when its id is taken. */
export async function insert(tx: Tx, record: ThreadRecord): Promise<boolean> {
  const rest_status = record.status === "busy" ? "idle" : record.status;
  return (await insertNew(tx, [{ ...toRow(record), rest_status }])) === 1;
}

const findById = prepared<{ id: string }, Row>((db, slots) =>
  db.selectFrom("threads").select(COLUMNS).where("thread_id", "=", slots.id),
);

/** The thread, or undefined. */
export async function find(db: Tx, thread_id: string): Promise<ThreadRecord | undefined> {
  const [row] = (await findById(db, { id: thread_id })).rows;
  return row && toRecord(row);
}

/** Ids of threads whose metadata names the assistant. */
export async function idsOfAssistant(db: Tx, assistant_id: string): Promise<string[]> {
  const rows = await db
    .selectFrom("threads")
    .select("thread_id")
    .where((eb) => jsonEquals(eb.ref("metadata"), "assistant_id", assistant_id))
    .execute();
  return rows.map((row) => row.thread_id);
}

/** What changes on a thread. A member that is absent stays as it is; `metadata` is the whole new object. */
export interface ThreadChange {
  readonly status?: ThreadStatus;
  /** The status once no run is in flight. Default: `status`, unless that is `busy`. */
  readonly rest_status?: Exclude<ThreadStatus, "busy">;
  readonly metadata?: Readonly<Record<string, unknown>>;
  readonly values?: Json | null;
  readonly interrupts?: Json;
  readonly updated_at: number;
  readonly state_updated_at?: number;
}

interface Touch {
  readonly thread_id: string;
  readonly status: string | null;
  readonly rest_status: string | null;
  readonly metadata: string | null;
  readonly interrupts: string | null;
  readonly state_updated_at: number | null;
  readonly updated_at: number;
}

const kept = (column: keyof Touch, value: string | number | null) => sql<never>`coalesce(${value}, ${sql.ref(column)})`;

const touchRow = prepared<Touch>((db, slots) =>
  db
    .updateTable("threads")
    .set({
      status: kept("status", slots.status),
      rest_status: kept("rest_status", slots.rest_status),
      metadata: kept("metadata", slots.metadata),
      interrupts: kept("interrupts", slots.interrupts),
      state_updated_at: kept("state_updated_at", slots.state_updated_at),
      updated_at: slots.updated_at,
    })
    .where("thread_id", "=", slots.thread_id),
);

const setValues = prepared<{ thread_id: string; values: Json | null }>((db, slots) =>
  db.updateTable("threads").set({ values: slots.values }).where("thread_id", "=", slots.thread_id),
);

/** Changes the members given. */
export async function touch(tx: Tx, thread_id: string, change: ThreadChange): Promise<void> {
  const { status = null } = change;
  await touchRow(tx, {
    thread_id,
    status,
    rest_status: change.rest_status ?? (status === "busy" ? null : status),
    metadata: change.metadata === undefined ? null : JSON.stringify(change.metadata),
    interrupts: change.interrupts ?? null,
    state_updated_at: change.state_updated_at ?? null,
    updated_at: change.updated_at,
  });
  if (change.values !== undefined) await setValues(tx, { thread_id, values: change.values });
}

const findRest = prepared<{ thread_id: string }, { rest_status: string }>((db, slots) =>
  db.selectFrom("threads").select("rest_status").where("thread_id", "=", slots.thread_id),
);

/** The status the thread has when none of its runs is in flight: as the last run or update that settled left it. */
export async function restStatus(db: Tx, thread_id: string): Promise<Exclude<ThreadStatus, "busy">> {
  const [row] = (await findRest(db, { thread_id })).rows;
  return (row?.rest_status ?? "idle") as Exclude<ThreadStatus, "busy">;
}

const deleteRow = prepared<{ thread_id: string }>((db, slots) =>
  db.deleteFrom("threads").where("thread_id", "=", slots.thread_id),
);
const deleteRuns = prepared<{ thread_id: string }>((db, slots) =>
  db.deleteFrom("runs").where("thread_id", "=", slots.thread_id),
);

/**
 * Deletes the thread with its runs and all its checkpoints; who knows that it has none saves the look. Event logs
 * stay: readers may still follow them.
 */
export async function remove(tx: Tx, thread_id: string, { hasCheckpoints = true } = {}): Promise<void> {
  await deleteRow(tx, { thread_id });
  await deleteRuns(tx, { thread_id });
  if (hasCheckpoints) await checkpoints.removeThread(tx, thread_id);
}

const toRow = (record: ThreadRecord): Row => ({
  ...record,
  metadata: JSON.stringify(record.metadata),
  config: JSON.stringify(record.config),
});

const toRecord = (row: Row): ThreadRecord => ({
  ...row,
  status: row.status as ThreadStatus,
  metadata: JSON.parse(row.metadata),
  config: JSON.parse(row.config),
});
