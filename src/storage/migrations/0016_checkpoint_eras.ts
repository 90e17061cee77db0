/**
 * `checkpoints.era`: the order of a thread's checkpoints is that in which they were written, whatever the clocks of machines say. An id is
 * LangGraph's, a time by the clock of the machine that made it; an era ends when a checkpoint comes whose id is older than what is
 * there. Almost all threads are in their first for ever, which costs them nothing: the indexes have the others. At the end of one stands
 * what is newest in a namespace, at that of the other a thread's last era.
 */
import { type Kysely, type Migration, sql } from "kysely";

const STATEMENTS = [
  "alter table checkpoints add column era bigint not null default 0",
  "create index checkpoints_eras on checkpoints (thread_id, checkpoint_ns, era, checkpoint_id) where era > 0",
  "create index checkpoints_last_era on checkpoints (thread_id, era) where era > 0",
] as const;

export const checkpointEras: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
  },
};
