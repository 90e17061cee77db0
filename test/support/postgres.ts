/** Real PostgreSQL for tests: `SKEIN_TEST_POSTGRES`, or the one on this machine. */
import { randomBytes } from "node:crypto";
import pg from "pg";
import type { TestContext } from "vitest";
import { requireOrSkip } from "./requirements.ts";

export const POSTGRES = process.env.SKEIN_TEST_POSTGRES ?? "postgres://root@127.0.0.1:5432/postgres";

/** Runs statements on a connection of their own. */
export async function onPostgres(uri: string, ...statements: readonly string[]): Promise<pg.QueryResult[]> {
  const client = new pg.Client({ connectionString: uri });
  await client.connect();
  try {
    const results: pg.QueryResult[] = [];
    for (const statement of statements) results.push(await client.query(statement));
    return results;
  } finally {
    await client.end();
  }
}

async function missing(): Promise<string | undefined> {
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
  readonly uri: string;
  drop(): Promise<void>;
}

/** An empty schema, which the URI makes the one in use: made in milliseconds. */
export async function freshSchema(): Promise<TestDatabase> {
  const name = `skein_${randomBytes(6).toString("hex")}`;
  await onPostgres(POSTGRES, `create schema ${name}`);
  const uri = new URL(POSTGRES);
  uri.searchParams.set("options", `-c search_path=${name}`);
  return { uri: uri.href, drop: async () => void (await onPostgres(POSTGRES, `drop schema ${name} cascade`)) };
}
