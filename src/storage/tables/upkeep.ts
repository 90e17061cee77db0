/**
 * What must not be in a database, table by table, and where to look for it. Reads only; whoever mends looks again in its
 * transaction, with `only`. The tables are walked along a key in stretches, so that a look at a large one never holds up
 * others for long.
 */
import { type RawBuilder, type SqlBool, sql } from "kysely";
import { clock, integer, perDialect } from "../expressions.ts";
import type { Tx } from "../storage.ts";

export type Key = string | number;

/** A stretch of a table: keys behind `after` up to `upTo`, null for no bound. Or one key. */
export type Stretch = { readonly after: Key | null; readonly upTo: Key | null } | { readonly only: Key };

export const EVERYTHING: Stretch = { after: null, upTo: null };

/** A row, or rows of one owner, that should not be as they are. */
export interface Found {
  readonly key: Key;
  readonly run_id?: string;
  readonly thread_id?: string;
  /** How many rows, where it is about several. */
  readonly total?: number;
  /** Epoch milliseconds since when, where that tells something. */
  readonly since?: number | null;
}

/** Along which column a table is walked; an index leads there. */
export interface Walk {
  readonly table: string;
  readonly column: string;
}

/** The last key of the stretch of about `rows` rows behind `after`; null where the table ends before. */
export async function endOfStretch(
  db: Tx,
  { table, column }: Walk,
  after: Key | null,
  rows: number,
): Promise<Key | null> {
  const key = sql.ref(column);
  const behind = after === null ? sql<SqlBool>`true` : sql<SqlBool>`${key} > ${after}`;
  const found = await sql<{ key: Key }>`select ${key} as key from ${sql.table(table)} where ${behind}
    order by ${key} limit 1 offset ${sql.lit(rows - 1)}`.execute(db);
  return found.rows[0]?.key ?? null;
}

function within(column: string, stretch: Stretch): RawBuilder<SqlBool> {
  const key = sql.ref(column);
  if ("only" in stretch) return sql<SqlBool>`${key} = ${stretch.only}`;
  const from = stretch.after === null ? sql`true` : sql`${key} > ${stretch.after}`;
  const to = stretch.upTo === null ? sql`true` : sql`${key} <= ${stretch.upTo}`;
  return sql<SqlBool>`(${from} and ${to})`;
}

type Find<A extends unknown[] = []> = (db: Tx, stretch: Stretch, ...args: A) => Promise<Found[]>;

const rowsOf = async (db: Tx, query: RawBuilder<Found>): Promise<Found[]> => [...(await query.execute(db)).rows];

const inFlightOn = (thread_id: string): RawBuilder<SqlBool> =>
  sql<SqlBool>`exists (select 1 from runs as busy
    where busy.thread_id = ${sql.ref(thread_id)} and busy.status in ('pending', 'running'))`;

/* ------------------------------------------------------------------------------------- runs */

/** Running runs whose lease has been over for so long. */
export const lostRuns: Find<[now: number, overForMs: number]> = (db, stretch, now, overForMs) =>
  rowsOf(
    db,
    sql<Found>`select run_id as key, run_id, thread_id, lease_expires_at as since from runs
      where status = 'running' and ${within("run_id", stretch)}
      and (lease_expires_at is null or lease_expires_at < ${clock(now)} - ${integer(overForMs)}) order by seq`,
  );

/** Runs marked as behind others of their thread, where no other is in front that may run. By `seq`. */
export const waitingForNobody: Find<[now: number]> = (db, stretch, now) =>
  rowsOf(
    db,
    sql<Found>`select seq as key, run_id, thread_id, created_at as since from runs
      where status = 'pending' and behind = 1 and ${within("seq", stretch)} and not exists (
        select 1 from runs as ahead where ahead.thread_id = runs.thread_id and (ahead.status = 'running'
          or (ahead.status = 'pending' and ahead.seq < runs.seq
            and (ahead.not_before <= ${clock(now)} or ahead.not_before <= ahead.created_at))))
      order by seq`,
  );

