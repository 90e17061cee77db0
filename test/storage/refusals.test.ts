import fs from "node:fs";
import path from "node:path";
import Libsql from "libsql";
import { expect, test } from "vitest";
import { openSqlite, StorageRefused } from "../../src/storage/sqlite.ts";
import * as runs from "../../src/storage/tables/runs.ts";
import { newRun, openTemp, tempDir } from "./support.ts";

const fileIn = (dir: string): string => path.join(dir, "skein.db");

/** A folder with a database that holds some runs, closed. */
async function filled(): Promise<string> {
  const dir = tempDir();
  const storage = await openSqlite({ dir });
  for (let i = 0; i < 40; i++)
    await storage.write((tx) => runs.insert(tx, newRun({ metadata: { pad: "x".repeat(900) } })));
  await storage.close();
  return dir;
}

/** Opening is refused with words like these, the file keeps its bytes, and the folder is not left locked. */
async function expectRefused(dir: string, ...words: readonly (string | RegExp)[]): Promise<void> {
  const before = fs.existsSync(fileIn(dir)) ? fs.readFileSync(fileIn(dir)) : null;
  for (let attempt = 0; attempt < 2; attempt++) {
    const error = await openSqlite({ dir }).then(
      () => expect.fail("it was opened"),
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(StorageRefused);
    for (const word of words) expect((error as Error).message).toMatch(word);
  }
  if (before === null) expect(fs.existsSync(fileIn(dir))).toBe(false);
  else expect(fs.readFileSync(fileIn(dir)).equals(before)).toBe(true);
}

test("half a file", async () => {
  const dir = await filled();
  const { size } = fs.statSync(fileIn(dir));
  const half = Math.floor(size / 2);
  fs.truncateSync(fileIn(dir), half);
  await expectRefused(dir, fileIn(dir), `${half} bytes`, `${size} are expected`, /[Rr]estore it from a backup/);
});

test("a file that lost its last page", async () => {
  const dir = await filled();
  const { size } = fs.statSync(fileIn(dir));
  fs.truncateSync(fileIn(dir), size - 4096);
  await expectRefused(dir, /damaged/, `${size} are expected`);
});

test("an empty file", async () => {
  const dir = tempDir();
  fs.writeFileSync(fileIn(dir), "");
  await expectRefused(dir, /damaged/, /0 bytes/);
});

test("something that is not a database", async () => {
  const dir = tempDir();
  fs.writeFileSync(fileIn(dir), "x".repeat(5000));
  await expectRefused(dir, /not a SQLite database/, /5000 bytes/);
});

test("a file whose pages were overwritten", async () => {
  const dir = await filled();
  const fd = fs.openSync(fileIn(dir), "r+");
  const garbage = Buffer.alloc(8 * 4096, 0xab);
  fs.writeSync(fd, garbage, 0, garbage.length, 4096);
  fs.closeSync(fd);
  await expectRefused(dir, /damaged/, fileIn(dir));
});

test("a log without its file", async () => {
  const dir = tempDir();
  fs.writeFileSync(`${fileIn(dir)}-wal`, "x");
  await expectRefused(dir, /missing/, /-wal/);
});

test("a folder that cannot be one", async () => {
  const file = path.join(tempDir(), "file");
  fs.writeFileSync(file, "");
  await expect(openSqlite({ dir: path.join(file, "data") })).rejects.toThrow(StorageRefused);
});

test("a newer schema", async () => {
  const dir = await filled();
  const db = new Libsql(fileIn(dir));
  db.exec("insert into kysely_migration (name, timestamp) values ('9999_future', '2030-01-01')");
  db.close();
  await expectRefused(dir, /newer Skein \(schema 9999, this one knows \d+\)/);
});

test("a second opener, until the first has closed", async () => {
  const dir = tempDir();
  const first = await openSqlite({ dir });
  await expect(openSqlite({ dir })).rejects.toThrow(StorageRefused);
  await expect(openSqlite({ dir })).rejects.toThrow(`Another Skein process serves the folder ${dir}`);
  await first.write((tx) => runs.insert(tx, newRun()));
  await first.close();
  await openTemp(dir);
});

test("a first start that was killed half way leaves nothing that hinders the next", async () => {
  const dir = tempDir();
  fs.writeFileSync(`${fileIn(dir)}.new`, "half a database");
  fs.writeFileSync(`${fileIn(dir)}.new-journal`, "and its journal");
  await openTemp(dir);
  expect(fs.readdirSync(dir).filter((name) => name.includes(".new"))).toEqual([]);
});

/** What a process leaves that is killed while it moves its log into the file: page 1 is there, later pages are not yet. */
async function killedInCheckpoint(): Promise<string> {
  const live = tempDir();
  const storage = await openTemp(live);
  await storage.write(async (tx) => {
    for (let i = 0; i < 40; i++) await runs.insert(tx, newRun({ metadata: { pad: "x".repeat(900) } }));
  });
  const dir = tempDir();
  for (const suffix of ["", "-wal"]) fs.copyFileSync(fileIn(live) + suffix, fileIn(dir) + suffix);
  const log = fs.readFileSync(`${fileIn(dir)}-wal`);
  for (let at = 32; at < log.length; at += 24 + 4096) {
    if (log.readUInt32BE(at) !== 1) continue;
    const fd = fs.openSync(fileIn(dir), "r+");
    fs.writeSync(fd, log, at + 24, 4096, 0);
    fs.closeSync(fd);
  }
  const header = fs.readFileSync(fileIn(dir)).subarray(0, 100);
  expect(header.readUInt32BE(28) * 4096).toBeGreaterThan(fs.statSync(fileIn(dir)).size);
  return dir;
}

test("a file that is short because its pages are still in the log is sound", async () => {
  const storage = await openTemp(await killedInCheckpoint());
  expect((await storage.read((db) => runs.countByStatus(db))).pending).toBe(40);
});

test("the same file without its log is not", async () => {
  const dir = await killedInCheckpoint();
  fs.rmSync(`${fileIn(dir)}-wal`);
  await expectRefused(dir, /damaged/, /are expected/);
});
