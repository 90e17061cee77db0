/**
 * The first schema. Times are epoch milliseconds, JSON is text.
 *
 * Each index costs every write of its table, so each has a reader: `runs_claim` serves the claim in order of creation,
 * `runs_delayed` the next wake-up (its condition keeps it empty as long as nothing is delayed), `runs_thread` the
 * one-at-a-time rule and the list of a thread, `runs_leased` heartbeats and recovery. Rows with large values keep
 * a rowid: wide rows in a WITHOUT ROWID tree spill into overflow pages early. Large columns come last, so that
 * reading the small ones does not walk them.
 */
import { type Kysely, type Migration, sql } from "kysely";

const STATEMENTS = [
  `create table assistants (
    assistant_id text primary key not null,
    graph_id text not null,
    name text not null,
    description text,
    version integer not null,
    created_at integer not null,
    updated_at integer not null,
    config text not null,
    context text not null,
    metadata text not null
  )`,
  `create table threads (
    thread_id text primary key not null,
    status text not null,
    created_at integer not null,
    updated_at integer not null,
    state_updated_at integer not null,
    metadata text not null,
    config text not null,
    interrupts text not null,
    "values" text
  )`,
  `create table runs (
    seq integer primary key autoincrement,
    run_id text not null unique,
    thread_id text not null,
    assistant_id text not null,
    graph_id text not null,
    status text not null,
    multitask_strategy text not null,
    not_before integer not null,
    attempt integer not null,
    fence integer not null,
    lease_owner text,
    lease_expires_at integer,
    cancel_action text,
    checkpoint_id text,
    created_at integer not null,
    updated_at integer not null,
    started_at integer,
    ended_at integer,
    error text,
    metadata text not null,
    kwargs text not null
  )`,
  `create index runs_claim on runs (seq, not_before, thread_id) where status = 'pending'`,
  `create index runs_delayed on runs (not_before) where status = 'pending' and not_before > created_at`,
  `create index runs_leased on runs (lease_owner) where status = 'running'`,
  `create index runs_thread on runs (thread_id, status, seq)`,
  `create table checkpoints (
    thread_id text not null,
    checkpoint_ns text not null,
    checkpoint_id text not null,
    parent_checkpoint_id text,
    run_id text,
    type text not null,
    blob_versions text not null,
    metadata text not null,
    checkpoint blob not null,
    primary key (thread_id, checkpoint_ns, checkpoint_id)
  )`,
  `create table checkpoint_blobs (
    thread_id text not null,
    checkpoint_ns text not null,
    channel text not null,
    version text not null,
    run_id text,
    type text not null,
    value blob not null,
    primary key (thread_id, checkpoint_ns, channel, version)
  )`,
  `create table checkpoint_writes (
    thread_id text not null,
    checkpoint_ns text not null,
    checkpoint_id text not null,
    task_id text not null,
    idx integer not null,
    task_path text not null,
    run_id text,
    channel text not null,
    type text not null,
    value blob not null,
    primary key (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
  )`,
  `create table event_logs (
    run_id text primary key not null,
    thread_id text not null,
    ended_at integer
  ) without rowid`,
  `create index event_logs_ended on event_logs (ended_at) where ended_at is not null`,
  `create table event_chunks (
    run_id text not null,
    "first" integer not null,
    "last" integer not null,
    events text not null,
    primary key (run_id, "first")
  )`,
  `create table webhooks (
    webhook_id text primary key not null,
    run_id text not null,
    url text not null,
    attempts integer not null,
    next_attempt_at integer not null,
    created_at integer not null,
    payload text not null
  )`,
  `create index webhooks_due on webhooks (next_attempt_at)`,
  `create table store_items (
    namespace text not null,
    key text not null,
    created_at integer not null,
    updated_at integer not null,
    value text not null,
    primary key (namespace, key)
  )`,
] as const;

export const init: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
  },
};
