/** Real PostgreSQL for tests: `SKEIN_TEST_POSTGRES`, or the one on this machine. */
import { randomBytes } from "node:crypto";
import pg from "pg";
import type { TestContext } from "vitest";
import { requireOrSkip } from "./requirements.ts";

export const POSTGRES = process.env.SKEIN_TEST_POSTGRES ?? "postgres://root@127.0.0.1:5432/postgres";

/** Runs statements on a connection of their own; the rows of the last one. */
export async function onPostgres<Row extends pg.QueryResultRow>(
  uri: string,
  ...statements: readonly string[]
): Promise<Row[]> {
  const client = new pg.Client({ connectionString: uri });
  await client.connect();
  try {
    let rows: Row[] = [];
    for (const statement of statements) rows = (await client.query<Row>(statement)).rows;
    return rows;
  } finally {
    await client.end();
  }
}

/** Why there is no PostgreSQL; undefined when there is. */
export async function missing(): Promise<string | undefined> {
  try {
    await onPostgres(POSTGRES, "select 1");
    return undefined;
  } catch (error) {
    return `nothing answers at ${new URL(POSTGRES).host}: ${(error as Error).message}`;
  }
}

/** Skips the test where there is no PostgreSQL; fails it in CI. */
export const requirePostgres = (context: Pick<TestContext, "skip">): Promise<void> =>
  requireOrSkip("PostgreSQL", missing, context);

export interface TestDatabase {
  /** Of the schema. */
  readonly name: string;
  readonly uri: string;
  drop(): Promise<void>;
}

/** An empty schema, which the URI makes the one in use: made in milliseconds. Its connections go by its name. */
export async function freshSchema(): Promise<TestDatabase> {
  const name = `skein_${randomBytes(6).toString("hex")}`;
  await onPostgres(POSTGRES, `create schema ${name}`);
  const uri = new URL(POSTGRES);
  uri.searchParams.set("options", `-c search_path=${name}`);
  uri.searchParams.set("application_name", name);
  return { name, uri: uri.href, drop: async () => void (await onPostgres(POSTGRES, `drop schema ${name} cascade`)) };
}
