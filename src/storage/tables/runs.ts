/**
 * Runs, and the queue they are: a pending run waits, a running run has a lease (who works on it, until when) and a fencing
 * token. The token grows with each claim, and every write on behalf of a run names it, so a worker that lost its lease
 * changes nothing.
 */
import { type RawBuilder, type Selectable, type SqlBool, sql } from "kysely";
import type { ErrorBody } from "../../errors.ts";
import type { CancelAction } from "../../executor/protocol.ts";
import { type MultitaskStrategy, RunStatus } from "../../schemas/runs.ts";
import type { Database } from "../database.ts";
import {
  asList,
  bit,
  clock,
  DRIVES,
  eachOf,
  integer,
  jsonEqualsAll,
  listed,
  lockRows,
  numberAt,
  perDialect,
} from "../expressions.ts";
import type { MetadataFilter } from "../filter.ts";
import { isShared, lockThread, lockThreads } from "../locks.ts";
import { prepared } from "../prepared.ts";
import type { NewRun, RunRecord, Tx } from "../storage.ts";
import { onThread } from "./visible.ts";

type Row = Omit<Selectable<Database["runs"]>, "behind" | "told_to">;

const COLUMNS = [
  "run_id",
  "thread_id",
  "assistant_id",
  "graph_id",
  "status",
  "metadata",
  "kwargs",
  "multitask_strategy",
  "not_before",
  "attempt",
  "fence",
  "lease_owner",
  "lease_expires_at",
  "cancel_action",
  "error",
  "checkpoint_id",
  "created_at",
  "updated_at",
  "started_at",
  "ended_at",
] as const;

/** Literals, not parameters: an index with a condition serves only a query that shows the condition. */
const PENDING = sql.lit("pending");
const RUNNING = sql.lit("running");

const ROW = ["seq", ...COLUMNS] as const;

/**
 * The run may begin. Where processes share the database, its clock says so; the clock of the process that made a run may have been
 * ahead of it, so one that was never delayed is due whatever the time.
 */
const isDue = (run: string, now: unknown): RawBuilder<SqlBool> => {
  const [not_before, created_at] = [sql.ref(`${run}.not_before`), sql.ref(`${run}.created_at`)];
  return perDialect(
    sql<SqlBool>`${not_before} <= ${now}`,
    sql<SqlBool>`(${not_before} <= ${clock(now)} or ${not_before} <= ${created_at})`,
  );
};

/**
 * A run is born `behind` when one that may run now is in front of it, and whoever ends that one promotes the next. Delayed
 * runs are never behind: nobody would look at them again when they fall due.
 */
type Inserted = Pick<Row, "seq" | "started_at">;

const insertion = (db: Tx, slots: Omit<Row, "seq">, started_at: number | null | RawBuilder<number>) => {
  const values = Object.fromEntries(COLUMNS.map((column) => [column, slots[column]])) as Omit<Row, "seq">;
  const ahead = db
    .selectFrom("runs as ahead")
    .select("ahead.seq")
    .where("ahead.thread_id", "=", slots.thread_id)
    .where("ahead.status", "in", [PENDING, RUNNING])
    .where(isDue("ahead", slots.created_at));
  const behind = bit(sql`${integer(slots.not_before)} <= ${integer(slots.created_at)} and exists ${ahead}`);
  return db
    .insertInto("runs")
    .values({ ...values, behind, started_at })
    .returning(["seq", "started_at"]);
};
const insertRow = prepared<Omit<Row, "seq">, Inserted>((db, slots) => insertion(db, slots, slots.started_at));
/** By the clock that claims on other processes go by: runs of a thread begin one after the other. */
const insertBegun = prepared<Omit<Row, "seq">, Inserted>((db, slots) => insertion(db, slots, clock(slots.started_at)));

const promoteNext = prepared<{ thread_id: string; now: number }>((db, slots) =>
  db
    .updateTable("runs")
    .set({ behind: sql.lit(0) })
    .where("seq", "=", ({ selectFrom }) =>
      selectFrom("runs as next")
        .select("next.seq")
        .where("next.thread_id", "=", slots.thread_id)
        .where("next.status", "=", PENDING)
        .where(isDue("next", slots.now))
        .orderBy("next.seq")
        .limit(sql.lit(1)),
    ),
);

