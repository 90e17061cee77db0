/**
 * A list that only grows is stored as it grows: a row for each part, under the version the list began with and the
 * place of the part's first item. A checkpoint names a version and how far it reads: `{"messages": ["3@1f…", 40]}`; 0
 * for a value that is no such list.
 */
import { type Kysely, type Migration, sql } from "kysely";

const STATEMENTS = [
  `alter table checkpoint_blobs rename to checkpoint_blobs_before`,
  `create table checkpoint_blobs (
    thread_id text not null,
    checkpoint_ns text not null,
    channel text not null,
    version text not null,
    "first" integer not null,
    run_id text,
    type text not null,
    value blob not null,
    primary key (thread_id, checkpoint_ns, channel, version, "first")
  )`,
  `insert into checkpoint_blobs select thread_id, checkpoint_ns, channel, version, 0, run_id, type, value
    from checkpoint_blobs_before`,
  `drop table checkpoint_blobs_before`,
  `update checkpoints set blob_versions =
    (select json_group_object(named.key, json_array(named.value, 0)) from json_each(blob_versions) as named)
    where blob_versions <> '{}'`,
] as const;

export const growingLists: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
  },
};
