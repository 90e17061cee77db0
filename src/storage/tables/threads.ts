import { type Selectable, type SqlBool, sql } from "kysely";
import type { GrownValues, Json } from "../../executor/protocol.ts";
import type { ThreadStatus, TtlStrategy } from "../../schemas/threads.ts";
import type { Database } from "../database.ts";
import { hasMembers, integer, passes, perDialect, text } from "../expressions.ts";
import type { MetadataFilter } from "../filter.ts";
import { insertRows, prepared } from "../prepared.ts";
import type { ThreadRecord, ThreadTtl, Tx } from "../storage.ts";
import { together } from "../together.ts";
import * as checkpoints from "./checkpoints.ts";
import * as shown from "./thread-values.ts";

type Row = Omit<Selectable<Database["threads"]>, "seq" | "rest_status"> & { values: string | null };

export const COLUMNS = [
  "thread_id",
  "status",
  "temporary",
  "metadata",
  "config",
  "interrupts",
  "created_at",
  "updated_at",
  "state_updated_at",
  "ttl_strategy",
  "ttl_minutes",
  "expires_at",
  "protocol",
] as const;

const insertNew = insertRows("threads", [...COLUMNS, "rest_status"], (insert) =>
  insert.onConflict((conflict) => conflict.column("thread_id").doNothing()),
);

/** Inserts the thread; false, and nothing written, when its id is taken. */
export async function insert(tx: Tx, record: ThreadRecord): Promise<boolean> {
  const { values, ...row } = toRow(record);
  const rest_status = record.status === "busy" ? "idle" : record.status;
  if ((await insertNew(tx, [{ ...row, rest_status }])) === 0) return false;
  if (values !== null) await shown.put(tx, record.thread_id, values);
  return true;
}

const findById = prepared<{ id: string }, Row & shown.FoundValues>((db, slots) =>
  db
    .selectFrom("threads")
    .leftJoin("thread_values", "thread_values.seq", "threads.seq")
    .select(COLUMNS)
    .select(["threads.seq", "thread_values.values", "thread_values.lists"])
    .where("thread_id", "=", slots.id),
);

/** The thread, or undefined. */
export async function find(db: Tx, thread_id: string): Promise<ThreadRecord | undefined> {
  const [record] = await withValues(db, (await findById(db, { id: thread_id })).rows);
  return record;
}

/** Threads as the layers above see them, their values whole. */
export async function withValues(db: Tx, rows: readonly (Row & shown.FoundValues)[]): Promise<ThreadRecord[]> {
  const values = await shown.wholeValues(db, rows);
  return rows.map(({ seq: _, lists: __, ...row }, i) => toRecord({ ...row, values: values[i] ?? null }));
}

/** Ids of threads whose metadata names the assistant, of those that may be seen. */
export async function idsOfAssistant(
  db: Tx,
  assistant_id: string,
  visible: MetadataFilter | null = null,
): Promise<string[]> {
  const having = perDialect(
    sql<SqlBool>`seq in (select owner.seq from metadata_pairs as pair join thread_pairs as owner on owner.pair_id = pair.pair_id
      where pair.key = 'assistant_id' and pair.value = ${`"${assistant_id}`})`,
    sql<SqlBool>`temporary = 0 and ${hasMembers(sql.ref("metadata"), { assistant_id })}`,
  );
  const rows = await db
    .selectFrom("threads")
    .select("thread_id")
    .where(having)
    .where((eb) => eb.and(visible === null ? [] : [passes(eb.ref("threads.metadata"), visible)]))
    .execute();
  return rows.map((row) => row.thread_id);
}

/** A thread without its values, which may be large. */
export type BareThread = Omit<ThreadRecord, "values">;

const findBareById = prepared<{ id: string }, Omit<Row, "values">>((db, slots) =>
  db.selectFrom("threads").select(COLUMNS).where("thread_id", "=", slots.id),
);

/** As `find`, for callers that do not look at the values. */
export async function findBare(db: Tx, thread_id: string): Promise<BareThread | undefined> {
  const [row] = (await findBareById(db, { id: thread_id })).rows;
  if (row === undefined) return undefined;
  const { values: _, ...bare } = toRecord({ ...row, values: null });
  return bare;
}

