/**
 * What runs have left that leave nothing else: of a run that went with its thread, for a little while, where whoever waits for
 * it is at another process than the one that ran it.
 */
import { type Kysely, type Migration, sql } from "kysely";

const STATEMENTS = [
  `create table outcomes (
    run_id text not null primary key,
    output text not null,
    ended_at bigint not null
  )`,
  `create index outcomes_ended on outcomes (ended_at)`,
] as const;

export const outcomes: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
  },
};
