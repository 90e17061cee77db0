/** Whether a thing is there for somebody who sees what passes a filter: one statement, the same whether it is hidden or missing. */
import { type RawBuilder, type SqlBool, sql } from "kysely";
import { jsonEquals, passes } from "../expressions.ts";
import type { MetadataFilter } from "../filter.ts";
import type { Tx } from "../storage.ts";

/** Metadata of threads, crons and assistants. */
const metadataOf = (table: "threads" | "crons" | "assistants") => sql.ref(`${table}.metadata`);

async function some(db: Tx, from: RawBuilder<unknown>): Promise<boolean> {
  const { rows } = await sql`select 1 as found from ${from} limit 1`.execute(db);
  return rows.length > 0;
}

export const thread = (db: Tx, thread_id: string, filter: MetadataFilter): Promise<boolean> =>
  some(db, sql`threads where threads.thread_id = ${thread_id} and ${passes(metadataOf("threads"), filter)}`);

/** It is there, and is not to be seen. */
export const hiddenThread = (db: Tx, thread_id: string, filter: MetadataFilter): Promise<boolean> =>
  some(db, sql`threads where threads.thread_id = ${thread_id} and not (${passes(metadataOf("threads"), filter)})`);

/** The thread that the run is on. */
export const threadOfRun = (db: Tx, run_id: string, filter: MetadataFilter): Promise<boolean> =>
  some(db, sql`runs where runs.run_id = ${run_id} and ${onThread(filter)}`);

export const cron = (db: Tx, cron_id: string, filter: MetadataFilter): Promise<boolean> =>
  some(db, sql`crons where crons.cron_id = ${cron_id} and ${passes(metadataOf("crons"), filter)}`);

export const assistant = (db: Tx, assistant_id: string, filter: MetadataFilter): Promise<boolean> =>
  some(
    db,
    sql`assistants where assistants.assistant_id = ${assistant_id} and ${passes(metadataOf("assistants"), filter)}`,
  );

export const readableAssistant = (db: Tx, assistant_id: string, filter: MetadataFilter): Promise<boolean> =>
  some(db, sql`assistants where assistants.assistant_id = ${assistant_id} and ${readable(filter)}`);

/** Default assistants are everybody's to read and to run. */
export const readable = (filter: MetadataFilter): RawBuilder<SqlBool> =>
  sql<SqlBool>`(${passes(metadataOf("assistants"), filter)} or ${jsonEquals(metadataOf("assistants"), "created_by", "system")})`;

/** Of a row of `runs`: its thread passes. */
export const onThread = (filter: MetadataFilter): RawBuilder<SqlBool> =>
  sql<SqlBool>`exists (select 1 from threads where threads.thread_id = runs.thread_id and ${passes(metadataOf("threads"), filter)})`;