/** What changes on a thread. A member that is absent stays as it is; `metadata` is the whole new object. */
export interface ThreadChange {
  /** `settled`: as `rest_status`, or `busy` while runs of the thread are in flight. */
  readonly status?: ThreadStatus | "settled";
  /** The status once no run is in flight. Default: `status`, unless that is `busy`. */
  readonly rest_status?: Exclude<ThreadStatus, "busy">;
  readonly metadata?: Readonly<Record<string, unknown>>;
  readonly values?: Json | GrownValues | null;
  readonly interrupts?: Json;
  readonly updated_at: number;
  /** When the values and interrupts were taken; kept only where these differ from what the thread has. */
  readonly state_updated_at?: number;
  readonly ttl?: ThreadTtl;
  /** A run has ended: a thread that is cut to its latest state again and again gets its full time anew. */
  readonly renew_ttl?: boolean;
}

interface Touch {
  readonly thread_id: string;
  readonly values_changed: number;
  readonly settles: number;
  readonly status: string | null;
  readonly rest_status: string | null;
  readonly interrupts: string | null;
  readonly state_updated_at: number | null;
  readonly updated_at: number;
  readonly renew_ttl: number;
}

/** Ending a run that changed nothing is no change of the state. */
const stateUpdatedAt = ({ values_changed, interrupts, state_updated_at }: Touch) => sql<never>`case
  when ${integer(state_updated_at)} is not null and (${integer(values_changed)} = 1 or interrupts <> ${text(interrupts)})
  then ${integer(state_updated_at)} else state_updated_at end`;

const settledStatus = ({ thread_id, rest_status }: Touch) => sql<never>`case when exists (select 1 from runs
  where runs.thread_id = ${thread_id} and runs.status in ('pending', 'running')) then 'busy' else ${text(rest_status)} end`;

const kept = (column: "status" | "rest_status" | "interrupts", value: string | number | null) =>
  sql<never>`coalesce(${value}, ${sql.ref(column)})`;

const touchRow = prepared<Touch, { status: string }>((db, slots) =>
  db
    .updateTable("threads")
    .set({
      status: sql<never>`case when ${integer(slots.settles)} = 1 then ${settledStatus(slots)} else ${kept("status", slots.status)} end`,
      rest_status: kept("rest_status", slots.rest_status),
      interrupts: kept("interrupts", slots.interrupts),
      state_updated_at: stateUpdatedAt(slots),
      updated_at: slots.updated_at,
      expires_at: sql<never>`case when ${integer(slots.renew_ttl)} = 1 and ttl_strategy = 'keep_latest'
        then ${integer(slots.updated_at)} + ttl_minutes * 60000 else expires_at end`,
    })
    .where("thread_id", "=", slots.thread_id)
    .returning("status"),
);

/** A statement of its own: it concerns the index of metadata. */
const setMetadata = prepared<{ thread_id: string; metadata: string }>((db, slots) =>
  db.updateTable("threads").set({ metadata: slots.metadata }).where("thread_id", "=", slots.thread_id),
);

const setTtl = prepared<{ thread_id: string; strategy: string; minutes: number; expires_at: number | null }>(
  (db, slots) =>
    db
      .updateTable("threads")
      .set({ ttl_strategy: slots.strategy, ttl_minutes: slots.minutes, expires_at: slots.expires_at })
      .where("thread_id", "=", slots.thread_id),
);

export interface Touched {
  /** Values are null after a misfit. */
  readonly put: shown.PutResult;
  readonly isBusy: boolean;
}

/** Changes the members given. Says how the values went, and the status. */
export async function touch(tx: Tx, thread_id: string, change: ThreadChange): Promise<Touched> {
  const { metadata, values, ttl } = change;
  const settles = change.status === "settled";
  const status = change.status === "settled" ? null : (change.status ?? null);
  const put = values === undefined ? "same" : await shown.put(tx, thread_id, values);
  const touched: Touch = {
    thread_id,
    values_changed: put === "same" ? 0 : 1,
    settles: settles ? 1 : 0,
    status,
    rest_status: change.rest_status ?? (status === "busy" ? null : status),
    interrupts: change.interrupts ?? null,
    state_updated_at: change.state_updated_at ?? null,
    updated_at: change.updated_at,
    renew_ttl: change.renew_ttl === true ? 1 : 0,
  };
  const [{ rows }] = await together(tx, [
    () => touchRow(tx, touched),
    ...(metadata === undefined ? [] : [() => setMetadata(tx, { thread_id, metadata: JSON.stringify(metadata) })]),
    ...(ttl === undefined ? [] : [() => setTtl(tx, { thread_id, ...ttl })]),
  ]);
  return { put, isBusy: rows[0]?.status === "busy" };
}

