/** The database of a server under test, past the server: a file, or a schema on PostgreSQL. */
import { join } from "node:path";
import Libsql from "libsql";
import pg from "pg";
import { onPostgres } from "./postgres.ts";
import { databaseUri } from "./server.ts";

// biome-ignore lint/suspicious/noExplicitAny: rows of any query; `expect` is the check.
type Any = any;

interface Reader {
  /** `?` stands for the next value. */
  all(sql: string, ...values: unknown[]): Promise<Any[]>;
  close(): void;
}

/** Reads the database of a server that has been stopped. */
export function database(data: string): Reader {
  const uri = databaseUri(data);
  if (uri !== undefined) return postgresReader(uri);
  const db = new Libsql(join(data, "skein.db"), { readonly: true });
  return { all: async (sql, ...values) => db.prepare(sql).all(...values), close: () => db.close() };
}

function postgresReader(uri: string): Reader {
  // Numbers come as numbers, as from SQLite.
  const types = {
    getTypeParser: (oid: number, format?: "text") =>
      oid === 20 || oid === 1700 ? Number : pg.types.getTypeParser(oid, format),
  };
  const pool = new pg.Pool({ connectionString: uri, max: 1, allowExitOnIdle: true, types: types as never });
  return {
    async all(sql, ...values) {
      let place = 0;
      return (
        await pool.query(
          sql.replaceAll("?", () => `$${++place}`),
          values,
        )
      ).rows;
    },
    close: () => void pool.end(),
  };
}

/** Rows of the database of a server, running or not. */
export async function query<T>(data: string, sql: string): Promise<T[]> {
  const db = database(data);
  try {
    return (await db.all(sql)) as T[];
  } finally {
    db.close();
  }
}

/** Writes to the database of a server, running or not. */
export async function execute(data: string, sql: string): Promise<void> {
  const uri = databaseUri(data);
  if (uri !== undefined) return void (await onPostgres(uri, sql));
  const db = new Libsql(join(data, "skein.db"));
  // Not by `pragma`, whose statement would be left open, and with it the log that `close` else puts into the file.
  db.exec("pragma busy_timeout = 5000");
  db.exec(sql);
  db.close();
}
