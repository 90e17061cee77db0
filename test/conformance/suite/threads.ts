import { expect } from "vitest";
import { type Any, behaviour, ids, NOBODY, refused, UUID } from "../kit.ts";

/* ---------------------------------------------------------------------------------- create */

behaviour("threads.create.defaults", async ({ api }) => {
  const made = await api.post("/threads", {});
  expect(made).toMatchObject({ thread_id: expect.stringMatching(UUID), status: "idle", metadata: {}, interrupts: {} });
  for (const field of ["created_at", "updated_at"]) expect(new Date(made[field]).toISOString()).toBe(made[field]);
});

behaviour("threads.create.without-body", async ({ api }) => {
  expect((await api.raw("/threads", { method: "POST" })).status).toBe(200);
});

behaviour("threads.create.metadata", async ({ api }) => {
  expect((await api.post("/threads", { metadata: { a: { b: [1, null] } } })).metadata).toEqual({ a: { b: [1, null] } });
});

behaviour("threads.create.own-id", async ({ api }) => {
  const thread_id = api.mark();
  expect(await api.thread({ thread_id })).toBe(thread_id);
});

behaviour("threads.create.exists", async ({ api }) => {
  const thread_id = await api.thread();
  await refused(api.http.post("/threads", { thread_id }), 409, thread_id);
});

behaviour("threads.create.do-nothing", async ({ api }) => {
  const made = await api.post("/threads", { metadata: { a: 1 } });
  const again = { thread_id: made.thread_id, if_exists: "do_nothing", metadata: { a: 2 } };
  expect(await api.post("/threads", again)).toMatchObject({ metadata: { a: 1 }, created_at: made.created_at });
});

behaviour("threads.create.race", async ({ api }) => {
  const thread_id = api.mark();
  const all = await Promise.all(Array.from({ length: 8 }, () => api.http.post("/threads", { thread_id })));
  expect(all.map(({ status }) => status).sort()).toEqual([200, ...Array(7).fill(409)]);
});

behaviour("threads.create.bad-id", async ({ api }) => {
  await refused(api.http.post("/threads", { thread_id: "my-thread" }), 422, "thread_id");
});

behaviour("threads.create.bad-if-exists", async ({ api }) => {
  await refused(api.http.post("/threads", { if_exists: "overwrite" }), 422, "if_exists");
});

behaviour("threads.create.ttl", async ({ api }) => {
  const thread_id = await api.thread({ ttl: { ttl: 30 } });
  const { ttl, created_at } = await api.get(`/threads/${thread_id}?include=ttl`);
  expect(ttl).toMatchObject({ strategy: "delete", ttl_minutes: 30 });
  const minutes = (Date.parse(ttl.expires_at) - Date.parse(created_at)) / 60_000;
  expect(Math.abs(minutes - 30)).toBeLessThan(0.5);
});

behaviour("threads.create.ttl-strategy", async ({ api }) => {
  const thread_id = await api.thread({ ttl: { ttl: 1.5, strategy: "keep_latest" } });
  const { ttl } = await api.get(`/threads/${thread_id}?include=ttl`);
  expect(ttl).toMatchObject({ strategy: "keep_latest", ttl_minutes: 1.5 });
});

behaviour("threads.create.ttl-of-run", async ({ api }) => {
  const thread_id = api.mark();
  const config = { configurable: { ttl: 30 } };
  await api.runOn(thread_id, "plain", { value: 1 }, { config, if_not_exists: "create" });
  expect((await api.get(`/threads/${thread_id}?include=ttl`)).ttl).toMatchObject({ ttl_minutes: 30 });
});

behaviour("threads.create.bad-ttl", async ({ api }) => {
  await refused(api.http.post("/threads", { ttl: { ttl: "soon" } }), 422, "ttl.ttl");
  await refused(api.http.post("/threads", { ttl: { ttl: 1, strategy: "burn" } }), 422, "ttl.strategy");
});

const prefilled = (updates: readonly Any[], graph_id = "plain"): Any => ({
  metadata: { graph_id },
  supersteps: updates.map((update) => ({ updates: [update] })),
});

