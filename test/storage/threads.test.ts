import { join } from "node:path";
import { Kysely, Migrator, SqliteDialect, sql } from "kysely";
import { describe, expect, test } from "vitest";
import type { BlobRef } from "../../src/executor/protocol.ts";
import type { Database } from "../../src/storage/database.ts";
import { LibsqlConnection } from "../../src/storage/libsql.ts";
import { init } from "../../src/storage/migrations/0001_init.ts";
import type { Storage, ThreadRecord } from "../../src/storage/storage.ts";
import * as checkpoints from "../../src/storage/tables/checkpoints.ts";
import * as threadSearch from "../../src/storage/tables/thread-search.ts";
import * as threads from "../../src/storage/tables/threads.ts";
import { eachDialect, NOW, openTemp, tempDir, newThread as thread } from "./support.ts";

const insert = (storage: Storage, record: ThreadRecord) => storage.write((tx) => threads.insert(tx, record));

async function search(
  storage: Storage,
  query: threadSearch.ThreadQuery,
  totals: threadSearch.KnownTotals = new threadSearch.KnownTotals(),
) {
  const { items, total } = await storage.read((db) => threadSearch.search(db, query, { values: true, totals }));
  return { ids: items.map(({ thread_id }) => thread_id), items, total };
}

test("a database of the first schema is taken over: threads, values, and what searches need", async () => {
  const dir = tempDir();
  const old = new LibsqlConnection(join(dir, "skein.db"));
  old.exec("PRAGMA journal_mode=WAL");
  const db = new Kysely<Database>({ dialect: new SqliteDialect({ database: old }) });
  const provider = { getMigrations: async () => ({ "0001_init": init }) };
  await new Migrator({ db, provider }).migrateToLatest();
  const add = (id: string, metadata: object, values: string | null, created_at: number) =>
    sql`insert into threads (thread_id, status, created_at, updated_at, state_updated_at, metadata, config, interrupts, "values")
      values (${id}, 'busy', ${created_at}, ${NOW}, ${NOW}, ${JSON.stringify(metadata)}, '{}', '{"a":[]}', ${values})`.execute(
      db,
    );
  await add("second", { user: "u" }, '{"x":1}', NOW + 1);
  await add("first", { user: "u", n: 1 }, null, NOW);
  await add("temporary", { user: "u" }, null, NOW);
  await sql`insert into runs (run_id, thread_id, assistant_id, graph_id, status, multitask_strategy, not_before, attempt,
      fence, created_at, updated_at, metadata, kwargs)
    values ('r', 'temporary', 'a', 'g', 'pending', 'enqueue', 0, 0, 0, 0, 0, '{}', '{"temporary":true}'),
      ('s', 'first', 'a', 'g', 'running', 'enqueue', 0, 0, 0, 0, 0, '{}', '{"temporary":false}')`.execute(db);
  old.close();

  const storage = await openTemp(dir);
  const whole = { status: "busy", interrupts: '{"a":[]}' } as const;
  expect((await search(storage, { metadata: { user: "u" } })).items).toEqual([
    thread("second", { ...whole, metadata: { user: "u" }, values: '{"x":1}', created_at: NOW + 1 }),
    thread("first", { ...whole, metadata: { user: "u", n: 1 } }),
  ]);
  expect(await storage.read((db) => threadSearch.count(db, {}, new threadSearch.KnownTotals()))).toBe(2);
  expect(await storage.read((db) => threads.find(db, "temporary"))).toMatchObject({ temporary: true });
});

