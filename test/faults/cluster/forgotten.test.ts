/** A PostgreSQL that crashes with a transaction in hand, and remembers not even its number. */
import { sql } from "kysely";
import { expect, test } from "vitest";
import { openPostgres } from "../../../src/storage/postgres.ts";
import * as runs from "../../../src/storage/tables/runs.ts";
import { newRun } from "../../storage/new-run.ts";
import { proxyTo } from "../../support/proxy.ts";
import { useServices } from "./kit/services.ts";

// What nobody flushes is not in its log: so the server gives out the numbers of these transactions anew.
const services = useServices(async (all) => ({ ...all, [Symbol.asyncDispose]: async () => undefined }), {
  wal_writer_delay: "10s",
  autovacuum: "off",
  // Or the background writer tells now and then which transactions run.
  wal_level: "minimal",
  max_wal_senders: "0",
});

test("a crash at COMMIT, after which the number of the transaction lies in the future: the work is done again, and is there once", async () => {
  const { postgres } = services();
  const database = await postgres.createDatabase();
  await using proxy = await proxyTo(postgres.port);
  const storage = await openPostgres({ uri: postgres.uri(database, proxy.port), poolMax: 2 });
  try {
    // Numbers that leave no trace: the one of the work is further on than what the log can tell.
    for (let n = 0; n < 20; n += 1) await postgres.query("select pg_current_xact_id()", database);
    const numbers: string[] = [];
    let crash: Promise<void> | undefined;
    proxy.onSent = (data) => {
      if (crash !== undefined || !/^Q[\s\S]{4}commit\0/.test(data.toString("latin1"))) return "pass";
      proxy.closed = true;
      crash = postgres
        .stop("SIGQUIT")
        .then(() => postgres.start())
        .then(async () => {
          // Asked of the server itself, as the storage will: it does not know the number.
          await expect(postgres.query(`select pg_xact_status('${numbers[0]}'::xid8)`)).rejects.toMatchObject({
            code: "22023",
          });
          proxy.closed = false;
        });
      return "cut before";
    };
    await storage.write(async (tx) => {
      const run = await runs.insert(tx, newRun());
      const { rows } = await sql<{ number: string }>`select pg_current_xact_id()::text as number`.execute(tx);
      numbers.push(rows[0]?.number ?? "");
      return run;
    });
    await crash;
    expect(numbers).toHaveLength(2);
    expect(await postgres.query("select count(*) as count from runs", database)).toEqual([{ count: 1 }]);
  } finally {
    await storage.close();
  }
});
