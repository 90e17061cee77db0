/** A database that is damaged or too new: a clear refusal, and not a byte of it changed. Never silently empty. */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { http, ok } from "../support/http.ts";
import { FIXTURES, startServer, type TestServer } from "../support/server.ts";
import { cli, execute, newThread, upTo } from "./support.ts";

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

const database = ({ data }: TestServer): string => join(data, "skein.db");

/** The database and its log, by their hashes. An empty log says nothing. */
const filesOf = ({ data }: TestServer): [string, string][] =>
  readdirSync(data)
    .filter((name) => name.startsWith("skein.db") && !name.endsWith("-shm"))
    .map((name): [string, Buffer] => [name, readFileSync(join(data, name))])
    .filter(([name, bytes]) => name === "skein.db" || bytes.length > 0)
    .map(([name, bytes]) => [name, createHash("sha256").update(bytes).digest("hex")]);

async function expectRefused(server: TestServer, why: RegExp): Promise<void> {
  const before = filesOf(server);
  for (const command of ["start", "dev"]) {
    const args = [command, "--config", FIXTURES, "--port", "0", "--data", server.data];
    const { code, output } = await cli(args);
    expect(code).toBe(1);
    expect(output).toMatch(why);
    expect(output).toContain(database(server));
    expect(output).not.toContain("    at ");
  }
  expect(filesOf(server)).toEqual(before);
}

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

test("of a newer schema", async () => {
  const { server } = await withData("SIGTERM");
  await using _ = server;
  execute(server.data, "insert into kysely_migration (name, timestamp) values ('0999_later', '2099-01-01')");
  await expectRefused(server, /newer Skein \(schema 999, this one knows \d+\)/);
});

test("a sound one is found again after both", async () => {
  for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    const { server, thread_id } = await withData(signal);
    await using _ = server;
    await server.start();
    const { values } = await ok(http(server.url).get(`/threads/${thread_id}/state`));
    expect(values.seen.input.value).toBe(9);
  }
});