/** To be called when a run of the thread is no longer in flight and others are: the next in line may be claimed. */
export async function promote(tx: Tx, thread_id: string, now: number): Promise<void> {
  await promoteNext(tx, { thread_id, now });
}

/** Inserts the run behind all others. */
export async function insert(tx: Tx, run: NewRun): Promise<RunRecord> {
  // One on a thread of its own may have begun already, at the time it says.
  const begins = run.status === "running" && !run.kwargs.temporary;
  const [row] = (await (begins ? insertBegun : insertRow)(tx, toRow(run))).rows;
  if (row === undefined) throw new Error("insert of a run returned no row");
  return { ...run, ...row };
}

const findById = prepared<{ id: string }, Row>((db, slots) =>
  db.selectFrom("runs").select(ROW).where("run_id", "=", slots.id),
);

/** The run, or undefined. */
export async function find(db: Tx, run_id: string): Promise<RunRecord | undefined> {
  const [row] = (await findById(db, { id: run_id })).rows;
  return row && toRecord(row);
}

const findByIdLocked = prepared<{ id: string }, Row>((db, slots) =>
  db.selectFrom("runs").select(ROW).where("run_id", "=", slots.id).modifyEnd(lockRows("update")),
);

/** The run, which nobody claims, settles or writes for until the transaction ends. Its thread must be locked before. */
export async function findLocked(tx: Tx, run_id: string): Promise<RunRecord | undefined> {
  const [row] = (await findByIdLocked(tx, { id: run_id })).rows;
  return row && toRecord(row);
}

/** As `findLocked`, when the run's thread is not known: it is locked first. One look where nobody shares the database. */
export async function findLockingThread(tx: Tx, run_id: string): Promise<RunRecord | undefined> {
  if (!isShared(tx)) return find(tx, run_id);
  const run = await find(tx, run_id);
  if (run === undefined) return undefined;
  lockThread(tx, run.thread_id);
  return findLocked(tx, run_id);
}

/** Runs of a thread, newest first. */
export async function listOfThread(
  db: Tx,
  thread_id: string,
  page: { readonly limit: number; readonly offset: number; readonly status: RunStatus | null },
): Promise<RunRecord[]> {
  const rows = await db
    .selectFrom("runs")
    .select(ROW)
    .where("thread_id", "=", thread_id)
    .$if(page.status !== null, (query) => query.where("status", "=", page.status))
    .orderBy("seq", "desc")
    .limit(page.limit)
    .offset(page.offset)
    .execute();
  return rows.map(toRecord);
}

const inFlightOf = prepared<{ thread_id: string }, Row>((db, slots) =>
  db
    .selectFrom("runs")
    .select(ROW)
    .where("thread_id", "=", slots.thread_id)
    .where("status", "in", [PENDING, RUNNING])
    .orderBy("seq")
    .modifyEnd(lockRows("update")),
);

const anyInFlight = prepared<{ thread_id: string }, { run_id: string }>((db, slots) =>
  db
    .selectFrom("runs")
    .select("run_id")
    .where("thread_id", "=", slots.thread_id)
    .where("status", "in", [PENDING, RUNNING])
    .limit(sql.lit(1)),
);

/** One of the thread's pending and running runs; undefined when it has none. One look, however many there are. */
export async function busyWith(db: Tx, thread_id: string): Promise<string | undefined> {
  return (await anyInFlight(db, { thread_id })).rows[0]?.run_id;
}

/** Pending and running runs of a thread, oldest first. */
export async function inFlight(tx: Tx, thread_id: string): Promise<RunRecord[]> {
  return (await inFlightOf(tx, { thread_id })).rows.map(toRecord);
}

/** Pending and running runs of an assistant on any thread, oldest first. Two queries, one for each index of what is in flight. */
export async function inFlightOfAssistant(tx: Tx, assistant_id: string): Promise<RunRecord[]> {
  const rows: Row[] = [];
  for (const status of [PENDING, RUNNING]) {
    const query = tx.selectFrom("runs").selectAll().where("status", "=", status);
    rows.push(...(await query.where("assistant_id", "=", assistant_id).execute()));
  }
  return rows.map(toRecord).sort((a, b) => a.seq - b.seq);
}

