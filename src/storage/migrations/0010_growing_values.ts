/**
 * What a thread shows of its state is stored as it grows: long lists of its values are in parts, under the place of each
 * part's first item. `thread_values.lists` says which there are, `{"messages": ["3@1f…", 40]}`: the version, as checkpoints
 * name it, and how many items; `values` has the rest. Null: `values` is whole.
 */
import { type Kysely, type Migration, sql } from "kysely";

const STATEMENTS = [
  `alter table thread_values add column lists text`,
  `create table thread_lists (
    seq bigint not null references thread_values (seq) on delete cascade,
    member text not null,
    "first" bigint not null,
    items text not null,
    primary key (seq, member, "first")
  )`,
] as const;

export const growingValues: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
  },
};
