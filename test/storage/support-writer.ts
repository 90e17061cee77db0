/** Child process of the kill -9 test: writes runs for ever and prints how many were acknowledged. */
import { openSqlite } from "../../src/storage/sqlite.ts";
import * as runs from "../../src/storage/tables/runs.ts";
import { newRun } from "./new-run.ts";

const storage = await openSqlite({ dir: process.argv[2] ?? "." });
for (let count = 1; ; count++) {
  await storage.write((tx) => runs.insert(tx, newRun()));
  if (count % 20 === 0) process.stdout.write(`${count}\n`);
}
