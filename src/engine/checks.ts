/**
 * What may be wrong in a database: one entry for each way, with where to look, how to find it, and how to mend it. Nothing
 * of this should ever be found: the transactions of the server keep it so. `skein doctor` asks them all; a server asks
 * those it can mend itself, all the time and a little at a time (`reconciler.ts`).
 */
import { lockAssistant, lockThread } from "../storage/locks.ts";
import type { Tx } from "../storage/storage.ts";
import * as checkpoints from "../storage/tables/checkpoints.ts";
import * as events from "../storage/tables/events.ts";
import * as idempotencyKeys from "../storage/tables/idempotency-keys.ts";
import * as runs from "../storage/tables/runs.ts";
import * as storeItems from "../storage/tables/store.ts";
import * as threads from "../storage/tables/threads.ts";
import type { Found, Stretch, Walk } from "../storage/tables/upkeep.ts";
import * as upkeep from "../storage/tables/upkeep.ts";
import * as webhooks from "../storage/tables/webhooks.ts";
import { afterAttempt } from "./lifecycle.ts";
import { conclude, restThread } from "./settle.ts";
import { LEFTOVER_MS } from "./shelf.ts";
import { removeThread } from "./thread-removal.ts";
import { cutHistory } from "./thread-ttl.ts";

/** What the checks go by. Times are milliseconds. */
export interface Facts {
  readonly now: number;
  /** Processes may work on this database at this moment. */
  readonly isServed: boolean;
  readonly maxAttempts: number;
  /** A lease that has been over for longer is nobody's: a living worker would have taken the run. */
  readonly lostAfterMs: number;
  /** A run that nothing is in front of should not wait longer. */
  readonly waitingMs: number;
  /** What should have been swept by now is older than this; null: nothing sweeps it. */
  readonly sweptAfterMs: Readonly<Record<"threads" | "items" | "logs" | "keys" | "deliveries", number | null>>;
}

export interface Check {
  readonly name: string;
  /** What it means that something is found, for people. */
  readonly says: string;
  /** Null: one look finds all, through an index. */
  readonly walk: Walk | null;
  /** Only this dialect can have it. */
  readonly dialect?: "sqlite" | "postgres";
  find(db: Tx, stretch: Stretch, facts: Facts): Promise<readonly Found[]>;
  /**
   * Mends it in this transaction, under the locks that everybody takes, and says what was done; undefined when it was no
   * longer so. Absent: there is nothing to mend in the database; `remedy` says what helps.
   */
  mend?(tx: Tx, found: Found, facts: Facts): Promise<string | undefined>;
  readonly remedy?: string;
  /** A server mends it by itself: in its rounds; or elsewhere (its queue, its sweeps), or nobody may without being asked. */
  readonly by: "reconciler" | "elsewhere" | "doctor";
}

const LEASE_MS = 30_000;
const BY_THREAD: Walk = { table: "threads", column: "thread_id" };

type Mend = (tx: Tx, found: Found, facts: Facts) => Promise<string | undefined>;

/** Locks the thread and looks again: what it was found by may have passed. */
const onThread =
  (find: Check["find"], mend: (tx: Tx, thread_id: string, facts: Facts, found: Found) => Promise<string>): Mend =>
  async (tx, { key, thread_id }, facts) => {
    if (thread_id === undefined) return undefined;
    lockThread(tx, thread_id);
    const [found] = await find(tx, { only: key }, facts);
    return found && mend(tx, thread_id, facts, found);
  };

/** The same for what no thread guards. */
const lookingAgain =
  (find: Check["find"], mend: (tx: Tx, found: Found, facts: Facts) => Promise<string>): Mend =>
  async (tx, found, facts) =>
    (await find(tx, { only: found.key }, facts)).length === 0 ? undefined : mend(tx, found, facts);

const rows = (count: number): string => (count === 1 ? "1 row" : `${count} rows`);
const removed = (count: number): string => `removed ${rows(count)}`;

/* ------------------------------------------------------------------------------------- runs */

const findLost: Check["find"] = (db, stretch, { now, lostAfterMs }) => upkeep.lostRuns(db, stretch, now, lostAfterMs);

