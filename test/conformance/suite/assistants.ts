import { expect } from "vitest";
import { type Any, type Api, behaviour, eventually, ids, NOBODY, refused, UUID } from "../kit.ts";

/* -------------------------------------------------------------------------------- defaults */

behaviour("assistants.default.id", async ({ api }) => {
  // The name-based UUID (version 5, DNS namespace 6ba7b821-…) of "agent".
  expect(await api.get("/assistants/agent")).toMatchObject({
    assistant_id: "fe096781-5601-53d2-b2f6-0d3403f7e9ca",
    graph_id: "agent",
  });
});

behaviour("assistants.default.one-per-graph", async ({ api }) => {
  const found = await api.post("/assistants/search", { metadata: { created_by: "system" }, limit: 100 });
  const graphs = found.map(({ graph_id }: Any) => graph_id);
  expect(new Set(graphs).size).toBe(graphs.length);
  expect(graphs).toEqual(expect.arrayContaining(["plain", "chat", "hitl"]));
});

behaviour("assistants.default.config", async ({ api }) => {
  expect(await api.get("/assistants/plain")).toMatchObject({
    config: {},
    version: 1,
    metadata: { created_by: "system" },
  });
});

behaviour("assistants.get.by-uuid", async ({ api }) => {
  const made = await api.assistant();
  expect(await api.get(`/assistants/${made.assistant_id}`)).toEqual(made);
});

behaviour("assistants.get.unknown", async ({ api }) => {
  await refused(api.http.get(`/assistants/${NOBODY}`), 404, NOBODY);
});

behaviour("assistants.get.unknown-name", async ({ api }) => {
  await refused(api.http.get("/assistants/no-such-graph"), 404, "no-such-graph");
});

/* ---------------------------------------------------------------------------------- create */

behaviour("assistants.create.defaults", async ({ api }) => {
  const made = await api.assistant();
  expect(made).toMatchObject({
    assistant_id: expect.stringMatching(UUID),
    graph_id: "plain",
    config: {},
    metadata: {},
    name: "Untitled",
    description: null,
    version: 1,
  });
  for (const field of ["created_at", "updated_at"]) expect(new Date(made[field]).toISOString()).toBe(made[field]);
});

behaviour("assistants.create.fields", async ({ api }) => {
  const fields = {
    name: "Poet",
    description: "Rhymes.",
    metadata: { a: { b: [1] } },
    config: { tags: ["x"], recursion_limit: 7, configurable: { tone: "dry" } },
  };
  expect(await api.assistant(fields)).toMatchObject(fields);
});

behaviour("assistants.create.own-id", async ({ api }) => {
  const assistant_id = api.mark();
  expect(await api.assistant({ assistant_id })).toMatchObject({ assistant_id });
});

behaviour("assistants.create.exists", async ({ api }) => {
  const { assistant_id } = await api.assistant();
  await refused(api.http.post("/assistants", { graph_id: "plain", assistant_id }), 409, assistant_id);
});

behaviour("assistants.create.do-nothing", async ({ api }) => {
  const made = await api.assistant({ name: "first" });
  const again = { assistant_id: made.assistant_id, name: "second", if_exists: "do_nothing" };
  expect(await api.assistant(again)).toEqual(made);
});

behaviour("assistants.create.race", async ({ api }) => {
  const body = { assistant_id: api.mark(), graph_id: "plain", if_exists: "do_nothing" };
  const all = await Promise.all(Array.from({ length: 8 }, () => api.post("/assistants", body)));
  for (const one of all) expect(one).toEqual(all[0]);
});

behaviour("assistants.create.unknown-graph", async ({ api }) => {
  await refused(api.http.post("/assistants", { graph_id: "no-such-graph" }), 404, "no-such-graph");
});

behaviour("assistants.create.no-graph", async ({ api }) => {
  await refused(api.http.post("/assistants", { name: "x" }), 422, "graph_id");
});

behaviour("assistants.create.bad-id", async ({ api }) => {
  await refused(api.http.post("/assistants", { graph_id: "plain", assistant_id: "poet" }), 422, "assistant_id");
});

behaviour("assistants.create.context", async ({ api }) => {
  const made = await api.assistant({ context: { tone: "dry" } });
  expect(made.context).toEqual({ tone: "dry" });
  expect(made.config.configurable).toEqual({ tone: "dry" });
});

