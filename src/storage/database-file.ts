/**
 * The file before SQLite touches it. SQLite takes an empty file for a new database and repairs by forgetting;
 * a server that holds other people's work must not. So: look first, refuse what is damaged, and let a new
 * database appear only when it is whole.
 */
import fs from "node:fs";
import path from "node:path";
import { LibsqlConnection, sqliteCode } from "./libsql.ts";
import { StorageRefused } from "./refused.ts";

const MAGIC = "SQLite format 3\0";
const HEADER_BYTES = 100;
const REMEDY = "Restore it from a backup, or move it away to start with an empty database.";

export const damaged = (file: string, why: string, cause?: unknown): StorageRefused =>
  new StorageRefused(`The database ${file} is damaged: ${why}. ${REMEDY}`, { cause });

/** Runs a step of opening; what SQLite calls corrupt becomes a refusal. */
export async function refuseCorrupt<T>(file: string, step: () => T | Promise<T>): Promise<T> {
  try {
    return await step();
  } catch (error) {
    const corrupt = /^SQLITE_(CORRUPT|NOTADB)/.test(sqliteCode(error));
    throw corrupt ? damaged(file, (error as Error).message, error) : error;
  }
}

/**
 * One process per folder: an exclusive transaction on a second, tiny file, held open for life.
 * The lock is the operating system's, so it goes when the process goes, however it goes.
 */
export function lockFolder(dir: string): LibsqlConnection {
  const file = path.join(dir, "skein.lock");
  let lock: LibsqlConnection | undefined;
  try {
    fs.mkdirSync(dir, { recursive: true });
    lock = new LibsqlConnection(file);
    lock.exec("PRAGMA busy_timeout=0");
    lock.exec("BEGIN EXCLUSIVE");
    return lock;
  } catch (error) {
    lock?.close();
    if (!sqliteCode(error).startsWith("SQLITE_BUSY")) {
      throw new StorageRefused(`The lock file ${file} cannot be used: ${(error as Error).message}.`, { cause: error });
    }
    throw new StorageRefused(`Another Skein process serves the folder ${dir}. Stop it, or choose another folder.`);
  }
}

/** True when there is a sound database, false when there is none. Throws when it is damaged. */
export function inspect(file: string): boolean {
  if (!fs.existsSync(file)) {
    if (!fs.existsSync(`${file}-wal`)) return false;
    throw new StorageRefused(
      `The database ${file} is missing, but its log ${file}-wal is there. Put the file back beside its log, or move the log away.`,
    );
  }
  const actual = fs.statSync(file).size;
  const header = readAt(file, 0, HEADER_BYTES);
  if (header.length < HEADER_BYTES)
    throw damaged(file, `it has ${actual} bytes, at least ${HEADER_BYTES} are expected`);
  if (header.toString("latin1", 0, MAGIC.length) !== MAGIC) {
    throw damaged(file, `its ${actual} bytes are not a SQLite database`);
  }
  checkLength(file, header, actual);
  return true;
}

/**
 * The header says how many pages there are. A process killed while it moved its log into the file leaves a file that is
 * too short and no harm: the pages that are missing are still in the log, or the log says that there are fewer. Any
 * other missing page is lost.
 */
function checkLength(file: string, header: Buffer, actual: number): void {
  const stated = header.readUInt16BE(16);
  const pageSize = stated === 1 ? 65_536 : stated;
  const pagesValid = header.readUInt32BE(24) === header.readUInt32BE(92);
  const inHeader = header.readUInt32BE(28);
  if (!pagesValid || inHeader * pageSize <= actual) return;
  const log = readLog(`${file}-wal`, pageSize);
  const pages = log.size ?? inHeader;
  for (let page = Math.floor(actual / pageSize) + 1; page <= pages; page++) {
    if (!log.pages.has(page)) throw damaged(file, `it has ${actual} bytes, ${pages * pageSize} are expected`);
  }
}

interface Log {
  /** Numbers of the pages it holds. */
  readonly pages: ReadonlySet<number>;
  /** Pages of the database after its last commit; undefined when there is none. */
  readonly size: number | undefined;
}

/** What a write-ahead log holds (format: https://sqlite.org/fileformat.html#walformat). */
function readLog(wal: string, pageSize: number): Log {
  const pages = new Set<number>();
  let size: number | undefined;
  if (!fs.existsSync(wal)) return { pages, size };
  const log = fs.readFileSync(wal);
  const salt = log.subarray(16, 24);
  for (let at = 32; at + 24 + pageSize <= log.length; at += 24 + pageSize) {
    if (!log.subarray(at + 8, at + 16).equals(salt)) break;
    pages.add(log.readUInt32BE(at));
    const committed = log.readUInt32BE(at + 4);
    if (committed > 0) size = committed;
  }
  return { pages, size };
}

function readAt(file: string, position: number, length: number): Buffer {
  const fd = fs.openSync(file, "r");
  try {
    const buffer = Buffer.alloc(length);
    return buffer.subarray(0, fs.readSync(fd, buffer, 0, length, position));
  } finally {
    fs.closeSync(fd);
  }
}

/** Builds a new database under another name and gives it its own when it is whole and on the disk. */
export async function createWhole(file: string, build: (connection: LibsqlConnection) => Promise<void>): Promise<void> {
  const unfinished = `${file}.new`;
  const connection = new LibsqlConnection(unfinished);
  try {
    connection.exec("PRAGMA journal_mode=DELETE");
    await build(connection);
  } finally {
    connection.close();
  }
  sync(unfinished);
  fs.renameSync(unfinished, file);
  sync(path.dirname(file));
}

/** What a start that was killed half way left behind. */
export function removeUnfinished(file: string): void {
  for (const suffix of [".new", ".new-journal", ".new-wal", ".new-shm"]) fs.rmSync(file + suffix, { force: true });
}

function sync(target: string): void {
  const fd = fs.openSync(target, "r");
  try {
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}
