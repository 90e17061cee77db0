/** Items that expire, and vectors of items. */
import { type Kysely, type Migration, sql } from "kysely";

const STATEMENTS = [
  // A new table, so that a large value comes last in its row: what follows it would be read through all its pages.
  `alter table store_items rename to store_items_before`,
  `create table store_items (
    namespace text not null,
    key text not null,
    created_at integer not null,
    updated_at integer not null,
    ttl real,
    expires_at integer,
    value text not null,
    primary key (namespace, key)
  )`,
  `insert into store_items (namespace, key, created_at, updated_at, value)
    select namespace, key, created_at, updated_at, value from store_items_before`,
  `drop table store_items_before`,
  `create index store_items_expiry on store_items (expires_at) where expires_at is not null`,
  // Without a number of dimensions: a project may change them, and compares only what one embedder made.
  `create table store_vectors (
    namespace text not null,
    key text not null,
    path text not null,
    embedder text not null,
    embedding f32_blob not null,
    primary key (namespace, key, path)
  )`,
] as const;

export const store: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
  },
};
