/** Deleted means gone from the disk: no text of it in any file, and the file shrinks; what is kept stays whole. */
import fs from "node:fs";
import path from "node:path";
import Libsql from "libsql";
import { expect, test } from "vitest";
import { mapPageOf, wiped } from "../../src/storage/scrub.ts";
import { openSqlite } from "../../src/storage/sqlite.ts";
import type { Storage } from "../../src/storage/storage.ts";
import * as checkpoints from "../../src/storage/tables/checkpoints.ts";
import * as runs from "../../src/storage/tables/runs.ts";
import * as threads from "../../src/storage/tables/threads.ts";
import { NOW, newRun, openTemp, tempDir } from "./support.ts";

const SECRET = "S3cr3t-Qz";
const KEPT = "K3pt-Value";
const THREADS = 120;

/** The same numbers in every run. */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const isSecret = (thread: number): boolean => thread % 2 === 1;

/** Runs, checkpoints and values of threads in turn, small and large: SQLite splits pages, moves cells, reuses what is free. */
async function fill(storage: Storage, pick: (below: number) => number): Promise<void> {
  for (let thread = 0; thread < THREADS; thread++) {
    const times = { created_at: NOW, updated_at: NOW, state_updated_at: NOW };
    const own = { status: "idle", temporary: false, protocol: false, ttl: null } as const;
    const record = { ...own, metadata: {}, config: {}, values: null, interrupts: "{}", ...times } as const;
    await storage.write((tx) => threads.insert(tx, { thread_id: `t${thread}`, ...record }));
  }
  const steps = Array.from({ length: THREADS * 6 }, () => pick(THREADS));
  await Promise.all(steps.map((thread) => storage.write((tx) => step(tx, thread, pick), { durable: false })));
}

async function step(tx: Parameters<typeof threads.find>[0], thread: number, pick: (below: number) => number) {
  const thread_id = `t${thread}`;
  const text = (isSecret(thread) ? SECRET : KEPT).repeat(pick(5) === 0 ? pick(1500) : 3 + pick(60));
  const run = newRun({ thread_id, kwargs: { ...newRun().kwargs, input: { text } } });
  const { run_id } = run;
  await runs.insert(tx, run);
  const value = ["json", JSON.stringify(text)] as const;
  const key = { thread_id, checkpoint_ns: "", checkpoint_id: run_id };
  const row = {
    ...key,
    parent_checkpoint_id: null,
    metadata: "{}",
    checkpoint: value,
    blob_versions: { text: [run_id, 0] as const },
  };
  await checkpoints.put(tx, run_id, row, [{ channel: "text", version: run_id, first: 0, value }]);
  await checkpoints.putWrites(tx, run_id, key, [{ task_id: "a", idx: 0, task_path: "", channel: "text", value }], true);
  await threads.touch(tx, thread_id, { values: JSON.stringify({ text }), updated_at: NOW });
}

const found = (dir: string, text: string): number =>
  fs
    .readdirSync(dir)
    .map((file) => fs.readFileSync(path.join(dir, file), "latin1").split(text).length - 1)
    .reduce((sum, count) => sum + count, 0);

/** Rounds start only on a server that has been quiet for a moment. */
async function reclaimed(storage: Storage, done: () => boolean): Promise<void> {
  await expect
    .poll(
      async () => {
        await storage.reclaim();
        return done();
      },
      { timeout: 15_000, interval: 50 },
    )
    .toBe(true);
}

/** Longer than it takes until the storage counts as quiet. */
const quiet = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 600));

const sizeOf = (dir: string): number => fs.statSync(path.join(dir, "skein.db")).size;

function inspect(dir: string, pragma: string): unknown {
  const db = new Libsql(path.join(dir, "skein.db"), { readonly: true });
  const [row] = db.pragma(pragma) as Record<string, unknown>[];
  db.close();
  return Object.values(row ?? {})[0];
}

test.each([1, 2])("threads that are deleted leave no text, and their space (%i)", async (seed) => {
  const dir = tempDir();
  const storage = await openSqlite({ dir });
  const pick = numbers(seed);
  await fill(storage, pick);
  const kept = await storage.read((db) => checkpoints.list(db, { thread_id: "t0" }));
  for (let thread = 0; thread < THREADS; thread++) {
    if (isSecret(thread)) await storage.write((tx) => threads.remove(tx, `t${thread}`), { durable: false });
  }
  expect(found(dir, SECRET)).toBeGreaterThan(0);
  const before = sizeOf(dir) + fs.statSync(path.join(dir, "skein.db-wal")).size;
  await reclaimed(storage, () => found(dir, SECRET) === 0);
  expect(sizeOf(dir)).toBeLessThan(before * 0.7);
  expect(fs.statSync(path.join(dir, "skein.db-wal")).size).toBe(0);
  expect(await storage.read((db) => checkpoints.list(db, { thread_id: "t0" }))).toEqual(kept);
  expect(found(dir, KEPT)).toBeGreaterThan(0);
  await storage.close();
  expect(inspect(dir, "integrity_check")).toBe("ok");
  expect(inspect(dir, "freelist_count")).toBe(0);
});

