/**
 * Queries of the hot path. Building one with Kysely costs more than running it, so it is built once, with slots where
 * values go, and afterwards only the slots are filled. Kysely still writes the SQL, so both dialects share the definition.
 */
import type { Compilable, CompiledQuery, Insertable, InsertQueryBuilder, InsertResult, QueryResult } from "kysely";
import type { Database } from "./database.ts";
import type { Tx } from "./storage.ts";

/** Where a value goes once it is known. */
export class Slot {
  readonly #name: string;
  readonly #change: ((value: unknown) => unknown) | undefined;

  constructor(name: string, change?: (value: unknown) => unknown) {
    this.#name = name;
    this.#change = change;
  }

  /** The same slot, whose values are changed on their way in. */
  through(change: (value: unknown) => unknown): Slot {
    return new Slot(this.#name, change);
  }

  of(values: Readonly<Record<string, unknown>>): unknown {
    const value = values[this.#name];
    return this.#change === undefined ? value : this.#change(value);
  }
}

/** `slots.run_id` stands for the value `run_id` of each later call. */
const SLOTS = new Proxy({}, { get: (_target, name) => new Slot(String(name)) });

/** Runs a compiled query without Kysely's way through plugins and pool; for databases with one synchronous connection. */
export type DirectQuery = (query: CompiledQuery) => QueryResult<unknown>;

const direct = new WeakMap<object, DirectQuery>();

/** Lets prepared queries of this database run by `run`: on an embedded one the detour costs more than the query. */
export function runDirectly(db: Tx, run: DirectQuery): void {
  direct.set(db.getExecutor().adapter, run);
}

/** SQL of the queries here: few texts, used over and over. */
const texts = new Set<string>();

/** Whether a text is one of a prepared query's, so that a database server gains from keeping its plan. */
export const isPrepared = (text: string): boolean => texts.has(text);

/** A query with named parameters, compiled at its first use for each database. */
export function prepared<P extends object, O = unknown>(
  build: (db: Tx, slots: P) => Compilable<O>,
): (db: Tx, values: P) => Promise<QueryResult<O>> {
  const compiled = new WeakMap<object, CompiledQuery<O>>();
  return async (db, values) => {
    const { adapter } = db.getExecutor();
    const template = compiled.get(adapter) ?? compile(build(db, SLOTS as P));
    compiled.set(adapter, template);
    const query = { ...template, parameters: fill(template.parameters, values as Record<string, unknown>) };
    const run = direct.get(adapter);
    return run === undefined ? db.executeQuery(query) : (run(query) as QueryResult<O>);
  };
}

function compile<O>(query: Compilable<O>): CompiledQuery<O> {
  const compiled = query.compile();
  texts.add(compiled.sql);
  return compiled;
}

const fill = (parameters: readonly unknown[], values: Readonly<Record<string, unknown>>): unknown[] =>
  parameters.map((parameter) => (parameter instanceof Slot ? parameter.of(values) : parameter));

type Table = keyof Database & string;
type Insert<T extends Table> = InsertQueryBuilder<Database, T, InsertResult>;

/** Largest number of rows in one statement; each size up to here is compiled once. */
const ROWS_PER_INSERT = 32;

/** An insert of any number of rows with these columns; `finish` adds conflict handling. */
export function insertRows<T extends Table>(
  table: T,
  columns: readonly (keyof Insertable<Database[T]> & string)[],
  finish: (insert: Insert<T>) => Insert<T> = (insert) => insert,
): (db: Tx, rows: readonly Insertable<Database[T]>[]) => Promise<number> {
  const bySize: ((db: Tx, values: object) => Promise<QueryResult<unknown>>)[] = [];
  const ofSize = (size: number) => {
    const slots = Array.from({ length: size }, (_, row) => rowOfSlots<T>(columns, row));
    return prepared<object>((db) => finish(db.insertInto(table).values(slots)));
  };
  return async (db, rows) => {
    let inserted = 0n;
    for (let start = 0; start < rows.length; start += ROWS_PER_INSERT) {
      const part = rows.slice(start, start + ROWS_PER_INSERT);
      bySize[part.length] ??= ofSize(part.length);
      const insert = bySize[part.length] as (typeof bySize)[number];
      inserted += (await insert(db, flatten(columns, part))).numAffectedRows ?? 0n;
    }
    return Number(inserted);
  };
}

const rowOfSlots = <T extends Table>(columns: readonly string[], row: number): Insertable<Database[T]> =>
  Object.fromEntries(columns.map((column) => [column, new Slot(`${row}.${column}`)])) as Insertable<Database[T]>;

function flatten(columns: readonly string[], rows: readonly object[]): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  rows.forEach((row, index) => {
    for (const column of columns) values[`${index}.${column}`] = (row as Record<string, unknown>)[column];
  });
  return values;
}
