/** What threads show, whole or in parts: every way to write it, against what it must say. */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { GrownList, GrownValues, Json } from "../../src/executor/protocol.ts";
import { Cipher } from "../../src/storage/cipher.ts";
import { openSqlite } from "../../src/storage/sqlite.ts";
import type { Storage } from "../../src/storage/storage.ts";
import * as checkpoints from "../../src/storage/tables/checkpoints.ts";
import * as encryption from "../../src/storage/tables/encryption.ts";
import * as threadSearch from "../../src/storage/tables/thread-search.ts";
import * as threadValues from "../../src/storage/tables/thread-values.ts";
import * as threads from "../../src/storage/tables/threads.ts";
import { requirePostgres } from "../support/postgres.ts";
import { eachDialect, NOW, openTemp, openTempPostgres, tempDir, newThread as thread } from "./support.ts";

const cipher = new Cipher({ key: Buffer.from("0123456789abcdef"), old: [] });
const openSealed = (dir: string): Promise<Storage> => openSqlite({ dir, sealing: { cipher, jsonKeys: [] } });

const put = (storage: Storage, id: string, values: Json | GrownValues | null, at = NOW): Promise<unknown> =>
  storage.write(async (tx) => (await threads.touch(tx, id, { values, updated_at: at, state_updated_at: at })).put);

async function shown(storage: Storage, id = "t"): Promise<unknown> {
  const record = await storage.read((db) => threads.find(db, id));
  return record?.values == null ? null : JSON.parse(record.values);
}

const partsOf = (storage: Storage): Promise<string[]> =>
  storage.read(async (db) => {
    const rows = await db
      .selectFrom("thread_lists")
      .selectAll()
      .orderBy("seq")
      .orderBy("member")
      .orderBy("first")
      .execute();
    return rows.map(({ member, first, items }) => `${member}@${first} ${items}`);
  });

const list = (items: readonly unknown[], change: Partial<GrownList> = {}): GrownList => {
  const { from = 0 } = change;
  const texts = items.slice(from).map((item) => JSON.stringify(item));
  return { member: "m", version: "1@a", from, length: items.length, items: texts.join(), ...change };
};

