/** Brings the schema up to date. Migrations are numbered, only go forward, and one start applies all or none. */
import { type Kysely, type Migration, Migrator, sql } from "kysely";
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
import { StorageRefused } from "./refused.ts";

const MIGRATIONS: Readonly<Record<string, Migration>> = {
  "0001_init": init,
  "0002_assistant_versions": assistantVersions,
  "0003_threads": threads,
  "0005_idempotency": idempotency,
  "0006_crons": crons,
  "0007_store": store,
  "0008_deliveries": deliveries,
  "0009_growing_lists": growingLists,
  "0010_growing_values": growingValues,
};

export async function migrate(connection: LibsqlConnection, db: Kysely<Database>): Promise<void> {
  const migrator = new Migrator({ db, provider: { getMigrations: async () => MIGRATIONS } });
  connection.exec("BEGIN IMMEDIATE");
  const { error } = await migrator.migrateToLatest();
  if (error === undefined) return connection.exec("COMMIT");
  if (connection.inTransaction) connection.exec("ROLLBACK");
  throw error;
}

export async function refuseNewer(file: string, db: Kysely<Database>): Promise<void> {
  const unknown = (await applied(db)).filter((name) => !(name in MIGRATIONS)).sort();
  const newest = unknown.at(-1);
  if (newest === undefined) return;
  const known = Object.keys(MIGRATIONS).sort().at(-1) ?? "0";
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
