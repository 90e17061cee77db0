/** Assistants over HTTP: what is made, changed, listed and deleted, and what of it is there after a restart. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { Client } from "@langchain/langgraph-sdk";
import { describe, expect, test } from "vitest";
import { type Any, type Body, useServer, useTempDir } from "../runs/support.ts";
import { http, ok } from "../support/http.ts";
import { eventually, project, put, startServer } from "../support/server.ts";

const api = useServer();
const temp = useTempDir();
const UNKNOWN = "00000000-0000-4000-8000-000000000000";

const create = (body: Body = {}): Promise<Any> => api.post("/assistants", { graph_id: "echo", ...body });
const patch = (id: string, body: Body) => ok(api.http.patch(`/assistants/${id}`, body));
const remove = (id: string, query = "") => api.http.delete(`/assistants/${id}${query}`);
const versions = (id: string, body: Body = {}): Promise<Any[]> => api.post(`/assistants/${id}/versions`, body);

/** What the `echo` graph saw of its run. */
const seen = async (body: Body): Promise<Any> => (await api.wait({ input: {}, ...body })).seen;

describe("create", () => {
  test("with nothing but a graph", async () => {
    const made = await create();
    expect(made).toEqual({
      assistant_id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      graph_id: "echo",
      name: "Untitled",
      description: null,
      config: {},
      context: {},
      metadata: {},
      version: 1,
      created_at: expect.stringMatching(/^\d{4}-.*Z$/),
      updated_at: made.created_at,
    });
    expect(await api.get(`/assistants/${made.assistant_id}`)).toEqual(made);
  });

  test("with everything, nulls included", async () => {
    const made = await create({ config: { tags: ["t"] }, name: "N", description: "d", metadata: { k: "v" } });
    expect(made).toMatchObject({ config: { tags: ["t"] }, name: "N", description: "d", metadata: { k: "v" } });
    const nulls = { assistant_id: null, config: null, context: null, metadata: null, if_exists: null, name: null };
    expect(await create(nulls)).toMatchObject({ config: {}, context: {}, metadata: {}, name: "Untitled" });
  });

  test("an id that is taken: conflict, or the one there is", async () => {
    const made = await create({ name: "first" });
    const again = { graph_id: "plain", assistant_id: made.assistant_id.toUpperCase(), name: "second" };
    const refused = await api.http.post("/assistants", again);
    expect([refused.status, refused.body.detail]).toEqual([409, expect.stringContaining(made.assistant_id)]);
    expect(await api.post("/assistants", { ...again, if_exists: "do_nothing" })).toEqual(made);
  });

  test.each<[Body, number, RegExp]>([
    [{ graph_id: "nope" }, 404, /"nope"/],
    [{ graph_id: undefined }, 422, /^graph_id: /],
    [{ assistant_id: "x" }, 422, /^assistant_id: /],
    [{ config: { tags: "x" } }, 422, /^config\.tags: /],
    [{ context: [] }, 422, /^context: /],
    [{ metadata: 1 }, 422, /^metadata: /],
    [{ if_exists: "replace" }, 422, /^if_exists: /],
    [{ config: { configurable: { a: 1, b: 1 } }, context: { a: 1, b: 2 } }, 422, /^context\.b: /],
  ])("refuses %j", async (body, status, detail) => {
    const refused = await api.http.post("/assistants", { graph_id: "echo", ...body });
    expect([refused.status, refused.body.detail]).toEqual([status, expect.stringMatching(detail)]);
  });

  test("reserved metadata is dropped, the client's own stays", async () => {
    const metadata = { created_by: "system", langgraph_auth_user_id: "x", langgraph_request_id: "y", own: 1 };
    expect((await create({ metadata })).metadata).toEqual({ own: 1 });
    expect((await create({ metadata: { created_by: "anna" } })).metadata).toEqual({ created_by: "anna" });
  });
});