/** Runs that might have been claimed for so long, and that nobody has claimed. */
export const notTaken: Find<[now: number, waitingMs: number]> = (db, stretch, now, waitingMs) => {
  const before = sql`${clock(now)} - ${integer(waitingMs)}`;
  return rowsOf(
    db,
    sql<Found>`select run_id as key, run_id, thread_id,
        case when not_before > updated_at then not_before else updated_at end as since from runs
      where status = 'pending' and behind = 0 and ${within("run_id", stretch)}
      and not_before < ${before} and updated_at < ${before} and not exists (
        select 1 from runs as other where other.thread_id = runs.thread_id and other.seq <> runs.seq
          and (other.status = 'running' or other.ended_at > ${before}))
      order by seq`,
  );
};

/** Threads that are not there and have runs. By `thread_id`. */
export const runsWithoutThread: Find = (db, stretch) =>
  rowsOf(
    db,
    sql<Found>`select thread_id as key, thread_id, count(*) as total from runs where ${within("thread_id", stretch)}
      and not exists (select 1 from threads where threads.thread_id = runs.thread_id) group by thread_id order by thread_id`,
  );

/* ---------------------------------------------------------------------------------- threads */

const threadsWhere =
  (condition: RawBuilder<SqlBool>): Find =>
  (db, stretch) =>
    rowsOf(
      db,
      sql<Found>`select thread_id as key, thread_id, updated_at as since from threads
        where ${within("thread_id", stretch)} and ${condition} order by thread_id`,
    );

export const busyAtRest = threadsWhere(
  sql<SqlBool>`temporary = 0 and status = 'busy' and not ${inFlightOn("threads.thread_id")}`,
);
export const restingWhileBusy = threadsWhere(sql<SqlBool>`status <> 'busy' and ${inFlightOn("threads.thread_id")}`);
export const temporaryAtRest = threadsWhere(sql<SqlBool>`temporary = 1 and not ${inFlightOn("threads.thread_id")}`);

/* ------------------------------------------------------------------------------ checkpoints */

/** Each has a column `thread_id` and goes with its thread. */
export const CHECKPOINT_TABLES = ["checkpoints", "checkpoint_blobs", "checkpoint_writes", "replaced_writes"] as const;

/** Threads that are not there and have rows in this table. By `thread_id`. */
export const leftBehind =
  (table: (typeof CHECKPOINT_TABLES)[number]): Find =>
  (db, stretch) =>
    rowsOf(
      db,
      sql<Found>`select thread_id as key, thread_id, count(*) as total from ${sql.table(table)} as rest
        where ${within("thread_id", stretch)} and not exists (select 1 from threads where threads.thread_id = rest.thread_id)
        group by thread_id order by thread_id`,
    );

/** Threads at rest with pending writes on checkpoints that are not there. By `thread_id`. */
export const strayWrites =
  (table: "checkpoint_writes" | "replaced_writes"): Find =>
  (db, stretch) =>
    rowsOf(
      db,
      sql<Found>`select stray.thread_id as key, stray.thread_id, count(*) as total from ${sql.table(table)} as stray
        join threads on threads.thread_id = stray.thread_id
        where ${within("stray.thread_id", stretch)} and ${HAS_NO_CHECKPOINT} and not ${inFlightOn("stray.thread_id")}
        group by stray.thread_id order by stray.thread_id`,
    );

const HAS_NO_CHECKPOINT = sql<SqlBool>`not exists (select 1 from checkpoints as c where c.thread_id = stray.thread_id
  and c.checkpoint_ns = stray.checkpoint_ns and c.checkpoint_id = stray.checkpoint_id)`;

/** Deletes them; returns how many. The thread must be locked. */
export async function removeStrayWrites(
  tx: Tx,
  table: "checkpoint_writes" | "replaced_writes",
  thread_id: Key,
): Promise<number> {
  const { numAffectedRows } = await sql`delete from ${sql.table(table)} as stray
    where thread_id = ${thread_id} and ${HAS_NO_CHECKPOINT}`.execute(tx);
  return Number(numAffectedRows);
}