behaviour("assistants.create.configurable-is-context", async ({ api }) => {
  const made = await api.assistant({ config: { configurable: { tone: "dry" } } });
  expect(made.context).toEqual({ tone: "dry" });
});

behaviour("assistants.create.config-and-context", async ({ api }) => {
  const both = { config: { configurable: { tone: "dry" } }, context: { tone: "warm" } };
  await refused(api.http.post("/assistants", { graph_id: "plain", ...both }), 422, "context");
});

/* ----------------------------------------------------------------------------------- patch */

behaviour("assistants.patch.version", async ({ api }) => {
  const { assistant_id } = await api.assistant();
  expect(await api.patch(`/assistants/${assistant_id}`, { name: "second" })).toMatchObject({
    version: 2,
    name: "second",
  });
  expect(await api.get(`/assistants/${assistant_id}`)).toMatchObject({ version: 2, name: "second" });
});

behaviour("assistants.patch.keeps-omitted", async ({ api }) => {
  const fields = { name: "Poet", description: "Rhymes.", config: { configurable: { a: 1 } } };
  const { assistant_id } = await api.assistant(fields);
  const after = await api.patch(`/assistants/${assistant_id}`, { metadata: { x: 1 } });
  expect(after).toMatchObject({ ...fields, graph_id: "plain" });
});

behaviour("assistants.patch.merges-metadata", async ({ api }) => {
  const { assistant_id } = await api.assistant({ metadata: { a: 1, b: 1 } });
  const after = await api.patch(`/assistants/${assistant_id}`, { metadata: { b: 2, c: 3 } });
  expect(after.metadata).toEqual({ a: 1, b: 2, c: 3 });
});

behaviour("assistants.patch.replaces-config", async ({ api }) => {
  const { assistant_id } = await api.assistant({ config: { tags: ["x"], configurable: { a: 1 } } });
  const after = await api.patch(`/assistants/${assistant_id}`, { config: { configurable: { b: 2 } } });
  expect(after.config).toEqual({ configurable: { b: 2 } });
});

behaviour("assistants.patch.graph", async ({ api }) => {
  const { assistant_id } = await api.assistant();
  expect(await api.patch(`/assistants/${assistant_id}`, { graph_id: "echo" })).toMatchObject({ graph_id: "echo" });
});

behaviour("assistants.patch.unknown", async ({ api }) => {
  await refused(api.http.patch(`/assistants/${NOBODY}`, { name: "x" }), 404, NOBODY);
});

behaviour("assistants.patch.unknown-graph", async ({ api }) => {
  const { assistant_id } = await api.assistant();
  await refused(api.http.patch(`/assistants/${assistant_id}`, { graph_id: "no-such-graph" }), 404, "no-such-graph");
  expect(await api.get(`/assistants/${assistant_id}`)).toMatchObject({ version: 1 });
});

behaviour("assistants.patch.is-used-by-runs", async ({ api }) => {
  const { assistant_id } = await api.assistant({ graph_id: "echo", config: { configurable: { tone: "dry" } } });
  await api.patch(`/assistants/${assistant_id}`, { config: { configurable: { tone: "warm" } } });
  expect((await api.run(assistant_id)).seen.configurable).toMatchObject({ tone: "warm" });
});

/* -------------------------------------------------------------------------------- versions */

const threeVersions = async (api: Api): Promise<string> => {
  const { assistant_id } = await api.assistant({ name: "one", description: "first", metadata: { v: 1 } });
  await api.patch(`/assistants/${assistant_id}`, { name: "two", description: "second", metadata: { v: 2 } });
  await api.patch(`/assistants/${assistant_id}`, { name: "three", metadata: { v: 3 } });
  return assistant_id;
};

behaviour("assistants.versions.newest-first", async ({ api }) => {
  const versions = await api.post(`/assistants/${await threeVersions(api)}/versions`, {});
  expect(versions.map(({ version, name }: Any) => [version, name])).toEqual([
    [3, "three"],
    [2, "two"],
    [1, "one"],
  ]);
});

behaviour("assistants.versions.without-body", async ({ api }) => {
  const answer = await api.raw(`/assistants/${await threeVersions(api)}/versions`, { method: "POST" });
  expect(await answer.json()).toHaveLength(3);
});

