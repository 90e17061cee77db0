import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { onTestFinished } from "vitest";
import { openSqlite } from "../../src/storage/sqlite.ts";
import type { Storage } from "../../src/storage/storage.ts";

/** A folder of its own for this test; gone afterwards. */
export function tempDir(): string {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), "skein-storage-"));
  onTestFinished(() => fs.rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** A storage on a real file; closed and removed when the test ends. */
export async function openTemp(dir = tempDir()): Promise<Storage> {
  const storage = await openSqlite({ dir });
  onTestFinished(() => storage.close());
  return storage;
}

export { NOW, newRun } from "./new-run.ts";
