/** `skein migrate`, and what names the database. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { requirePostgres } from "../support/postgres.ts";
import { FIXTURES, ROOT } from "../support/project.ts";
import { tempDir, tempPostgres } from "./support.ts";

interface Result {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function migrate(data: string, env: Readonly<Record<string, string>> = {}): Promise<Result> {
  const args = [join(ROOT, "dist", "cli.js"), "migrate", "--config", FIXTURES, "--data", data];
  const all = { PATH: process.env.PATH ?? "", ...env };
  return promisify(execFile)(process.execPath, args, { env: all }).then(
    ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
    ({ code, stdout, stderr }) => ({ code, stdout, stderr }),
  );
}

test("on a file: it says what it did, and that there is nothing left to do", async () => {
  const dir = tempDir();
  const first = await migrate(dir);
  expect([first.code, first.stdout]).toEqual([
    0,
    expect.stringMatching(/^The schema of .*skein\.db now has 0001_init, .*0009/),
  ]);
  expect((await migrate(dir)).stdout).toMatch(/skein\.db is up to date\.\n$/);
});

test("on PostgreSQL: the same, without its password", async (context) => {
  await requirePostgres(context);
  const uri = new URL(await tempPostgres());
  uri.password = "hush";
  const first = await migrate(tempDir(), { DATABASE_URI: uri.href });
  expect([first.code, first.stdout]).toEqual([
    0,
    expect.stringMatching(
      /^The schema of postgres:.* now has 0009_baseline, 0010_growing_values, 0011_protocol_threads, 0012_outcomes, 0013_told_to, 0014_departed_runs, 0015_webhook_trace, 0016_checkpoint_eras\.\n$/,
    ),
  ]);
  const again = await migrate(tempDir(), { POSTGRES_URI: uri.href });
  expect(again.stdout).toMatch(/is up to date\.\n$/);
  expect(first.stdout + again.stdout).not.toContain("hush");
});

test.each([
  ["mysql://root:hush@localhost/db", /^skein: DATABASE_URI must be a PostgreSQL URI/],
  ["postgres://", /^skein: /],
  ["postgres://root:hush@127.0.0.1:1/db", /^skein: The database postgres:\/\/root@127\.0\.0\.1:1\/db cannot be used: /],
])("DATABASE_URI=%s is refused in a line, without its password", async (uri, message) => {
  const { code, stderr } = await migrate(tempDir(), { DATABASE_URI: uri });
  expect(code).toBe(1);
  expect(stderr).toMatch(message);
  expect(stderr.trim().split("\n")).toHaveLength(1);
  expect(stderr).not.toContain("hush");
});