/** Nothing where all threads may be seen. */
const seen = (visible: MetadataFilter | null | undefined) => (visible == null ? [] : [onThread(visible)]);

/** Pending and running runs whose metadata has all of these members. */
export async function inFlightMarked(
  db: Tx,
  mark: Readonly<Record<string, string>>,
  visible: MetadataFilter | null = null,
): Promise<Pick<RunRecord, "run_id">[]> {
  const found: Pick<RunRecord, "run_id">[] = [];
  for (const status of [PENDING, RUNNING]) {
    const query = db.selectFrom("runs").select("run_id").where("status", "=", status);
    const marked = query.where((eb) => eb.and([...jsonEqualsAll(eb.ref("metadata"), mark), ...seen(visible)]));
    found.push(...(await marked.execute()));
  }
  return found;
}

/** Which runs of an assistant to list. */
export interface AssistantPage {
  readonly assistant_id: string;
  /** Null: on any thread. */
  readonly thread_id: string | null;
  readonly statuses: readonly RunStatus[];
  readonly updated_since: number | null;
  /** Only runs behind this one in the list; null for all. */
  readonly before: Pick<RunRecord, "updated_at" | "seq"> | null;
  readonly limit: number;
  /** Only on threads that pass; null or absent: on all. */
  readonly visible?: MetadataFilter | null;
}

/** Runs of an assistant, those that changed last first. Walks the runs, or those of the thread. */
export async function listOfAssistant(db: Tx, page: AssistantPage): Promise<RunRecord[]> {
  const rows = await ofAssistant(db, page)
    .select(ROW)
    .orderBy("updated_at", "desc")
    .orderBy("seq", "desc")
    .limit(page.limit)
    .execute();
  return rows.map(toRecord);
}

/** Of these runs the newest of their threads, each with the thread's status. */
export async function newestOfThreads(db: Tx, run_ids: readonly string[]): Promise<ReadonlyMap<string, string>> {
  if (run_ids.length === 0) return new Map();
  const rows = await db
    .selectFrom("runs")
    .innerJoin("threads", "threads.thread_id", "runs.thread_id")
    .select(["runs.run_id", "threads.status"])
    .where("runs.run_id", "in", run_ids)
    .where(({ not, exists, selectFrom }) =>
      not(
        exists(
          selectFrom("runs as later")
            .select("later.run_id")
            .whereRef("later.thread_id", "=", "runs.thread_id")
            .whereRef("later.seq", ">", "runs.seq"),
        ),
      ),
    )
    .execute();
  return new Map(rows.map(({ run_id, status }) => [run_id, status]));
}

/** How many there are. Walks them all. */
export async function countOfAssistant(db: Tx, filter: Omit<AssistantPage, "before" | "limit">): Promise<number> {
  const { total } = await ofAssistant(db, { ...filter, before: null })
    .select((eb) => eb.fn.countAll<number>().as("total"))
    .executeTakeFirstOrThrow();
  return Number(total);
}

function ofAssistant(db: Tx, page: Omit<AssistantPage, "limit">) {
  const { assistant_id, thread_id, statuses, updated_since, before, visible } = page;
  return db
    .selectFrom("runs")
    .where("assistant_id", "=", assistant_id)
    .where("status", "in", statuses)
    .$if(thread_id !== null, (query) => query.where("thread_id", "=", thread_id))
    .$if(updated_since !== null, (query) => query.where("updated_at", ">=", updated_since))
    .$if(before !== null, (query) =>
      query.where((eb) =>
        eb.or([
          eb("updated_at", "<", before?.updated_at ?? 0),
          eb.and([eb("updated_at", "=", before?.updated_at ?? 0), eb("seq", "<", before?.seq ?? 0)]),
        ]),
      ),
    )
    .where((eb) => eb.and(seen(visible)));
}

const latestSeqOf = prepared<{ thread_id: string }, { seq: number | null }>((db, slots) =>
  db
    .selectFrom("runs")
    .select((eb) => eb.fn.max("seq").as("seq"))
    .where("thread_id", "=", slots.thread_id),
);

/** Place of the thread's newest run in the order of all runs; null when it has none. */
export async function latestSeq(db: Tx, thread_id: string): Promise<number | null> {
  return (await latestSeqOf(db, { thread_id })).rows[0]?.seq ?? null;
}

