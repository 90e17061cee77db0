/** `threads.protocol`: 1 once streaming v2 has had to do with the thread, so that runs made by REST are made to be seen there too. */
import { type Kysely, type Migration, sql } from "kysely";

export const protocolThreads: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    await sql.raw("alter table threads add column protocol smallint not null default 0").execute(db);
  },
};
