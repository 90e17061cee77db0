/** A database that is damaged or too new: a clear refusal, and not a byte of it changed. Never silently empty. */
import { createHash } from "node:crypto";
import { cpSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { execute, query } from "../support/database.ts";
import { http, ok } from "../support/http.ts";
import {
  databaseOf,
  databaseUri,
  FIXTURES,
  ON_POSTGRES,
  startServer,
  type TempDir,
  type TestServer,
  tempDir,
} from "../support/server.ts";
import { cli, newThread, upTo } from "./support.ts";

/** A server that has stopped, with some data of a run and a thread; tests damage copies of its folder. */
let server: TestServer;
let thread_id: string;
beforeAll(async () => {
  server = await startServer();
  thread_id = await newThread(server);
  const text = "x".repeat(20_000);
  for (const value of upTo(10)) {
    const input = { input: { value, text } };
    await ok(http(server.url).post(`/threads/${thread_id}/runs/wait`, { assistant_id: "echo", input }));
  }
  await server.stop();
});
afterAll(() => server?.[Symbol.asyncDispose]());

async function copyOf(data: string): Promise<TempDir> {
  const temp = await tempDir("skein-data-");
  cpSync(data, temp.dir, { recursive: true });
  return temp;
}

/** The last thing that was stored. */
const lastValue = async (): Promise<unknown> =>
  (await ok(http(server.url).get(`/threads/${thread_id}/state`))).values.seen.input.value;

const database = ({ dir }: TempDir): string => join(dir, "skein.db");

/** The database by its hashes: the file and its log, or each table. An empty log says nothing. */
async function contentsOf(data: string): Promise<[string, string][]> {
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

async function expectRefused(data: string, why: RegExp, commands = ["start"]): Promise<void> {
  const before = await contentsOf(data);
  for (const command of commands) {
    const args = [command, "--config", FIXTURES, "--port", "0", "--data", data];
    const { code, output } = await cli(args, { env: await databaseOf(data) });
    expect(code).toBe(1);
    expect(output).toMatch(why);
    expect(output).toContain(databaseUri(data) ?? join(data, "skein.db"));
    expect(output).not.toContain("    at ");
  }
  expect(await contentsOf(data)).toEqual(before);
}

function cutInHalf(file: string): void {
  truncateSync(file, Math.floor(statSync(file).size / 2));
}

describe.skipIf(ON_POSTGRES)("a file", () => {
  test("cut in half", async () => {
    await using copy = await copyOf(server.data);
    cutInHalf(database(copy));
    await expectRefused(copy.dir, /damaged: it has \d+ bytes, \d+ are expected/, ["start", "dev"]);
  });

  test("cut to nothing, or to a few bytes", async () => {
    await using copy = await copyOf(server.data);
    for (const size of [50, 0]) {
      truncateSync(database(copy), size);
      await expectRefused(copy.dir, /damaged/);
    }
  });

  test("overwritten in the middle", async () => {
    await using copy = await copyOf(server.data);
    const bytes = readFileSync(database(copy));
    bytes.fill(0xa5, 4096, Math.floor(bytes.length / 2));
    writeFileSync(database(copy), bytes);
    await expectRefused(copy.dir, /damaged/);
  });

  test("of a newer schema", async () => {
    await using copy = await copyOf(server.data);
    await execute(copy.dir, "insert into kysely_migration (name, timestamp) values ('0999_later', '2099-01-01')");
    await expectRefused(copy.dir, /newer Skein \(schema 999, this one knows \d+\)/);
  });
});

test("a sound one is found again after a stop and after a kill; one whose file was cut is refused, though its log is there", async () => {
  await server.start();
  expect(await lastValue()).toBe(9);
  await newThread(server);
  await server.kill("SIGKILL");
  if (!ON_POSTGRES) {
    // The start has moved the log's pages into the file: the log of after it cannot make up for them.
    await using copy = await copyOf(server.data);
    expect(statSync(`${database(copy)}-wal`).size).toBeGreaterThan(0);
    cutInHalf(database(copy));
    await expectRefused(copy.dir, /damaged/);
  }
  await server.start();
  expect(await lastValue()).toBe(9);
});

test.runIf(ON_POSTGRES)(
  "of a newer schema: served while all of ours is there, as in a rolling upgrade; else refused",
  async () => {
    const { data } = server;
    await server.kill();
    await execute(data, "insert into kysely_migration (name, timestamp) values ('0999_later', '2099-01-01')");
    await server.start();
    expect(await lastValue()).toBe(9);
    await server.stop();
    const [last] = await query<{ name: string }>(
      data,
      "select name from kysely_migration where name < '0999' order by name desc limit 1",
    );
    await execute(data, `delete from kysely_migration where name = '${last?.name}'`);
    await expectRefused(data, new RegExp(`another line of Skein: it has 0999_later, and not ${last?.name}`));
  },
);