/** The values that checkpoints of these threads name, and how many items of a list the longest of them reads. */
const named = (stretch: Stretch): RawBuilder<unknown> => {
  const members = perDialect(
    sql`json_each(c.blob_versions) as member`,
    sql`lateral jsonb_each(cast(c.blob_versions as jsonb)) as member`,
  );
  const length = perDialect(
    sql`max(max(member.value ->> 1, 1))`,
    sql`max(greatest(cast(member.value ->> 1 as bigint), 1))`,
  );
  return sql`named as materialized (
    select c.thread_id, c.checkpoint_ns, member.key as channel, member.value ->> 0 as version, ${length} as reads
    from checkpoints as c cross join ${members} where ${within("c.thread_id", stretch)}
    group by c.thread_id, c.checkpoint_ns, member.key, member.value ->> 0)`;
};

const UNNAMED = sql`checkpoint_blobs as b left join named on named.thread_id = b.thread_id
  and named.checkpoint_ns = b.checkpoint_ns and named.channel = b.channel and named.version = b.version
  and named.reads > b."first"`;

/** Threads at rest with values, or parts of lists, that no checkpoint names. By `thread_id`. */
export const unnamedValues: Find = (db, stretch) =>
  rowsOf(
    db,
    sql<Found>`with ${named(stretch)} select b.thread_id as key, b.thread_id, count(*) as total
      from ${UNNAMED} join threads on threads.thread_id = b.thread_id
      where ${within("b.thread_id", stretch)} and named.version is null and not ${inFlightOn("b.thread_id")}
      group by b.thread_id order by b.thread_id`,
  );

/** Deletes them; returns how many. The thread must be locked. */
export async function removeUnnamedValues(tx: Tx, thread_id: Key): Promise<number> {
  const { numAffectedRows } = await sql`with ${named({ only: thread_id })} delete from checkpoint_blobs
    where thread_id = ${thread_id} and (checkpoint_ns, channel, version, "first") in (
      select b.checkpoint_ns, b.channel, b.version, b."first" from ${UNNAMED}
      where b.thread_id = ${thread_id} and named.version is null)`.execute(tx);
  return Number(numAffectedRows);
}

/** Threads whose checkpoints name values that are not there. By `thread_id`. */
export const missingValues: Find = (db, stretch) =>
  rowsOf(
    db,
    sql<Found>`with ${named(stretch)} select named.thread_id as key, named.thread_id, count(*) as total
      from named left join checkpoint_blobs as b on b.thread_id = named.thread_id
      and b.checkpoint_ns = named.checkpoint_ns and b.channel = named.channel and b.version = named.version and b."first" = 0
      where b.thread_id is null group by named.thread_id order by named.thread_id`,
  );

/* ------------------------------------------------------------------------ values of threads */

const listsOf = perDialect(sql`json_each(v.lists) as named`, sql`lateral jsonb_each(cast(v.lists as jsonb)) as named`);

const IS_STRAY_PART = sql<SqlBool>`not exists (select 1 from thread_values as v cross join ${listsOf}
  where v.seq = part.seq and named.key = part.member)`;

/** Parts of lists that no thread's values name. By `seq`. */
export const strayParts: Find = (db, stretch) =>
  rowsOf(
    db,
    sql<Found>`select part.seq as key, min(threads.thread_id) as thread_id, count(*) as total
      from thread_lists as part left join threads on threads.seq = part.seq
      where ${within("part.seq", stretch)} and ${IS_STRAY_PART} group by part.seq order by part.seq`,
  );

/** Deletes them; returns how many. */
export async function removeStrayParts(tx: Tx, seq: Key): Promise<number> {
  const { numAffectedRows } =
    await sql`delete from thread_lists as part where seq = ${seq} and ${IS_STRAY_PART}`.execute(tx);
  return Number(numAffectedRows);
}