behaviour("assistants.versions.description", async ({ api }) => {
  const versions = await api.post(`/assistants/${await threeVersions(api)}/versions`, {});
  expect(versions.map(({ description }: Any) => description)).toEqual(["second", "second", "first"]);
});

behaviour("assistants.versions.page", async ({ api }) => {
  const versions = await api.post(`/assistants/${await threeVersions(api)}/versions`, { limit: 1, offset: 1 });
  expect(versions.map(({ version }: Any) => version)).toEqual([2]);
});

behaviour("assistants.versions.metadata", async ({ api }) => {
  const versions = await api.post(`/assistants/${await threeVersions(api)}/versions`, { metadata: { v: 1 } });
  expect(versions.map(({ version }: Any) => version)).toEqual([1]);
});

behaviour("assistants.versions.unknown", async ({ api }) => {
  await refused(api.http.post(`/assistants/${NOBODY}/versions`, {}), 404, NOBODY);
});

behaviour("assistants.latest.body", async ({ api }) => {
  const assistant_id = await threeVersions(api);
  const back = { version: 1, name: "one", description: "first", metadata: { v: 1 } };
  expect(await api.post(`/assistants/${assistant_id}/latest`, { version: 1 })).toMatchObject(back);
  expect(await api.get(`/assistants/${assistant_id}`)).toMatchObject(back);
});

behaviour("assistants.latest.query", async ({ api }) => {
  const assistant_id = await threeVersions(api);
  expect(await api.post(`/assistants/${assistant_id}/latest?version=2`)).toMatchObject({ version: 2, name: "two" });
});

behaviour("assistants.latest.then-patch", async ({ api }) => {
  const assistant_id = await threeVersions(api);
  await api.post(`/assistants/${assistant_id}/latest`, { version: 1 });
  expect(await api.patch(`/assistants/${assistant_id}`, { name: "four" })).toMatchObject({
    version: 4,
    metadata: { v: 1 },
  });
});

behaviour("assistants.latest.unknown-version", async ({ api }) => {
  await refused(api.http.post(`/assistants/${await threeVersions(api)}/latest`, { version: 9 }), 404, "9");
});

behaviour("assistants.latest.no-version", async ({ api }) => {
  await refused(api.http.post(`/assistants/${await threeVersions(api)}/latest`, {}), 422, "version");
});

/* ---------------------------------------------------------------------------------- delete */

behaviour("assistants.delete", async ({ api }) => {
  const { assistant_id } = await api.assistant();
  const answer = await api.http.delete(`/assistants/${assistant_id}`);
  expect([answer.status, answer.body]).toEqual([200, expect.anything()]);
  await refused(api.http.get(`/assistants/${assistant_id}`), 404);
});

behaviour("assistants.delete.versions", async ({ api }) => {
  const { assistant_id } = await api.assistant({ name: "old" });
  await api.patch(`/assistants/${assistant_id}`, { name: "older" });
  await api.delete(`/assistants/${assistant_id}`);
  await api.assistant({ assistant_id, name: "new" });
  expect(await api.post(`/assistants/${assistant_id}/versions`, {})).toMatchObject([{ version: 1, name: "new" }]);
});

behaviour("assistants.delete.unknown", async ({ api }) => {
  await refused(api.http.delete(`/assistants/${NOBODY}`), 404, NOBODY);
});

behaviour("assistants.delete.keeps-threads", async ({ api }) => {
  const { assistant_id } = await api.assistant();
  const thread_id = await api.thread();
  await api.runOn(thread_id, assistant_id, { value: 1 });
  await api.delete(`/assistants/${assistant_id}`);
  expect(await api.get(`/threads/${thread_id}`)).toMatchObject({ values: { value: 4 } });
});

behaviour("assistants.delete.with-threads", async ({ api }) => {
  const { assistant_id } = await api.assistant();
  const thread_id = await api.thread();
  const other = await api.ranPlain();
  await api.runOn(thread_id, assistant_id, { value: 1 });
  await api.delete(`/assistants/${assistant_id}?delete_threads=true`);
  await refused(api.http.get(`/threads/${thread_id}`), 404);
  expect(await api.get(`/threads/${other}`)).toMatchObject({ thread_id: other });
});

