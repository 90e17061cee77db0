/**
 * Brings the schema up to date. Migrations are numbered, only go forward, and one start applies all or none. Both dialects have the
 * same ones but for the beginning: PostgreSQL came in at 0009, so all before is one migration there. On PostgreSQL migrations only
 * add, so that a server of before goes on working on the newer schema until it is replaced.
 */
import { type Kysely, type Migration, sql } from "kysely";
import type { Database } from "./database.ts";
import type { LibsqlConnection } from "./libsql.ts";
import { init } from "./migrations/0001_init.ts";
import { assistantVersions } from "./migrations/0002_assistant_versions.ts";
import { threads } from "./migrations/0003_threads.ts";
import { idempotency } from "./migrations/0005_idempotency.ts";
import { crons } from "./migrations/0006_crons.ts";
import { store } from "./migrations/0007_store.ts";
import { deliveries } from "./migrations/0008_deliveries.ts";
import { growingLists } from "./migrations/0009_growing_lists.ts";
import { growingValues } from "./migrations/0010_growing_values.ts";
import { protocolThreads } from "./migrations/0011_protocol_threads.ts";
import { outcomes } from "./migrations/0012_outcomes.ts";
import { toldTo } from "./migrations/0013_told_to.ts";
import { departedRuns } from "./migrations/0014_departed_runs.ts";
import { webhookTrace } from "./migrations/0015_webhook_trace.ts";
import { checkpointEras } from "./migrations/0016_checkpoint_eras.ts";
import { baseline } from "./migrations/postgres/0009_baseline.ts";
import { StorageRefused } from "./refused.ts";

/** From 0010 on, for both dialects. */
const SHARED: Readonly<Record<string, Migration>> = {
  "0010_growing_values": growingValues,
  "0011_protocol_threads": protocolThreads,
  "0012_outcomes": outcomes,
  "0013_told_to": toldTo,
  "0014_departed_runs": departedRuns,
  "0015_webhook_trace": webhookTrace,
  "0016_checkpoint_eras": checkpointEras,
};

const ON_SQLITE: Readonly<Record<string, Migration>> = {
  "0001_init": init,
  "0002_assistant_versions": assistantVersions,
  "0003_threads": threads,
  "0005_idempotency": idempotency,
  "0006_crons": crons,
  "0007_store": store,
  "0008_deliveries": deliveries,
  "0009_growing_lists": growingLists,
  ...SHARED,
};

const ON_POSTGRES: Readonly<Record<string, Migration>> = { "0009_baseline": baseline, ...SHARED };

/** Names of the migrations that were applied. */
export async function migrate(connection: LibsqlConnection, db: Kysely<Database>): Promise<readonly string[]> {
  connection.exec("BEGIN IMMEDIATE");
  try {
    const missing = missingOf(ON_SQLITE, await recorded(db));
    await apply(ON_SQLITE, missing, db);
    connection.exec("COMMIT");
    return missing;
  } catch (error) {
    if (connection.inTransaction) connection.exec("ROLLBACK");
    throw error;
  }
}

/** Any number: one process migrates at a time. */
export const MIGRATION_LOCK = 3_853_314_791;

/**
 * The same on PostgreSQL, in the transaction given: processes that start together wait for the first, and find nothing left to
 * do. A schema that is newer than this version is left as it is; one that is newer and lacks something of ours is refused.
 */
export async function migratePostgres(tx: Kysely<Database>, location: string): Promise<readonly string[]> {
  await sql`select pg_advisory_xact_lock(${sql.lit(MIGRATION_LOCK)})`.execute(tx);
  const done = await recorded(tx);
  const missing = missingOf(ON_POSTGRES, done);
  if (missing.length === 0) return [];
  const newer = done.find((name) => !(name in ON_POSTGRES));
  if (newer !== undefined) {
    throw new StorageRefused(
      `The database ${location} is of another line of Skein: it has ${newer}, and not ${missing[0]}.`,
    );
  }
  await apply(ON_POSTGRES, missing, tx);
  return missing;
}

/**
 * What has been applied. The table is that of Kysely's migrator, which takes 15 ms of a start for looking at the whole schema and for comparing
 * names by the rules of a language.
 */
async function recorded(db: Kysely<Database>): Promise<readonly string[]> {
  await sql`create table if not exists kysely_migration (name varchar(255) primary key, timestamp varchar(255) not null)`.execute(
    db,
  );
  const { rows } = await sql<{ name: string }>`select name from kysely_migration`.execute(db);
  return rows.map(({ name }) => name);
}

const missingOf = (all: Readonly<Record<string, Migration>>, done: readonly string[]): readonly string[] =>
  Object.keys(all)
    .sort()
    .filter((name) => !done.includes(name));

async function apply(
  all: Readonly<Record<string, Migration>>,
  names: readonly string[],
  db: Kysely<Database>,
): Promise<void> {
  for (const name of names) {
    await all[name]?.up(db);
    await sql`insert into kysely_migration values (${name}, ${new Date().toISOString()})`.execute(db);
  }
}

export interface SchemaState {
  /** Migrations of this version that the database lacks. All of them where there is no schema at all. */
  readonly missing: readonly string[];
  /** Migrations of the database that this version does not know. */
  readonly unknown: readonly string[];
}

/** How the schema of a database stands to this version. */
export async function schemaState(dialect: "sqlite" | "postgres", db: Kysely<Database>): Promise<SchemaState> {
  const known = dialect === "sqlite" ? ON_SQLITE : ON_POSTGRES;
  const done = await (dialect === "sqlite" ? applied(db) : appliedOnPostgres(db));
  return {
    missing: missingOf(known, done),
    unknown: done.filter((name) => !(name in known)).sort(),
  };
}

async function appliedOnPostgres(db: Kysely<Database>): Promise<string[]> {
  const table = await sql<{ there: boolean }>`select to_regclass('kysely_migration') is not null as there`.execute(db);
  if (table.rows[0]?.there !== true) return [];
  const { rows } = await sql<{ name: string }>`select name from kysely_migration`.execute(db);
  return rows.map((row) => row.name);
}

export async function refuseNewer(file: string, db: Kysely<Database>): Promise<void> {
  const unknown = (await applied(db)).filter((name) => !(name in ON_SQLITE)).sort();
  const newest = unknown.at(-1);
  if (newest === undefined) return;
  const known = Object.keys(ON_SQLITE).sort().at(-1) ?? "0";
  throw new StorageRefused(
    `The database ${file} was written by a newer Skein (schema ${Number.parseInt(newest, 10)}, ` +
      `this one knows ${Number.parseInt(known, 10)}). Start that version, or restore an older backup.`,
  );
}

async function applied(db: Kysely<Database>): Promise<string[]> {
  const table = await sql`select 1 from sqlite_master where name = 'kysely_migration'`.execute(db);
  if (table.rows.length === 0) return [];
  const { rows } = await sql<{ name: string }>`select name from kysely_migration`.execute(db);
  return rows.map((row) => row.name);
}
