/**
 * Storage in one SQLite file. A writer (group commit) and a reader share it through the write-ahead log,
 * so a reader never waits and never sees what is not committed.
 */
import fs from "node:fs";
import path from "node:path";
import { Kysely, SqliteDialect } from "kysely";
import { unavailable } from "../errors.ts";
import type { Database } from "./database.ts";
import { createWhole, damaged, inspect, lockFolder, refuseCorrupt, removeUnfinished } from "./database-file.ts";
import { agreeOnKeysIn } from "./encryption-keys.ts";
import { GroupCommit } from "./group-commit.ts";
import { LibsqlConnection } from "./libsql.ts";
import { LogSync } from "./log-sync.ts";
import { migrate, refuseNewer } from "./migrate.ts";
import { runDirectly } from "./prepared.ts";
import { Reclaim } from "./reclaim.ts";
import { opener, refuseSearch, type Sealing, sealingPlugin } from "./sealing.ts";
import type { Search, Storage, Tx, WriteOptions } from "./storage.ts";

export { StorageRefused } from "./refused.ts";

export interface SqliteOptions {
  /** Folder of `skein.db`; made when it is missing. */
  readonly dir: string;
  /** Trouble that no caller can be told about, such as a checkpoint that failed. */
  readonly onError?: (error: unknown) => void;
  /** Names of the migrations that were applied, when any were. */
  readonly onMigrated?: (names: readonly string[]) => void;
  /** Encrypts what holds state; data is plain when it is not given. */
  readonly sealing?: Sealing | null;
}

/** Above this size a check of the whole file would hold up the start. */
const QUICK_CHECK_BYTES = 64 * 1024 * 1024;

/** Rewriting a file of this size holds up the start for less than a second. */
const REWRITE_BYTES = 64 * 1024 * 1024;

const PRAGMAS = [
  // Writes that must reach the disk are synced aside: see log-sync.ts.
  "synchronous=NORMAL",
  "foreign_keys=ON",
  "temp_store=MEMORY",
  "cache_size=-32768",
  "journal_size_limit=67108864",
  "wal_autocheckpoint=8000",
  // What is deleted is overwritten: no cost that could be measured, as the pages are written anyway.
  "secure_delete=ON",
];

export async function openSqlite({
  dir,
  onError = () => {},
  onMigrated = () => {},
  sealing = null,
}: SqliteOptions): Promise<Storage> {
  const file = path.join(path.resolve(dir), "skein.db");
  // The lock comes first: looking at a file that this process has open already would drop SQLite's own locks on it.
  const lock = lockFolder(path.resolve(dir));
  const applied: string[] = [];
  try {
    removeUnfinished(file);
    if (!inspect(file))
      await createWhole(file, async (connection) => void applied.push(...(await buildSchema(connection))));
    const storage = await refuseCorrupt(file, () => open(file, lock, sealing, onError, applied));
    if (applied.length > 0) onMigrated(applied);
    return storage;
  } catch (error) {
    unlock(lock);
    throw error;
  }
}

/** The schema in an empty file. Names of the migrations. */
export async function buildSchema(connection: LibsqlConnection): Promise<readonly string[]> {
  // Must come before the first table.
  connection.exec("PRAGMA auto_vacuum=INCREMENTAL");
  return migrate(connection, kyselyOn(connection, null));
}

async function open(
  file: string,
  lock: LibsqlConnection,
  sealing: Sealing | null,
  onError: (error: unknown) => void,
  applied: string[],
): Promise<Storage> {
  const writer = connect(file, sealing);
  try {
    const writerDb = kyselyOn(writer, sealing);
    configure(writer);
    checkQuickly(file, writer);
    await refuseNewer(file, writerDb);
    applied.push(...(await migrate(writer, writerDb)));
    await agreeOnKeysIn(writerDb, file, sealing);
    letShrink(file, writer);
    return new SqliteStorage({ file, lock, writer, writerDb, sealing, onError });
  } catch (error) {
    writer.close();
    throw error;
  }
}

const connect = (file: string, sealing: Sealing | null): LibsqlConnection =>
  new LibsqlConnection(file, sealing === null ? undefined : opener(sealing));

