/**
 * Keys of repeated requests, and what the runs of one thread need to be kept apart cheaply:
 *
 * - `runs.behind` is 1 while a run cannot be claimed because others of its thread come first, so that the index of the claim
 *   holds only what may be claimable, however long the queue of one thread is.
 * - `threads.rest_status` is the status the thread has when none of its runs is in flight.
 * - `replaced_writes` keeps what a run overwrote of an earlier run's pending writes (its answers and questions in the same
 *   task), so that its rollback can put them back.
 * - `event_logs.place` orders the logs of a thread by when their runs began; streams of threads number events by it.
 */
import { type Kysely, type Migration, sql } from "kysely";

const STATEMENTS = [
  `create table idempotency_keys (
    key text primary key not null,
    fingerprint text not null,
    created_at integer not null,
    runs text not null
  )`,
  `create index idempotency_keys_created on idempotency_keys (created_at)`,

  `alter table runs add column behind integer not null default 0`,
  `update runs set behind = 1 where status = 'pending' and not_before <= created_at and exists (
    select 1 from runs as ahead where ahead.thread_id = runs.thread_id and ahead.seq < runs.seq
      and ahead.status in ('pending', 'running') and ahead.not_before <= runs.created_at)`,
  `drop index runs_claim`,
  `create index runs_claim on runs (seq, not_before, thread_id) where status = 'pending' and behind = 0`,

  `alter table threads add column rest_status text not null default 'idle'`,
  `update threads set rest_status = status where status <> 'busy'`,

  `create table replaced_writes (
    thread_id text not null,
    checkpoint_ns text not null,
    checkpoint_id text not null,
    task_id text not null,
    idx integer not null,
    replaced_by text not null,
    task_path text not null,
    run_id text,
    channel text not null,
    type text not null,
    value blob not null,
    primary key (thread_id, replaced_by, checkpoint_ns, checkpoint_id, task_id, idx)
  )`,

  `alter table event_logs add column place integer not null default 0`,
  `create index event_logs_thread on event_logs (thread_id, place)`,
] as const;

export const idempotency: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
  },
};