eachDialect((open) => {
  async function withThread(): Promise<Storage> {
    const storage = await open();
    await storage.write((tx) => threads.insert(tx, thread("t")));
    return storage;
  }

  test("a list that grows gets a part for what is new, and is one list to who reads it", async () => {
    const storage = await withThread();
    expect(await put(storage, "t", { rest: '{"a":1}', lists: [list([1, 2])] })).toBe("changed");
    expect(await put(storage, "t", { rest: '{"a":2}', lists: [list([1, 2, [3, "x"]], { from: 2 })] })).toBe("changed");
    expect(await put(storage, "t", { rest: "{}", lists: [list([1, 2, [3, "x"]], { from: 3 })] })).toBe("changed");
    expect(await partsOf(storage)).toEqual(["m@0 1,2", 'm@2 [3,"x"]']);
    expect(await shown(storage)).toEqual({ m: [1, 2, [3, "x"]] });
  });

  test("values that say the same are no change of the state, however they are told", async () => {
    const storage = await withThread();
    const changedAt = async (values: Json | GrownValues, at: number): Promise<number | undefined> => {
      await put(storage, "t", values, at);
      return (await storage.read((db) => threads.find(db, "t")))?.state_updated_at;
    };
    expect(await changedAt('{"m":[1],"a":{}}', NOW + 1)).toBe(NOW + 1);
    expect(await changedAt({ rest: '{"a":{}}', lists: [list([1])] }, NOW + 2)).toBe(NOW + 1);
    expect(await changedAt({ rest: '{"a":{}}', lists: [list([1], { from: 1 })] }, NOW + 3)).toBe(NOW + 1);
    expect(await changedAt({ rest: '{"a":{}}', lists: [list([1])] }, NOW + 4)).toBe(NOW + 1);
    expect(await changedAt({ rest: '{"a":{}}', lists: [list([1], { version: "2@b" })] }, NOW + 5)).toBe(NOW + 1);
    expect(await changedAt('{"m":[1],"a":{}}', NOW + 6)).toBe(NOW + 1);
    expect(await partsOf(storage)).toEqual(["m@0 1"]);
    expect(await changedAt('{"m":[1]}', NOW + 7)).toBe(NOW + 7);
    expect(await partsOf(storage)).toEqual([]);
  });

  test.each<[string, Partial<GrownList>]>([
    ["of another version", { version: "2@b", from: 2 }],
    ["behind a gap", { from: 3 }],
    ["over what is there", { from: 1 }],
    ["of a list that is not there", { member: "other", from: 2 }],
  ])("items %s are refused: better nothing than something wrong", async (_, change) => {
    const storage = await withThread();
    await put(storage, "t", { rest: "{}", lists: [list([1, 2])] });
    expect(await put(storage, "t", { rest: "{}", lists: [list([1, 2, 3, 4], change)] }, NOW + 1)).toBe("misfit");
    expect(await shown(storage)).toBeNull();
    expect(await partsOf(storage)).toEqual([]);
    expect(await put(storage, "t", { rest: "{}", lists: [list([1, 2, 3])] })).toBe("changed");
    expect(await shown(storage)).toEqual({ m: [1, 2, 3] });
  });

  test("a copy has parts of its own, and parts go with their thread", async () => {
    const storage = await withThread();
    await put(storage, "t", { rest: '{"a":1}', lists: [list([1]), list(["x"], { member: "n" })] });
    await storage.write(async (tx) => {
      await threads.insert(tx, thread("copy"));
      await threadValues.copy(tx, "t", "copy");
    });
    await put(storage, "copy", { rest: "{}", lists: [list([1, 2], { from: 1 })] });
    expect(await shown(storage, "copy")).toEqual({ m: [1, 2] });
    expect(await shown(storage)).toEqual({ a: 1, m: [1], n: ["x"] });
    await storage.write((tx) => threads.remove(tx, "t"));
    expect(await partsOf(storage)).toEqual(["m@0 1", "m@1 2"]);
  });

  test("searches show and compare values in parts as those that are whole", async () => {
    const storage = await withThread();
    await put(storage, "t", { rest: '{"a":1}', lists: [list([1]), list(["x"], { member: "n" })] });
    await put(storage, "t", {
      rest: '{"a":1}',
      lists: [list([1, { b: 2 }], { from: 1 }), list(["x"], { member: "n" })],
    });
    await storage.write((tx) => threads.insert(tx, { ...thread("whole"), values: '{"m":[1,{"b":2}],"a":2}' }));
    await storage.write((tx) => threads.insert(tx, thread("none")));
    const search = async (values: Record<string, unknown>) => {
      const options = { values: true, totals: new threadSearch.KnownTotals() };
      const query = { values, sort_by: "created_at", sort_order: "asc" } as const;
      const { items } = await storage.read((db) => threadSearch.search(db, query, options));
      return items.map((item) => [item.thread_id, item.values === null ? null : JSON.parse(item.values)]);
    };
    const [t, whole, none] = [
      ["t", { a: 1, m: [1, { b: 2 }], n: ["x"] }],
      ["whole", { m: [1, { b: 2 }], a: 2 }],
      ["none", null],
    ];
    expect(await search({})).toEqual([t, whole, none]);
    expect(await search({ m: [1, { b: 2 }] })).toEqual([t, whole]);
    expect(await search({ m: [1, { b: 2 }], a: 1 })).toEqual([t]);
    expect(await search({ n: ["x"] })).toEqual([t]);
    expect(await search({ m: [1] })).toEqual([]);
    expect(await search({ m: [] })).toEqual([]);
    expect(await search({ m: null })).toEqual([]);
  });

  test("an output is read while the thread shows its checkpoint, whole or what is named of it", async () => {
    const storage = await withThread();
    const checkpoint = (checkpoint_id: string) =>
      storage.write((tx) => {
        const key = { thread_id: "t", checkpoint_ns: "", checkpoint_id, parent_checkpoint_id: null };
        return checkpoints.put(tx, null, { ...key, checkpoint: ["json", "{}"], metadata: "{}", blob_versions: {} }, []);
      });
    const at = (checkpoint_id: string, members: readonly string[] | null) =>
      storage.read((db) => threadValues.valuesAt(db, { thread_id: "t", checkpoint_id }, members));
    await checkpoint("1");
    await put(storage, "t", { rest: '{"a":1,"b":2}', lists: [list([1]), list(["x"], { member: "n" })] });
    expect(await at("1", null)).toBe('{"a":1,"b":2,"m":[1],"n":["x"]}');
    expect(await at("1", ["b", "n"])).toBe('{"b":2,"n":["x"]}');
    expect(await at("1", [])).toBe("{}");
    expect(await at("0", null)).toBeUndefined();
    await checkpoint("2");
    expect(await at("1", null)).toBeUndefined();
    await put(storage, "t", null);
    expect(await at("2", null)).toBeUndefined();
    await storage.write((tx) => threads.remove(tx, "t"));
    expect(await at("2", null)).toBeUndefined();
  });
});

