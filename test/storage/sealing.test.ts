/** What the seal of the storage does to queries of all kinds, below the server: test/api/encryption.test.ts sees it from outside. */
import { sql } from "kysely";
import { expect, test } from "vitest";
import { Cipher, SealBroken } from "../../src/storage/cipher.ts";
import { jsonEquals, jsonEqualsAll, jsonFilter } from "../../src/storage/expressions.ts";
import { prepared } from "../../src/storage/prepared.ts";
import { KEEPING } from "../../src/storage/sealed-columns.ts";
import { openSqlite } from "../../src/storage/sqlite.ts";
import type { Storage } from "../../src/storage/storage.ts";
import * as checkpoints from "../../src/storage/tables/checkpoints.ts";
import * as encryption from "../../src/storage/tables/encryption.ts";
import * as events from "../../src/storage/tables/events.ts";
import * as runs from "../../src/storage/tables/runs.ts";
import * as threads from "../../src/storage/tables/threads.ts";
import { onPostgres } from "../support/postgres.ts";
import { eachDialect, NOW, newRun, newThread, openTemp, openTempPostgres, tempDir, tempPostgres } from "./support.ts";

const KEY = Buffer.from("0123456789abcdef");
const cipher = new Cipher({ key: KEY, old: [] });

interface Sealed {
  readonly storage: Storage;
  /** What somebody sees who has the database and not the key. Queries are SQL of this test. */
  readonly stored: (query: string) => Promise<unknown[]>;
}

const sealing = { cipher, jsonKeys: ["token"] };

async function sealedFile(): Promise<Sealed> {
  const dir = tempDir();
  const storage = await openSqlite({ dir, sealing });
  const stored = async (query: string): Promise<unknown[]> => {
    await storage.close();
    const { default: Libsql } = await import("libsql");
    const db = new Libsql(`${dir}/skein.db`);
    const rows = db.prepare(query).all() as unknown[];
    db.close();
    return rows;
  };
  return { storage, stored };
}

async function sealedPostgres(): Promise<Sealed> {
  const uri = await tempPostgres();
  const storage = await openTempPostgres({ uri, sealing });
  return { storage, stored: (query) => onPostgres(uri, query) };
}

test("every table and column of the database says how it is kept", async () => {
  const storage = await openTemp();
  const { rows } = await storage.read((db) =>
    sql<{ table: string; column: string }>`
      select t.name as "table", c.name as "column" from sqlite_master as t, pragma_table_info(t.name) as c
      where t.type = 'table' and t.name not like 'kysely%' and t.name not like 'sqlite%'`.execute(db),
  );
  const columns = Object.entries(KEEPING).flatMap(([table, kept]) =>
    Object.keys(kept).map((name) => `${table}.${name}`),
  );
  expect(rows.map(({ table, column }) => `${table}.${column}`).sort()).toEqual(columns.sort());
});

