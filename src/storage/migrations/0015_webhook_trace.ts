/** `webhooks.trace`: the place in a trace that the run was made in, JSON; null where nobody traced it. The call goes on with it. */
import { type Kysely, type Migration, sql } from "kysely";

export const webhookTrace: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    await sql.raw("alter table webhooks add column trace text").execute(db);
  },
};