/** Threads whose values name lists that are not there. By `seq`. */
export const missingParts: Find = (db, stretch) =>
  rowsOf(
    db,
    sql<Found>`select v.seq as key, threads.thread_id, count(*) as total from thread_values as v
      join threads on threads.seq = v.seq cross join ${listsOf}
      where ${within("v.seq", stretch)} and not exists (select 1 from thread_lists as part
        where part.seq = v.seq and part.member = named.key and part."first" = 0)
      group by v.seq, threads.thread_id order by v.seq`,
  );

/* ----------------------------------------------------------------------- what goes with others */

/** Rows of `table` whose owner is not there, by the column that names it. */
export const withoutOwner =
  (table: string, column: string, owner: string, key = column): Find =>
  (db, stretch) =>
    rowsOf(
      db,
      sql<Found>`select ${sql.ref(`orphan.${column}`)} as key, count(*) as total from ${sql.table(table)} as orphan
        where ${within(`orphan.${column}`, stretch)} and not exists (
          select 1 from ${sql.table(owner)} as owner where ${sql.ref(`owner.${key}`)} = ${sql.ref(`orphan.${column}`)})
        group by ${sql.ref(`orphan.${column}`)} order by ${sql.ref(`orphan.${column}`)}`,
    );

/** Deletes the rows of that key; returns how many. */
export async function removeRows(tx: Tx, table: string, column: string, key: Key): Promise<number> {
  const { numAffectedRows } = await sql`delete from ${sql.table(table)} where ${sql.ref(column)} = ${key}`.execute(tx);
  return Number(numAffectedRows);
}

/** Namespaces with vectors of items that are not there. */
export const vectorsWithoutItem: Find = (db, stretch) =>
  rowsOf(
    db,
    sql<Found>`select namespace as key, count(*) as total from store_vectors as vector
      where ${within("namespace", stretch)} and ${HAS_NO_ITEM} group by namespace order by namespace`,
  );

const HAS_NO_ITEM = sql<SqlBool>`not exists (select 1 from store_items as item
  where item.namespace = vector.namespace and item.key = vector.key)`;

/** Deletes them; returns how many. */
export async function removeVectorsWithoutItem(tx: Tx, namespace: Key): Promise<number> {
  const { numAffectedRows } = await sql`delete from store_vectors as vector
    where namespace = ${namespace} and ${HAS_NO_ITEM}`.execute(tx);
  return Number(numAffectedRows);
}

/** Enabled crons whose assistant is not there. */
export const cronsWithoutAssistant: Find = (db, stretch) =>
  rowsOf(
    db,
    sql<Found>`select cron_id as key, thread_id, created_at as since from crons where ${within("cron_id", stretch)}
      and enabled = 1 and not exists (select 1 from assistants where assistants.assistant_id = crons.assistant_id)
      order by cron_id`,
  );

/** The cron fires no more until somebody enables it. */
export async function disableCron(tx: Tx, cron_id: Key, now: number): Promise<void> {
  await sql`update crons set enabled = 0, next_run_date = null, updated_at = ${now} where cron_id = ${cron_id}`.execute(
    tx,
  );
}

/**
 * Logs of runs that are not in flight which nobody has ended. While processes serve, one of them may still hold the
 * events of a run that has ended: then of runs made before a time only, as their ids tell (UUID version 7).
 */
export const openLogs: Find<[idsBefore: string | null]> = (db, stretch, idsBefore) =>
  rowsOf(
    db,
    sql<Found>`select run_id as key, run_id, thread_id from event_logs as log where ${within("run_id", stretch)}
      and ended_at is null and ${idsBefore === null ? sql`true` : sql`run_id < ${idsBefore}`}
      and not exists (select 1 from runs where runs.run_id = log.run_id and runs.status in ('pending', 'running'))
      order by run_id`,
  );

/* ------------------------------------------------------------------- pairs of metadata (SQLite) */

