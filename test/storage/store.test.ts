import { expect, test } from "vitest";
import type { StoreItem, StoreOperation } from "../../src/executor/protocol.ts";
import type { Storage } from "../../src/storage/storage.ts";
import { makeStore } from "./make-store.ts";
import { eachDialect, NOW } from "./support.ts";

async function one(storage: Storage, operation: StoreOperation, now = NOW) {
  const [answer] = await makeStore(storage).run([operation], now);
  return answer;
}

const put = (storage: Storage, namespace: readonly string[], key: string, value: unknown, now = NOW) =>
  one(storage, { op: "put", namespace, key, value: value === null ? null : JSON.stringify(value) }, now);

const searchKeys = async (storage: Storage, search: Partial<Extract<StoreOperation, { op: "search" }>> = {}) =>
  (
    (await one(storage, { op: "search", prefix: [], filter: null, limit: 100, offset: 0, ...search })) as StoreItem[]
  ).map((item) => item.key);

const namespaces = (storage: Storage, listing: Partial<Extract<StoreOperation, { op: "list_namespaces" }>> = {}) =>
  one(storage, { op: "list_namespaces", conditions: [], max_depth: null, limit: 100, offset: 0, ...listing });

eachDialect((openTemp) => {
  test("put, get, put again, delete; one answer per operation, in order", async () => {
    const storage = await openTemp();
    const at = { namespace: ["users", "a.b"], key: "k" };
    const answers = await makeStore(storage).run(
      [
        { op: "get", ...at },
        { op: "put", ...at, value: '{"x":1}' },
        { op: "get", ...at },
      ],
      NOW,
    );
    const created_at = new Date(NOW).toISOString();
    expect(answers).toEqual([null, null, { ...at, value: '{"x":1}', created_at, updated_at: created_at }]);
    await put(storage, at.namespace, "k", { x: 2 }, NOW + 1000);
    expect(await one(storage, { op: "get", ...at })).toMatchObject({
      value: '{"x":2}',
      created_at,
      updated_at: new Date(NOW + 1000).toISOString(),
    });
    await put(storage, at.namespace, "k", null);
    expect(await one(storage, { op: "get", ...at })).toBeNull();
  });

  test("search finds what is under the prefix and nothing beside it, last updated first", async () => {
    const storage = await openTemp();
    await put(storage, ["a"], "self", {}, NOW + 1);
    await put(storage, ["a", "b"], "below", {}, NOW + 3);
    await put(storage, ["a", "b", "c"], "deeper", {}, NOW + 2);
    await put(storage, ["ab"], "beside", {}, NOW + 4);
    await put(storage, ['a","b'], "odd", {}, NOW + 5);
    expect(await searchKeys(storage, { prefix: ["a"] })).toEqual(["below", "deeper", "self"]);
    expect(await searchKeys(storage, { prefix: ["a", "b"] })).toEqual(["below", "deeper"]);
    expect(await searchKeys(storage, { prefix: [] })).toEqual(["odd", "beside", "below", "deeper", "self"]);
    expect(await searchKeys(storage, { prefix: ["a"], limit: 1, offset: 1 })).toEqual(["deeper"]);
  });

  test("search filters by exact values and by operators", async () => {
    const storage = await openTemp();
    await put(storage, ["n"], "1", { n: 1, s: "a", on: true }, NOW + 3);
    await put(storage, ["n"], "2", { n: 2.5, s: "b", on: false }, NOW + 2);
    await put(storage, ["n"], "3", { s: "c", o: { deep: [1] }, z: null }, NOW + 1);
    const found = (filter: Record<string, unknown>) => searchKeys(storage, { prefix: ["n"], filter });
    expect(await found({ n: 1 })).toEqual(["1"]);
    expect(await found({ on: true, s: "a" })).toEqual(["1"]);
    expect(await found({ on: true, s: "b" })).toEqual([]);
    expect(await found({ o: { deep: [1] } })).toEqual(["3"]);
    expect(await found({ z: null })).toEqual(["3"]);
    expect(await found({ n: { $eq: 2.5 } })).toEqual(["2"]);
    expect(await found({ n: { $ne: 1 } })).toEqual(["2", "3"]);
    expect(await found({ n: { $gt: 1 } })).toEqual(["2"]);
    expect(await found({ n: { $gte: 1, $lt: 2 } })).toEqual(["1"]);
    expect(await found({ s: { $lte: "b" } })).toEqual(["1", "2"]);
    expect(await found({ s: { $gt: 0 } })).toEqual([]);
    expect(await found({ s: { $in: ["a", "c"] } })).toEqual(["1", "3"]);
    expect(await found({ n: { $nin: [1] } })).toEqual(["2", "3"]);
    expect(await found({ n: { $in: [] } })).toEqual([]);
    await expect(found({ n: { $in: 1 } })).rejects.toThrow(/filter\.n: \$in and \$nin take a list/);
    await expect(found({ n: { $near: 1 } })).rejects.toThrow(/filter\.n: the operator \$near/);
  });

  test("namespaces: conditions with wildcards, depth, paging", async () => {
    const storage = await openTemp();
    const all = [["a", "x", "v1"], ["a", "y", "v1"], ["a", "y", "v2"], ["b", "x"], ["a"]];
    for (const namespace of all) for (const key of ["1", "2"]) await put(storage, namespace, key, {});
    const listed = async (listing: Parameters<typeof namespaces>[1]) =>
      ((await namespaces(storage, listing)) as string[][]).map((path) => path.join("/")).sort();
    const when = (match: "prefix" | "suffix", ...path: string[]) => ({ match, path });

    expect(await listed({})).toEqual(["a", "a/x/v1", "a/y/v1", "a/y/v2", "b/x"]);
    expect(await listed({ conditions: [when("prefix", "a", "y")] })).toEqual(["a/y/v1", "a/y/v2"]);
    expect(await listed({ conditions: [when("prefix", "*", "x")] })).toEqual(["a/x/v1", "b/x"]);
    expect(await listed({ conditions: [when("suffix", "v1")] })).toEqual(["a/x/v1", "a/y/v1"]);
    expect(await listed({ conditions: [when("suffix", "y", "*"), when("suffix", "v2")] })).toEqual(["a/y/v2"]);
    expect(await listed({ max_depth: 2 })).toEqual(["a", "a/x", "a/y", "b/x"]);
    expect(await listed({ max_depth: 1, conditions: [when("suffix", "v1")] })).toEqual(["a"]);

    const pages = [0, 2, 4].map((offset) => namespaces(storage, { limit: 2, offset }) as Promise<string[][]>);
    const paged = (await Promise.all(pages)).flat();
    expect(paged.map((path) => path.join("/")).sort()).toEqual(["a", "a/x/v1", "a/y/v1", "a/y/v2", "b/x"]);
  });

  test("no items, no namespaces", async () => {
    const storage = await openTemp();
    expect(await namespaces(storage)).toEqual([]);
    expect(await one(storage, { op: "get", namespace: ["a"], key: "k" })).toBeNull();
  });
});