/** As when a worker takes a run over: a new token first, so that whoever had it changes nothing any more. */
const mendLost: Mend = async (tx, { run_id, thread_id }, { now, lostAfterMs, maxAttempts }) => {
  if (run_id === undefined || thread_id === undefined) return undefined;
  lockThread(tx, thread_id);
  const lease = { owner: "doctor", now, lease_ms: LEASE_MS, over_ms: lostAfterMs };
  const run = await runs.takeOverLost(tx, run_id, lease);
  if (run === undefined) return undefined;
  const hold = { fence: run.fence, failure: undefined, hasStored: true };
  const reason = "the server process that held the run died";
  const concluded = await conclude(
    tx,
    run,
    hold,
    (promised) =>
      afterAttempt(
        { kind: "lost", reason },
        { attempt: run.attempt, maxAttempts, cancel: promised ?? run.cancel_action, timedOut: null },
      ),
    now,
  );
  const next = concluded?.next;
  if (next?.kind === "requeue") return "put back in the queue";
  return next?.kind === "settle" ? `ended as ${next.ending.status}` : "rolled back";
};

const findBehind: Check["find"] = (db, stretch, { now }) => upkeep.waitingForNobody(db, stretch, now);
const findRunsWithoutThread: Check["find"] = upkeep.runsWithoutThread;

async function removeRunsOf(tx: Tx, thread_id: string): Promise<string> {
  const all = await runs.statusesOfThread(tx, thread_id);
  await events.removeOfThread(tx, thread_id);
  for (const { run_id } of all) await runs.remove(tx, run_id);
  return removed(all.length);
}

const RUNS: readonly Check[] = [
  {
    name: "run-lost",
    says: "a run is running, its lease is over, and nobody has taken it over",
    walk: null,
    find: findLost,
    mend: mendLost,
    by: "elsewhere",
  },
  {
    name: "run-behind-nobody",
    says: "a run waits for others of its thread, and there are none",
    walk: { table: "runs", column: "seq" },
    find: findBehind,
    mend: onThread(findBehind, async (tx, thread_id, { now }) => {
      await runs.promote(tx, thread_id, now);
      return "may be claimed now";
    }),
    by: "reconciler",
  },
  {
    name: "run-not-taken",
    says: "a run waits, nothing is in front of it, and nobody takes it",
    walk: null,
    find: (db, stretch, { now, waitingMs }) => upkeep.notTaken(db, stretch, now, waitingMs),
    remedy: "start a server or a worker on this database, or more of them",
    by: "doctor",
  },
  {
    name: "run-without-thread",
    says: "runs are of a thread that is not there",
    walk: { table: "runs", column: "thread_id" },
    find: findRunsWithoutThread,
    mend: onThread(findRunsWithoutThread, removeRunsOf),
    by: "reconciler",
  },
];

/* ---------------------------------------------------------------------------------- threads */

const THREADS: readonly Check[] = [
  {
    name: "thread-busy-at-rest",
    says: "a thread is busy, and no run is in flight on it",
    walk: BY_THREAD,
    find: upkeep.busyAtRest,
    mend: onThread(upkeep.busyAtRest, async (tx, thread_id, { now }) => {
      await restThread(tx, thread_id, now);
      return "has the status that its last run left";
    }),
    by: "reconciler",
  },
  {
    name: "thread-not-busy",
    says: "a run is in flight on a thread that is not busy",
    walk: BY_THREAD,
    find: upkeep.restingWhileBusy,
    mend: onThread(upkeep.restingWhileBusy, async (tx, thread_id, { now }) => {
      await threads.touch(tx, thread_id, { status: "busy", updated_at: now });
      return "is busy now";
    }),
    by: "reconciler",
  },
  {
    name: "thread-outlived-run",
    says: "a thread that goes with its run is there without it",
    walk: BY_THREAD,
    find: upkeep.temporaryAtRest,
    mend: onThread(upkeep.temporaryAtRest, async (tx, thread_id) => {
      await removeThread(tx, thread_id);
      return "removed";
    }),
    by: "reconciler",
  },
];

/* ------------------------------------------------------------------------------ checkpoints */

const leftBehind = upkeep.CHECKPOINT_TABLES.map((table): Check => {
  const find: Check["find"] = upkeep.leftBehind(table);
  return {
    name: `${table.replaceAll("_", "-")}-without-thread`,
    says: `${table} are of a thread that is not there`,
    walk: { table, column: "thread_id" },
    find,
    mend: onThread(find, async (tx, thread_id) => {
      await checkpoints.removeThread(tx, thread_id);
      return "removed";
    }),
    by: "reconciler",
  };
});