/** As if the input had come in and the first node had run. */
const BEGUN = prefilled([
  { values: { value: 10 }, as_node: "__input__" },
  { values: { value: 11, steps: ["first"] }, as_node: "first" },
]);

behaviour("threads.create.supersteps", async ({ api }) => {
  const state = await api.state(await api.thread(BEGUN));
  expect(state).toMatchObject({ values: { value: 11, steps: ["first"] }, next: ["second"] });
});

behaviour("threads.create.supersteps-values", async ({ api }) => {
  expect((await api.post("/threads", BEGUN)).values).toEqual({ value: 11, steps: ["first"] });
});

behaviour("threads.create.supersteps-continue", async ({ api }) => {
  const thread_id = await api.thread(BEGUN);
  expect(await api.runOn(thread_id, "plain", null)).toMatchObject({ value: 22, steps: ["first", "second"] });
});

behaviour("threads.create.supersteps-messages", async ({ api }) => {
  const said = (role: string, content: string) => ({ values: { messages: [{ role, content }] } });
  const made = await api.post(
    "/threads",
    prefilled(
      [
        { ...said("user", "hello"), as_node: "__input__" },
        { ...said("assistant", "hi"), as_node: "answer" },
      ],
      "chat",
    ),
  );
  expect(made.values.messages.at(-1)).toMatchObject({ type: "ai", content: "hi", id: expect.any(String) });
});

behaviour("threads.create.supersteps-no-graph", async ({ api }) => {
  const { supersteps } = prefilled([{ values: {}, as_node: "__input__" }]);
  await refused(api.http.post("/threads", { supersteps }), 422, "graph_id");
});

behaviour("threads.create.supersteps-bad-node", async ({ api }) => {
  const thread_id = api.mark();
  const body = { thread_id, ...prefilled([{ values: { value: 1 }, as_node: "no-such-node" }]) };
  await refused(api.http.post("/threads", body), 422);
  await refused(api.http.get(`/threads/${thread_id}`), 404);
});

behaviour("threads.create.supersteps-no-node", async ({ api }) => {
  await refused(
    api.http.post("/threads", prefilled([{ values: { value: 1 } }])),
    422,
    "supersteps.0.updates.0.as_node",
  );
});

/* ------------------------------------------------------------------------------------- get */

behaviour("threads.get", async ({ api }) => {
  const made = await api.post("/threads", { metadata: { a: 1 } });
  expect(await api.get(`/threads/${made.thread_id}`)).toEqual(made);
});

behaviour("threads.get.unknown", async ({ api }) => {
  await refused(api.http.get(`/threads/${NOBODY}`), 404, NOBODY);
});

behaviour("threads.get.no-ttl", async ({ api }) => {
  const thread_id = await api.thread({ ttl: { ttl: 30 } });
  expect(await api.get(`/threads/${thread_id}`)).not.toHaveProperty("ttl");
});

behaviour("threads.get.ttl-of-none", async ({ api }) => {
  const thread_id = await api.thread();
  expect((await api.get(`/threads/${thread_id}?include=ttl`)).ttl ?? null).toBeNull();
});

behaviour("threads.get.values", async ({ api }) => {
  expect(await api.get(`/threads/${await api.ranPlain()}`)).toMatchObject({
    values: { value: 4, steps: ["first", "second"] },
    status: "idle",
  });
});

behaviour("threads.get.interrupts", async ({ api }) => {
  const { status, interrupts } = await api.get(`/threads/${await api.asked()}`);
  expect(status).toBe("interrupted");
  const [lists] = [Object.values(interrupts)] as Any;
  expect(lists).toMatchObject([[{ id: expect.any(String), value: { ask: "person", question: "Sure?" } }]]);
});

behaviour("threads.get.error", async ({ api }) => {
  const thread_id = await api.thread();
  await api.runOn(thread_id, "error");
  expect(await api.get(`/threads/${thread_id}`)).toMatchObject({ status: "error" });
});

behaviour("threads.get.busy", async ({ api }) => {
  await using busy = await api.busy();
  expect(await api.get(`/threads/${busy.thread_id}`)).toMatchObject({ status: "busy" });
});