/** Files of earlier versions cannot shrink. A small one is rewritten once so that it can. */
function letShrink(file: string, connection: LibsqlConnection): void {
  const [row] = connection.pragma("auto_vacuum");
  if (row?.auto_vacuum === 2 || fs.statSync(file).size > REWRITE_BYTES) return;
  connection.exec("PRAGMA auto_vacuum=INCREMENTAL; VACUUM");
}

function configure(connection: LibsqlConnection): void {
  // First of all: who looks at the file from outside (a backup, a shell) may hold it for a moment, even now.
  connection.exec("PRAGMA busy_timeout=5000");
  connection.exec("PRAGMA journal_mode=WAL");
  for (const pragma of PRAGMAS) connection.exec(`PRAGMA ${pragma}`);
}

function checkQuickly(file: string, connection: LibsqlConnection): void {
  if (fs.statSync(file).size > QUICK_CHECK_BYTES) return;
  const [row] = connection.pragma("quick_check(1)");
  const verdict = String(Object.values(row ?? {})[0]);
  if (verdict !== "ok") throw damaged(file, verdict);
}

function kyselyOn(database: LibsqlConnection, sealing: Sealing | null): Kysely<Database> {
  const plugins = sealing === null ? [] : [sealingPlugin(sealing)];
  const db = new Kysely<Database>({ dialect: new SqliteDialect({ database }), plugins });
  runDirectly(db, (query) => database.query(query.sql, query.parameters));
  return db;
}

function unlock(lock: LibsqlConnection): void {
  lock.exec("ROLLBACK");
  lock.close();
}

/** SQLite makes the log at the first transaction after opening. */
function openedLog({ file, writer }: Parts): string {
  const log = `${file}-wal`;
  if (!fs.existsSync(log)) writer.exec("BEGIN IMMEDIATE; PRAGMA user_version; COMMIT");
  return log;
}

interface Parts {
  readonly file: string;
  readonly lock: LibsqlConnection;
  readonly writer: LibsqlConnection;
  readonly writerDb: Kysely<Database>;
  readonly sealing: Sealing | null;
  readonly onError: (error: unknown) => void;
}

class SqliteStorage implements Storage {
  readonly dialect = "sqlite";
  readonly isShared = false;
  readonly now = Date.now;
  readonly location: string;
  readonly #parts: Parts;
  readonly #reader: LibsqlConnection;
  readonly #readerDb: Kysely<Database>;
  readonly #sync: LogSync;
  readonly #commits: GroupCommit;
  readonly #reclaim: Reclaim;
  readonly #closed = new AbortController();
  #closing: Promise<void> | null = null;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.location = parts.file;
    this.#reader = connect(parts.file, parts.sealing);
    configure(this.#reader);
    this.#reader.exec("PRAGMA query_only=ON");
    this.#readerDb = kyselyOn(this.#reader, parts.sealing);
    this.#sync = new LogSync(openedLog(parts), parts.onError);
    this.#commits = new GroupCommit(parts.writer, this.#sync, parts.onError);
    this.#reclaim = new Reclaim(parts.writer, this.#commits);
  }

  async read<T>(work: (db: Tx) => Promise<T>): Promise<T> {
    if (this.#closing !== null) throw unavailable("the database is closed");
    return work(this.#readerDb);
  }

  write<T>(work: (tx: Tx) => Promise<T>, options: WriteOptions = {}): Promise<T> {
    return this.#commits.submit(() => work(this.#parts.writerDb), options);
  }

  checkSearch(search: Search): void {
    if (this.#parts.sealing !== null) refuseSearch(this.#parts.sealing, search);
  }

  async reclaim(): Promise<void> {
    if (!this.#closed.signal.aborted) await this.#reclaim.round(this.#closed.signal);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#closed.abort();
    await this.#commits.drain();
    this.#reader.close();
    this.#foldLog();
    this.#parts.writer.close();
    this.#sync.close();
    unlock(this.#parts.lock);
  }

  /** Leaves one file behind, which is what people copy. Nothing is lost when it fails: the log stays. */
  #foldLog(): void {
    try {
      this.#parts.writer.exec("PRAGMA wal_checkpoint(TRUNCATE)");
    } catch (error) {
      this.#parts.onError(error);
    }
  }
}