/** Pairs whose counter is not the number of threads that have it. The pair 0 counts all threads that can be searched. */
export const miscounted: Find = (db, stretch) =>
  rowsOf(
    db,
    sql<Found>`select pair_id as key, threads as total from metadata_pairs where ${within("pair_id", stretch)}
      and threads <> ${HAVING_THREADS} order by pair_id`,
  );

const HAVING_THREADS = sql`case when pair_id = 0 then (select count(*) from threads where temporary = 0)
  else (select count(*) from thread_pairs as has where has.pair_id = metadata_pairs.pair_id) end`;

/** Pairs that threads have which are not there, or that are not there themselves. By `pair_id`. */
export const strayPairs: Find = (db, stretch) =>
  rowsOf(
    db,
    sql<Found>`select pair_id as key, count(*) as total from thread_pairs where ${within("pair_id", stretch)} and ${IS_STRAY}
      group by pair_id order by pair_id`,
  );

const IS_STRAY = sql<SqlBool>`(not exists (select 1 from threads where threads.seq = thread_pairs.seq)
  or not exists (select 1 from metadata_pairs as pair where pair.pair_id = thread_pairs.pair_id))`;

/** Deletes what is stray of a pair, counts it anew, and enters again the threads whose pair was not there. */
export async function repairPair(tx: Tx, pair_id: Key): Promise<void> {
  const lost = await sql<{ seq: number; metadata: string }>`select threads.seq, threads.metadata from thread_pairs
    join threads on threads.seq = thread_pairs.seq where pair_id = ${pair_id} and ${IS_STRAY}`.execute(tx);
  await sql`delete from thread_pairs where pair_id = ${pair_id} and ${IS_STRAY}`.execute(tx);
  // The triggers of the table do it when metadata changes. All leave first: who left later would take the others' count along.
  for (const { seq } of lost.rows) await sql`update threads set metadata = '{}' where seq = ${seq}`.execute(tx);
  for (const { seq, metadata } of lost.rows) {
    await sql`update threads set metadata = ${metadata} where seq = ${seq}`.execute(tx);
  }
  await sql`update metadata_pairs set threads = ${HAVING_THREADS} where pair_id = ${pair_id}`.execute(tx);
  await sql`delete from metadata_pairs where pair_id = ${pair_id} and pair_id <> 0 and threads = 0`.execute(tx);
}

/* ----------------------------------------------------------------------------------- overdue */

const overdue =
  (table: string, column: string): Find<[before: number]> =>
  async (db, _stretch, before) => {
    const found = await rowsOf(
      db,
      sql<Found>`select ${sql.lit(table)} as key, count(*) as total, min(${sql.ref(column)}) as since
        from ${sql.table(table)} where ${sql.ref(column)} < ${before}`,
    );
    return found.filter(({ total }) => Number(total) > 0);
  };

/** Threads at rest that expired before. */
export const expiredThreads: Find<[before: number]> = (db, stretch, before) =>
  rowsOf(
    db,
    sql<Found>`select thread_id as key, thread_id, expires_at as since from threads
      where ${within("thread_id", stretch)} and expires_at < ${before} and not ${inFlightOn("threads.thread_id")}
      order by expires_at`,
  );

export const expiredItems = overdue("store_items", "expires_at");
export const expiredLogs = overdue("event_logs", "ended_at");
export const expiredKeys = overdue("idempotency_keys", "created_at");
export const expiredDeliveries = overdue("webhook_deliveries", "started_at");
export const overdueWebhooks = overdue("webhooks", "next_attempt_at");
export const overdueCrons = overdue("crons", "next_run_date");

/** Runs that somebody works on now: their leases are live. */
export async function liveLeases(db: Tx, now: number): Promise<number> {
  const { rows } = await sql<{ total: number }>`select count(*) as total from runs
    where status = 'running' and lease_expires_at >= ${clock(now)}`.execute(db);
  return Number(rows[0]?.total ?? 0);
}