behaviour("threads.get.server-metadata", async ({ api }) => {
  const { assistant_id } = await api.get("/assistants/plain");
  const { metadata } = await api.get(`/threads/${await api.ranPlain({ metadata: { mine: 1 } })}`);
  expect(metadata).toMatchObject({ mine: 1, graph_id: "plain", assistant_id });
});

behaviour("threads.get.config-stays", async ({ api }) => {
  const thread_id = await api.thread();
  await api.runOn(thread_id, "echo", {}, { config: { configurable: { tone: "dry" } } });
  expect(JSON.stringify((await api.get(`/threads/${thread_id}`)).config ?? {})).not.toContain("dry");
});

behaviour("threads.get.plain-messages", async ({ api }) => {
  const thread_id = await api.thread();
  await api.runOn(thread_id, "chat", { messages: [{ role: "user", content: "hi" }] });
  const { values } = await api.get(`/threads/${thread_id}`);
  expect(values.messages.map(({ type }: Any) => type)).toEqual(["human", "ai"]);
  expect(JSON.stringify(values)).not.toContain('"lc"');
});

/* ----------------------------------------------------------------------------------- patch */

behaviour("threads.patch.metadata", async ({ api }) => {
  const thread_id = await api.thread({ metadata: { a: 1, b: 1 } });
  expect((await api.patch(`/threads/${thread_id}`, { metadata: { b: 2, c: 3 } })).metadata).toEqual({
    a: 1,
    b: 2,
    c: 3,
  });
});

behaviour("threads.patch.updated-at", async ({ api }) => {
  const before = await api.post("/threads", {});
  const after = await api.patch(`/threads/${before.thread_id}`, { metadata: { a: 1 } });
  expect(after.created_at).toBe(before.created_at);
  expect(after.updated_at >= before.updated_at).toBe(true);
});

behaviour("threads.patch.state-updated-at", async ({ api }) => {
  const thread_id = await api.ranPlain();
  const { state_updated_at } = await api.get(`/threads/${thread_id}`);
  expect(await api.patch(`/threads/${thread_id}`, { metadata: { a: 1 } })).toMatchObject({ state_updated_at });
});

behaviour("threads.patch.minimal", async ({ api }) => {
  const thread_id = await api.thread();
  const answer = await api.http.patch(
    `/threads/${thread_id}`,
    { metadata: { a: 1 } },
    { headers: { prefer: "return=minimal" } },
  );
  expect([answer.status, answer.text]).toEqual([204, ""]);
  expect((await api.get(`/threads/${thread_id}`)).metadata).toEqual({ a: 1 });
});

behaviour("threads.patch.ttl", async ({ api }) => {
  const thread_id = await api.thread();
  await api.patch(`/threads/${thread_id}`, { ttl: { ttl: 5 } });
  expect((await api.get(`/threads/${thread_id}?include=ttl`)).ttl).toMatchObject({
    ttl_minutes: 5,
    strategy: "delete",
  });
});

behaviour("threads.patch.unknown", async ({ api }) => {
  await refused(api.http.patch(`/threads/${NOBODY}`, { metadata: {} }), 404, NOBODY);
});

behaviour("threads.patch.bad-metadata", async ({ api }) => {
  await refused(api.http.patch(`/threads/${await api.thread()}`, { metadata: [1] }), 422, "metadata");
});

/* ---------------------------------------------------------------------------------- delete */

behaviour("threads.delete", async ({ api }) => {
  const thread_id = await api.ranPlain();
  const answer = await api.http.delete(`/threads/${thread_id}`);
  expect([answer.status, answer.body]).toEqual([200, expect.anything()]);
  for (const path of ["", "/state", "/runs"]) await refused(api.http.get(`/threads/${thread_id}${path}`), 404);
});

behaviour("threads.delete.unknown", async ({ api }) => {
  await refused(api.http.delete(`/threads/${NOBODY}`), 404, NOBODY);
});

behaviour("threads.delete.nothing-left", async ({ api }) => {
  const thread_id = await api.ranPlain();
  await api.delete(`/threads/${thread_id}`);
  await api.thread({ thread_id });
  expect(await api.get(`/threads/${thread_id}/runs`)).toEqual([]);
  expect(await api.history(thread_id)).toEqual([]);
});