/** Id and status of each run of a thread; nobody changes them until the transaction ends. */
export async function statusesOfThread(tx: Tx, thread_id: string): Promise<Pick<RunRecord, "run_id" | "status">[]> {
  const rows = await tx
    .selectFrom("runs")
    .select(["run_id", "status"])
    .where("thread_id", "=", thread_id)
    .orderBy("seq")
    .modifyEnd(lockRows("update"))
    .execute();
  return rows.map(({ run_id, status }) => ({ run_id, status: status as RunStatus }));
}

/** Takes back which checkpoint a run left where that is gone. */
export async function forgetLostCheckpoints(tx: Tx, thread_id: string): Promise<void> {
  await tx
    .updateTable("runs")
    .set({ checkpoint_id: null })
    .where("thread_id", "=", thread_id)
    .where("checkpoint_id", "not in", (eb) =>
      eb.selectFrom("checkpoints").select("checkpoint_id").where("thread_id", "=", thread_id),
    )
    .execute();
}

export interface ClaimRequest {
  readonly owner: string;
  readonly now: number;
  readonly lease_ms: number;
  readonly limit: number;
  readonly exclude_threads?: readonly string[];
  /** Only runs that have spent at least `from` attempts and less than `below`; any when not given. */
  readonly attempts?: { readonly from: number; readonly below: number };
}

/** More attempts than any run has. */
const COUNTLESS = 2 ** 31 - 1;
const ANY_ATTEMPT = { from: 0, below: COUNTLESS };

const leaseEnd = (slots: { readonly expires: number; readonly lease_ms: number }): RawBuilder<number> =>
  perDialect(sql<number>`${slots.expires}`, sql<number>`${clock(null)} + ${integer(slots.lease_ms)}`);

type ClaimSlots = Omit<ClaimRequest, "attempts"> & { excluded: string; expires: number; from: number; below: number };

/**
 * Runs in order of creation, so the scan stops at `limit`; those behind others of their thread are not in its index. Two look-ups per candidate keep a thread's runs one at a time
 * and in order: nothing of the thread runs, and nothing older of it is ready. An older run that is delayed does not
 * hold up a younger one.
 */
const claimReady = prepared<ClaimSlots, Row>((db, slots) =>
  db
    .updateTable("runs")
    .set((eb) => ({
      status: RUNNING,
      attempt: eb("attempt", "+", sql.lit(1)),
      fence: eb("fence", "+", sql.lit(1)),
      lease_owner: slots.owner,
      lease_expires_at: leaseEnd(slots),
      started_at: eb.fn.coalesce("started_at", clock(slots.now)),
      updated_at: slots.now,
    }))
    .where("seq", "in", (eb) =>
      eb
        .selectFrom("runs as candidate")
        .select("candidate.seq")
        .where("candidate.status", "=", PENDING)
        .where("candidate.behind", "=", sql.lit(0))
        .where(isDue("candidate", slots.now))
        .where("candidate.attempt", ">=", slots.from)
        .where("candidate.attempt", "<", slots.below)
        .where("candidate.thread_id", "not in", listed(slots.excluded))
        .where(({ not, exists, selectFrom }) =>
          not(
            exists(
              selectFrom("runs as other")
                .select("other.seq")
                .whereRef("other.thread_id", "=", "candidate.thread_id")
                .where("other.status", "=", RUNNING),
            ),
          ),
        )
        .where(({ not, exists, selectFrom }) =>
          not(
            exists(
              selectFrom("runs as older")
                .select("older.seq")
                .whereRef("older.thread_id", "=", "candidate.thread_id")
                .where("older.status", "=", PENDING)
                .whereRef("older.seq", "<", "candidate.seq")
                .where(isDue("older", slots.now)),
            ),
          ),
        )
        .orderBy("candidate.seq")
        .limit(slots.limit)
        .modifyEnd(lockRows("update skip locked", "candidate")),
    )
    .returning(ROW),
);