const strayWrites = (["checkpoint_writes", "replaced_writes"] as const).map((table): Check => {
  const find: Check["find"] = upkeep.strayWrites(table);
  return {
    name: `${table.replaceAll("_", "-")}-without-checkpoint`,
    says: `${table} are of checkpoints that are not there`,
    walk: BY_THREAD,
    find,
    mend: onThread(find, async (tx, thread_id) => removed(await upkeep.removeStrayWrites(tx, table, thread_id))),
    by: "reconciler",
  };
});

const CHECKPOINTS: readonly Check[] = [
  ...leftBehind,
  ...strayWrites,
  {
    name: "values-without-checkpoint",
    says: "values, or parts of lists, are named by no checkpoint",
    walk: BY_THREAD,
    find: upkeep.unnamedValues,
    mend: onThread(upkeep.unnamedValues, async (tx, thread_id) =>
      removed(await upkeep.removeUnnamedValues(tx, thread_id)),
    ),
    by: "reconciler",
  },
  {
    name: "checkpoint-without-values",
    says: "checkpoints name values that are not there",
    walk: BY_THREAD,
    find: upkeep.missingValues,
    remedy: "restore the database from a backup, or delete the thread",
    by: "doctor",
  },
];

/* ----------------------------------------------------------------------- what goes with others */

function owned(name: string, says: string, table: string, column: string, owner: string): Check {
  const find: Check["find"] = upkeep.withoutOwner(table, column, owner);
  return {
    name,
    says,
    walk: { table, column },
    find,
    mend: lookingAgain(find, async (tx, { key }) => removed(await upkeep.removeRows(tx, table, column, key))),
    by: "reconciler",
  };
}

const findOpenLogs: Check["find"] = (db, stretch, { isServed, now }) =>
  upkeep.openLogs(db, stretch, isServed ? events.firstId(now - LEFTOVER_MS) : null);

/** Events that may be read again are swept in their time; others have only spilled from a memory that is gone. */
async function endLog(tx: Tx, run_id: string, now: number): Promise<string> {
  if ((await runs.find(tx, run_id))?.kwargs.resumable !== true) {
    await events.remove(tx, run_id);
    return "removed";
  }
  await events.end(tx, run_id, now);
  return "ended";
}

const findPairs =
  (find: typeof upkeep.miscounted): Check["find"] =>
  (db, stretch) =>
    find(db, stretch);

const pairCheck = (name: string, says: string, table: string, find: Check["find"]): Check => ({
  name,
  says,
  dialect: "sqlite",
  walk: { table, column: "pair_id" },
  find,
  mend: lookingAgain(find, async (tx, { key }) => {
    await upkeep.repairPair(tx, key);
    return "counted anew";
  }),
  // Counting walks all threads that have a pair, which may be all there are.
  by: "doctor",
});

const OWNED: readonly Check[] = [
  owned("thread-values-without-thread", "values are of a thread that is not there", "thread_values", "seq", "threads"),
  owned(
    "thread-lists-without-values",
    "lists of values are of a thread that shows none",
    "thread_lists",
    "seq",
    "thread_values",
  ),
  owned("events-without-log", "events are of a log that is not there", "event_chunks", "run_id", "event_logs"),
  {
    name: "log-not-ended",
    says: "a run is over, and nobody has ended its event log",
    walk: { table: "event_logs", column: "run_id" },
    find: findOpenLogs,
    mend: onThread(findOpenLogs, (tx, _thread_id, { now }, { run_id = "" }) => endLog(tx, run_id, now)),
    by: "reconciler",
  },
  {
    name: "vectors-without-item",
    says: "vectors are of store items that are not there",
    walk: { table: "store_vectors", column: "namespace" },
    find: upkeep.vectorsWithoutItem,
    mend: lookingAgain(upkeep.vectorsWithoutItem, async (tx, { key }) =>
      removed(await upkeep.removeVectorsWithoutItem(tx, key)),
    ),
    by: "reconciler",
  },
  {
    ...owned(
      "versions-without-assistant",
      "versions are of an assistant that is not there",
      "assistant_versions",
      "assistant_id",
      "assistants",
    ),
    mend: async (tx, { key }) => {
      lockAssistant(tx, String(key));
      const found = await upkeep.withoutOwner("assistant_versions", "assistant_id", "assistants")(tx, { only: key });
      if (found.length === 0) return undefined;
      return removed(await upkeep.removeRows(tx, "assistant_versions", "assistant_id", key));
    },
  },
  {
    name: "cron-without-assistant",
    says: "an enabled cron is of an assistant that is not there",
    walk: { table: "crons", column: "cron_id" },
    find: upkeep.cronsWithoutAssistant,
    mend: lookingAgain(upkeep.cronsWithoutAssistant, async (tx, { key }, { now }) => {
      await upkeep.disableCron(tx, key, now);
      return "disabled";
    }),
    // A graph that is missing for one start must not cost its crons.
    by: "doctor",
  },
  pairCheck(
    "pairs-miscounted",
    "a count of threads by metadata is wrong",
    "metadata_pairs",
    findPairs(upkeep.miscounted),
  ),
  pairCheck("pairs-without-owner", "entries of metadata are of nobody", "thread_pairs", findPairs(upkeep.strayPairs)),
];

