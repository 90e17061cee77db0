/**
 * Versions of assistants: `assistants` keeps the active one, as runs read it, and `assistant_versions` all of them. The
 * folded name serves searches whatever the case: SQLite itself folds ASCII only.
 */
import { type Kysely, type Migration, sql } from "kysely";
import { foldCase } from "../expressions.ts";

const STATEMENTS = [
  `create table assistant_versions (
    assistant_id text not null,
    version integer not null,
    graph_id text not null,
    name text not null,
    description text,
    created_at integer not null,
    config text not null,
    context text not null,
    metadata text not null,
    primary key (assistant_id, version)
  )`,
  `insert into assistant_versions
    (assistant_id, version, graph_id, name, description, created_at, config, context, metadata)
    select assistant_id, version, graph_id, name, description, updated_at, config, context, metadata from assistants`,
  `alter table assistants add column name_folded text not null default ''`,
] as const;

export const assistantVersions: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
    const { rows } = await sql<{ id: string; name: string }>`select assistant_id as id, name from assistants`.execute(
      db,
    );
    for (const { id, name } of rows) {
      await sql`update assistants set name_folded = ${foldCase(name)} where assistant_id = ${id}`.execute(db);
    }
  },
};
