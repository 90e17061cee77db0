/**
 * libsql as Kysely's SQLite driver wants it. Four things need care, all measured on libsql 0.5:
 *
 * - Kysely prepares a statement for each query; preparing costs more than running, so statements are
 *   kept by their SQL text.
 * - A boolean parameter aborts the whole process (a panic in native code), so each parameter is checked.
 * - Rows as objects cost more, and hold blobs as `ArrayBuffer`; rows as arrays hold them as `Buffer`. So rows are read as
 *   arrays, and objects are made here.
 * - Numbers are bound as REAL: a column needs INTEGER affinity to hold them as integers.
 */

import type { QueryResult } from "kysely";
import Libsql from "libsql";
import { unavailable } from "../errors.ts";

type Row = Record<string, unknown>;
type NativeStatement = Libsql.Statement<unknown[]>;

const KEPT_STATEMENTS = 400;

/** What a value of a row is before anyone sees it. */
type Opener = (value: unknown) => unknown;

export class LibsqlConnection {
  readonly #native: Libsql.Database;
  readonly #open: Opener | undefined;
  /** Least recently used first. */
  readonly #statements = new Map<string, CachedStatement>();

  constructor(path: string, open?: Opener) {
    this.#native = new Libsql(path);
    this.#open = open;
  }

  get inTransaction(): boolean {
    return this.#native.inTransaction;
  }

  prepare(text: string): CachedStatement {
    if (!this.#native.open) throw unavailable("the database is closed");
    const statement = this.#statements.get(text) ?? new CachedStatement(this.#native.prepare(text), this.#open);
    this.#statements.delete(text);
    this.#statements.set(text, statement);
    if (this.#statements.size > KEPT_STATEMENTS) this.#forgetOldest();
    return statement;
  }

  /** Runs a query at once, with Kysely's kind of result. */
  query(text: string, parameters: readonly unknown[]): QueryResult<unknown> {
    const statement = this.prepare(text);
    if (statement.reader) return { rows: statement.all(parameters) };
    const { changes, lastInsertRowid } = statement.run(parameters);
    return { rows: [], numAffectedRows: BigInt(changes), insertId: BigInt(lastInsertRowid) };
  }

  /** For pragmas and transaction control: nothing is kept, nothing comes back. */
  exec(text: string): void {
    this.#native.exec(text);
  }

  pragma(text: string): Row[] {
    return this.#native.pragma(text) as Row[];
  }

  close(): void {
    this.#statements.clear();
    if (this.#native.open) this.#native.close();
  }

  #forgetOldest(): void {
    for (const oldest of this.#statements.keys()) {
      this.#statements.delete(oldest);
      return;
    }
  }
}

class CachedStatement {
  readonly #native: NativeStatement;
  readonly #columns: readonly string[];
  readonly #open: Opener | undefined;
  readonly reader: boolean;

  constructor(native: NativeStatement, open: Opener | undefined) {
    this.#native = native;
    this.#open = open;
    this.reader = native.reader;
    this.#columns = this.reader ? native.columns().map((column) => column.name) : [];
    if (this.reader) native.raw(true);
  }

  all(parameters: readonly unknown[]): Row[] {
    const rows = this.#native.all(bindable(parameters)) as unknown[][];
    const open = this.#open;
    return rows.map((values) => this.#toRow(open === undefined ? values : values.map(open)));
  }

  run(parameters: readonly unknown[]): { changes: number | bigint; lastInsertRowid: number | bigint } {
    return this.#native.run(bindable(parameters));
  }

  *iterate(parameters: readonly unknown[]): IterableIterator<Row> {
    yield* this.all(parameters);
  }

  #toRow(values: readonly unknown[]): Row {
    const row: Row = {};
    this.#columns.forEach((column, index) => {
      row[column] = values[index];
    });
    return row;
  }
}

function bindable(parameters: readonly unknown[]): unknown[] {
  for (const value of parameters) {
    const type = typeof value;
    const ok =
      type === "string" || type === "number" || type === "bigint" || value === null || value instanceof Uint8Array;
    if (!ok) throw new TypeError(`A value of type ${type} cannot be a parameter of a query.`);
  }
  return parameters as unknown[];
}

/** SQLite's word for what went wrong (`SQLITE_BUSY` …), or the empty string. */
export function sqliteCode(thrown: unknown): string {
  if (!(thrown instanceof Error) || !("code" in thrown)) return "";
  return typeof thrown.code === "string" ? thrown.code : "";
}