test("parts are sealed, when they are written and when they were plain before", async () => {
  const dir = tempDir();
  const plain = await openSqlite({ dir });
  await plain.write((tx) => threads.insert(tx, thread("t")));
  await put(plain, "t", { rest: '{"a":"secret"}', lists: [list(["secret 1"])] });
  await plain.close();
  const sealed = await openSealed(dir);
  await put(sealed, "t", { rest: '{"a":"secret"}', lists: [list(["secret 1", "secret 2"], { from: 1 })] });
  for (let place: encryption.Place | undefined = encryption.START; place !== undefined; ) {
    const from: encryption.Place = place;
    place = await sealed.write((tx) => encryption.resealSome(tx, from, 20));
  }
  expect(await shown(sealed)).toEqual({ a: "secret", m: ["secret 1", "secret 2"] });
  await sealed.write(async (tx) => {
    await threads.insert(tx, thread("copy"));
    await threadValues.copy(tx, "t", "copy");
  });
  expect(await shown(sealed, "copy")).toEqual({ a: "secret", m: ["secret 1", "secret 2"] });
  await sealed.close();
  const { default: Libsql } = await import("libsql");
  const db = new Libsql(`${dir}/skein.db`);
  const rows = db.prepare(`select items from thread_lists union all select "values" from thread_values`).all();
  db.close();
  expect(rows).toHaveLength(6);
  for (const row of rows) expect(Object.values(row as object)[0]).toMatch(/^skein-aes:/);
});

/* --------------------------------------------------------- whatever happens, in whatever order */

const item = fc.oneof(fc.integer(), fc.string(), fc.constant(null), fc.record({ id: fc.integer(), x: fc.string() }));
const step = fc.oneof(
  { weight: 5, arbitrary: fc.record({ op: fc.constant("append" as const), items: fc.array(item, { maxLength: 3 }) }) },
  fc.record({ op: fc.constant("edit" as const), at: fc.nat(20), item }),
  fc.record({ op: fc.constant("cut" as const), at: fc.nat(20) }),
  fc.record({ op: fc.constant("forget" as const) }),
  fc.record({ op: fc.constant("whole" as const) }),
  fc.record({ op: fc.constant("rest" as const), item }),
  fc.record({ op: fc.constant("other" as const), items: fc.array(item, { maxLength: 2 }) }),
);

const WAYS: readonly [string, () => Promise<Storage>][] = [
  ["plain", () => openTemp()],
  ["sealed", () => openSealed(tempDir())],
  ["on PostgreSQL", () => openTempPostgres()],
];

test.for(WAYS)("the thread shows what it was last told, %s", async ([way, open], context) => {
  if (way === "on PostgreSQL") await requirePostgres(context);
  const storage = await open();
  let threadsMade = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
      const id = `t${threadsMade++}`;
      await storage.write((tx) => threads.insert(tx, thread(id)));
      let [items, rest, others, version, known]: [unknown[], unknown, unknown[], number, number] = [[], null, [], 1, 0];
      for (const each of steps) {
        if (each.op === "append") items = [...items, ...each.items];
        if (each.op === "edit" && each.at < items.length)
          [items, version, known] = [items.with(each.at, each.item), version + 1, 0];
        if (each.op === "cut" && each.at < items.length)
          [items, version, known] = [items.toSpliced(each.at, 1), version + 1, 0];
        // Another executor thread has the run: it knows the list, not what the thread shows.
        if (each.op === "forget") known = 0;
        if (each.op === "rest") rest = each.item;
        if (each.op === "other") others = each.items;
        if (each.op === "whole") {
          await put(storage, id, JSON.stringify({ items, rest, others }));
          known = 0;
        } else {
          const lists = [list(items, { member: "items", version: `${version}`, from: known })];
          if (others.length > 0) lists.push(list(others, { member: "others", version: JSON.stringify(others) }));
          const members = others.length > 0 ? { rest } : { rest, others };
          expect(await put(storage, id, { rest: JSON.stringify(members), lists })).not.toBe("misfit");
          known = items.length;
        }
        expect(await shown(storage, id)).toEqual(JSON.parse(JSON.stringify({ items, rest, others })));
      }
    }),
    { numRuns: 40 },
  );
});