/* ----------------------------------------------------------------------------------- overdue */

type Sweepable = Exclude<keyof Facts["sweptAfterMs"], "threads">;

/** Rows that are over for longer than the sweeps of a server would leave them. */
function expired(
  what: Sweepable,
  noun: string,
  look: typeof upkeep.expiredItems,
  sweep: (tx: Tx, before: number) => Promise<unknown>,
): Check {
  const before = ({ now, sweptAfterMs }: Facts): number | null => {
    const after = sweptAfterMs[what];
    return after === null ? null : now - after;
  };
  return {
    name: `${what}-expired`,
    says: `${noun} should have been swept`,
    walk: null,
    async find(db, stretch, facts) {
      const limit = before(facts);
      return limit === null ? [] : look(db, stretch, limit);
    },
    async mend(tx, { total }, facts) {
      const limit = before(facts);
      if (limit === null) return undefined;
      await sweep(tx, limit);
      return `swept ${rows(total ?? 0)}`;
    },
    by: "elsewhere",
  };
}

const late = (name: string, says: string, look: typeof upkeep.overdueCrons): Check => ({
  name,
  says,
  walk: null,
  find: (db, stretch, { now, waitingMs }) => look(db, stretch, now - waitingMs),
  remedy: "start a server on this database",
  by: "doctor",
});

const findExpiredThreads: Check["find"] = async (db, stretch, { now, sweptAfterMs: { threads: after } }) =>
  after === null ? [] : upkeep.expiredThreads(db, stretch, now - after);

async function endThread(tx: Tx, thread_id: string): Promise<string> {
  if ((await threads.findBare(tx, thread_id))?.ttl?.strategy !== "keep_latest") {
    await removeThread(tx, thread_id);
    return "removed";
  }
  while (!(await cutHistory(tx, thread_id)));
  await threads.clearExpiry(tx, thread_id);
  return "cut to its latest state";
}

const SWEPT_AT_ONCE = 1_000_000;

const OVERDUE: readonly Check[] = [
  {
    name: "thread-expired",
    says: "a thread that is over should have been swept",
    walk: null,
    find: findExpiredThreads,
    mend: onThread(findExpiredThreads, endThread),
    by: "elsewhere",
  },
  expired("items", "store items that are over", upkeep.expiredItems, (tx, before) =>
    storeItems.sweep(tx, before, SWEPT_AT_ONCE),
  ),
  expired("logs", "events of runs that are over", upkeep.expiredLogs, events.sweep),
  expired("keys", "idempotency keys", upkeep.expiredKeys, idempotencyKeys.sweep),
  expired("deliveries", "records of webhook calls", upkeep.expiredDeliveries, webhooks.sweepDeliveries),
  late("webhook-overdue", "webhooks wait to be sent", upkeep.overdueWebhooks),
  late("cron-overdue", "crons wait to be fired", upkeep.overdueCrons),
];

/** In the order in which they are asked: what one mends, the next does not find. */
export const CHECKS: readonly Check[] = [...RUNS, ...THREADS, ...CHECKPOINTS, ...OWNED, ...OVERDUE];