behaviour("assistants.delete.stops-runs", async ({ api }) => {
  const { assistant_id } = await api.assistant({ graph_id: "slow" });
  const place = await api.start(assistant_id, { delay_ms: 300_000 });
  await api.running(place);
  await api.delete(`/assistants/${assistant_id}`);
  await eventually(async () => (await api.get(`/threads/${place.thread_id}`)).status !== "busy");
});

/* ------------------------------------------------------------------------- search and count */

behaviour("assistants.search.metadata", async ({ api }) => {
  const mark = api.mark();
  const { assistant_id } = await api.assistant({ metadata: { mark, n: 1 } });
  await api.assistant({ metadata: { mark, n: 2 } });
  expect(ids(await api.post("/assistants/search", { metadata: { mark, n: 1 } }), "assistant_id")).toEqual([
    assistant_id,
  ]);
});

behaviour("assistants.search.metadata-nested", async ({ api }) => {
  const mark = api.mark();
  const { assistant_id } = await api.assistant({ metadata: { mark, deep: { a: 1, b: 2 } } });
  const found = await api.post("/assistants/search", { metadata: { mark, deep: { a: 1, b: 2 } } });
  expect(ids(found, "assistant_id")).toEqual([assistant_id]);
});

behaviour("assistants.search.graph", async ({ api }) => {
  const mark = api.mark();
  await api.assistant({ metadata: { mark } });
  const { assistant_id } = await api.assistant({ graph_id: "echo", metadata: { mark } });
  const found = await api.post("/assistants/search", { graph_id: "echo", metadata: { mark } });
  expect(ids(found, "assistant_id")).toEqual([assistant_id]);
});

behaviour("assistants.search.name", async ({ api }) => {
  const mark = api.mark();
  const { assistant_id } = await api.assistant({ name: `The Great 100%_${mark}`, metadata: { mark } });
  await api.assistant({ name: `The Great 100x ${mark}`, metadata: { mark } });
  const found = await api.post("/assistants/search", { name: `great 100%_${mark.slice(0, 8)}` });
  expect(ids(found, "assistant_id")).toEqual([assistant_id]);
});

behaviour("assistants.search.sort", async ({ api }) => {
  const mark = api.mark();
  for (const name of ["b", "c", "a"]) await api.assistant({ name, metadata: { mark } });
  const search = (sort_order: string) =>
    api.post("/assistants/search", { metadata: { mark }, sort_by: "name", sort_order });
  expect(ids(await search("asc"), "name")).toEqual(["a", "b", "c"]);
  expect(ids(await search("desc"), "name")).toEqual(["c", "b", "a"]);
});

behaviour("assistants.search.newest-first", async ({ api }) => {
  const mark = api.mark();
  for (const name of ["1", "2", "3"]) await api.assistant({ name, metadata: { mark } });
  expect(ids(await api.post("/assistants/search", { metadata: { mark } }), "name")).toEqual(["3", "2", "1"]);
});

behaviour("assistants.search.page", async ({ api }) => {
  const mark = api.mark();
  for (const name of ["a", "b", "c"]) await api.assistant({ name, metadata: { mark } });
  const page = { metadata: { mark }, sort_by: "name", sort_order: "asc", limit: 2 };
  const first = await api.http.post("/assistants/search", page);
  expect(ids(first.body, "name")).toEqual(["a", "b"]);
  expect([first.headers.get("x-pagination-total"), first.headers.get("x-pagination-next")]).toEqual(["3", "2"]);
  const last = await api.http.post("/assistants/search", { ...page, offset: 2 });
  expect(ids(last.body, "name")).toEqual(["c"]);
  expect(last.headers.get("x-pagination-next")).toBeNull();
});

behaviour("assistants.search.limit-default", async ({ api }) => {
  const mark = api.mark();
  await Promise.all(Array.from({ length: 11 }, () => api.assistant({ metadata: { mark } })));
  expect(await api.post("/assistants/search", { metadata: { mark } })).toHaveLength(10);
});

behaviour("assistants.search.limits", async ({ api }) => {
  for (const limit of [0, 1001, 1.5, "10"]) await refused(api.http.post("/assistants/search", { limit }), 422, "limit");
  await refused(api.http.post("/assistants/search", { offset: -1 }), 422, "offset");
});

