/**
 * Whether a thing is there for somebody who sees what passes a filter. One statement that does the same work whether it is hidden or missing:
 * in the place of what is missing its neighbour is looked up, and put to the filter. Else the time of an answer would tell the two apart.
 */
import { type RawBuilder, type SqlBool, sql } from "kysely";
import { bit, jsonEquals, passes } from "../expressions.ts";
import type { MetadataFilter } from "../filter.ts";
import type { Tx } from "../storage.ts";

type Table = "threads" | "crons" | "assistants" | "departed_runs";

const metadataOf = (table: Table) => sql.ref(`${table}.metadata`);

/** Whether the row of this id is there and the test holds for it. */
async function fits(db: Tx, column: `${string}.${string}`, id: string, test: RawBuilder<SqlBool>): Promise<boolean> {
  const table = sql.table(column.slice(0, column.indexOf(".")));
  const key = sql.ref(column);
  // The test stands beside the id, not behind an `and`, which would spare it where the ids differ.
  const { rows } = await sql<{ readonly id: string; readonly fits: number }>`select ${key} as id, ${bit(test)} as fits
    from ${table} where ${key} = coalesce((select min(${key}) from ${table} where ${key} >= ${id}), (select min(${key}) from ${table}))`.execute(
    db,
  );
  const [found] = rows;
  return found !== undefined && found.id === id && found.fits === 1;
}

export const thread = (db: Tx, thread_id: string, filter: MetadataFilter): Promise<boolean> =>
  fits(db, "threads.thread_id", thread_id, passes(metadataOf("threads"), filter));

/** It is there, and is not to be seen. */
export const hiddenThread = (db: Tx, thread_id: string, filter: MetadataFilter): Promise<boolean> =>
  fits(db, "threads.thread_id", thread_id, sql`not (${passes(metadataOf("threads"), filter)})`);

/** The thread that the run is on, or was on when both went. */
export async function threadOfRun(db: Tx, run_id: string, filter: MetadataFilter): Promise<boolean> {
  const isOn = await fits(db, "runs.run_id", run_id, onThread(filter));
  const wasOn = await fits(db, "departed_runs.run_id", run_id, passes(metadataOf("departed_runs"), filter));
  return isOn || wasOn;
}

export const cron = (db: Tx, cron_id: string, filter: MetadataFilter): Promise<boolean> =>
  fits(db, "crons.cron_id", cron_id, passes(metadataOf("crons"), filter));

export const assistant = (db: Tx, assistant_id: string, filter: MetadataFilter): Promise<boolean> =>
  fits(db, "assistants.assistant_id", assistant_id, passes(metadataOf("assistants"), filter));

export const readableAssistant = (db: Tx, assistant_id: string, filter: MetadataFilter): Promise<boolean> =>
  fits(db, "assistants.assistant_id", assistant_id, readable(filter));

/** Default assistants are everybody's to read and to run. */
export const readable = (filter: MetadataFilter): RawBuilder<SqlBool> =>
  sql<SqlBool>`(${passes(metadataOf("assistants"), filter)} or ${jsonEquals(metadataOf("assistants"), "created_by", "system")})`;

/** Of a row of `runs`: its thread passes. */
export const onThread = (filter: MetadataFilter): RawBuilder<SqlBool> =>
  sql<SqlBool>`exists (select 1 from threads where threads.thread_id = runs.thread_id and ${passes(metadataOf("threads"), filter)})`;
