/** The long-term store over HTTP, and the same items in graphs. */
import { Client } from "@langchain/langgraph-sdk";
import { describe, expect, test } from "vitest";
import { type Any, Api, database, fixturesWith, useServer } from "../runs/support.ts";
import { eventually, startServer } from "../support/server.ts";

const api = useServer();
const item = (namespace: string[], key: string, value: object = {}): Any => ({ namespace, key, value });
const put = (body: object) => api.http.put("/store/items", body);
const get = (query: string) => api.http.get(`/store/items?${query}`);
const search = async (body?: object): Promise<Any[]> => (await api.post("/store/items/search", body)).items;
const keys = async (body?: object): Promise<string[]> => (await search(body)).map(({ key }) => key);
const namespaces = async (body?: object): Promise<string[][]> => (await api.post("/store/namespaces", body)).namespaces;
const TIME = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);

describe("items", () => {
  test("put, get, put again, delete", async () => {
    const place = item(["users", "u1"], "prefs", { theme: "dark", n: 1, deep: { list: [1, "ü", null] } });
    const done = await put(place);
    expect([done.status, done.text]).toEqual([204, ""]);
    const first = (await get("namespace=users.u1&key=prefs")).body;
    expect(first).toEqual({ ...place, created_at: TIME, updated_at: TIME });
    await put({ ...place, value: { theme: "light" } });
    const second = (await get("namespace=users.u1&key=prefs")).body;
    expect(second).toMatchObject({ value: { theme: "light" }, created_at: first.created_at });
    expect(second.updated_at >= first.updated_at).toBe(true);

    for (const _ of [1, 2]) {
      const gone = await api.http.delete("/store/items", { namespace: ["users", "u1"], key: "prefs" });
      expect([gone.status, gone.text]).toEqual([204, ""]);
      const none = await get("namespace=users.u1&key=prefs");
      expect([none.status, none.text]).toEqual([200, "null"]);
    }
  });

  test("a namespace in a query is joined by dots, repeated, or both", async () => {
    await put(item(["q", "a b", "c"], "", { x: 1 }));
    for (const query of [
      "namespace=q.a%20b.c",
      "namespace=q&namespace=a+b&namespace=c",
      "namespace=q.a+b&namespace=c",
    ]) {
      expect((await get(`${query}&key=`)).body, query).toMatchObject({ value: { x: 1 } });
    }
    expect((await get("key=prefs")).body).toBeNull();
    expect((await api.http.delete("/store/items", { key: "prefs" })).status).toBe(204);
  });

  test("odd names and large values come back as they went", async () => {
    const odd = ["*", "a,b", '["x"]', "%", "用户", "👩‍👩‍👧", " ", "a/b?c&d#e", "__proto__", "a:b"];
    const value = { big: "ü".repeat(500_000), nested: Array.from({ length: 50 }, (_, i) => ({ [`k${i}`]: i / 7 })) };
    for (const label of odd) expect((await put(item(["odd", label], label, value))).status).toBe(204);
    for (const label of odd) {
      const query = new URLSearchParams({ namespace: `odd.${label}`, key: label });
      expect((await get(String(query))).body, label).toMatchObject({ namespace: ["odd", label], key: label, value });
    }
    await put(item(["odd", "nul\0"], "k\ud800", { text: "a\0b" }));
    expect(await search({ namespace_prefix: ["odd", "nul\ufffd"] })).toMatchObject([
      { key: "k\ufffd", value: { text: "a\ufffdb" } },
    ]);
  });

  test.each<[string, object, string]>([
    ["PUT", { namespace: [], key: "k", value: {} }, "namespace"],
    ["PUT", { key: "k", value: {} }, "namespace"],
    ["PUT", { namespace: "a", key: "k", value: {} }, "namespace"],
    ["PUT", { namespace: ["a", "b.c"], key: "k", value: {} }, "namespace.1"],
    ["PUT", { namespace: [""], key: "k", value: {} }, "namespace.0"],
    ["PUT", { namespace: [1], key: "k", value: {} }, "namespace.0"],
    ["PUT", { namespace: ["a"], value: {} }, "key"],
    ["PUT", { namespace: ["a"], key: 1, value: {} }, "key"],
    ["PUT", { namespace: ["a"], key: "k" }, "value"],
    ["PUT", { namespace: ["a"], key: "k", value: null }, "value"],
    ["PUT", { namespace: ["a"], key: "k", value: [] }, "value"],
    ["PUT", { namespace: ["a"], key: "k", value: "x" }, "value"],
    ["PUT", { namespace: ["a"], key: "k", value: {}, index: true }, "index"],
    ["PUT", { namespace: ["a"], key: "k", value: {}, index: "text" }, "index"],
    ["PUT", { namespace: ["a"], key: "k", value: {}, index: [""] }, "index.0"],
    ["PUT", { namespace: ["a"], key: "k", value: {}, ttl: 0 }, "ttl"],
    ["PUT", { namespace: ["a"], key: "k", value: {}, ttl: "1" }, "ttl"],
    ["PUT", { namespace: ["a"], key: "k", value: {}, ttl: 1e300 }, "ttl"],
    ["DELETE", { namespace: ["a.b"], key: "k" }, "namespace.0"],
    ["DELETE", { namespace: ["a"] }, "key"],
    ["POST /search", { namespace_prefix: "a" }, "namespace_prefix"],
    ["POST /search", { namespace_prefix: ["a.b"] }, "namespace_prefix.0"],
    ["POST /search", { filter: [] }, "filter"],
    ["POST /search", { filter: { n: { $near: 1 } } }, "filter.n"],
    ["POST /search", { limit: -1 }, "limit"],
    ["POST /search", { limit: "10" }, "limit"],
    ["POST /search", { offset: 1.5 }, "offset"],
    ["POST /search", { query: 1 }, "query"],
    ["POST /search", { refresh_ttl: "yes" }, "refresh_ttl"],
    ["POST ns", { prefix: "a" }, "prefix"],
    ["POST ns", { suffix: [""] }, "suffix.0"],
    ["POST ns", { max_depth: 0 }, "max_depth"],
    ["POST ns", { limit: null, offset: -1 }, "offset"],
  ])("%s %j names %s", async (way, body, path) => {
    const calls = {
      PUT: () => put(body),
      DELETE: () => api.http.delete("/store/items", body),
      "POST /search": () => api.http.post("/store/items/search", body),
      "POST ns": () => api.http.post("/store/namespaces", body),
    };
    const answer = await calls[way as keyof typeof calls]();
    expect(answer.status).toBe(422);
    expect(answer.body.detail).toMatch(new RegExp(`^${path.replaceAll(".", "\\.")}: `));
  });

  test.each([
    ["namespace=a", "key"],
    ["namespace=a..b&key=k", "namespace.1"],
    ["namespace=a&key=k&refresh_ttl=maybe", "refresh_ttl"],
  ])("GET ?%s names %s", async (query, path) => {
    const answer = await get(query);
    expect(answer.status).toBe(422);
    expect(answer.body.detail).toMatch(new RegExp(`^${path}: `));
  });
});

