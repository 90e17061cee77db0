import { expect } from "vitest";
import { type Any, type Api, behaviour, eventually, ids, refused } from "../kit.ts";

const keep = (api: Api, namespace: readonly string[], key: string, value: Any = {}, more: Any = {}): Promise<unknown> =>
  api.put("/store/items", { namespace, key, value, ...more });
const search = async (api: Api, body: Any): Promise<Any[]> => (await api.post("/store/items/search", body)).items;

behaviour("store.put", async ({ api }) => {
  const answer = await api.http.put("/store/items", { namespace: [api.mark()], key: "a", value: { x: 1 } });
  expect([answer.status, answer.text]).toEqual([204, ""]);
});

behaviour("store.put.replaces", async ({ api }) => {
  const mark = api.mark();
  await keep(api, [mark], "a", { x: 1, y: 1 });
  const before = await api.get(`/store/items?namespace=${mark}&key=a`);
  await keep(api, [mark], "a", { x: 2 });
  const after = await api.get(`/store/items?namespace=${mark}&key=a`);
  expect(after).toMatchObject({ value: { x: 2 }, created_at: before.created_at });
  expect(after.value).not.toHaveProperty("y");
});

behaviour("store.put.required", async ({ api }) => {
  const whole = { namespace: ["a"], key: "k", value: {} };
  for (const name of ["namespace", "key", "value"]) {
    await refused(api.http.put("/store/items", { ...whole, [name]: undefined }), 422, name);
  }
});

behaviour("store.put.bad-value", async ({ api }) => {
  for (const value of ["text", 7, [1], null]) {
    await refused(api.http.put("/store/items", { namespace: ["a"], key: "k", value }), 422, "value");
  }
});

behaviour("store.put.dot-in-label", async ({ api }) => {
  await refused(api.http.put("/store/items", { namespace: ["a.b"], key: "k", value: {} }), 422, "namespace");
});

behaviour("store.put.empty-label", async ({ api }) => {
  await refused(api.http.put("/store/items", { namespace: ["a", ""], key: "k", value: {} }), 422, "namespace");
});

behaviour("store.put.bad-ttl", async ({ api }) => {
  await refused(api.http.put("/store/items", { namespace: ["a"], key: "k", value: {}, ttl: "soon" }), 422, "ttl");
});

behaviour("store.put.bad-index", async ({ api }) => {
  await refused(api.http.put("/store/items", { namespace: ["a"], key: "k", value: {}, index: true }), 422, "index");
});

behaviour("store.put.ttl-and-index", async ({ api }) => {
  const mark = api.mark();
  await keep(api, [mark], "a", { x: 1 }, { ttl: 10, index: false });
  await keep(api, [mark], "b", { x: 1 }, { ttl: null, index: null });
  expect(await search(api, { namespace_prefix: [mark] })).toHaveLength(2);
});

behaviour("store.get", async ({ api }) => {
  const mark = api.mark();
  await keep(api, [mark, "deep"], "a", { x: [1, { y: null }] });
  const item = await api.get(`/store/items?namespace=${mark}&namespace=deep&key=a`);
  expect(item).toMatchObject({ namespace: [mark, "deep"], key: "a", value: { x: [1, { y: null }] } });
  for (const field of ["created_at", "updated_at"]) expect(Date.parse(item[field])).not.toBeNaN();
});

behaviour("store.get.dotted-namespace", async ({ api }) => {
  const mark = api.mark();
  await keep(api, [mark, "deep"], "a", { x: 1 });
  expect(await api.get(`/store/items?namespace=${mark}.deep&key=a`)).toMatchObject({ namespace: [mark, "deep"] });
});

behaviour("store.get.missing", async ({ api }) => {
  const answer = await api.http.get(`/store/items?namespace=${api.mark()}&key=none`);
  expect([answer.status, answer.text]).toEqual([200, "null"]);
});

behaviour("store.get.no-key", async ({ api }) => {
  const answer = await api.http.get("/store/items?namespace=a");
  expect([400, 422]).toContain(answer.status);
  expect(answer.body.detail).toContain("key");
});