eachDialect((openTemp) => {
  describe("search", () => {
    test("many matches or few, the order and the totals are the same", async () => {
      const storage = await openTemp();
      const rare = (i: number) => i % 1000 === 7;
      const all = Array.from({ length: 10_050 }, (_, i) => ({ id: `t${String(i).padStart(5, "0")}`, i }));
      await storage.write(async (tx) => {
        for (const { id, i } of all) {
          const metadata = { graph: "g", ...(rare(i) ? { rare: true } : {}), half: i % 2 };
          await threads.insert(tx, thread(id, { metadata, updated_at: NOW + ((i * 7919) % 10_050) }));
        }
      });
      const order = all.toSorted((a, b) => ((b.i * 7919) % 10_050) - ((a.i * 7919) % 10_050));
      const check = async (metadata: Record<string, unknown>, matches: (i: number) => boolean) => {
        const wanted = order.filter(({ i }) => matches(i)).map(({ id }) => id);
        const page = await search(storage, { metadata, limit: 5, offset: 3 });
        expect(page.ids).toEqual(wanted.slice(3, 8));
        expect(page.total).toBe(wanted.length);
        const up = await search(storage, { metadata, limit: 5, sort_order: "asc" });
        expect(up.ids).toEqual(wanted.toReversed().slice(0, 5));
      };
      await check({ graph: "g" }, () => true);
      await check({ rare: true }, rare);
      await check({ graph: "g", rare: true, half: 1 }, (i) => rare(i) && i % 2 === 1);
      await check({ graph: "g", half: 0 }, (i) => i % 2 === 0);
      await check({}, () => true);
      await storage.write(async (tx) => {
        for (const { id } of all.slice(0, 100)) await threads.remove(tx, id);
      });
      await check({ graph: "g" }, (i) => i >= 100);
      await check({ half: 1 }, (i) => i >= 100 && i % 2 === 1);
    });

    test("a total that is remembered is never an old one", async () => {
      const storage = await openTemp();
      const totals = new threadSearch.KnownTotals();
      const both = async () => (await search(storage, { metadata: { a: 1, b: 1 } }, totals)).total;
      const add = (id: string, metadata: Record<string, unknown>) => insert(storage, thread(id, { metadata }));
      const drop = (id: string) => storage.write((tx) => threads.remove(tx, id));
      const change = (id: string, metadata: Record<string, unknown>) =>
        storage.write((tx) => threads.touch(tx, id, { metadata, updated_at: NOW }));
      await add("a", { a: 1 });
      await add("ab", { a: 1, b: 1 });
      expect([await both(), await both()]).toEqual([1, 1]);
      await add("ab2", { b: 1, a: 1 });
      expect(await both()).toBe(2);
      await change("a", { a: 1, b: 1 });
      expect(await both()).toBe(3);
      await change("a", { b: 1 });
      expect(await both()).toBe(2);
      for (const id of ["a", "ab", "ab2"]) await drop(id);
      expect(await both()).toBe(0);
      // As many changes as before to pairs that begin anew.
      await add("a", { a: 1 });
      await add("b", { b: 1 });
      await add("b2", { b: 1 });
      expect(await both()).toBe(0);
    });

    test("a filter that only rows can answer lets others work in between", async () => {
      const storage = await openTemp();
      await storage.write(async (tx) => {
        for (let i = 0; i < 1000; i += 1) await threads.insert(tx, thread(`t${i}`, { values: `{"n":${i % 2}}` }));
      });
      let turns = 0;
      let over = false;
      const turn = (): void => {
        turns += 1;
        if (!over) setImmediate(turn);
      };
      setImmediate(turn);
      const { total } = await search(storage, { values: { n: 1 } });
      over = true;
      expect(total).toBe(500);
      expect(turns).toBeGreaterThan(2);
    });
  });

  describe("time to live", () => {
    test("who expired first comes first, unless runs are in flight", async () => {
      const storage = await openTemp();
      const ttl = (expires_at: number) => ({ ttl: { strategy: "keep_latest" as const, minutes: 2, expires_at } });
      await insert(storage, thread("later", ttl(NOW + 2)));
      await insert(storage, thread("sooner", ttl(NOW + 1)));
      await insert(storage, thread("never"));
      const first = (now: number) => storage.read((db) => threads.firstExpired(db, now));
      expect(await first(NOW)).toBeUndefined();
      expect(await first(NOW + 2)).toEqual({ thread_id: "sooner", strategy: "keep_latest" });
      await storage.write((tx) => threads.clearExpiry(tx, "sooner"));
      expect(await first(NOW + 2)).toEqual({ thread_id: "later", strategy: "keep_latest" });
      await storage.write((tx) => threads.touch(tx, "sooner", { updated_at: NOW + 5, renew_ttl: true }));
      expect((await storage.read((db) => threads.find(db, "sooner")))?.ttl?.expires_at).toBe(NOW + 5 + 120_000);
      await storage.write((tx) => threads.touch(tx, "never", { updated_at: NOW + 5, renew_ttl: true }));
      expect((await storage.read((db) => threads.find(db, "never")))?.ttl).toBeNull();
    });
  });

  describe("prune", () => {
    const put = (
      storage: Storage,
      checkpoint_id: string,
      change: { ns?: string; parent?: string; blobs?: Record<string, BlobRef>; metadata?: object } = {},
    ) =>
      storage.write(async (tx) => {
        const { ns = "", parent = null, blobs = {}, metadata = {} } = change;
        const key = { thread_id: "t", checkpoint_ns: ns, checkpoint_id };
        const checkpoint = ["json", "{}"] as const;
        const text = JSON.stringify(metadata);
        const row = { ...key, parent_checkpoint_id: parent, checkpoint, metadata: text, blob_versions: blobs };
        // Of a list, each checkpoint adds the last item it reads.
        const values = Object.entries(blobs).map(([channel, [version, end]]) => {
          return { channel, version, first: Math.max(end - 1, 0), value: ["json", `["${version}"]`] as const };
        });
        await checkpoints.put(tx, null, row, values);
        const write = { task_id: "w", idx: 0, task_path: "", channel: "c", value: ["json", "1"] as const };
        await checkpoints.putWrites(tx, null, key, [write], true);
      });

    const left = (storage: Storage) =>
      storage.read(async (db) => {
        const kept = await checkpoints.list(db, { thread_id: "t" });
        const blobs = await db.selectFrom("checkpoint_blobs").select("version").orderBy("version").execute();
        const writes = await db.selectFrom("checkpoint_writes").select("checkpoint_id").execute();
        expect(writes.map((each) => each.checkpoint_id).sort()).toEqual(kept.map((each) => each.checkpoint_id).sort());
        return {
          ids: kept.map((each) => `${each.checkpoint_ns}/${each.checkpoint_id}`).sort(),
          parents: kept.map((each) => each.parent_checkpoint_id),
          blobs: blobs.map((each) => each.version),
        };
      });

    async function pruneAll(storage: Storage, limit: number): Promise<number> {
      const blobs = () =>
        storage.read(async (db) => (await checkpoints.get(db, { thread_id: "t", checkpoint_ns: "" }))?.blobs);
      const before = await blobs();
      for (let calls = 1; ; calls += 1) {
        const done = await storage.write((tx) => checkpoints.prune(tx, "t", limit));
        // Whole in between, too.
        expect(await blobs()).toEqual(before);
        if (done) return calls;
      }
    }

    test("a long history goes in portions; values that the latest state names stay", async () => {
      const storage = await openTemp();
      for (let i = 10; i < 35; i += 1) {
        await put(storage, `${i}`, {
          ...(i > 10 ? { parent: `${i - 1}` } : {}),
          blobs: { a: ["old", 0], b: [`${i}`, 0], list: ["l", i - 9] },
        });
      }
      expect(await pruneAll(storage, 10)).toBe(5);
      const parts = Array.from({ length: 25 }, () => "l");
      expect(await left(storage)).toEqual({ ids: ["/34"], parents: [null], blobs: ["34", ...parts, "old"] });
      expect(await pruneAll(storage, 10)).toBe(1);
    });

    test("subgraphs: what ran since the latest root checkpoint stays, and what keeps its state between runs", async () => {
      const storage = await openTemp();
      await put(storage, "1");
      await put(storage, "2", { ns: "sub:task-1" });
      await put(storage, "3", { ns: "memory" });
      await put(storage, "4", { parent: "1" });
      await put(storage, "5", { ns: "sub:task-2" });
      await put(storage, "6", { ns: "sub:task-2", parent: "5" });
      await put(storage, "7", { ns: "sub:task-2|deep:task-3" });
      await pruneAll(storage, 100);
      expect((await left(storage)).ids).toEqual(["/4", "memory/3", "sub:task-2/6", "sub:task-2|deep:task-3/7"]);
    });

    test("delta channels: as many ancestors as they go back", async () => {
      const storage = await openTemp();
      const metadata = (steps: number) => ({ counters_since_delta_snapshot: { a: [1, steps], b: [0, 1] } });
      for (let i = 1; i < 8; i += 1) await put(storage, `${i}`, { parent: `${i - 1}`, metadata: metadata(2) });
      await pruneAll(storage, 100);
      expect(await left(storage)).toMatchObject({ ids: ["/4", "/5", "/6", "/7"], parents: ["6", "5", "4", null] });
    });
  });
});