describe("configurable and context are in step", () => {
  test("each follows the other", async () => {
    const configurable = { tone: "dry" };
    expect(await create({ config: { configurable } })).toMatchObject({
      config: { configurable },
      context: configurable,
    });
    expect(await create({ context: configurable })).toMatchObject({ config: { configurable }, context: configurable });
    const both = await create({ config: { configurable: { a: 1, thread_id: "t" } }, context: { b: 2 } });
    expect(both.config.configurable).toEqual({ a: 1, thread_id: "t", b: 2 });
    expect(both.context).toEqual({ a: 1, b: 2 });
  });

  test("a patch of one replaces both", async () => {
    const { assistant_id } = await create({ config: { tags: ["t"], configurable: { a: 1 } } });
    const byContext = await patch(assistant_id, { context: { b: 2 } });
    expect(byContext).toMatchObject({ config: { tags: ["t"], configurable: { b: 2 } }, context: { b: 2 } });
    expect(byContext.config.configurable).toEqual({ b: 2 });
    const byConfig = await patch(assistant_id, { config: { recursion_limit: 7, configurable: { c: 3 } } });
    expect([byConfig.config, byConfig.context]).toEqual([{ recursion_limit: 7, configurable: { c: 3 } }, { c: 3 }]);
    const emptied = await patch(assistant_id, { config: {} });
    expect([emptied.config, emptied.context]).toEqual([{}, {}]);
  });

  test("a run sees them, and what it overrides is overridden everywhere", async () => {
    const { assistant_id } = await create({ config: { tags: ["t"], configurable: { tone: "dry", size: 1 } } });
    const plain = await seen({ assistant_id });
    expect(plain).toMatchObject({
      context: { tone: "dry", size: 1 },
      configurable: { tone: "dry", size: 1 },
      tags: ["t"],
    });
    const byConfig = await seen({ assistant_id, config: { configurable: { tone: "wet", other: 1 } } });
    expect(byConfig.context).toEqual({ tone: "wet", size: 1 });
    expect(byConfig.configurable).toMatchObject({ tone: "wet", size: 1, other: 1 });
    const byContext = await seen({ assistant_id, context: { tone: "wet" } });
    expect(byContext).toMatchObject({ context: { tone: "wet", size: 1 }, configurable: { tone: "wet", size: 1 } });
  });
});

describe("patch and versions", () => {
  test("keeps what is not given, merges metadata, replaces config and context", async () => {
    const made = await create({ name: "A", description: "d", metadata: { k: "v" }, config: { tags: ["t"] } });
    const { assistant_id } = made;
    const two = await patch(assistant_id, { metadata: { z: 1 }, graph_id: null, name: null, config: null });
    expect(two).toEqual({ ...made, metadata: { k: "v", z: 1 }, version: 2, updated_at: expect.any(String) });
    const three = await patch(assistant_id, { name: "B", graph_id: "plain", description: null, config: {} });
    expect(three).toMatchObject({ name: "B", graph_id: "plain", description: null, config: {}, version: 3 });
    expect(await patch(assistant_id, {})).toMatchObject({ name: "B", version: 4 });
    expect(await api.get(`/assistants/${assistant_id}`)).toMatchObject({ name: "B", version: 4 });
  });

  test("versions are listed newest first, filtered and paged", async () => {
    const { assistant_id } = await create({ name: "one", description: "first" });
    await patch(assistant_id, { name: "two", metadata: { k: "v" } });
    await patch(assistant_id, { name: "three" });
    const list = await versions(assistant_id);
    expect(list.map(({ version, name, description }) => [version, name, description])).toEqual([
      [3, "three", "first"],
      [2, "two", "first"],
      [1, "one", "first"],
    ]);
    const page = await api.http.post(`/assistants/${assistant_id}/versions`, { limit: 1, metadata: { k: "v" } });
    expect(page.body.map((each: Any) => each.version)).toEqual([3]);
    expect([page.headers.get("x-pagination-total"), page.headers.get("x-pagination-next")]).toEqual(["2", "1"]);
    expect((await versions(assistant_id, { offset: 2 })).map(({ version }) => version)).toEqual([1]);
    const bare = await fetch(`${api.url}/assistants/${assistant_id}/versions`, { method: "POST" });
    expect([bare.status, ((await bare.json()) as Any[]).length]).toEqual([200, 3]);
    expect((await api.http.post(`/assistants/${UNKNOWN}/versions`, {})).status).toBe(404);
    expect((await api.http.post(`/assistants/${assistant_id}/versions`, { limit: 0 })).status).toBe(422);
  });

  test("an earlier version comes back with its name, and the next patch counts on from the last", async () => {
    const made = await create({ name: "one", description: "d1", config: { configurable: { v: 1 } } });
    const { assistant_id } = made;
    await patch(assistant_id, { name: "two", description: "d2", config: { configurable: { v: 2 } } });
    const latest = (query: string, body?: Body) => api.http.post(`/assistants/${assistant_id}/latest${query}`, body);
    const back = await ok(latest("", { version: 1 }));
    expect(back).toEqual({ ...made, updated_at: expect.any(String) });
    expect(await seen({ assistant_id })).toMatchObject({ context: { v: 1 } });
    expect(await ok(latest("?version=2"))).toMatchObject({ version: 2, name: "two", description: "d2" });
    expect(await ok(latest("?version=1", { version: 1 }))).toMatchObject({ version: 1, name: "one" });
    expect(await patch(assistant_id, { name: "three" })).toMatchObject({
      version: 3,
      description: "d1",
      context: { v: 1 },
    });
    expect((await latest("", { version: 9 })).status).toBe(404);
    expect((await latest("?version=x")).body.detail).toMatch(/^version: /);
    expect((await latest("?version=1", { version: 2 })).status).toBe(422);
    expect((await latest("", {})).body.detail).toMatch(/^version: field required/);
    expect((await api.http.post(`/assistants/${UNKNOWN}/latest`, { version: 1 })).status).toBe(404);
  });

  test("patches that arrive together each make a version", async () => {
    const { assistant_id } = await create();
    const made = await Promise.all(Array.from({ length: 8 }, (_, n) => patch(assistant_id, { metadata: { [n]: n } })));
    expect(made.map(({ version }) => version).sort((a, b) => a - b)).toEqual([2, 3, 4, 5, 6, 7, 8, 9]);
    expect(Object.keys((await api.get(`/assistants/${assistant_id}`)).metadata)).toHaveLength(8);
  });

  test("refusals", async () => {
    const { assistant_id } = await create();
    expect((await api.http.patch(`/assistants/${UNKNOWN}`, {})).status).toBe(404);
    expect((await api.http.patch(`/assistants/${assistant_id}`, { graph_id: "nope" })).status).toBe(404);
    expect((await api.http.patch(`/assistants/${assistant_id}`, { name: 1 })).body.detail).toMatch(/^name: /);
    expect((await versions(assistant_id)).length).toBe(1);
  });
});

