/**
 * What is newest in a namespace stands at the end of an index, and so does a thread's last era; the one index there was had them apart
 * from each other, and a long thread was looked through for each. Threads in their first era are in neither.
 */
import { type Kysely, type Migration, sql } from "kysely";

const STATEMENTS = [
  "drop index checkpoints_eras",
  "create index checkpoints_eras on checkpoints (thread_id, checkpoint_ns, era, checkpoint_id) where era > 0",
  "create index checkpoints_last_era on checkpoints (thread_id, era) where era > 0",
] as const;

export const erasByNamespace: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
  },
};
