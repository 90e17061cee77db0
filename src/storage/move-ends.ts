/** The two ends of a move: a snapshot to read, and a place that is filled wholly or not at all. */
import fs from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Kysely, PostgresAdapter, type PostgresPoolClient, SqliteDialect, sql } from "kysely";
import pg from "pg";
import type { Database } from "./database.ts";
import { createWhole, inspect, lockFolder, refuseCorrupt, removeUnfinished } from "./database-file.ts";
import { kyselyOver } from "./dialect.ts";
import { LibsqlConnection } from "./libsql.ts";
import { MIGRATION_LOCK, type SchemaState, schemaState } from "./migrate.ts";
import { isEmpty, type Side } from "./move.ts";
import { IS_OF_SERVER, openPostgres, types, withoutPassword } from "./postgres.ts";
import { StorageRefused } from "./refused.ts";
import { buildSchema } from "./sqlite.ts";
import { liveLeases } from "./tables/upkeep.ts";

/** A folder with `skein.db`, or a PostgreSQL URI. */
export type End = { readonly dir: string } | { readonly uri: string };

/** What people write: a URI, a folder, or the file in it. */
export function endOf(text: string): End {
  if (/^postgres(ql)?:\/\//.test(text)) return { uri: text };
  const place = path.resolve(text);
  return { dir: path.basename(place) === "skein.db" ? path.dirname(place) : place };
}

/** Where it is, for people. */
export const nameOf = (end: End): string => ("uri" in end ? withoutPassword(end.uri) : path.join(end.dir, "skein.db"));

type Work<T> = (side: Side) => Promise<T>;

/** Rejects with StorageRefused when there is no database of this version, or a server works on it. */
export const withSource = <T>(end: End, work: Work<T>): Promise<T> =>
  "uri" in end ? fromServer(end.uri, work) : fromFile(end.dir, work);

/** Keeps what `work` has written when it resolves, and nothing of it when it rejects. StorageRefused when there is data already. */
export const withTarget = <T>(end: End, work: Work<T>): Promise<T> =>
  "uri" in end ? toServer(end.uri, work) : toFile(end.dir, work);

/* ------------------------------------------------------------------------------------ files */

async function fromFile<T>(dir: string, work: Work<T>): Promise<T> {
  const file = path.join(dir, "skein.db");
  if (!fs.existsSync(file)) throw new StorageRefused(`There is no database ${file}.`);
  return locked(dir, () =>
    refuseCorrupt(file, async () => {
      inspect(file);
      const connection = new LibsqlConnection(file);
      try {
        connection.exec("PRAGMA busy_timeout=5000; PRAGMA query_only=ON; BEGIN");
        const db = onFile(connection);
        requireCurrent(file, await schemaState("sqlite", db));
        return await work({ dialect: "sqlite", db: db as never });
      } finally {
        connection.close();
      }
    }),
  );
}

function toFile<T>(dir: string, work: Work<T>): Promise<T> {
  const file = path.join(dir, "skein.db");
  return locked(dir, async () => {
    removeUnfinished(file);
    if (fs.existsSync(file)) await refuseFull(file);
    let result: { readonly value: T } | undefined;
    try {
      await createWhole(file, async (connection) => {
        await buildSchema(connection);
        connection.exec("BEGIN IMMEDIATE");
        result = { value: await work({ dialect: "sqlite", db: onFile(connection) as never }) };
        connection.exec("COMMIT");
      });
    } finally {
      removeUnfinished(file);
    }
    if (result === undefined) throw new Error("a file was made without being filled");
    return result.value;
  });
}

/** A file without a row makes way for the new one. */
async function refuseFull(file: string): Promise<void> {
  inspect(file);
  const connection = new LibsqlConnection(file);
  try {
    const db = onFile(connection);
    requireCurrent(file, await schemaState("sqlite", db));
    if (!(await isEmpty({ dialect: "sqlite", db: db as never }))) throw full(file);
  } finally {
    connection.close();
  }
  for (const suffix of ["", "-wal", "-shm"]) fs.rmSync(file + suffix, { force: true });
}

const onFile = (database: LibsqlConnection): Kysely<Database> =>
  new Kysely<Database>({ dialect: new SqliteDialect({ database }) });

/** No server opens the folder meanwhile. */
async function locked<T>(dir: string, work: () => Promise<T>): Promise<T> {
  const lock = lockFolder(dir);
  try {
    return await work();
  } finally {
    lock.exec("ROLLBACK");
    lock.close();
  }
}

/* ------------------------------------------------------------------------------- PostgreSQL */

function fromServer<T>(uri: string, work: Work<T>): Promise<T> {
  return connected(uri, "begin isolation level repeatable read read only", async (db) => {
    const location = withoutPassword(uri);
    requireCurrent(location, await schemaState("postgres", db));
    const leases = await liveLeases(db, Date.now());
    if (leases > 0) {
      throw new StorageRefused(`Servers work on ${location}: ${leases} runs have live leases. Stop them first.`);
    }
    const alone = (): Promise<void> => refuseServed(location, db);
    await alone();
    return work({ dialect: "postgres", db: db as never, alone });
  });
}

/** A server that has just ended may still have its sessions for a moment. */
const ENDING_MS = 3000;
const LOOK_MS = 100;

/** A server stores what its clients send whether it works on runs or not, and a snapshot has nothing of that. */
async function refuseServed(location: string, db: Kysely<Database>): Promise<void> {
  for (let waited = 0; ; waited += LOOK_MS) {
    // Within a transaction the first look is what all later ones see, unless it is forgotten.
    await sql`select pg_stat_clear_snapshot()`.execute(db);
    const { rows } = await sql`select 1 from pg_stat_activity where ${sql.raw(IS_OF_SERVER)} limit 1`.execute(db);
    if (rows.length === 0) return;
    if (waited >= ENDING_MS) throw new StorageRefused(`Servers are connected to ${location}. Stop them first.`);
    await sleep(LOOK_MS);
  }
}

async function toServer<T>(uri: string, work: Work<T>): Promise<T> {
  const location = withoutPassword(uri);
  const storage = await openPostgres({ uri });
  await storage.close();
  return connected(uri, "begin", async (db) => {
    requireCurrent(location, await schemaState("postgres", db));
    // Servers that start now wait until the move is over; those that run cannot write these tables.
    await sql`select pg_advisory_xact_lock(${sql.lit(MIGRATION_LOCK)})`.execute(db);
    await sql`lock table assistants, threads, runs in exclusive mode`.execute(db);
    const side: Side = { dialect: "postgres", db: db as never };
    if (!(await isEmpty(side))) throw full(location);
    return work(side);
  });
}

/** Runs `work` in one transaction on a connection without time limits. */
async function connected<T>(uri: string, begin: string, work: (db: Kysely<Database>) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: uri, types, application_name: "skein move", keepAlive: true });
  client.on("error", () => undefined);
  try {
    await client.connect();
  } catch (error) {
    throw new StorageRefused(`The database ${withoutPassword(uri)} cannot be used: ${(error as Error).message}`, {
      cause: error,
    });
  }
  try {
    await client.query(begin);
    const connection = {
      query: (text: string, values: readonly unknown[]) => client.query(text, values as unknown[]),
      release: () => undefined,
    } as unknown as PostgresPoolClient;
    const result = await work(kyselyOver(async () => connection, new PostgresAdapter(), null));
    await client.query("commit");
    return result;
  } finally {
    // Without a commit it takes everything back.
    await client.end();
  }
}

/* ---------------------------------------------------------------------------------- refusals */

const full = (location: string): StorageRefused =>
  new StorageRefused(`There is data in ${location} already. Move to an empty place.`);

function requireCurrent(location: string, { missing, unknown }: SchemaState): void {
  if (missing.length > 0) {
    throw new StorageRefused(
      `The schema of ${location} is older than this version of Skein. Run \`skein migrate\` on it first.`,
    );
  }
  if (unknown.length > 0) {
    throw new StorageRefused(
      `The schema of ${location} is newer than this version of Skein. Move it with that version.`,
    );
  }
}