describe("search and count", () => {
  test("filters, sorts, selects and pages", async () => {
    const tag = "search-test";
    const names = ["Alpha", "beta", "ALPHABET", "Überblick"];
    for (const name of names) {
      await create({ name, metadata: { tag }, graph_id: name === "beta" ? "plain" : "echo" });
    }
    const find = (body: Body): Promise<Any[]> => api.post("/assistants/search", { metadata: { tag }, ...body });
    const found = async (body: Body) => (await find(body)).map(({ name }) => name);
    expect(await found({})).toEqual(names.toReversed());
    expect(await found({ name: "alpha", sort_by: "created_at", sort_order: "asc" })).toEqual(["Alpha", "ALPHABET"]);
    expect(await found({ name: "über" })).toEqual(["Überblick"]);
    expect(await found({ graph_id: "plain" })).toEqual(["beta"]);
    expect(await found({ sort_by: "name", sort_order: "asc" })).toEqual(["ALPHABET", "Alpha", "beta", "Überblick"]);
    for (const sort_by of ["assistant_id", "updated_at", "graph_id"]) expect(await found({ sort_by })).toHaveLength(4);
    expect(await find({ limit: 1, select: ["name", "version", "context"] })).toEqual([
      { name: "Überblick", version: 1, context: {} },
    ]);
    const page = await api.http.post("/assistants/search", { metadata: { tag }, limit: 2, offset: 1 });
    expect([page.headers.get("x-pagination-total"), page.headers.get("x-pagination-next")]).toEqual(["4", "3"]);
    expect(await api.post("/assistants/count", { metadata: { tag }, name: "alpha" })).toBe(2);
    expect(await api.post("/assistants/count", { metadata: { tag: "none" } })).toBe(0);
    expect((await api.http.post("/assistants/search", { sort_by: "size" })).status).toBe(422);
  });
});

