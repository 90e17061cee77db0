/**
 * A database taken to another place, and to the other dialect: every table, row by row as it is, sealed values sealed.
 *
 * - One snapshot of the source: a read transaction on SQLite, REPEATABLE READ on PostgreSQL.
 * - All or nothing at the target: a file is built aside and gets its name when it is whole; PostgreSQL takes one
 *   transaction. A move that is killed leaves what the next start of either removes by itself.
 * - Before that, the target is read back: the same number of rows in each table, and the same checksum over their logical
 *   values in the order of their keys, computed by the same code on both sides.
 *
 * Logical values: numbers, texts, bytes. Text in a column of bytes is its UTF-8; a vector is its 32-bit floats, little-endian.
 * What triggers keep on SQLite (the pairs of metadata) is not moved: they make it anew.
 */
import { createHash, type Hash } from "node:crypto";
import { type Kysely, sql } from "kysely";
import { KEEPING } from "./sealed-columns.ts";
import { asVector } from "./vectors.ts";

type Cell = string | number | null | Buffer;
type Row = Readonly<Record<string, Cell>>;
type AnyDb = Kysely<Record<string, Record<string, unknown>>>;

/** Owners before what names them. */
export const MOVED = [
  ["encryption_keys", ["key_id"]],
  ["assistants", ["assistant_id"]],
  ["assistant_versions", ["assistant_id", "version"]],
  ["threads", ["seq"]],
  ["thread_values", ["seq"]],
  ["thread_lists", ["seq", "member", "first"]],
  ["runs", ["seq"]],
  ["checkpoints", ["thread_id", "checkpoint_ns", "checkpoint_id"]],
  ["checkpoint_blobs", ["thread_id", "checkpoint_ns", "channel", "version", "first"]],
  ["checkpoint_writes", ["thread_id", "checkpoint_ns", "checkpoint_id", "task_id", "idx"]],
  ["replaced_writes", ["thread_id", "replaced_by", "checkpoint_ns", "checkpoint_id", "task_id", "idx"]],
  ["event_logs", ["run_id"]],
  ["event_chunks", ["run_id", "first"]],
  ["outcomes", ["run_id"]],
  ["departed_runs", ["run_id"]],
  ["idempotency_keys", ["key"]],
  ["webhooks", ["webhook_id"]],
  ["webhook_deliveries", ["webhook_id", "attempt"]],
  ["crons", ["cron_id"]],
  ["store_items", ["namespace", "key"]],
  ["store_vectors", ["namespace", "key", "path"]],
] as const satisfies readonly (readonly [keyof typeof KEEPING, readonly string[]])[];

/** Kept by triggers of SQLite. */
export const DERIVED = ["metadata_pairs", "thread_pairs"] as const satisfies readonly (keyof typeof KEEPING)[];

/** Tables whose numbers count on. */
const COUNTED = ["threads", "runs"] as const;

export interface Summary {
  readonly table: string;
  readonly rows: number;
  /** SHA-256 of all logical values, in hexadecimal. */
  readonly checksum: string;
}

/** One side of a move, inside its transaction. Values are not sealed or opened on their way. */
export interface Side {
  readonly dialect: "sqlite" | "postgres";
  readonly db: AnyDb;
  /** Rejects when a server has come meanwhile: what it stores is not in the snapshot. Absent where none can. */
  alone?(): Promise<void>;
}

/** What the target has read back differs from what was written. */
export class MoveFailed extends Error {
  override readonly name = "MoveFailed";
}

/** True when no table that is moved has a row. */
export async function isEmpty({ db }: Side): Promise<boolean> {
  for (const [table] of MOVED) {
    const { rows } = await sql`select 1 from ${sql.table(table)} limit 1`.execute(db);
    if (rows.length > 0) return false;
  }
  return true;
}

/** Copies every table and verifies it. Throws MoveFailed; then the target's transaction must not be committed. */
export async function copyAll(from: Side, to: Side): Promise<Summary[]> {
  const moved: Summary[] = [];
  for (const [table, key] of MOVED) moved.push(await copyTable(from, to, table, key));
  for (const table of COUNTED) await countOn(from, to, table);
  for (const [index, [table, key]] of MOVED.entries()) {
    const there = await summarize(to, table, key);
    const here = moved[index];
    if (there.rows === here?.rows && there.checksum === here.checksum) continue;
    throw new MoveFailed(
      `The table ${table} arrived with ${there.rows} rows and the checksum ${there.checksum.slice(0, 12)}; ` +
        `it left with ${here?.rows} and ${here?.checksum.slice(0, 12)}.`,
    );
  }
  await from.alone?.();
  return moved;
}

async function copyTable(from: Side, to: Side, table: string, key: readonly string[]): Promise<Summary> {
  const tally = new Tally(table);
  for await (const rows of read(from, table, key)) {
    for (const row of rows) tally.add(row);
    await insert(to, table, rows);
  }
  return tally.summary;
}

async function summarize(side: Side, table: string, key: readonly string[]): Promise<Summary> {
  const tally = new Tally(table);
  for await (const rows of read(side, table, key)) for (const row of rows) tally.add(row);
  return tally.summary;
}

/* ---------------------------------------------------------------------------------- reading */

/** Bytes that are in memory at once, as well as the rows before tell. */
const CHUNK_BYTES = 4 * 1024 * 1024;
const FIRST_ROWS = 20;
const MOST_ROWS = 1000;