/** Takes up to `limit` ready runs, oldest first, at most one per thread: each gets a lease, a new fencing token and spends an attempt. */
export async function claim(tx: Tx, { attempts = ANY_ATTEMPT, ...request }: ClaimRequest): Promise<RunRecord[]> {
  const { rows } = await claimReady(tx, {
    ...request,
    ...attempts,
    expires: request.now + request.lease_ms,
    excluded: asList(request.exclude_threads ?? []),
  });
  return rows.map(toRecord).sort((a, b) => a.seq - b.seq);
}

const nextDelayed = prepared<{ now: number }, { due: number | null }>((db, slots) =>
  db
    .selectFrom("runs")
    .select((eb) => eb.fn.min("not_before").as("due"))
    .where("status", "=", PENDING)
    // True of every run that is delayed; it is here so that the index of delayed runs, usually empty, serves the query.
    .whereRef("not_before", ">", "created_at")
    .where("not_before", ">", clock(slots.now)),
);

/** When the next delayed run becomes ready; undefined when none waits. */
export async function nextDue(db: Tx, now: number): Promise<number | undefined> {
  const [row] = (await nextDelayed(db, { now })).rows;
  return row?.due ?? undefined;
}

/** A run of ours, as the heartbeat finds it. */
export interface Beat {
  readonly run_id: string;
  readonly fence: number;
  readonly cancel_action: CancelAction | null;
}

const extend = prepared<{ owner: string; expires: number; lease_ms: number }>((db, slots) =>
  db
    .updateTable("runs")
    .set({ lease_expires_at: slots.expires })
    .where("status", "=", RUNNING)
    .where("lease_owner", "=", slots.owner),
);

/** In the order of `heldOf`: the two must not wait for each other. */
const extendShared = prepared<{ owner: string; expires: number; lease_ms: number }, Beat>((db, slots) =>
  db
    .updateTable("runs")
    .set({ lease_expires_at: leaseEnd(slots) })
    .where("seq", "in", ({ selectFrom }) =>
      selectFrom("runs as mine")
        .select("mine.seq")
        .where("mine.status", "=", RUNNING)
        .where("mine.lease_owner", "=", slots.owner)
        .orderBy("mine.seq")
        .modifyEnd(lockRows("update")),
    )
    .where("status", "=", RUNNING)
    .returning(["run_id", "fence", "cancel_action"])
    .$narrowType<{ cancel_action: CancelAction | null }>(),
);

/**
 * Heartbeat: renews the lease of every run this owner works on. Where processes share the database it returns these runs: what
 * is not among them is held no longer, and the intent to cancel may have come without a word. Else nothing.
 */
export async function extendLeases(
  tx: Tx,
  { owner, now, lease_ms }: { readonly owner: string; readonly now: number; readonly lease_ms: number },
): Promise<readonly Beat[]> {
  const values = { owner, expires: now + lease_ms, lease_ms };
  if (isShared(tx)) return (await extendShared(tx, values)).rows;
  await extend(tx, values);
  return [];
}

const takeOver = prepared<{ owner: string; lease_ms: number; expires: number; now: number }, Row>((db, slots) =>
  db
    .updateTable("runs")
    .set((eb) => ({
      fence: eb("fence", "+", sql.lit(1)),
      lease_owner: slots.owner,
      lease_expires_at: leaseEnd(slots),
    }))
    .where("seq", "in", ({ selectFrom }) =>
      selectFrom("runs as lost")
        .select("lost.seq")
        .where("lost.status", "=", RUNNING)
        .where("lost.lease_expires_at", "<", clock(slots.now))
        .orderBy("lost.seq")
        .limit(sql.lit(TAKEN_AT_ONCE))
        .modifyEnd(lockRows("update skip locked")),
    )
    .returning(ROW),
);

/** Leases taken over in one go. */
const TAKEN_AT_ONCE = 20;

/**
 * Runs whose lease is over become this owner's, under a new token: what the process that had them still writes is refused.
 * Each is returned to one caller only, however many ask.
 */
export async function takeOverExpired(
  tx: Tx,
  { owner, now, lease_ms }: { readonly owner: string; readonly now: number; readonly lease_ms: number },
): Promise<RunRecord[]> {
  const { rows } = await takeOver(tx, { owner, now, lease_ms, expires: now + lease_ms });
  return rows.map(toRecord).sort((a, b) => a.seq - b.seq);
}