describe("delete", () => {
  test("takes all versions along", async () => {
    const { assistant_id } = await create();
    await patch(assistant_id, {});
    const gone = await remove(assistant_id);
    expect([gone.status, gone.body]).toEqual([200, [assistant_id]]);
    expect((await api.http.get(`/assistants/${assistant_id}`)).status).toBe(404);
    expect((await api.http.post(`/assistants/${assistant_id}/versions`, {})).status).toBe(404);
    expect((await api.http.post("/runs", { assistant_id, input: {} })).status).toBe(404);
    expect((await remove(assistant_id)).status).toBe(404);
    expect(await create({ assistant_id })).toMatchObject({ version: 1 });
    expect((await remove(assistant_id, "?delete_threads=maybe")).status).toBe(422);
  });

  test("its crons go with it", async () => {
    const { assistant_id } = await create();
    const cron = { assistant_id, schedule: "0 0 1 1 *", input: {} };
    const { cron_id } = await api.post("/runs/crons", cron);
    await ok(remove(assistant_id));
    expect((await api.http.get(`/runs/crons/${cron_id}`)).status).toBe(404);
  });

  test("stops the runs of the assistant, running and waiting, and no others", async () => {
    const { assistant_id } = await create({ graph_id: "slow" });
    const gate = join(temp.dir, "stop");
    const log = join(temp.dir, "stop.log");
    const running = await api.background({ assistant_id, input: { gate, log } });
    const waiting = await api.post(`/threads/${running.thread_id}/runs`, { assistant_id, input: { gate } });
    const delayed = await api.background({ assistant_id, input: { gate }, after_seconds: 3600 });
    const other = await api.background({ assistant_id: "slow", input: { gate } });
    await eventually(() => existsSync(log));
    await ok(remove(assistant_id));
    await api.get(`${running.path}/join`);
    const status = async (path: string) => (await api.get(path)).status;
    expect(await status(running.path)).toBe("interrupted");
    expect(await status(`/threads/${running.thread_id}/runs/${waiting.run_id}`)).toBe("interrupted");
    expect(await status(delayed.path)).toBe("interrupted");
    expect(await status(`/threads/${running.thread_id}`)).toBe("idle");
    for (const step of [1, 2, 3]) await put(`${gate}.${step}`, "");
    await api.get(`${other.path}/join`);
    expect(await status(other.path)).toBe("success");
  });

  test("with delete_threads its threads go, with runs and checkpoints, running ones too", async () => {
    const { assistant_id } = await create({ graph_id: "slow" });
    const gate = join(temp.dir, "threads");
    const log = join(temp.dir, "threads.log");
    for (const step of [1, 2]) await put(`${gate}.${step}`, "");
    const running = await api.background({ assistant_id, input: { gate, log } });
    const kept = await api.post("/threads", { metadata: { assistant_id: UNKNOWN } });
    const named = await api.post("/threads", { metadata: { assistant_id } });
    const stream = await api.open(`${running.path}/stream`);
    await eventually(async () => (await api.get(`/threads/${running.thread_id}/state`)).values.steps?.length === 2);
    await ok(remove(assistant_id, "?delete_threads=true"));
    for (const path of [running.path, `/threads/${running.thread_id}`, `/threads/${named.thread_id}`]) {
      expect((await api.http.get(path)).status).toBe(404);
    }
    expect((await api.http.get(`/threads/${kept.thread_id}`)).status).toBe(200);
    // Whoever follows the run hears that it is over, and its late checkpoints are not written.
    await stream.rest();
    await api.post("/threads", { thread_id: running.thread_id });
    expect((await api.get(`/threads/${running.thread_id}/state`)).checkpoint).toBeNull();
  });
});

describe("the default assistant of a graph", () => {
  const DEFAULT = "recursion";

  test("takes changes, but stays the default and with its graph", async () => {
    const { assistant_id, version } = await api.get(`/assistants/${DEFAULT}`);
    const changed = await patch(DEFAULT, { config: { recursion_limit: 3 }, metadata: { created_by: "me", team: "x" } });
    expect(changed).toMatchObject({ assistant_id, version: version + 1, config: { recursion_limit: 3 } });
    expect(changed.metadata).toEqual({ created_by: "system", team: "x" });
    const moved = await api.http.patch(`/assistants/${DEFAULT}`, { graph_id: "plain" });
    expect([moved.status, moved.body.detail]).toEqual([422, expect.stringMatching(/^graph_id: .*"recursion"/)]);
    expect(await patch(DEFAULT, { graph_id: DEFAULT })).toMatchObject({ version: version + 2 });
  });

  test("deleted, it starts anew: a graph can always be addressed by its name", async () => {
    const { assistant_id } = await patch(DEFAULT, { name: "mine", config: { tags: ["t"] } });
    expect((await remove(DEFAULT)).body).toEqual([assistant_id]);
    expect(await api.get(`/assistants/${DEFAULT}`)).toMatchObject({
      assistant_id,
      name: DEFAULT,
      config: {},
      version: 1,
    });
    expect((await versions(DEFAULT)).length).toBe(1);
  });
});

