/**
 * A database as it lies there: nothing is made, migrated or agreed on. For those that look at one without serving it, also
 * while others do.
 */
import fs from "node:fs";
import path from "node:path";
import { Kysely, SqliteDialect } from "kysely";
import type { Database } from "./database.ts";
import { inspect, lockFolder, refuseCorrupt } from "./database-file.ts";
import { refuseUnknownKeys } from "./encryption-keys.ts";
import { LibsqlConnection } from "./libsql.ts";
import { type SchemaState, schemaState } from "./migrate.ts";
import { openPostgres } from "./postgres.ts";
import { StorageRefused } from "./refused.ts";
import { opener, type Sealing, sealingPlugin } from "./sealing.ts";
import type { Storage, Tx } from "./storage.ts";
import { liveLeases } from "./tables/upkeep.ts";

export interface AsItIs {
  readonly dialect: Storage["dialect"];
  readonly location: string;
  readonly schema: SchemaState;
  /** A server works on it: one holds the folder of the file; on PostgreSQL, runs have live leases. */
  readonly isServed: boolean;
  now(): number;
  read<T>(work: (db: Tx) => Promise<T>): Promise<T>;
  /** A file's folder is held until then, unless a server holds it. */
  close(): Promise<void>;
}

export interface AsItIsOptions {
  readonly database: { readonly uri: string; readonly poolMax: number; readonly statementTimeoutMs: number } | null;
  readonly dataDir: string;
  /** What opens sealed values. Null: they are read as they are stored, if `raw`; else refused where there are any. */
  readonly sealing: Sealing | null;
  readonly raw?: boolean;
}

/** Rejects with StorageRefused when there is no database, or it cannot be read. */
export function openAsItIs(options: AsItIsOptions): Promise<AsItIs> {
  return options.database === null ? openFile(options) : openServer(options, options.database);
}

async function openFile({ dataDir, sealing, raw = false }: AsItIsOptions): Promise<AsItIs> {
  const dir = path.resolve(dataDir);
  const file = path.join(dir, "skein.db");
  if (!fs.existsSync(file)) throw new StorageRefused(`There is no database ${file}.`);
  const lock = heldFolder(dir);
  let connection: LibsqlConnection | undefined;
  const close = async (): Promise<void> => {
    connection?.close();
    lock?.exec("ROLLBACK");
    lock?.close();
  };
  try {
    return await refuseCorrupt(file, async () => {
      inspect(file);
      connection = new LibsqlConnection(file, sealing === null ? undefined : opener(sealing));
      connection.exec("PRAGMA busy_timeout=5000; PRAGMA query_only=ON");
      const db = readerOn(connection, sealing);
      const schema = await schemaState("sqlite", db);
      if (!raw && schema.missing.length === 0) await refuseUnknownKeys(db, file, sealing);
      const isServed = lock === undefined;
      return { dialect: "sqlite", location: file, schema, isServed, now: Date.now, read: (work) => work(db), close };
    });
  } catch (error) {
    await close();
    throw error;
  }
}

/** The lock of the folder; undefined when a server has it. */
function heldFolder(dir: string): LibsqlConnection | undefined {
  try {
    return lockFolder(dir);
  } catch (error) {
    if (error instanceof StorageRefused && error.cause === undefined) return undefined;
    throw error;
  }
}

function readerOn(database: LibsqlConnection, sealing: Sealing | null): Kysely<Database> {
  const plugins = sealing === null ? [] : [sealingPlugin(sealing)];
  return new Kysely<Database>({ dialect: new SqliteDialect({ database }), plugins });
}

async function openServer(
  { sealing, raw = false }: AsItIsOptions,
  database: NonNullable<AsItIsOptions["database"]>,
): Promise<AsItIs> {
  const storage = await openPostgres({ ...database, sealing, asItIs: true });
  try {
    const { location } = storage;
    const schema = await storage.read((db) => schemaState("postgres", db));
    const isComplete = schema.missing.length === 0;
    if (!raw && isComplete) await storage.read((db) => refuseUnknownKeys(db, location, sealing));
    const isServed = isComplete && (await storage.read((db) => liveLeases(db, storage.now()))) > 0;
    return {
      dialect: "postgres",
      location,
      schema,
      isServed,
      now: () => storage.now(),
      read: (work) => storage.read(work),
      close: () => storage.close(),
    };
  } catch (error) {
    await storage.close();
    throw error;
  }
}