describe("search and namespaces", () => {
  test("last updated first, under a prefix, filtered, in pages", async () => {
    for (const [i, label] of ["a", "b", "ab", "b"].entries()) {
      await put(item(["s", label], `k${i}`, { n: i, even: i % 2 === 0, meta: { a: 1, b: [2] } }));
    }
    expect(await keys({ namespace_prefix: ["s"] })).toEqual(["k3", "k2", "k1", "k0"]);
    await put(item(["s", "a"], "k0", { n: 0 }));
    expect(await keys({ namespace_prefix: ["s"] })).toEqual(["k0", "k3", "k2", "k1"]);
    expect(await keys({ namespace_prefix: ["s", "b"] })).toEqual(["k3", "k1"]);
    expect(await keys({ namespace_prefix: ["s"], limit: 2, offset: 1 })).toEqual(["k3", "k2"]);
    expect(await keys({ namespace_prefix: ["s"], limit: 0 })).toEqual([]);
    expect(await keys({ namespace_prefix: ["s"], filter: { even: true } })).toEqual(["k2"]);
    expect(await keys({ namespace_prefix: ["s"], filter: { n: { $gte: 1, $lt: 3 }, even: false } })).toEqual(["k1"]);
    expect(await keys({ namespace_prefix: ["s"], filter: { meta: { a: 1, b: [2] }, n: { $ne: 2 } } })).toEqual([
      "k3",
      "k1",
    ]);
    expect(await keys({ namespace_prefix: null, filter: null, limit: null, offset: null })).toHaveLength(10);
    expect(await keys()).toHaveLength(10);
  });

  test("a query without an index is a plain search, and no item has a score", async () => {
    await put({ ...item(["plain"], "k", { text: "x" }), index: ["text"] });
    const found = await search({ namespace_prefix: ["plain"], query: "anything", filter: { text: "x" } });
    expect(found).toMatchObject([{ key: "k" }]);
    expect(found[0]).not.toHaveProperty("score");
  });

  test("namespaces: prefix, suffix, wildcards, depth, pages", async () => {
    for (const path of ["a.x.v1", "a.y.v1", "a.y.v2", "b.x"]) await put(item(["ns", ...path.split(".")], "k"));
    const listed = async (body: object) => (await namespaces(body)).map((path) => path.slice(1).join("."));
    expect(await listed({ prefix: ["ns"] })).toEqual(["a.x.v1", "a.y.v1", "a.y.v2", "b.x"]);
    expect(await listed({ prefix: ["ns", "*", "x"] })).toEqual(["a.x.v1", "b.x"]);
    expect(await listed({ prefix: ["ns"], suffix: ["y", "*"] })).toEqual(["a.y.v1", "a.y.v2"]);
    expect(await listed({ prefix: ["ns"], max_depth: 2 })).toEqual(["a", "b"]);
    expect(await listed({ prefix: ["ns"], limit: 2, offset: 1 })).toEqual(["a.y.v1", "a.y.v2"]);
    expect((await namespaces()).length).toBeGreaterThan(4);
  });
});

