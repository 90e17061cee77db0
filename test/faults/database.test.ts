/** A database that is damaged or too new: a clear refusal, and not a byte of it changed. Never silently empty. */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { execute, query } from "../support/database.ts";
import { http, ok } from "../support/http.ts";
import { databaseOf, databaseUri, FIXTURES, ON_POSTGRES, startServer, type TestServer } from "../support/server.ts";
import { cli, newThread, upTo } from "./support.ts";

/** A server that has stopped, with some data of a run and a thread. */
async function withData(signal: "SIGTERM" | "SIGKILL"): Promise<{ server: TestServer; thread_id: string }> {
  const server = await startServer();
  const thread_id = await newThread(server);
  const text = "x".repeat(20_000);
  for (const value of upTo(10)) {
    const input = { input: { value, text } };
    await ok(http(server.url).post(`/threads/${thread_id}/runs/wait`, { assistant_id: "echo", input }));
  }
  if (signal === "SIGTERM") await server.stop();
  else await server.kill("SIGKILL");
  return { server, thread_id };
}

/** The last thing that was stored. */
const lastValue = async (server: TestServer, thread_id: string): Promise<unknown> =>
  (await ok(http(server.url).get(`/threads/${thread_id}/state`))).values.seen.input.value;

const database = ({ data }: TestServer): string => join(data, "skein.db");

/** The database by its hashes: the file and its log, or each table. An empty log says nothing. */
async function contentsOf({ data }: TestServer): Promise<[string, string][]> {
  const hash = (bytes: Buffer | string): string => createHash("sha256").update(bytes).digest("hex");
  if (ON_POSTGRES) {
    const sql =
      "select table_name as name from information_schema.tables where table_schema = current_schema order by 1";
    const tables = await query<{ name: string }>(data, sql);
    return Promise.all(
      tables.map(async ({ name }): Promise<[string, string]> => {
        return [name, hash(JSON.stringify(await query(data, `select t::text from ${name} as t order by 1`)))];
      }),
    );
  }
  return readdirSync(data)
    .filter((name) => name.startsWith("skein.db") && !name.endsWith("-shm"))
    .map((name): [string, Buffer] => [name, readFileSync(join(data, name))])
    .filter(([name, bytes]) => name === "skein.db" || bytes.length > 0)
    .map(([name, bytes]) => [name, hash(bytes)]);
}

async function expectRefused(server: TestServer, why: RegExp): Promise<void> {
  const before = await contentsOf(server);
  for (const command of ["start", "dev"]) {
    const args = [command, "--config", FIXTURES, "--port", "0", "--data", server.data];
    const { code, output } = await cli(args, { env: await databaseOf(server.data) });
    expect(code).toBe(1);
    expect(output).toMatch(why);
    expect(output).toContain(databaseUri(server.data) ?? database(server));
    expect(output).not.toContain("    at ");
  }
  expect(await contentsOf(server)).toEqual(before);
}

describe.skipIf(ON_POSTGRES)("a file", () => {
  test("cut in half", async () => {
    const { server } = await withData("SIGTERM");
    await using _ = server;
    truncateSync(database(server), Math.floor(statSync(database(server)).size / 2));
    await expectRefused(server, /damaged: it has \d+ bytes, \d+ are expected/);
  });

  test("cut to nothing, or to a few bytes", async () => {
    const { server } = await withData("SIGTERM");
    await using _ = server;
    for (const size of [50, 0]) {
      truncateSync(database(server), size);
      await expectRefused(server, /damaged/);
    }
  });

  test("cut in half after a crash, its log still there", async () => {
    const { server } = await withData("SIGKILL");
    await using _ = server;
    // Pages move from the log into the file at the next start: after that the log alone cannot make up for them.
    await server.start();
    await server.stop();
    await server.start();
    await newThread(server);
    await server.kill("SIGKILL");
    truncateSync(database(server), Math.floor(statSync(database(server)).size / 2));
    await expectRefused(server, /damaged/);
  });

  test("overwritten in the middle", async () => {
    const { server } = await withData("SIGTERM");
    await using _ = server;
    const bytes = readFileSync(database(server));
    bytes.fill(0xa5, 4096, Math.floor(bytes.length / 2));
    writeFileSync(database(server), bytes);
    await expectRefused(server, /damaged/);
  });
});

test.skipIf(ON_POSTGRES)("of a newer schema", async () => {
  const { server } = await withData("SIGTERM");
  await using _ = server;
  await execute(server.data, "insert into kysely_migration (name, timestamp) values ('0999_later', '2099-01-01')");
  await expectRefused(server, /newer Skein \(schema 999, this one knows \d+\)/);
});

test.runIf(ON_POSTGRES)(
  "of a newer schema: served while all of ours is there, as in a rolling upgrade; else refused",
  async () => {
    const { server, thread_id } = await withData("SIGTERM");
    await using _ = server;
    await execute(server.data, "insert into kysely_migration (name, timestamp) values ('0999_later', '2099-01-01')");
    await server.start();
    expect(await lastValue(server, thread_id)).toBe(9);
    await server.stop();
    const [last] = await query<{ name: string }>(
      server.data,
      "select name from kysely_migration where name < '0999' order by name desc limit 1",
    );
    await execute(server.data, `delete from kysely_migration where name = '${last?.name}'`);
    await expectRefused(server, new RegExp(`another line of Skein: it has 0999_later, and not ${last?.name}`));
  },
);

test("a sound one is found again after both", async () => {
  for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    const { server, thread_id } = await withData(signal);
    await using _ = server;
    await server.start();
    expect(await lastValue(server, thread_id)).toBe(9);
  }
});