behaviour("store.get.refresh", async ({ api }) => {
  const mark = api.mark();
  await keep(api, [mark], "a", { x: 1 }, { ttl: 10 });
  for (const flag of ["true", "false", "1"]) {
    expect(await api.get(`/store/items?namespace=${mark}&key=a&refresh_ttl=${flag}`)).toMatchObject({ key: "a" });
  }
});

behaviour("store.get.unicode", async ({ api }) => {
  const mark = api.mark();
  const key = "ключ / ? & = # 🙂";
  await keep(api, [mark], key, { x: 1 });
  expect(await api.get(`/store/items?namespace=${mark}&key=${encodeURIComponent(key)}`)).toMatchObject({ key });
});

behaviour("store.delete", async ({ api }) => {
  const mark = api.mark();
  await keep(api, [mark], "a");
  const answer = await api.http.delete("/store/items", { namespace: [mark], key: "a" });
  expect([answer.status, answer.text]).toEqual([204, ""]);
  expect(await api.get(`/store/items?namespace=${mark}&key=a`)).toBeNull();
});

behaviour("store.delete.missing", async ({ api }) => {
  expect((await api.http.delete("/store/items", { namespace: [api.mark()], key: "a" })).status).toBe(204);
});

behaviour("store.delete.no-key", async ({ api }) => {
  await refused(api.http.delete("/store/items", { namespace: ["a"] }), 422, "key");
});

behaviour("store.search.prefix", async ({ api }) => {
  const mark = api.mark();
  await keep(api, [mark, "a"], "1");
  await keep(api, [mark, "a", "b"], "2");
  await keep(api, [mark, "ab"], "3");
  expect(ids(await search(api, { namespace_prefix: [mark, "a"] }), "key").sort()).toEqual(["1", "2"]);
});

behaviour("store.search.filter", async ({ api }) => {
  const mark = api.mark();
  await keep(api, [mark], "a", { kind: "x", n: 1 });
  await keep(api, [mark], "b", { kind: "y", n: 1 });
  expect(ids(await search(api, { namespace_prefix: [mark], filter: { kind: "x", n: 1 } }), "key")).toEqual(["a"]);
});

behaviour("store.search.operators", async ({ api }) => {
  const mark = api.mark();
  for (const n of [1, 2, 3]) await keep(api, [mark], String(n), { n });
  const found = async (filter: Any) => ids(await search(api, { namespace_prefix: [mark], filter }), "key").sort();
  expect(await found({ n: { $gt: 1 } })).toEqual(["2", "3"]);
  expect(await found({ n: { $gte: 2, $lt: 3 } })).toEqual(["2"]);
  expect(await found({ n: { $ne: 2 } })).toEqual(["1", "3"]);
  expect(await found({ n: { $eq: 2 } })).toEqual(["2"]);
});

behaviour("store.search.newest-first", async ({ api }) => {
  const mark = api.mark();
  for (const key of ["a", "b", "c"]) await keep(api, [mark], key);
  await keep(api, [mark], "a", { again: true });
  expect(ids(await search(api, { namespace_prefix: [mark] }), "key")).toEqual(["a", "c", "b"]);
});

behaviour("store.search.page", async ({ api }) => {
  const mark = api.mark();
  for (const key of ["a", "b", "c"]) await keep(api, [mark], key);
  expect(ids(await search(api, { namespace_prefix: [mark], limit: 1, offset: 1 }), "key")).toEqual(["b"]);
});

behaviour("store.search.limit-default", async ({ api }) => {
  const mark = api.mark();
  for (let index = 0; index < 11; index++) await keep(api, [mark], String(index));
  expect(await search(api, { namespace_prefix: [mark] })).toHaveLength(10);
});

behaviour("store.search.bad-limit", async ({ api }) => {
  await refused(api.http.post("/store/items/search", { limit: -1 }), 422, "limit");
  await refused(api.http.post("/store/items/search", { offset: -1 }), 422, "offset");
});

