/**
 * What every database backend of Skein promises: SQLite (libsql) in one process, PostgreSQL for many.
 *
 * - `read` sees only what is committed.
 * - `write` runs its work in one transaction. On SQLite, writes that arrive together share one commit
 *   (group commit); each keeps its own savepoint, so one that throws takes back only its own changes.
 *   The promise settles after the commit: what a caller acknowledges afterwards survives `kill -9`,
 *   and a power cut too unless the write asked for `durable: false` (SQLite only).
 * - On PostgreSQL writes run side by side, each in a transaction of its own: `locks.ts` keeps those apart that decide the same thing.
 *   A work whose transaction broke without being committed is done again, so it must be right to run it twice.
 * - Inside `write`, `await` nothing but queries of the given `tx`: the work must not wait for the world.
 */
import type { Kysely } from "kysely";
import type { ErrorBody } from "../errors.ts";
import type { CancelAction, Json } from "../executor/protocol.ts";
import type { AuthUser } from "../schemas/auth.ts";
import type { CronPayload, OnRunCompleted } from "../schemas/crons.ts";
import type { MultitaskStrategy, RunKwargs, RunStatus } from "../schemas/runs.ts";
import type { ThreadStatus, TtlStrategy } from "../schemas/threads.ts";
import type { Database } from "./database.ts";

export type Tx = Kysely<Database>;

export interface WriteOptions {
  /** False lets a power cut (not a crash) take the write back; for writes nobody was told about. Default true. */
  readonly durable?: boolean;
  /** Does not wait for connections that others use: for heartbeats, on which runs depend. Default false. */
  readonly urgent?: boolean;
  /** Called when the write is committed, which a crash does not undo, before it is on the disk and the promise settles. */
  readonly onCommitted?: () => void;
}

/** What a search compares: members of these columns. */
export interface Search {
  readonly metadata?: Readonly<Record<string, unknown>> | null | undefined;
  readonly values?: Readonly<Record<string, unknown>> | null | undefined;
}

export interface Storage {
  /** `sqlite` or `postgres`: tables pick the few expressions that differ by this. */
  readonly dialect: "sqlite" | "postgres";
  /** Other processes may be on the database: they may hold runs, and transactions run side by side. */
  readonly isShared: boolean;
  /** Where the data lies, for people. */
  readonly location: string;
  /** Epoch milliseconds by the clock that all processes on this database share, as well as it is known here. */
  now(): number;
  read<T>(work: (db: Tx) => Promise<T>): Promise<T>;
  write<T>(work: (tx: Tx) => Promise<T>, options?: WriteOptions): Promise<T>;
  /**
   * Throws `invalid` when a search needs what is encrypted at rest. Queries that compare columns are checked anyway; this is
   * for those that go through indexes of their own.
   */
  checkSearch(search: Search): void;
  /**
   * Gives back to the disk what deleted rows held, in small steps between the writes of others, and empties the log where
   * their text may still be. At most about a second of work; what is left is for the next call.
   */
  reclaim(): Promise<void>;
  /** Waits for writes in flight, then closes. */
  close(): Promise<void>;
}

/* Records: rows as the layers above see them. Dates are epoch milliseconds, JSON columns are parsed unless typed `Json`. */

export interface AssistantRecord {
  readonly assistant_id: string;
  readonly graph_id: string;
  readonly name: string;
  readonly description: string | null;
  readonly config: Readonly<Record<string, unknown>>;
  readonly context: Readonly<Record<string, unknown>>;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly version: number;
  readonly created_at: number;
  readonly updated_at: number;
}

/** What an assistant was made at one time; never changed after, but for the name and description of a default one. */
export type AssistantVersionRecord = Omit<AssistantRecord, "updated_at">;

/** When a thread is swept, and what the sweep does to it. */
export interface ThreadTtl {
  readonly strategy: TtlStrategy;
  readonly minutes: number;
  /** Null when the sweep has been there since the last run. */
  readonly expires_at: number | null;
}