test("the official client's store", async () => {
  const { store } = new Client({ apiUrl: api.url });
  await store.putItem(["sdk", "u"], "k", { a: 1 }, { index: false, ttl: 60 });
  await store.putItem(["sdk", "v"], "k", { a: 2 });
  expect(await store.getItem(["sdk", "u"], "k", { refreshTtl: true })).toMatchObject({
    value: { a: 1 },
    createdAt: TIME,
  });
  expect(await store.getItem(["sdk", "u"], "none")).toBeNull();
  const { items } = await store.searchItems(["sdk"], { filter: { a: { $gt: 1 } }, query: "x", refreshTtl: false });
  expect(items).toMatchObject([{ namespace: ["sdk", "v"], key: "k", updatedAt: TIME }]);
  expect(await store.listNamespaces({ prefix: ["sdk"], maxDepth: 3 })).toEqual({
    namespaces: [
      ["sdk", "u"],
      ["sdk", "v"],
    ],
  });
  await store.deleteItem(["sdk", "u"], "k");
  expect(await store.listNamespaces({ prefix: ["sdk"] })).toEqual({ namespaces: [["sdk", "v"]] });
});

test("graphs and clients see what the other wrote", async () => {
  await put(item(["notes", "ann"], "from HTTP", { note: "from HTTP" }));
  const { notes } = await api.wait({ assistant_id: "remember", input: { user: "ann", note: "from a node" } });
  expect(notes).toEqual(["from HTTP", "from a node"]);
  expect(await search({ namespace_prefix: ["notes", "ann"] })).toMatchObject([{ value: { note: "from a node" } }, {}]);
});

test("items expire by their own time or the default; a sweep removes them; a restart keeps the rest", async () => {
  // Minutes: 0.001 is 60 ms.
  const ttl = { default_ttl: 0.001, refresh_on_read: false, sweep_interval_minutes: 0.001 };
  await using project = await fixturesWith({ store: { ttl } });
  await using server = await startServer({ project });
  const here = new Api(server);
  await here.http.put("/store/items", item(["t"], "default"));
  await here.http.put("/store/items", { ...item(["t"], "stays"), ttl: null });
  await here.http.put("/store/items", { ...item(["t"], "hour"), ttl: 60 });
  await here.wait({ assistant_id: "remember", input: { user: "t", note: "by a graph" } });
  const rows = async (): Promise<string[]> => {
    const db = database(server.data);
    const found = (await db.all("select key from store_items order by key")).map(({ key }) => key);
    db.close();
    return found;
  };
  await eventually(async () => (await rows()).length === 2);
  expect(await rows()).toEqual(["hour", "stays"]);
  expect(await here.get("/store/items?namespace=t&key=default")).toBeNull();
  expect((await here.post("/store/namespaces")).namespaces).toEqual([["t"]]);
  await server.restart("SIGKILL");
  expect((await here.post("/store/items/search")).items.map(({ key }: Any) => key)).toEqual(["hour", "stays"]);
});