behaviour("store.search.nulls", async ({ api }) => {
  const mark = api.mark();
  await keep(api, [mark], "a");
  const body = { namespace_prefix: [mark], filter: null, query: null, refresh_ttl: null };
  expect(ids(await search(api, body), "key")).toEqual(["a"]);
});

behaviour("store.search.query", async ({ api }) => {
  const mark = api.mark();
  await keep(api, [mark], "near", { text: "banana bandana" });
  await keep(api, [mark], "far", { text: "kiwi" });
  const found = await search(api, { namespace_prefix: [mark], query: "a nab" });
  expect(ids(found, "key")).toEqual(["near", "far"]);
  expect(found[0].score).toBeGreaterThan(found[1].score);
});

behaviour("store.search.query-not-indexed", async ({ api }) => {
  const mark = api.mark();
  await keep(api, [mark], "yes", { text: "banana" });
  await keep(api, [mark], "no", { text: "banana" }, { index: false });
  await keep(api, [mark], "other", { other: "banana" }, { index: ["other"] });
  const scored = (await search(api, { namespace_prefix: [mark], query: "banana" })).filter(
    ({ score }) => score != null,
  );
  expect(ids(scored, "key").sort()).toEqual(["other", "yes"]);
});

behaviour("store.search.no-score", async ({ api }) => {
  const mark = api.mark();
  await keep(api, [mark], "a", { text: "banana" });
  const [item] = await search(api, { namespace_prefix: [mark] });
  expect(item.score ?? null).toBeNull();
});

behaviour("store.expires", async ({ api }) => {
  const mark = api.mark();
  await keep(api, [mark], "a", {}, { ttl: 0.005 });
  await eventually(async () => (await search(api, { namespace_prefix: [mark], refresh_ttl: false })).length === 0);
});

behaviour("store.namespaces", async ({ api }) => {
  const mark = api.mark();
  await keep(api, [mark, "a", "b"], "1");
  await keep(api, [mark, "c"], "1");
  expect(await namespaces(api, { prefix: [mark] })).toEqual([
    [mark, "a", "b"],
    [mark, "c"],
  ]);
});

behaviour("store.namespaces.suffix", async ({ api }) => {
  const mark = api.mark();
  await keep(api, [mark, "a", "end"], "1");
  await keep(api, [mark, "end", "a"], "1");
  expect(await namespaces(api, { prefix: [mark], suffix: ["end"] })).toEqual([[mark, "a", "end"]]);
});

behaviour("store.namespaces.depth", async ({ api }) => {
  const mark = api.mark();
  await keep(api, [mark, "a", "b"], "1");
  await keep(api, [mark, "a", "c"], "1");
  expect(await namespaces(api, { prefix: [mark], max_depth: 2 })).toEqual([[mark, "a"]]);
});

behaviour("store.namespaces.page", async ({ api }) => {
  const mark = api.mark();
  for (const label of ["a", "b", "c"]) await keep(api, [mark, label], "1");
  expect(await namespaces(api, { prefix: [mark], limit: 1, offset: 1 })).toEqual([[mark, "b"]]);
});

behaviour("store.namespaces.bad-depth", async ({ api }) => {
  await refused(api.http.post("/store/namespaces", { max_depth: "deep" }), 422, "max_depth");
});

behaviour("store.in-graph", async ({ api }) => {
  const user = api.mark();
  await api.run("remember", { user, note: "likes tea" });
  expect(await api.get(`/store/items?namespace=notes.${user}&key=likes%20tea`)).toMatchObject({
    value: { note: "likes tea" },
  });
});

behaviour("store.across-threads", async ({ api }) => {
  const user = api.mark();
  await keep(api, ["notes", user], "from outside", { note: "from outside" });
  expect(await api.run("remember", { user, note: "inside" })).toMatchObject({ notes: ["from outside", "inside"] });
});

async function namespaces(api: Api, body: Any): Promise<string[][]> {
  const answer = await api.post("/store/namespaces", body);
  const found: string[][] = Array.isArray(answer) ? answer : answer.namespaces;
  return [...found].sort();
}