test("over a restart: assistants and versions stay, defaults follow a configuration that changed", async () => {
  const GRAPH = `import { Annotation, StateGraph } from "@langchain/langgraph";
    export const graph = new StateGraph(Annotation.Root({ n: Annotation() }))
      .addNode("a", () => ({ n: 1 })).addEdge("__start__", "a").compile();`;
  const config = (graphs: Body) => JSON.stringify({ graphs });
  await using files = await project({ "a.mjs": GRAPH, "b.mjs": GRAPH });
  const langgraph = join(files.dir, "langgraph.json");
  const a = { path: "./a.mjs:graph", description: "from the file" };
  await put(langgraph, config({ a, b: "./b.mjs:graph" }));
  await using server = await startServer({ project: files });
  const { get, post, patch } = http(server.url);
  const own = await ok(post("/assistants", { graph_id: "b", name: "own", metadata: { created_by: "anna" } }));
  await ok(patch(`/assistants/${own.assistant_id}`, { name: "own two" }));
  await ok(patch("/assistants/a", { name: "renamed", config: { configurable: { x: 1 } } }));
  await ok(patch("/assistants/b", { name: "b renamed" }));

  await server.restart();
  expect(await ok(get(`/assistants/${own.assistant_id}`))).toMatchObject({ name: "own two", version: 2 });
  expect(await ok(get("/assistants/a"))).toMatchObject({ name: "renamed", version: 2, context: { x: 1 } });

  // The configuration says something new of `a`, and `b` is gone.
  await put(langgraph, config({ a: { ...a, description: "new" } }));
  await server.restart();
  expect(await ok(get("/assistants/a"))).toMatchObject({
    name: "a",
    description: "new",
    version: 2,
    config: { configurable: { x: 1 } },
  });
  expect((await get("/assistants/b")).status).toBe(404);
  expect((await post("/assistants/b/versions", {})).status).toBe(404);
  expect(await ok(get(`/assistants/${own.assistant_id}`))).toMatchObject({ name: "own two", graph_id: "b" });
  expect((await post("/assistants", { graph_id: "b" })).status).toBe(404);
});

test("the JS SDK, every method", async () => {
  const { assistants } = new Client({ apiUrl: api.url });
  const made = await assistants.create({ graphId: "nested", name: "SDK", context: { a: 1 }, metadata: { sdk: true } });
  const id = made.assistant_id;
  expect(await assistants.get(id)).toEqual(made);
  expect(await assistants.update(id, { name: "SDK 2", config: { tags: ["x"] } })).toMatchObject({ version: 2 });
  expect((await assistants.getVersions(id)).map(({ version }) => version)).toEqual([2, 1]);
  expect(await assistants.setLatest(id, 1)).toMatchObject({ version: 1, name: "SDK" });
  const page = await assistants.search({ metadata: { sdk: true }, includePagination: true });
  expect([page.assistants.map(({ name }) => name), page.next]).toEqual([["SDK"], null]);
  expect(await assistants.count({ metadata: { sdk: true } })).toBe(1);
  expect((await assistants.getGraph(id)).nodes.length).toBe(5);
  expect((await assistants.getGraph(id, { xray: 1 })).nodes.length).toBeGreaterThan(5);
  expect(Object.keys(await assistants.getSubgraphs(id, { recurse: true }))).toEqual(["middle", "middle|inner"]);
  expect(Object.keys(await assistants.getSubgraphs(id, { namespace: "middle" }))).toEqual(["middle"]);
  expect((await assistants.getSchemas(id)).graph_id).toBe("nested");
  await assistants.delete(id);
  await expect(assistants.get(id)).rejects.toThrow("404");
});