/** As `takeOverExpired`, for one run whose lease has been over for so long; undefined when it is not. */
export async function takeOverLost(
  tx: Tx,
  run_id: string,
  {
    owner,
    now,
    lease_ms,
    over_ms,
  }: { readonly owner: string; readonly now: number; readonly lease_ms: number; readonly over_ms: number },
): Promise<RunRecord | undefined> {
  const expires = now + lease_ms;
  const row = await tx
    .updateTable("runs")
    .set((eb) => ({
      fence: eb("fence", "+", sql.lit(1)),
      lease_owner: owner,
      lease_expires_at: leaseEnd({ expires, lease_ms }),
    }))
    .where("run_id", "=", run_id)
    .where("status", "=", RUNNING)
    .where(sql<SqlBool>`(lease_expires_at is null or lease_expires_at < ${clock(now)} - ${integer(over_ms)})`)
    .returning(ROW)
    .executeTakeFirst();
  return row && toRecord(row);
}

export interface Held {
  readonly run_id: string;
  readonly fence: number;
}

/** The tokens drive the join, so each is one look-up by key. Nobody can take a run over until the transaction that asked has ended. */
const heldNow = prepared<{ holds: string }, { run_id: string }>((db, { holds }) => ({
  compile: () =>
    sql<never>`select run.run_id from ${eachOf(holds, "hold")} ${DRIVES} runs as run
      on run.run_id = hold.value ->> 0 and run.fence = ${numberAt("hold.value", 1)}
      where run.status = ${RUNNING} ${perDialect(sql``, sql`order by run.seq for share of run`)}`.compile(db),
}));

/** Those of the runs that still run under the token given. */
export async function heldOf(tx: Tx, holds: readonly Held[]): Promise<Set<string>> {
  const { rows } = await heldNow(tx, { holds: asList(holds.map(({ run_id, fence }) => [run_id, fence])) });
  return new Set(rows.map((row) => row.run_id));
}

/** The fencing check: the run still runs under this token. */
export async function isHeld(tx: Tx, run_id: string, fence: number): Promise<boolean> {
  return (await heldOf(tx, [{ run_id, fence }])).has(run_id);
}

const deleteHeld = prepared<Held & { thread_id: string }>((db, slots) =>
  db
    .deleteFrom("runs")
    .where("thread_id", "=", slots.thread_id)
    .where(({ exists, selectFrom }) =>
      exists(
        selectFrom("runs as held")
          .select("held.seq")
          .where("held.run_id", "=", slots.run_id)
          .where("held.fence", "=", slots.fence)
          .where("held.status", "=", RUNNING),
      ),
    ),
);

/** Ends a running run whose thread goes with it: no run of the thread is left. False, and nothing deleted, when the token is stale. */
export async function removeHeld(tx: Tx, held: Held & { readonly thread_id: string }): Promise<boolean> {
  return changed(await deleteHeld(tx, held));
}

export interface Settlement {
  readonly status: RunStatus;
  readonly error: ErrorBody | null;
  readonly checkpoint_id: string | null;
  readonly now: number;
}

const settleHeld = prepared<Held & { status: string; error: string | null; checkpoint_id: string | null; now: number }>(
  (db, slots) =>
    db
      .updateTable("runs")
      .set({
        status: slots.status,
        error: slots.error,
        checkpoint_id: slots.checkpoint_id,
        lease_owner: sql.lit(null),
        lease_expires_at: sql.lit(null),
        updated_at: slots.now,
        ended_at: slots.now,
      })
      .where("run_id", "=", slots.run_id)
      .where("fence", "=", slots.fence)
      .where("status", "=", RUNNING),
);

/** Ends a running run and gives its lease back; false, and nothing written, when the token is stale. */
export async function settle(tx: Tx, run_id: string, fence: number, settlement: Settlement): Promise<boolean> {
  const error = settlement.error === null ? null : JSON.stringify(settlement.error);
  return changed(await settleHeld(tx, { ...settlement, run_id, fence, error }));
}

const settleWaiting = prepared<{ run_id: string; status: string; now: number }>((db, slots) =>
  db
    .updateTable("runs")
    .set({ status: slots.status, updated_at: slots.now, ended_at: slots.now })
    .where("run_id", "=", slots.run_id)
    .where("status", "=", PENDING),
);