eachDialect((_, dialect) => {
  const sealed = dialect === "sqlite" ? sealedFile : sealedPostgres;

  test("inserts, updates, expressions around a parameter, null", async () => {
    const { storage, stored } = await sealed();
    await storage.write((tx) => threads.insert(tx, newThread("t", { metadata: { token: "a", b: [{ token: [1] }] } })));
    await storage.write((tx) => threads.touch(tx, "t", { interrupts: '{"x":1}', updated_at: NOW }));
    await storage.write((tx) => threads.touch(tx, "t", { values: '"v"', updated_at: NOW + 1 }));
    await storage.write((tx) =>
      runs.insert(tx, newRun({ thread_id: "t", metadata: { token: { deep: 1 }, shown: 2 } })),
    );
    const found = await storage.read((db) => threads.find(db, "t"));
    expect(found).toMatchObject({
      metadata: { token: "a", b: [{ token: [1] }] },
      values: '"v"',
      interrupts: '{"x":1}',
    });
    const [run] = await storage.read((db) => runs.listOfThread(db, "t", { limit: 1, offset: 0, status: null }));
    expect(run).toMatchObject({
      metadata: { token: { deep: 1 }, shown: 2 },
      kwargs: { input: { text: "hi" } },
      error: null,
    });
    const [row] = (await stored(
      "select t.*, v.*, r.kwargs, r.error, r.metadata as meta from threads t, thread_values v, runs r",
    )) as Record<string, string>[];
    for (const column of ["values", "interrupts", "kwargs"]) expect(row?.[column]).toMatch(/^skein-aes:/);
    expect(row?.error).toBeNull();
    expect(JSON.parse(row?.metadata ?? "")).toEqual({
      token: expect.stringMatching(/^skein-aes:/),
      b: [{ token: expect.stringMatching(/^skein-aes:/) }],
    });
    expect(JSON.parse(row?.meta ?? "")).toEqual({ token: expect.stringMatching(/^skein-aes:/), shown: 2 });
  });

  test("an insert that selects: its own values are sealed, columns are copied as they are, conditions are left alone", async () => {
    const { storage, stored } = await sealed();
    await storage.write((tx) => threads.insert(tx, newThread("t", { values: '"v"' })));
    const put = prepared<{ thread_id: string; events: string }>((db, slots) =>
      db
        .insertInto("event_chunks")
        .columns(["run_id", "first", "last", "events"])
        .expression((eb) =>
          eb
            .selectFrom("threads")
            .select((eb) => [
              "thread_id",
              eb.val(1).as("first"),
              eb.val(2).as("last"),
              eb.val(slots.events).as("events"),
            ])
            .where("thread_id", "=", slots.thread_id),
        ),
    );
    await storage.write((tx) => put(tx, { thread_id: "t", events: "[3]" }));
    await storage.write((tx) =>
      tx
        .insertInto("event_chunks")
        .columns(["run_id", "first", "last", "events"])
        .expression((eb) =>
          eb
            .selectFrom("event_chunks")
            .select((eb) => ["run_id", eb.val(3).as("first"), "last", "events"])
            .where("run_id", "=", "t"),
        )
        .execute(),
    );
    await storage.write((tx) =>
      tx
        .updateTable("threads")
        .set({ interrupts: (eb) => eb.selectFrom("event_chunks").select("events").where("run_id", "=", "t").limit(1) })
        .execute(),
    );
    expect((await storage.read((db) => events.read(db, "t", -1, 9))).map(({ events }) => events)).toEqual([
      "[3]",
      "[3]",
    ]);
    expect((await storage.read((db) => threads.find(db, "t")))?.interrupts).toBe("[3]");
    const rows = (await stored("select events from event_chunks")) as { events: string }[];
    for (const row of rows) expect(row.events).toMatch(/^skein-aes:/);
  });

  test("bytes come back as bytes, text as text, many rows at once", async () => {
    const { storage } = await sealed();
    const key = { thread_id: "t", checkpoint_ns: "", checkpoint_id: "c" };
    const bytes = Buffer.from([0, 255, 1, 254]);
    const values = Array.from({ length: 70 }, (_, n) =>
      n % 2 === 0 ? (["bytes", bytes] as const) : (["json", `"é${n}"`] as const),
    );
    const blobs = values.map((value, n) => ({ channel: `c${n}`, version: "1", first: 0, value }));
    const versions = Object.fromEntries(blobs.map(({ channel }) => [channel, ["1", 0] as const]));
    const row = {
      ...key,
      parent_checkpoint_id: null,
      metadata: "{}",
      checkpoint: ["json", "{}"] as const,
      blob_versions: versions,
    };
    await storage.write((tx) => checkpoints.put(tx, null, row, blobs));
    const found = await storage.read((db) => checkpoints.get(db, key));
    expect(found?.checkpoint).toEqual(["json", "{}"]);
    expect(found?.blobs.map(({ value: [type, value] }) => [type, value])).toEqual(values);
    await storage.close();
  });

  test("what is sealed cannot be searched, whichever way the query is built", async () => {
    const { storage } = await sealed();
    const search = (work: Parameters<typeof storage.read>[0]) => expect(storage.read(work)).rejects;
    await search((db) =>
      db
        .selectFrom("thread_values")
        .select("seq")
        .where((eb) => jsonEquals(eb.ref("values"), "a", 1))
        .execute(),
    ).toThrow("values: cannot be searched");
    await search((db) =>
      db
        .selectFrom("thread_values as t")
        .select("t.seq")
        .where((eb) => jsonEquals(eb.ref("t.values"), "a", 1))
        .execute(),
    ).toThrow("values: cannot be searched");
    await search((db) =>
      db
        .selectFrom("store_items")
        .select("key")
        .where((eb) => eb.and(jsonFilter(eb.ref("store_items.value"), "a", { $gt: 1 })))
        .execute(),
    ).toThrow("filter: cannot be searched");
    await search((db) =>
      db
        .selectFrom("assistants")
        .select("name")
        .where((eb) => eb.and(jsonEqualsAll(eb.ref("metadata"), { a: { token: 1 } })))
        .execute(),
    ).toThrow("metadata.token: cannot be searched");
    await search((db) =>
      db
        .selectFrom("store_items")
        .select("key")
        .where((eb) => eb.and(jsonFilter(eb.ref("store_items.value"), "token", { $ne: 1 })))
        .execute(),
    ).toThrow("cannot be searched");
    await search((db) =>
      sql`select 1 from thread_values as t where ${jsonEquals(sql.ref("t.values"), "a", 1)}`.execute(db),
    ).toThrow("values: cannot be searched");
    await search((db) =>
      sql`select 1 from threads as t where ${jsonEquals(sql.ref("t.metadata"), "token", 1)}`.execute(db),
    ).toThrow("metadata.token: cannot be searched");
    expect(() => storage.checkSearch({ values: { a: 1 } })).toThrow("values: cannot be searched");
    expect(() => storage.checkSearch({ metadata: { a: [{ token: 1 }] } })).toThrow(
      "metadata.token: cannot be searched",
    );
    storage.checkSearch({ metadata: { a: 1 }, values: {} });
    // What is not sealed can, and so can the fact that there is something.
    await storage.read((db) =>
      db
        .selectFrom("assistants")
        .select("name")
        .where((eb) => eb.and(jsonEqualsAll(eb.ref("metadata"), { a: 1 })))
        .execute(),
    );
    await storage.read((db) => db.selectFrom("thread_values").select("seq").where("values", "is not", null).execute());
    await storage.close();
  });

  test("data of before is sealed under the key of now, all of it", async () => {
    const { storage, stored } = await sealed();
    const made = [];
    for (let n = 0; n < 30; n += 1)
      made.push(await storage.write((tx) => runs.insert(tx, newRun({ thread_id: `${n}` }))));
    const plain =
      "insert into store_items (namespace, key, created_at, updated_at, value) values ('[\"n\"]', 'k', 1, 1, '{\"a\":1}')";
    await storage.write((tx) => sql.raw(plain).execute(tx));
    let place: encryption.Place | undefined = encryption.START;
    while (place !== undefined) {
      const from: encryption.Place = place;
      place = await storage.write((tx) => encryption.resealSome(tx, from, 7));
    }
    for (const { run_id, kwargs } of made)
      expect((await storage.read((db) => runs.find(db, run_id)))?.kwargs).toEqual(kwargs);
    expect((await stored("select value from store_items")) as unknown).toMatchObject([
      { value: expect.stringMatching(/^skein-aes:/) },
    ]);
  });
});

test("a sealed value that was changed does not open, and is no longer anything else either", () => {
  const text = cipher.sealText("hello");
  expect(cipher.openText(text)).toBe("hello");
  const last = text.at(-5) === "A" ? "B" : "A";
  expect(() => cipher.openText(text.slice(0, -5) + last + text.slice(-4))).toThrow(SealBroken);
  const bytes = Buffer.from(cipher.sealBytes("hello"));
  // Text sealed as text must not come out as bytes.
  bytes[27] = "b".charCodeAt(0);
  expect(() => cipher.openBytes(bytes)).toThrow(SealBroken);
});

test("one value sealed twice looks different each time; another key's is left as it is", () => {
  expect(cipher.sealText("x")).not.toBe(cipher.sealText("x"));
  const other = new Cipher({ key: Buffer.from("another-16-bytes"), old: [KEY] });
  expect(other.openText(cipher.sealText("x"))).toBe("x");
  expect(cipher.openText(other.sealText("x"))).toBeUndefined();
});