behaviour("threads.delete.busy", async ({ api }) => {
  const busy = await api.busy();
  await api.delete(`/threads/${busy.thread_id}`);
  await refused(api.http.get(busy.path), 404);
  await refused(api.http.get(`/threads/${busy.thread_id}`), 404);
});

/* ------------------------------------------------------------------------- search and count */

behaviour("threads.search.metadata", async ({ api }) => {
  const mark = api.mark();
  const thread_id = await api.thread({ metadata: { mark, n: 1 } });
  await api.thread({ metadata: { mark, n: 2 } });
  expect(ids(await api.post("/threads/search", { metadata: { mark, n: 1 } }), "thread_id")).toEqual([thread_id]);
});

behaviour("threads.search.metadata-types", async ({ api }) => {
  const mark = api.mark();
  const thread_id = await api.thread({ metadata: { mark, n: 1, yes: true, nothing: null } });
  const search = async (metadata: Any) =>
    ids(await api.post("/threads/search", { metadata: { mark, ...metadata } }), "thread_id");
  expect(await search({ n: 1, yes: true })).toEqual([thread_id]);
  expect(await search({ n: "1" })).toEqual([]);
  expect(await search({ yes: "true" })).toEqual([]);
});

behaviour("threads.search.metadata-odd-keys", async ({ api }) => {
  const mark = api.mark();
  const metadata = { mark, 'a.b"c[0]$': "x'; drop table threads; --" };
  const thread_id = await api.thread({ metadata });
  expect(ids(await api.post("/threads/search", { metadata }), "thread_id")).toEqual([thread_id]);
});

behaviour("threads.search.server-metadata", async ({ api }) => {
  const mark = api.mark();
  const thread_id = await api.ranPlain({ metadata: { mark } });
  expect(ids(await api.post("/threads/search", { metadata: { mark, graph_id: "plain" } }), "thread_id")).toEqual([
    thread_id,
  ]);
});

behaviour("threads.search.values", async ({ api }) => {
  const mark = api.mark();
  const thread_id = await api.ranPlain({ metadata: { mark } });
  await api.thread({ metadata: { mark } });
  const search = async (values: Any) =>
    ids(await api.post("/threads/search", { metadata: { mark }, values }), "thread_id");
  expect(await search({ value: 4 })).toEqual([thread_id]);
  expect(await search({ value: 5 })).toEqual([]);
});

behaviour("threads.search.status", async ({ api }) => {
  const mark = api.mark();
  const idle = await api.thread({ metadata: { mark } });
  const thread_id = await api.thread({ metadata: { mark } });
  await api.runOn(thread_id, "hitl");
  const search = async (status: string) =>
    ids(await api.post("/threads/search", { metadata: { mark }, status }), "thread_id");
  expect(await search("interrupted")).toEqual([thread_id]);
  expect(await search("idle")).toEqual([idle]);
});

behaviour("threads.search.ids", async ({ api }) => {
  const all = [await api.thread(), await api.thread(), await api.thread()];
  const found = ids(await api.post("/threads/search", { ids: [all[0], all[2], NOBODY] }), "thread_id");
  expect(found.sort()).toEqual([all[0], all[2]].sort());
});

behaviour("threads.search.no-ids", async ({ api }) => {
  expect(await api.post("/threads/search", { ids: [] })).toEqual([]);
});

behaviour("threads.search.bad-ids", async ({ api }) => {
  await refused(api.http.post("/threads/search", { ids: [NOBODY, "x"] }), 422, "ids.1");
});

behaviour("threads.search.newest-first", async ({ api }) => {
  const mark = api.mark();
  const [a, b] = [await api.thread({ metadata: { mark } }), await api.thread({ metadata: { mark } })];
  const order = async () => ids(await api.post("/threads/search", { metadata: { mark } }), "thread_id");
  expect(await order()).toEqual([b, a]);
  await api.patch(`/threads/${a}`, { metadata: { x: 1 } });
  expect(await order()).toEqual([a, b]);
});

