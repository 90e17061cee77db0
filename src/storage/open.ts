/** The storage that the settings name. */
import type { Sealing } from "./sealing.ts";
import { openSqlite } from "./sqlite.ts";
import type { Storage } from "./storage.ts";

export { StorageRefused } from "./refused.ts";

export interface OpenOptions {
  /** Null: a file in `dataDir`. */
  readonly database: { readonly uri: string; readonly poolMax: number; readonly statementTimeoutMs: number } | null;
  readonly dataDir: string;
  /** Trouble that no caller can be told about. */
  readonly onError?: (error: unknown) => void;
  /** Names of the migrations that were applied, when any were. */
  readonly onMigrated?: (names: readonly string[]) => void;
  readonly sealing: Sealing | null;
}

/** Opens it with its schema up to date. Rejects with StorageRefused when it cannot be used. */
export async function openStorage({ database, dataDir, ...options }: OpenOptions): Promise<Storage> {
  if (database === null) return openSqlite({ dir: dataDir, ...options });
  return (await import("./postgres.ts")).openPostgres({ ...database, ...options });
}
