/** Whose runs were that have gone with their threads: what filters of users look at, for as long as such a run is still answered for. */
import { type Kysely, type Migration, sql } from "kysely";

const STATEMENTS = [
  `create table departed_runs (
    run_id text not null primary key,
    metadata text not null,
    ended_at bigint not null
  )`,
  "create index departed_runs_ended on departed_runs (ended_at)",
] as const;

export const departedRuns: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
  },
};
