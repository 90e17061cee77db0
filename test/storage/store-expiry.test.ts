import { type Kysely, sql } from "kysely";
import { expect, test } from "vitest";
import type { StoreItem, StoreOperation } from "../../src/executor/protocol.ts";
import { store as migration } from "../../src/storage/migrations/0007_store.ts";
import * as items from "../../src/storage/tables/store.ts";
import { makeStore } from "./make-store.ts";
import { eachDialect, NOW, openTemp } from "./support.ts";

const MINUTE = 60_000;
const at = { namespace: ["n"], key: "k" };
const get: StoreOperation = { op: "get", ...at };
const search: StoreOperation = { op: "search", prefix: [], filter: null, limit: 10, offset: 0 };
const namespaces: StoreOperation = { op: "list_namespaces", conditions: [], max_depth: null, limit: 10, offset: 0 };
const put = (ttl?: number | null): StoreOperation => ({ op: "put", ...at, value: "{}", ttl });

eachDialect((openTemp) => {
  test("an item that is over is nowhere, swept or not", async () => {
    const store = makeStore(await openTemp());
    await store.run([put(1)], NOW);
    const quiet: StoreOperation[] = [{ ...get, refresh_ttl: false }, { ...search, refresh_ttl: false }, namespaces];
    expect(await store.run(quiet, NOW + MINUTE - 1)).toMatchObject([{ key: "k" }, [{ key: "k" }], [["n"]]]);
    expect(await store.run(quiet, NOW + MINUTE)).toEqual([null, [], []]);
    await store.sweep(NOW + MINUTE);
    expect(await store.run(quiet, NOW)).toEqual([null, [], []]);
  });

  test.each([
    ["get", get],
    ["search", search],
  ])("%s starts the time again, unless told not to", async (_, read) => {
    const store = makeStore(await openTemp());
    const later = { ...read, refresh_ttl: undefined } as StoreOperation;
    await store.run([put(1)], NOW);
    await store.run([later], NOW + 50_000);
    await store.run([{ ...read, refresh_ttl: false } as StoreOperation], NOW + 100_000);
    expect(await store.run([{ ...get, refresh_ttl: false }], NOW + 109_999)).toMatchObject([{ key: "k" }]);
    expect(await store.run([{ ...get, refresh_ttl: false }], NOW + 110_000)).toEqual([null]);
  });

  test("an item that is over by the time it is to be refreshed stays over", async () => {
    const storage = await openTemp();
    const store = makeStore(storage);
    await store.run([put(1)], NOW);
    await storage.write((tx) => items.refresh(tx, [at], NOW + MINUTE));
    expect(await store.run([get], NOW + MINUTE)).toEqual([null]);
  });

  test("where reads do not refresh, a reader may ask for it", async () => {
    const store = makeStore(await openTemp(), { ttl: { defaultMinutes: null, refreshOnRead: false } });
    await store.run([put(1)], NOW);
    await store.run([get], NOW + 30_000);
    await store.run([{ ...get, refresh_ttl: true }], NOW + 40_000);
    await store.run([get], NOW + 90_000);
    expect(await store.run([get], NOW + 100_000)).toEqual([null]);
  });

  test("the default is for items put without a time; null is for ever, and a new put decides anew", async () => {
    const store = makeStore(await openTemp(), { ttl: { defaultMinutes: 1, refreshOnRead: false } });
    await store.run([put()], NOW);
    expect(await store.run([get], NOW + MINUTE)).toEqual([null]);
    await store.run([put(null)], NOW);
    expect(await store.run([get], NOW + 1000 * MINUTE)).toMatchObject([{ key: "k" }]);
    await store.run([put(2)], NOW);
    expect(await store.run([get], NOW + 2 * MINUTE)).toEqual([null]);
  });

  test("an item put after it was over is a new one", async () => {
    const store = makeStore(await openTemp());
    await store.run([put(1)], NOW);
    const [before] = await store.run([put(1), get], NOW + 1000).then(([, item]) => [item as StoreItem]);
    expect(before?.created_at).toBe(new Date(NOW).toISOString());
    const [, after] = await store.run([put(), get], NOW + 5 * MINUTE);
    expect((after as StoreItem).created_at).toBe(new Date(NOW + 5 * MINUTE).toISOString());
  });

  test("a sweep takes all that is over, in many small transactions, and nothing else", async () => {
    const storage = await openTemp();
    const store = makeStore(storage);
    const items = Array.from(
      { length: 1201 },
      (_, i) => ({ op: "put", namespace: ["n"], key: String(i), value: "{}" }) as const,
    );
    await store.run(
      items.map((item) => ({ ...item, ttl: 1 })),
      NOW,
    );
    await store.run(
      [{ ...items[0], key: "stays", ttl: 2 } as StoreOperation, { ...items[0], key: "for ever" } as StoreOperation],
      NOW,
    );
    await store.sweep(NOW + MINUTE);
    const left = await storage.read((db) => db.selectFrom("store_items").select("key").orderBy("key").execute());
    expect(left.map(({ key }) => key)).toEqual(["for ever", "stays"]);
  });
});

test("items from before they could expire stay as they were", async () => {
  const storage = await openTemp();
  await storage.write(async (tx) => {
    for (const statement of [
      "drop table store_items",
      "drop table store_vectors",
      // What migration 0001 makes.
      `create table store_items (namespace text not null, key text not null, created_at integer not null,
        updated_at integer not null, value text not null, primary key (namespace, key))`,
      `insert into store_items values ('["n"]', 'k', ${NOW}, ${NOW + 1}, '{"a":1}')`,
    ])
      await sql.raw(statement).execute(tx);
    await migration.up(tx as Kysely<unknown>);
  });
  expect(await makeStore(storage).run([get], NOW + 1e12)).toEqual([
    { ...at, value: '{"a":1}', created_at: new Date(NOW).toISOString(), updated_at: new Date(NOW + 1).toISOString() },
  ]);
});