behaviour("assistants.search.select", async ({ api }) => {
  const mark = api.mark();
  await api.assistant({ metadata: { mark }, name: "x" });
  const found = await api.post("/assistants/search", { metadata: { mark }, select: ["name", "graph_id"] });
  expect(found).toEqual([{ name: "x", graph_id: "plain" }]);
});

behaviour("assistants.search.bad-select", async ({ api }) => {
  await refused(api.http.post("/assistants/search", { select: ["password"] }), 422, "select");
});

behaviour("assistants.search.without-body", async ({ api }) => {
  expect((await api.raw("/assistants/search", { method: "POST" })).status).toBe(200);
});

behaviour("assistants.count", async ({ api }) => {
  const mark = api.mark();
  await api.assistant({ metadata: { mark } });
  await api.assistant({ metadata: { mark }, graph_id: "echo" });
  expect(await api.post("/assistants/count", { metadata: { mark } })).toBe(2);
  expect(await api.post("/assistants/count", { metadata: { mark }, graph_id: "echo" })).toBe(1);
});

behaviour("assistants.count.name", async ({ api }) => {
  const name = api.mark();
  await api.assistant({ name });
  expect(await api.post("/assistants/count", { name: name.toUpperCase() })).toBe(1);
});

/* ---------------------------------------------------------------------------------- graphs */

behaviour("assistants.graph", async ({ api }) => {
  const { nodes, edges } = await api.get("/assistants/plain/graph");
  expect(ids(nodes, "id")).toEqual(expect.arrayContaining(["__start__", "first", "second"]));
  expect(edges).toEqual(expect.arrayContaining([expect.objectContaining({ source: "first", target: "second" })]));
});

behaviour("assistants.graph.edge-keys", async ({ api }) => {
  const { edges } = await api.get("/assistants/route/graph");
  const known = ["source", "target", "data", "conditional"];
  for (const edge of edges) expect(Object.keys(edge).filter((key) => !known.includes(key))).toEqual([]);
});

behaviour("assistants.graph.xray", async ({ api }) => {
  const nodes = async (xray: string) =>
    ids((await api.get(`/assistants/nested/graph?xray=${xray}`)).nodes, "id").join();
  expect(await nodes("false")).not.toContain("before");
  for (const xray of ["true", "1"]) expect(await nodes(xray)).toContain("before");
});

behaviour("assistants.graph.bad-xray", async ({ api }) => {
  await refused(api.http.get("/assistants/plain/graph?xray=deep"), 422, "xray");
});

behaviour("assistants.graph.unknown", async ({ api }) => {
  await refused(api.http.get(`/assistants/${NOBODY}/graph`), 404);
});

behaviour("assistants.subgraphs", async ({ api }) => {
  expect(Object.keys(await api.get("/assistants/nested/subgraphs"))).toEqual(["middle"]);
  expect(await api.get("/assistants/plain/subgraphs")).toEqual({});
});

behaviour("assistants.subgraphs.recurse", async ({ api }) => {
  const all = await api.get("/assistants/nested/subgraphs?recurse=true");
  expect(Object.keys(all).sort()).toEqual(["middle", "middle|inner"]);
});

behaviour("assistants.subgraphs.namespace", async ({ api }) => {
  expect(Object.keys(await api.get("/assistants/nested/subgraphs/middle"))).toEqual(["middle"]);
});

behaviour("assistants.subgraphs.encoded-namespace", async ({ api }) => {
  const found = await api.get("/assistants/nested/subgraphs/middle%7Cinner?recurse=true");
  expect(Object.keys(found)).toEqual(["middle|inner"]);
});

behaviour("assistants.schemas", async ({ api }) => {
  const schemas = await api.get("/assistants/plain/schemas");
  expect(schemas.graph_id).toBe("plain");
  expect(schemas.state_schema.properties).toHaveProperty("value");
  for (const name of ["input_schema", "output_schema"]) expect(schemas).toHaveProperty(name);
});

behaviour("assistants.schemas.context", async ({ api }) => {
  const { context_schema } = await api.get("/assistants/echo/schemas");
  expect(context_schema.properties).toHaveProperty("tone");
});

behaviour("assistants.schemas.unknown", async ({ api }) => {
  await refused(api.http.get(`/assistants/${NOBODY}/schemas`), 404);
});
