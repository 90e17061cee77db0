/**
 * Crons. Those of a thread go with it, whoever deletes it; so a later migration that rebuilds `threads` has to switch
 * foreign keys off first. An assistant has no such tie: default assistants come and go with the configuration, and a
 * graph that is missing for one start must not cost its crons.
 *
 * `crons_due` wakes the scheduler; crons that will not fire are not in it.
 */
import { type Kysely, type Migration, sql } from "kysely";

const STATEMENTS = [
  `create table crons (
    cron_id text primary key not null,
    assistant_id text not null,
    thread_id text references threads (thread_id) on delete cascade,
    on_run_completed text,
    schedule text not null,
    timezone text,
    end_time integer,
    enabled integer not null,
    next_run_date integer,
    created_at integer not null,
    updated_at integer not null,
    metadata text not null,
    payload text not null
  )`,
  `create index crons_due on crons (next_run_date) where next_run_date is not null`,
  `create index crons_thread on crons (thread_id)`,
  `create index crons_assistant on crons (assistant_id)`,
] as const;

export const crons: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
  },
};