/** Ends a run that nobody has claimed; false when somebody has, or it had ended. */
export async function settlePending(
  tx: Tx,
  run_id: string,
  { status, now }: { readonly status: RunStatus; readonly now: number },
): Promise<boolean> {
  return changed(await settleWaiting(tx, { run_id, status, now }));
}

const releaseHeld = prepared<Held & { now: number; refund: number }>((db, slots) =>
  db
    .updateTable("runs")
    .set((eb) => ({
      status: PENDING,
      attempt: eb("attempt", "-", slots.refund),
      lease_owner: sql.lit(null),
      lease_expires_at: sql.lit(null),
      updated_at: slots.now,
    }))
    .where("run_id", "=", slots.run_id)
    .where("fence", "=", slots.fence)
    .where("status", "=", RUNNING),
);

/** Puts a running run back in the queue, in its old place; `spend_attempt: false` takes the attempt back. False when the token is stale. */
export async function release(
  tx: Tx,
  run_id: string,
  fence: number,
  { now, spend_attempt }: { readonly now: number; readonly spend_attempt: boolean },
): Promise<boolean> {
  return changed(await releaseHeld(tx, { run_id, fence, now, refund: spend_attempt ? 0 : 1 }));
}

/** Running runs whose lease is over at `now`. With `owner_not`, every running run of anybody else: nobody else can be alive. */
export async function expired(tx: Tx, now: number, owner_not?: string): Promise<RunRecord[]> {
  const running = tx.selectFrom("runs").select(ROW).where("status", "=", RUNNING).orderBy("seq");
  const rows = await (owner_not === undefined
    ? running.where("lease_expires_at", "<", clock(now))
    : running.where("lease_owner", "is distinct from", owner_not)
  ).execute();
  return rows.map(toRecord);
}

const findInFlight = prepared<{ run_ids: string }, { run_id: string }>((db, slots) =>
  db
    .selectFrom("runs")
    .select("run_id")
    .where("run_id", "in", listed(slots.run_ids))
    .where("status", "in", [PENDING, RUNNING]),
);

/** Those of the runs that are pending or running. One statement with one parameter, however many they are. */
export async function inFlightAmong(db: Tx, run_ids: readonly string[]): Promise<Set<string>> {
  const { rows } = await findInFlight(db, { run_ids: asList(run_ids) });
  return new Set(rows.map(({ run_id }) => run_id));
}

/** Runs of a thread that began at a time or later, in that order; null: those that run now. */
export async function begunOfThread(db: Tx, thread_id: string, from: number | null): Promise<RunRecord[]> {
  const rows = await db
    .selectFrom("runs")
    .select(ROW)
    .where("thread_id", "=", thread_id)
    .$if(from === null, (query) => query.where("status", "=", RUNNING))
    .$if(from !== null, (query) => query.where("started_at", ">=", from))
    .orderBy("started_at")
    .execute();
  return rows.map(toRecord);
}

/** A run that has begun and ended, as far as it matters what of it can still be seen. */
export type EndedRun = Pick<RunRecord, "run_id" | "checkpoint_id"> & {
  readonly ended_at: number;
  /** The number on its thread of its last event, once its events have been swept. */
  readonly told_to: number | null;
};

/** Runs of the thread that have begun, and ended after a time (null: ever), newest first. */
export async function endedOfThread(
  db: Tx,
  thread_id: string,
  { after, limit }: { readonly after: number | null; readonly limit: number },
): Promise<EndedRun[]> {
  return db
    .selectFrom("runs")
    .select(["run_id", "checkpoint_id", "ended_at", "told_to"])
    .where("thread_id", "=", thread_id)
    .where("started_at", "is not", null)
    .where("ended_at", "is not", null)
    .$if(after !== null, (query) => query.where("ended_at", ">", after))
    .orderBy("seq", "desc")
    .limit(limit)
    .$narrowType<{ ended_at: number }>()
    .execute();
}

/** The run of the thread that has begun last; undefined when none has. */
export async function newestBegun(db: Tx, thread_id: string): Promise<RunRecord | undefined> {
  const [row] = await db
    .selectFrom("runs")
    .select(ROW)
    .where("thread_id", "=", thread_id)
    .where("started_at", "is not", null)
    .orderBy("started_at", "desc")
    .limit(1)
    .execute();
  return row && toRecord(row);
}

