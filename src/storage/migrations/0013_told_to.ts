/** `runs.told_to`: the number of a run's last event of streaming v2, noted when its events are swept: who has seen it has missed none. */
import { type Kysely, type Migration, sql } from "kysely";

export const toldTo: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    await sql.raw("alter table runs add column told_to bigint").execute(db);
  },
};