const setProtocol = prepared<{ thread_id: string }>((db, slots) =>
  db
    .updateTable("threads")
    .set({ protocol: sql.lit(1) })
    .where("thread_id", "=", slots.thread_id)
    .where("protocol", "=", sql.lit(0)),
);

/** From now on streaming v2 has to do with the thread. Nothing happens when there is no such thread. */
export async function markProtocol(tx: Tx, thread_id: string): Promise<void> {
  await setProtocol(tx, { thread_id });
}

export interface Expired {
  readonly thread_id: string;
  readonly strategy: TtlStrategy;
}

const expiredAt = (db: Tx, now: number) =>
  db
    .selectFrom("threads")
    .select(["thread_id", "ttl_strategy as strategy"])
    .$narrowType<{ strategy: string }>()
    .where("expires_at", "<=", now)
    .where(({ not, exists, selectFrom }) =>
      not(
        exists(
          selectFrom("runs")
            .select("runs.seq")
            .whereRef("runs.thread_id", "=", "threads.thread_id")
            .where("runs.status", "in", [sql.lit("pending"), sql.lit("running")]),
        ),
      ),
    );

const expiredNow = prepared<{ now: number }, { thread_id: string; strategy: string }>((db, slots) =>
  expiredAt(db, slots.now).orderBy("expires_at").limit(sql.lit(1)),
);

const stillExpired = prepared<{ thread_id: string; now: number }, { thread_id: string }>((db, slots) =>
  expiredAt(db, slots.now).where("thread_id", "=", slots.thread_id),
);

/** The thread that has been over longest, unless runs are in flight on it; undefined when none is. */
export async function firstExpired(tx: Tx, now: number): Promise<Expired | undefined> {
  const [row] = (await expiredNow(tx, { now })).rows;
  return row && { thread_id: row.thread_id, strategy: row.strategy as TtlStrategy };
}

/** Whether `firstExpired` still means this thread, which is locked by now. */
export async function isExpired(tx: Tx, thread_id: string, now: number): Promise<boolean> {
  return (await stillExpired(tx, { thread_id, now })).rows.length > 0;
}

/** Takes the thread off the list of those that expire, until a run ends on it. */
export async function clearExpiry(tx: Tx, thread_id: string): Promise<void> {
  await tx.updateTable("threads").set({ expires_at: null }).where("thread_id", "=", thread_id).execute();
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
 * Deletes the thread with its runs and all its checkpoints; who knows that it has none saves the looks. Event logs
 * stay: readers may still follow them.
 */
export async function remove(tx: Tx, thread_id: string, { hasRuns = true, hasCheckpoints = true } = {}): Promise<void> {
  await together(tx, [
    () => deleteRow(tx, { thread_id }),
    ...(hasRuns ? [() => deleteRuns(tx, { thread_id })] : []),
    ...(hasCheckpoints ? [() => checkpoints.removeThread(tx, thread_id)] : []),
  ]);
}

const toRow = ({ ttl, ...record }: ThreadRecord): Row => ({
  ...record,
  temporary: record.temporary ? 1 : 0,
  protocol: record.protocol ? 1 : 0,
  metadata: JSON.stringify(record.metadata),
  config: JSON.stringify(record.config),
  ttl_strategy: ttl?.strategy ?? null,
  ttl_minutes: ttl?.minutes ?? null,
  expires_at: ttl?.expires_at ?? null,
});

/** A row of this table, with its values, as the layers above see it. */
function toRecord({ ttl_strategy, ttl_minutes, expires_at, ...row }: Row): ThreadRecord {
  return {
    ...row,
    status: row.status as ThreadStatus,
    temporary: row.temporary === 1,
    protocol: row.protocol === 1,
    metadata: JSON.parse(row.metadata),
    config: JSON.parse(row.config),
    ttl:
      ttl_strategy === null || ttl_minutes === null
        ? null
        : { strategy: ttl_strategy as TtlStrategy, minutes: ttl_minutes, expires_at },
  };
}