/** Writes down the intent to cancel. */
export async function setCancel(tx: Tx, run_id: string, action: CancelAction, now: number): Promise<void> {
  await tx.updateTable("runs").set({ cancel_action: action, updated_at: now }).where("run_id", "=", run_id).execute();
}

/**
 * Runs in flight anywhere, in order of creation: up to `limit` of them after `after` and up to `last`, which bounds
 * the walk to those that were there when it began.
 */
export async function inFlightAnywhere(
  db: Tx,
  page: {
    readonly statuses: readonly ("pending" | "running")[];
    readonly after: number;
    readonly last: number;
    readonly limit: number;
    /** Only on threads that pass; null or absent: on all. */
    readonly visible?: MetadataFilter | null;
  },
): Promise<RunRecord[]> {
  const rows = await db
    .selectFrom("runs")
    .select(ROW)
    .where("status", "in", page.statuses)
    .where("seq", ">", page.after)
    .where("seq", "<=", page.last)
    .where((eb) => eb.and(seen(page.visible)))
    .orderBy("seq")
    .limit(page.limit)
    .execute();
  return rows.map(toRecord);
}

/** As `inFlightAnywhere`, with the threads of these runs locked: what is returned stays as it is until the transaction ends. */
export async function lockInFlightAnywhere(tx: Tx, page: Parameters<typeof inFlightAnywhere>[1]): Promise<RunRecord[]> {
  const found = await inFlightAnywhere(tx, page);
  if (!isShared(tx)) return found;
  const thread_ids = new Set(found.map(({ thread_id }) => thread_id));
  lockThreads(tx, [...thread_ids]);
  const locked: RunRecord[] = [];
  for (const { run_id } of found) {
    const run = await findLocked(tx, run_id);
    if (run !== undefined && (page.statuses as readonly string[]).includes(run.status)) locked.push(run);
  }
  return locked;
}

/** Number of the newest run; 0 when there is none. */
export async function newest(db: Tx): Promise<number> {
  const row = await db
    .selectFrom("runs")
    .select((eb) => eb.fn.max("seq").as("seq"))
    .executeTakeFirst();
  return row?.seq ?? 0;
}

/** Changes what the run was asked to do, and nothing of how far it is. */
export async function setKwargs(
  tx: Tx,
  run_id: string,
  kwargs: RunRecord["kwargs"],
  updated_at?: number,
): Promise<void> {
  await tx
    .updateTable("runs")
    .set({ kwargs: JSON.stringify(kwargs), ...(updated_at === undefined ? {} : { updated_at }) })
    .where("run_id", "=", run_id)
    .execute();
}

/** Deletes the run's row and nothing else. */
export async function remove(tx: Tx, run_id: string): Promise<void> {
  await tx.deleteFrom("runs").where("run_id", "=", run_id).execute();
}

/** Number of runs in each status. Walks an index of all runs. */
export async function countByStatus(db: Tx): Promise<Record<RunStatus, number>> {
  const rows = await db
    .selectFrom("runs")
    .select((eb) => ["status", eb.fn.countAll<number>().as("total")])
    .groupBy("status")
    .execute();
  const totals = Object.fromEntries(RunStatus.options.map((status) => [status, 0])) as Record<RunStatus, number>;
  for (const row of rows) totals[row.status as RunStatus] = Number(row.total);
  return totals;
}

const changed = (result: { readonly numAffectedRows?: bigint }): boolean => (result.numAffectedRows ?? 0n) > 0n;

const toRow = (run: NewRun): Omit<Row, "seq"> => ({
  ...run,
  metadata: JSON.stringify(run.metadata),
  kwargs: JSON.stringify(run.kwargs),
  error: run.error === null ? null : JSON.stringify(run.error),
});

const toRecord = (row: Row): RunRecord => ({
  ...row,
  status: row.status as RunStatus,
  metadata: JSON.parse(row.metadata),
  kwargs: JSON.parse(row.kwargs),
  multitask_strategy: row.multitask_strategy as MultitaskStrategy,
  cancel_action: row.cancel_action as CancelAction | null,
  error: row.error === null ? null : JSON.parse(row.error),
});