behaviour("threads.search.sort", async ({ api }) => {
  const mark = api.mark();
  const all = [await api.thread({ metadata: { mark } }), await api.thread({ metadata: { mark } })];
  for (const sort_by of ["created_at", "thread_id", "state_updated_at", "updated_at", "status"]) {
    const search = async (sort_order: string) =>
      ids(await api.post("/threads/search", { metadata: { mark }, sort_by, sort_order }), "thread_id");
    const up = await search("asc");
    expect([sort_by, [...up].sort()]).toEqual([sort_by, [...all].sort()]);
    if (sort_by !== "status") expect([sort_by, (await search("desc")).reverse()]).toEqual([sort_by, up]);
  }
});

behaviour("threads.search.bad-sort", async ({ api }) => {
  await refused(api.http.post("/threads/search", { sort_by: "values" }), 422, "sort_by");
});

behaviour("threads.search.page", async ({ api }) => {
  const mark = api.mark();
  for (const n of [1, 2, 3]) await api.thread({ metadata: { mark, n } });
  const page = { metadata: { mark }, sort_by: "created_at", sort_order: "asc", limit: 2 };
  const first = await api.http.post("/threads/search", page);
  expect([first.headers.get("x-pagination-total"), first.headers.get("x-pagination-next")]).toEqual(["3", "2"]);
  const last = await api.http.post("/threads/search", { ...page, offset: 2 });
  expect(last.body.map(({ metadata }: Any) => metadata.n)).toEqual([3]);
  expect(last.headers.get("x-pagination-next")).toBeNull();
});

behaviour("threads.search.beyond-the-end", async ({ api }) => {
  expect(await api.post("/threads/search", { metadata: { mark: api.mark() }, offset: 1_000_000 })).toEqual([]);
});

behaviour("threads.search.limits", async ({ api }) => {
  for (const limit of [0, -1, 1001, 1.5]) await refused(api.http.post("/threads/search", { limit }), 422, "limit");
});

behaviour("threads.search.select", async ({ api }) => {
  const mark = api.mark();
  const thread_id = await api.thread({ metadata: { mark } });
  const found = await api.post("/threads/search", { metadata: { mark }, select: ["thread_id", "status"] });
  expect(found).toEqual([{ thread_id, status: "idle" }]);
});

behaviour("threads.search.bad-select", async ({ api }) => {
  await refused(api.http.post("/threads/search", { select: ["secrets"] }), 422, "select");
});

behaviour("threads.search.extract", async ({ api }) => {
  const mark = api.mark();
  await api.ranPlain({ metadata: { mark, deep: { list: [{ a: 7 }] } } });
  const extract = {
    last: "values.steps[-1]",
    first: "values.steps[0]",
    a: "metadata.deep.list[0].a",
    none: "values.nope",
  };
  const [found] = await api.post("/threads/search", { metadata: { mark }, extract });
  expect(found.extracted).toMatchObject({ last: "second", first: "first", a: 7 });
  expect(found.extracted.none ?? null).toBeNull();
});

behaviour("threads.search.bad-extract", async ({ api }) => {
  await refused(api.http.post("/threads/search", { extract: { x: "secrets.key" } }), 422, "extract");
});

behaviour("threads.search.many-extracts", async ({ api }) => {
  const extract = Object.fromEntries(Array.from({ length: 11 }, (_, index) => [`x${index}`, "values.a"]));
  await refused(api.http.post("/threads/search", { extract }), 422, "extract");
});

behaviour("threads.search.without-body", async ({ api }) => {
  expect((await api.raw("/threads/search", { method: "POST" })).status).toBe(200);
});

behaviour("threads.search.state-updated-at", async ({ api }) => {
  const mark = api.mark();
  const a = await api.thread({ metadata: { mark } });
  const b = await api.thread({ metadata: { mark } });
  await api.runOn(a, "plain", { value: 1 });
  await api.patch(`/threads/${b}`, { metadata: { touched: true } });
  const found = await api.post("/threads/search", {
    metadata: { mark },
    sort_by: "state_updated_at",
    sort_order: "desc",
  });
  expect(ids(found, "thread_id")).toEqual([a, b]);
});