/** All rows in the order of their key, some at a time. */
async function* read({ db }: Side, table: string, key: readonly string[]): AsyncGenerator<readonly Row[], void> {
  const columns = columnsOf(table);
  const order = sql.join(key.map((column) => sql.ref(column)));
  let limit = FIRST_ROWS;
  let last: Row | undefined;
  for (;;) {
    const behind = last === undefined ? sql`true` : sql`(${order}) > (${sql.join(key.map((name) => last?.[name]))})`;
    const { rows } = await sql<Record<string, unknown>>`select ${sql.join(columns.map((column) => sql.ref(column)))}
      from ${sql.table(table)} where ${behind} order by ${order} limit ${sql.lit(limit)}`.execute(db);
    const logical = rows.map((row) => logicalRow(table, columns, row));
    if (logical.length > 0) yield logical;
    if (rows.length < limit) return;
    last = logical.at(-1);
    const bytes = logical.reduce((all, row) => all + sizeOf(row), 0) / logical.length;
    limit = Math.max(1, Math.min(MOST_ROWS, Math.floor(CHUNK_BYTES / bytes)));
  }
}

const columnsOf = (table: string): readonly string[] => Object.keys(KEEPING[table as keyof typeof KEEPING]);

const sizeOf = (row: Row): number =>
  Object.values(row).reduce(
    (all: number, cell) => all + (typeof cell === "object" || typeof cell === "string" ? (cell?.length ?? 0) : 8),
    0,
  );

const isBytes = (table: string, column: string): boolean =>
  (KEEPING as Readonly<Record<string, Readonly<Record<string, string>>>>)[table]?.[column] === "bytes";

function logicalRow(table: string, columns: readonly string[], row: Readonly<Record<string, unknown>>): Row {
  return Object.fromEntries(columns.map((column) => [column, logical(table, column, row[column])]));
}

function logical(table: string, column: string, value: unknown): Cell {
  if (value === null || typeof value === "number") return value;
  if (Array.isArray(value)) return Buffer.from(asVector(Float32Array.from(value as number[])));
  if (typeof value === "string") return isBytes(table, column) ? Buffer.from(value) : value;
  if (value instanceof Uint8Array) return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  throw new MoveFailed(`The table ${table} has a ${typeof value} in ${column}.`);
}

/** The number of rows and the checksum, so far. */
class Tally {
  readonly #table: string;
  readonly #hash: Hash = createHash("sha256");
  #rows = 0;

  constructor(table: string) {
    this.#table = table;
  }

  /** No two rows have the same bytes: each value says its kind and its length. */
  add(row: Row): void {
    this.#rows += 1;
    for (const cell of Object.values(row)) {
      if (cell === null) this.#hash.update("n");
      else if (typeof cell === "number") this.#hash.update(`d${cell};`);
      else {
        const isText = typeof cell === "string";
        this.#hash.update(`${isText ? "t" : "b"}${isText ? Buffer.byteLength(cell) : cell.length};`).update(cell);
      }
    }
  }

  get summary(): Summary {
    return { table: this.#table, rows: this.#rows, checksum: this.#hash.copy().digest("hex") };
  }
}

/* ---------------------------------------------------------------------------------- writing */

/** Parameters of one statement that both dialects take. */
const PARAMETERS = 30_000;

async function insert({ db }: Side, table: string, rows: readonly Row[]): Promise<void> {
  const atOnce = Math.max(1, Math.floor(PARAMETERS / columnsOf(table).length));
  for (let at = 0; at < rows.length; at += atOnce) {
    const some = rows.slice(at, at + atOnce);
    try {
      await db.insertInto(table).values(some).execute();
    } catch (error) {
      const range = some.length === 1 ? "a row" : `some of ${some.length} rows`;
      throw new MoveFailed(`The table ${table}: ${range} cannot be stored there: ${(error as Error).message}`, {
        cause: error,
      });
    }
  }
}

/** New rows get numbers that no row of the source has ever had, as far as it remembers. */
async function countOn(from: Side, to: Side, table: (typeof COUNTED)[number]): Promise<void> {
  const last = Math.max(await lastNumber(from, table), await highest(from, table));
  if (to.dialect === "postgres") {
    await sql`select setval(pg_get_serial_sequence(${table}, 'seq'), ${sql.lit(Math.max(last, 1))}, ${sql.lit(last > 0)})`.execute(
      to.db,
    );
    return;
  }
  // Threads are numbered behind the last row there is.
  if (table === "threads" || last === 0) return;
  await sql`delete from sqlite_sequence where name = ${table}`.execute(to.db);
  await sql`insert into sqlite_sequence (name, seq) values (${table}, ${last})`.execute(to.db);
}

async function highest({ db }: Side, table: string): Promise<number> {
  const { rows } = await sql<{ last: number | null }>`select max(seq) as last from ${sql.table(table)}`.execute(db);
  return rows[0]?.last ?? 0;
}

async function lastNumber({ dialect, db }: Side, table: string): Promise<number> {
  const query =
    dialect === "sqlite"
      ? sql<{ last: number }>`select seq as last from sqlite_sequence where name = ${table}`
      : sql<{
          last: number | null;
        }>`select pg_sequence_last_value(pg_get_serial_sequence(${table}, 'seq')::regclass) as last`;
  return (await query.execute(db)).rows[0]?.last ?? 0;
}