export interface ThreadRecord {
  readonly thread_id: string;
  readonly status: ThreadStatus;
  /** It goes with its run; no search finds it. */
  readonly temporary: boolean;
  /** Streaming v2 has had to do with it: its runs are made to be seen there too. */
  readonly protocol: boolean;
  readonly ttl: ThreadTtl | null;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly config: Readonly<Record<string, unknown>>;
  /** Channel values of the latest checkpoint as JSON text; null before the first. */
  readonly values: Json | null;
  /** Task id → interrupts as JSON text. */
  readonly interrupts: Json;
  readonly created_at: number;
  readonly updated_at: number;
  readonly state_updated_at: number;
}

export interface RunRecord {
  /** Order of creation over all runs. */
  readonly seq: number;
  readonly run_id: string;
  readonly thread_id: string;
  readonly assistant_id: string;
  readonly graph_id: string;
  readonly status: RunStatus;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly kwargs: RunKwargs;
  readonly multitask_strategy: MultitaskStrategy;
  /** May not be claimed before this time. */
  readonly not_before: number;
  /** Attempts spent, the current one included. */
  readonly attempt: number;
  /** Fencing token of the newest claim; grows with each claim and never goes back. */
  readonly fence: number;
  readonly lease_owner: string | null;
  readonly lease_expires_at: number | null;
  /** Durable intent to cancel; honoured by whoever holds or next claims the run. */
  readonly cancel_action: CancelAction | null;
  readonly error: ErrorBody | null;
  /** Last checkpoint of the run, set when it settles. */
  readonly checkpoint_id: string | null;
  readonly created_at: number;
  readonly updated_at: number;
  readonly started_at: number | null;
  readonly ended_at: number | null;
}

/** A run that need not have its place in the order of all runs yet. */
export type NewRun = Omit<RunRecord, "seq">;

/** What runs when. */
export interface CronRecord {
  readonly cron_id: string;
  readonly assistant_id: string;
  /** Null: each run gets a thread of its own. */
  readonly thread_id: string | null;
  /** What becomes of a run's own thread; null for a cron on a thread. */
  readonly on_run_completed: OnRunCompleted | null;
  readonly schedule: string;
  /** IANA name; null is UTC. */
  readonly timezone: string | null;
  readonly end_time: number | null;
  readonly enabled: boolean;
  /** The tick that is still to be fired; null when none is. */
  readonly next_run_date: number | null;
  readonly created_at: number;
  readonly updated_at: number;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly payload: CronPayload;
  /** Who made it, where users log in, and the metadata of threads that its runs make. */
  readonly made_by?: { readonly user: AuthUser; readonly stamp: Readonly<Record<string, unknown>> } | undefined;
}

/** A webhook call that must be made; it leaves the table when delivered or given up. */
export interface WebhookRecord {
  readonly webhook_id: string;
  readonly run_id: string;
  readonly url: string;
  readonly payload: Json;
  readonly attempts: number;
  readonly next_attempt_at: number;
  readonly created_at: number;
  /** JSON of the `TraceContext` that the run was made in; null: it is in no trace. */
  readonly trace: string | null;
}

/** How a call of a webhook went. */
export interface DeliveryRecord {
  readonly webhook_id: string;
  /** The n-th call, from 1. */
  readonly attempt: number;
  readonly run_id: string;
  readonly target: string;
  readonly started_at: number;
  readonly duration_ms: number;
  readonly outcome: "delivered" | "retried" | "given_up";
  /** HTTP status; null when there was no answer. */
  readonly status: number | null;
  readonly error: string | null;
}

/** Events `first..last` of a run, stored in one row. */
export interface EventChunk {
  readonly run_id: string;
  readonly first: number;
  readonly last: number;
  /** JSON text: array of `[event, data]` pairs, `data` being JSON text itself. */
  readonly events: Json;
}

/** One event log that has rows in storage. */
export interface EventLogRecord {
  readonly run_id: string;
  readonly thread_id: string;
  /** Set when the run has ended; the rows go `retention` later. */
  readonly ended_at: number | null;
  /** Orders the logs of a thread by when their runs began. */
  readonly place: number;
}

/** A request that may come again. */
export interface IdempotencyRecord {
  readonly key: string;
  /** Of all that must be the same in a repetition. */
  readonly fingerprint: string;
  readonly created_at: number;
  /** What was answered, as JSON text; empty until the runs are made. */
  readonly runs: Json;
}
