import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { beforeEach, describe, onTestFinished } from "vitest";
import { openPostgres, type PostgresOptions } from "../../src/storage/postgres.ts";
import { openSqlite } from "../../src/storage/sqlite.ts";
import type { Storage } from "../../src/storage/storage.ts";
import { freshSchema, requirePostgres } from "../support/postgres.ts";

/** A folder of its own for this test; gone afterwards. */
export function tempDir(): string {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), "skein-storage-"));
  onTestFinished(() => fs.rmSync(dir, { recursive: true, force: true }));
  return dir;
}

export const DIALECTS = ["sqlite", "postgres"] as const;
export type Dialect = (typeof DIALECTS)[number];

/** An empty storage of this dialect; gone when the test ends. */
export type Open = () => Promise<Storage>;

/** The same tests on a fresh database of each dialect. */
export function eachDialect(tests: (open: Open, dialect: Dialect) => void): void {
  describe("sqlite", () => tests(openTemp, "sqlite"));
  describe("postgres", () => {
    beforeEach(requirePostgres);
    tests(() => openTempPostgres(), "postgres");
  });
}

/** The URI of an empty schema; gone when the test ends. */
export async function tempPostgres(): Promise<string> {
  const schema = await freshSchema();
  onTestFinished(schema.drop);
  return schema.uri;
}

/** A storage on an empty schema, or on another storage's. */
export async function openTempPostgres(options: Partial<PostgresOptions> = {}): Promise<Storage> {
  const uri = options.uri ?? (await tempPostgres());
  const storage = await openPostgres({ poolMax: 4, ...options, uri });
  onTestFinished(() => storage.close());
  return storage;
}

/** A storage on a real file; closed and removed when the test ends. */
export async function openTemp(dir = tempDir()): Promise<Storage> {
  const storage = await openSqlite({ dir });
  onTestFinished(() => storage.close());
  return storage;
}

export { NOW, newRun, newThread } from "./new-run.ts";