behaviour("threads.count", async ({ api }) => {
  const mark = api.mark();
  await api.thread({ metadata: { mark } });
  await api.ranPlain({ metadata: { mark } });
  expect(await api.post("/threads/count", { metadata: { mark } })).toBe(2);
  expect(await api.post("/threads/count", { metadata: { mark }, values: { value: 4 } })).toBe(1);
});

behaviour("threads.count.status", async ({ api }) => {
  const mark = api.mark();
  await api.thread({ metadata: { mark } });
  expect(await api.post("/threads/count", { metadata: { mark }, status: "idle" })).toBe(1);
  expect(await api.post("/threads/count", { metadata: { mark }, status: "busy" })).toBe(0);
});

behaviour("threads.count.bad-status", async ({ api }) => {
  await refused(api.http.post("/threads/count", { status: "asleep" }), 422, "status");
});

/* -------------------------------------------------------------------------- prune and copy */

behaviour("threads.prune.delete", async ({ api }) => {
  const all = [await api.ranPlain(), await api.ranPlain()];
  expect(await api.post("/threads/prune", { thread_ids: all })).toEqual({ pruned_count: 2 });
  for (const thread_id of all) await refused(api.http.get(`/threads/${thread_id}`), 404);
});

behaviour("threads.prune.keep-latest", async ({ api }) => {
  const thread_id = await api.ranPlain();
  const { values } = await api.state(thread_id);
  expect(await api.post("/threads/prune", { thread_ids: [thread_id], strategy: "keep_latest" })).toEqual({
    pruned_count: 1,
  });
  expect(await api.history(thread_id)).toHaveLength(1);
  expect((await api.state(thread_id)).values).toEqual(values);
});

behaviour("threads.prune.then-run", async ({ api }) => {
  const thread_id = await api.ranPlain();
  await api.post("/threads/prune", { thread_ids: [thread_id], strategy: "keep_latest" });
  expect(await api.runOn(thread_id, "plain", { value: 2 })).toMatchObject({
    value: 6,
    steps: ["first", "second", "first", "second"],
  });
});

behaviour("threads.prune.unknown", async ({ api }) => {
  const thread_id = await api.thread();
  expect(await api.post("/threads/prune", { thread_ids: [thread_id, NOBODY] })).toEqual({ pruned_count: 1 });
});

behaviour("threads.prune.bad-ids", async ({ api }) => {
  await refused(api.http.post("/threads/prune", { thread_ids: ["x"] }), 422, "thread_ids.0");
  await refused(api.http.post("/threads/prune", {}), 422, "thread_ids");
});

behaviour("threads.prune.bad-strategy", async ({ api }) => {
  await refused(api.http.post("/threads/prune", { thread_ids: [NOBODY], strategy: "burn" }), 422, "strategy");
});

behaviour("threads.copy", async ({ api }) => {
  const thread_id = await api.ranPlain({ metadata: { a: 1 } });
  const copy = await api.post(`/threads/${thread_id}/copy`);
  expect(copy.thread_id).not.toBe(thread_id);
  expect(copy).toMatchObject({ values: { value: 4 }, metadata: { a: 1 } });
  const [own, other] = [await api.history(thread_id), await api.history(copy.thread_id)];
  expect(other.map(({ values, next }) => [values, next])).toEqual(own.map(({ values, next }) => [values, next]));
});

behaviour("threads.copy.independent", async ({ api }) => {
  const thread_id = await api.ranPlain();
  const copy = await api.post(`/threads/${thread_id}/copy`);
  await api.runOn(copy.thread_id, "plain", { value: 100 });
  expect((await api.state(thread_id)).values.value).toBe(4);
  await api.delete(`/threads/${thread_id}`);
  expect((await api.state(copy.thread_id)).values.value).toBe(202);
});

behaviour("threads.copy.interrupted", async ({ api }) => {
  const { thread_id } = await api.post(`/threads/${await api.asked()}/copy`);
  expect(await api.runOn(thread_id, "hitl", null, { command: { resume: "yes" } })).toMatchObject({ done: "person" });
});

behaviour("threads.copy.unknown", async ({ api }) => {
  await refused(api.http.post(`/threads/${NOBODY}/copy`), 404, NOBODY);
});