test("writes go on while space is given back", async () => {
  const dir = tempDir();
  const storage = await openTemp(dir);
  const pick = numbers(4);
  await fill(storage, pick);
  for (let thread = 0; thread < THREADS; thread++) {
    if (isSecret(thread)) await storage.write((tx) => threads.remove(tx, `t${thread}`), { durable: false });
  }
  await quiet();
  const order: string[] = [];
  const round = storage.reclaim().then(() => order.push("round"));
  await storage.write((tx) => step(tx, 0, pick), { durable: false }).then(() => order.push("write"));
  await round;
  expect(order).toEqual(["write", "round"]);
});

test("who reads the file from outside is not waited for", async () => {
  const dir = tempDir();
  const storage = await openTemp(dir);
  await fill(storage, numbers(6));
  const outside = new Libsql(path.join(dir, "skein.db"), { readonly: true });
  outside.exec("BEGIN; SELECT count(*) FROM runs");
  await storage.write((tx) => threads.remove(tx, "t1"));
  await quiet();
  const begin = performance.now();
  await storage.reclaim();
  expect(performance.now() - begin).toBeLessThan(3000);
  expect(fs.statSync(path.join(dir, "skein.db-wal")).size).toBeGreaterThan(0);
  outside.exec("COMMIT");
  outside.close();
  await reclaimed(storage, () => fs.statSync(path.join(dir, "skein.db-wal")).size === 0);
});

test("a file of before that cannot shrink is rewritten at the start so that it can", async () => {
  const dir = tempDir();
  await (await openSqlite({ dir })).close();
  const old = new Libsql(path.join(dir, "skein.db"));
  old.exec("PRAGMA auto_vacuum=NONE; VACUUM");
  old.close();
  expect(inspect(dir, "auto_vacuum")).toBe(0);
  const storage = await openTemp(dir);
  await fill(storage, numbers(7));
  expect(inspect(dir, "auto_vacuum")).toBe(2);
});

test("a file cut short by giving pages back, before its header says so, is sound", async () => {
  const dir = tempDir();
  const storage = await openSqlite({ dir });
  await fill(storage, numbers(8));
  await storage.close();
  const file = path.join(dir, "skein.db");
  const db = new Libsql(file);
  db.exec("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0");
  db.exec("delete from checkpoint_blobs; delete from checkpoint_writes; PRAGMA incremental_vacuum");
  const [{ page_count }] = db.pragma("page_count") as [{ page_count: number }];
  const copy = tempDir();
  for (const suffix of ["", "-wal"]) fs.copyFileSync(file + suffix, path.join(copy, `skein.db${suffix}`));
  db.close();
  // What a power cut leaves when the new length reached the disk and the first page did not.
  fs.truncateSync(path.join(copy, "skein.db"), page_count * 4096);
  const reopened = await openTemp(copy);
  expect((await reopened.read((tx) => runs.countByStatus(tx))).pending).toBe(THREADS * 6);
});

test("only the unused middle of a tree's page is wiped", () => {
  const page = Buffer.alloc(512, 0x55);
  page[0] = 0x0d;
  page.writeUInt16BE(0, 1);
  page.writeUInt16BE(2, 3);
  page.writeUInt16BE(400, 5);
  const clean = wiped(page, 7);
  expect(clean?.subarray(0, 12)).toEqual(page.subarray(0, 12));
  expect(clean?.subarray(12, 400).every((byte) => byte === 0)).toBe(true);
  expect(clean?.subarray(400)).toEqual(page.subarray(400));
  expect(wiped(clean ?? page, 7)).toBeNull();
  for (const type of [0x00, 0x01, 0x0c, 0xff]) expect(wiped(Buffer.from([type, ...page.subarray(1)]), 7)).toBeNull();
  page.writeUInt16BE(600, 5);
  expect(wiped(page, 7)).toBeNull();
});

test("the map's pages: the second, and then one in every so many, around the page of the locks", () => {
  expect([3, 821, 822, 823, 1641, 1642].map((page) => mapPageOf(page, 4096))).toEqual([2, 2, 822, 822, 822, 1642]);
  const locks = 0x40000000 / 4096 + 1;
  for (const page of [locks - 1, locks, locks + 1, locks + 2]) expect(mapPageOf(page, 4096)).not.toBe(locks);
});
