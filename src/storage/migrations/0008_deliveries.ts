/**
 * What became of each webhook call, kept for a while and indexed by its age for the sweep and by its run for people; and which
 * keys seal the data, so that a start without one is refused before anything is read.
 */
import { type Kysely, type Migration, sql } from "kysely";

const STATEMENTS = [
  `create table webhook_deliveries (
    webhook_id text not null,
    attempt integer not null,
    run_id text not null,
    target text not null,
    started_at integer not null,
    duration_ms integer not null,
    outcome text not null,
    status integer,
    error text,
    primary key (webhook_id, attempt)
  )`,
  `create index webhook_deliveries_started on webhook_deliveries (started_at)`,
  `create index webhook_deliveries_run on webhook_deliveries (run_id)`,
  `create table encryption_keys (
    key_id text primary key not null,
    json_keys text not null,
    since integer not null,
    sealed_all_at integer
  )`,
] as const;

export const deliveries: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
  },
};
