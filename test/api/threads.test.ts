/** Threads as resources: create, read, change, find, copy, cut and remove. */
import { Client } from "@langchain/langgraph-sdk";
import { describe, expect, test } from "vitest";
import { type Any, type Body, database, Gate, names, useServer, useTempDir } from "../runs/support.ts";
import { tempDir } from "../support/project.ts";
import { eventually, ON_POSTGRES, startServer } from "../support/server.ts";

const api = useServer();
const temp = useTempDir();
const UNKNOWN = "00000000-0000-4000-8000-000000000000";
const MINUTE = 60_000;

let count = 0;
/** Metadata that no other test uses. */
const mark = (): Body => {
  count += 1;
  return { mark: `mark-${count}` };
};

const create = (body: Body = {}): Promise<Any> => api.post("/threads", body);
const search = (body: Body): Promise<Any[]> => api.post("/threads/search", body);
const found = async (body: Body): Promise<string[]> => (await search(body)).map(({ thread_id }) => thread_id);
const run = (thread_id: string, body: Body): Promise<Any> => api.post(`/threads/${thread_id}/runs/wait`, body);
const plain = { assistant_id: "plain", input: { value: 1 } };

async function running(thread_id: string, extra: Body = {}): Promise<{ gate: Gate; run_id: string }> {
  count += 1;
  const gate = new Gate(temp.dir, `thread-${count}`);
  const { run_id } = await api.post(`/threads/${thread_id}/runs`, {
    assistant_id: "slow",
    input: gate.input,
    ...extra,
  });
  await eventually(() => gate.log.includes("start 1"));
  return { gate, run_id };
}

describe("create, get, update", () => {
  test("an id is taken once; do_nothing answers with the thread that has it", async () => {
    const thread_id = "5f0c1f5e-8a3c-4d0f-9d3b-3b1f6f0a1c11";
    const made = await create({ thread_id: thread_id.toUpperCase(), metadata: { a: 1 } });
    expect(made).toMatchObject({ thread_id, metadata: { a: 1 }, status: "idle", values: null, interrupts: {} });
    expect(made).not.toHaveProperty("ttl");
    const again = await api.http.post("/threads", { thread_id });
    expect([again.status, again.body]).toEqual([409, { detail: `Thread ${thread_id} already exists` }]);
    expect(await create({ thread_id, if_exists: "do_nothing", metadata: { b: 2 } })).toEqual(made);
  });

  test("metadata that only the server sets is dropped", async () => {
    const { thread_id, metadata } = await create({ metadata: { a: 1, langgraph_auth_user_id: "root" } });
    expect(metadata).toEqual({ a: 1 });
    const patch = await api.http.patch(`/threads/${thread_id}`, { metadata: { langgraph_auth_user: {}, b: null } });
    expect(patch.body.metadata).toEqual({ a: 1, b: null });
  });

  test.each([
    ["object", { strategy: "keep_latest", ttl: 0.5 }, { strategy: "keep_latest", ttl_minutes: 0.5 }],
    ["no strategy", { ttl: 2 }, { strategy: "delete", ttl_minutes: 2 }],
    ["a number", 3, { strategy: "delete", ttl_minutes: 3 }],
  ])("a time to live, given as %s, is told to who asks for it", async (_, ttl, told) => {
    const { thread_id, created_at } = await create({ ttl });
    const expires_at = new Date(Date.parse(created_at) + told.ttl_minutes * MINUTE).toISOString();
    for (const include of ["ttl", '["ttl"]', "ttl,ttl"]) {
      const thread = await api.get(`/threads/${thread_id}?include=${encodeURIComponent(include)}`);
      expect(thread.ttl).toEqual({ ...told, expires_at });
    }
    expect(await api.get(`/threads/${thread_id}`)).not.toHaveProperty("ttl");
  });

  test("what is wrong is named", async () => {
    const { thread_id } = await create();
    expect((await api.get(`/threads/${thread_id}?include=ttl`)).ttl).toBeNull();
    const answers = await Promise.all([
      api.http.get(`/threads/${thread_id}?include=owner`),
      api.http.post("/threads", { ttl: { strategy: "delete" } }),
      api.http.post("/threads", { ttl: { strategy: "forget", ttl: 1 } }),
      api.http.patch(`/threads/${thread_id}`, { ttl: -1 }),
      api.http.patch(`/threads/${thread_id}`, { metadata: [] }),
      api.http.post("/threads/search", { sort_by: "size" }),
      api.http.post("/threads/search", { select: ["ttl"] }),
      api.http.post("/threads/search", { limit: 0 }),
      api.http.post("/threads/search", { extract: { x: "checkpoint.id" } }),
      api.http.post("/threads/search", { ids: ["7"] }),
      api.http.post("/threads/count", { status: "done" }),
      api.http.post("/threads/prune", {}),
      api.http.post("/threads/prune", { thread_ids: [], strategy: "some" }),
    ]);
    const fields = [
      "include",
      "ttl.ttl",
      "ttl.strategy",
      "ttl",
      "metadata",
      "sort_by",
      "select.0",
      "limit",
      "extract.x",
    ];
    fields.push("ids.0", "status", "thread_ids", "strategy");
    expect(answers.map(({ status }) => status)).toEqual(fields.map(() => 422));
    expect(answers.map(({ body }) => body.detail.split(":")[0])).toEqual(fields);
  });

  test("a thread that is not there is 404", async () => {
    const path = `/threads/${UNKNOWN}`;
    const answers = await Promise.all([
      api.http.get(path),
      api.http.patch(path, { metadata: {} }),
      api.http.delete(path),
      api.http.post(`${path}/copy`),
    ]);
    for (const answer of answers) {
      expect([answer.status, answer.body]).toEqual([404, { detail: `Thread ${UNKNOWN} not found` }]);
    }
  });

  test("an update merges metadata and leaves the state's time alone", async () => {
    const before = await create({ metadata: { a: 1, b: { c: 1 } } });
    const path = `/threads/${before.thread_id}`;
    await eventually(() => Date.now() > Date.parse(before.updated_at));
    const { body } = await api.http.patch(path, { metadata: { b: { d: 2 } } });
    expect(body).toEqual({ ...before, metadata: { a: 1, b: { d: 2 } }, updated_at: expect.any(String) });
    expect(body.updated_at > before.updated_at).toBe(true);
    expect(await api.get(path)).toEqual(body);
  });

  test("an update sets the time to live, and answers with nothing when that is preferred", async () => {
    const { thread_id } = await create({ metadata: { a: 1 } });
    const headers = { prefer: "respond-async, return=minimal" };
    const answer = await api.http.patch(`/threads/${thread_id}`, { ttl: { ttl: 7 } }, { headers });
    expect([answer.status, answer.text]).toEqual([204, ""]);
    const thread = await api.get(`/threads/${thread_id}?include=ttl`);
    expect(thread).toMatchObject({ metadata: { a: 1 }, ttl: { strategy: "delete", ttl_minutes: 7 } });
    expect(Date.parse(thread.ttl.expires_at)).toBe(Date.parse(thread.updated_at) + 7 * MINUTE);
  });

  test("the state's time moves when the state does", async () => {
    const { thread_id, state_updated_at: made } = await create();
    await eventually(() => Date.now() > Date.parse(made));
    await run(thread_id, { assistant_id: "slow", input: {} });
    const { state_updated_at: changed } = await api.get(`/threads/${thread_id}`);
    expect(changed > made).toBe(true);
    const { run_id } = await running(thread_id, { multitask_strategy: "enqueue" });
    await api.post(`/threads/${thread_id}/runs/${run_id}/cancel?wait=1&action=rollback`);
    const after = await api.get(`/threads/${thread_id}`);
    expect(after.state_updated_at).toBe(changed);
    expect(after.updated_at > changed).toBe(true);
  });
});

describe("search and count", () => {
  test("metadata is matched member by member, exactly", async () => {
    const m = mark();
    const long = "x".repeat(500);
    const values = [1, 1.5, 1e21, "1", "", true, null, "a\"b'c", `${long}1`, { a: 1, b: [2] }, { a: 2 }, [1, 2]];
    const threads: Any[] = [];
    for (const v of values) threads.push(await create({ metadata: { ...m, v, "odd.key $": v } }));
    for (const [index, v] of values.entries()) {
      const wanted = [threads[index].thread_id];
      expect(await found({ metadata: { ...m, v } }), JSON.stringify(v)).toEqual(wanted);
      expect(await found({ metadata: { ...m, "odd.key $": v } })).toEqual(wanted);
      expect(await api.post("/threads/count", { metadata: { ...m, v } })).toBe(1);
    }
    for (const v of [false, 2, "1.5", "null", long, `${long}2`, { a: 1 }, [1]]) {
      expect(await found({ metadata: { ...m, v } }), JSON.stringify(v)).toEqual([]);
      expect(await api.post("/threads/count", { metadata: { ...m, v } })).toBe(0);
    }
    expect(await api.post("/threads/count", { metadata: m })).toBe(values.length);
    expect(await found({ metadata: { ...m, missing: 1 } })).toEqual([]);
  });

  test("it follows updates and deletes", async () => {
    const m = mark();
    const { thread_id } = await create({ metadata: { ...m, stage: "new" } });
    await api.http.patch(`/threads/${thread_id}`, { metadata: { stage: "old" } });
    expect(await found({ metadata: { ...m, stage: "new" } })).toEqual([]);
    expect(await found({ metadata: { ...m, stage: "old" } })).toEqual([thread_id]);
    const before = await api.post("/threads/count", {});
    await api.http.delete(`/threads/${thread_id}`);
    expect(await found({ metadata: m })).toEqual([]);
    expect(await api.post("/threads/count", {})).toBe(before - 1);
  });

  test("last updated first; ties by age; pages have the total and the next offset", async () => {
    const m = mark();
    const ids: string[] = [];
    for (let i = 0; i < 5; i += 1) ids.push((await create({ metadata: m })).thread_id);
    const newest = [...ids].reverse();
    expect(await found({ metadata: m })).toEqual(newest);
    await eventually(async () => {
      const { body } = await api.http.patch(`/threads/${ids[0]}`, {});
      return body.updated_at > (await api.get(`/threads/${ids[4]}`)).updated_at;
    });
    const order = [ids[0], ...newest.slice(0, -1)];
    const page = await api.http.post("/threads/search", { metadata: m, limit: 2, offset: 1 });
    expect(page.body.map(({ thread_id }: Any) => thread_id)).toEqual(order.slice(1, 3));
    expect(page.headers.get("x-pagination-total")).toBe("5");
    expect(page.headers.get("x-pagination-next")).toBe("3");
    const last = await api.http.post("/threads/search", { metadata: m, limit: 2, offset: 3 });
    expect(last.body).toHaveLength(2);
    expect(last.headers.get("x-pagination-next")).toBeNull();
    // Without a filter, the same threads come first.
    expect((await found({ limit: 5 })).toSorted()).toEqual(ids.toSorted());
  });

  test.each(["thread_id", "status", "created_at", "updated_at", "state_updated_at"])("sorts by %s", async (sort_by) => {
    const m = mark();
    for (let i = 0; i < 4; i += 1) await create({ metadata: m });
    const { thread_id } = await create({ metadata: m });
    await run(thread_id, { assistant_id: "error", input: {} });
    const keys = async (body: Body): Promise<Any[]> =>
      (await search({ metadata: m, sort_by, ...body })).map((thread) => thread[sort_by]);
    const ascending = await keys({ sort_order: "asc" });
    expect(ascending).toHaveLength(5);
    expect(ascending).toEqual(ascending.toSorted());
    expect(await keys({ sort_order: "desc" })).toEqual(ascending.toReversed());
    expect(await keys({})).toEqual(ascending.toReversed());
  });

  test("by status, alone and with metadata", async () => {
    const m = mark();
    const asked = (await create({ metadata: m })).thread_id;
    const failed = (await create({ metadata: m })).thread_id;
    const busy = (await create({ metadata: m })).thread_id;
    const idle = (await create({ metadata: m })).thread_id;
    await run(asked, { assistant_id: "hitl", input: { question: "?" } });
    await run(failed, { assistant_id: "error", input: {} });
    const { gate } = await running(busy);
    for (const [status, thread_id] of Object.entries({ interrupted: asked, error: failed, busy, idle })) {
      expect(await found({ metadata: m, status })).toEqual([thread_id]);
      expect(await api.post("/threads/count", { metadata: m, status })).toBe(1);
      const { body, headers } = await api.http.post("/threads/search", { status, limit: 1000, select: ["status"] });
      expect(new Set(body.map((thread: Any) => thread.status))).toEqual(new Set([status]));
      expect(await api.post("/threads/count", { status })).toBe(Number(headers.get("x-pagination-total")));
    }
    gate.openAll();
  });

  test("by ids: only these", async () => {
    const { thread_id } = await create({ metadata: { a: 1 } });
    const other = (await create()).thread_id;
    expect(await found({ ids: [thread_id, UNKNOWN] })).toEqual([thread_id]);
    expect(await found({ ids: [thread_id, other], sort_by: "created_at", sort_order: "asc" })).toEqual([
      thread_id,
      other,
    ]);
    expect(await found({ ids: [thread_id, other], metadata: { a: 1 } })).toEqual([thread_id]);
    const none = await api.http.post("/threads/search", { ids: [] });
    expect([none.body, none.headers.get("x-pagination-total")]).toEqual([[], "0"]);
  });

  test("by values, in pages", async () => {
    const m = mark();
    const ids: string[] = [];
    for (const value of [1, 1, 2, 1]) {
      const { thread_id } = await create({ metadata: m });
      await run(thread_id, { assistant_id: "plain", input: { value } });
      ids.push(thread_id);
    }
    await create({ metadata: m });
    const wanted = [ids[3], ids[1], ids[0]];
    const filter = { metadata: m, values: { value: 4, steps: ["first", "second"] } };
    expect(await found(filter)).toEqual(wanted);
    expect(await api.post("/threads/count", filter)).toBe(3);
    const page = await api.http.post("/threads/search", { ...filter, limit: 1, offset: 1 });
    expect(page.body[0].thread_id).toBe(wanted[1]);
    expect(page.headers.get("x-pagination-total")).toBe("3");
    expect(page.headers.get("x-pagination-next")).toBe("2");
    expect(await found({ metadata: m, values: { value: 4, steps: ["first"] } })).toEqual([]);
  });

  test("select answers with these fields; extract reads inside", async () => {
    const m = mark();
    const { thread_id } = await create({ metadata: { ...m, deep: { list: [{ x: 1 }, { x: 2 }] } } });
    await run(thread_id, plain);
    const all = await api.get(`/threads/${thread_id}`);
    expect(await search({ metadata: m })).toEqual([all]);
    expect(await search({ metadata: m, select: ["thread_id", "status"] })).toEqual([{ thread_id, status: "idle" }]);
    const extract = {
      last: "values.steps[-1]",
      first: "values.steps[0]",
      steps: "values.steps",
      beyond: "values.steps[7]",
      x: "metadata.deep.list[1].x",
      length: "values.steps.length",
      proto: "values.__proto__",
      whole: "interrupts",
    };
    const extracted = {
      last: "second",
      first: "first",
      steps: ["first", "second"],
      beyond: null,
      x: 2,
      length: null,
      proto: null,
      whole: {},
    };
    expect(await search({ metadata: m, select: ["thread_id"], extract })).toEqual([{ thread_id, extracted }]);
    expect(await search({ metadata: m, extract })).toEqual([{ ...all, extracted }]);
  });

  test("the thread of a stateless run that goes with it is nobody's; one that is kept is found", async () => {
    const total = await api.post("/threads/count", {});
    count += 1;
    const gate = new Gate(temp.dir, `thread-${count}`);
    const { thread_id } = await api.post("/runs", { assistant_id: "slow", input: gate.input });
    await eventually(() => gate.log.includes("start 1"));
    expect((await api.get(`/threads/${thread_id}`)).status).toBe("busy");
    expect(await found({ ids: [thread_id] })).toEqual([]);
    expect(await api.post("/threads/count", {})).toBe(total);
    gate.openAll();
    const kept = await api.post("/runs", { ...plain, on_completion: "keep" });
    expect(await found({ ids: [kept.thread_id], metadata: { graph_id: "plain" } })).toEqual([kept.thread_id]);
  });
});

describe("copy", () => {
  test("has the same state and history, and goes its own way", async () => {
    const { thread_id } = await create({ metadata: { a: 1 } });
    await run(thread_id, plain);
    await run(thread_id, plain);
    const source = await api.get(`/threads/${thread_id}`);
    const copy = await api.post(`/threads/${thread_id}/copy`);
    expect(copy).toMatchObject({ metadata: source.metadata, status: "idle", values: source.values });
    expect(copy.thread_id).not.toBe(thread_id);
    const state = await api.get(`/threads/${thread_id}/state`);
    const copied = await api.get(`/threads/${copy.thread_id}/state`);
    const own = (text: string): string => text.replaceAll(thread_id, copy.thread_id);
    expect(copied).toEqual(JSON.parse(own(JSON.stringify(state))));
    // A checkpoint in the middle is there too.
    const { parent_checkpoint_id } = state;
    const middle = await api.get(`/threads/${copy.thread_id}/state/${parent_checkpoint_id}`);
    expect(middle.values).toEqual((await api.get(`/threads/${thread_id}/state/${parent_checkpoint_id}`)).values);

    await run(copy.thread_id, plain);
    expect(await api.get(`/threads/${thread_id}/state`)).toEqual(state);
    await api.http.delete(`/threads/${thread_id}`);
    expect((await run(copy.thread_id, plain)).steps).toHaveLength(8);
  });

  test("of a thread that waits for an answer can be given another one", async () => {
    const thread_id = await api.thread();
    await run(thread_id, { assistant_id: "nested", input: { ask: true } });
    const copy = await api.post(`/threads/${thread_id}/copy`);
    expect(copy.status).toBe("interrupted");
    expect(copy.interrupts).toEqual((await api.get(`/threads/${thread_id}`)).interrupts);
    const answer = (resume: string) => ({ assistant_id: "nested", command: { resume } });
    expect((await run(copy.thread_id, answer("no"))).trail).toContain("answer: no");
    expect((await api.get(`/threads/${thread_id}`)).status).toBe("interrupted");
    expect((await run(thread_id, answer("yes"))).trail).toContain("answer: yes");
  });

  test("of a thread with a run in flight has none", async () => {
    const thread_id = await api.thread();
    const { gate } = await running(thread_id);
    const copy = await api.post(`/threads/${thread_id}/copy`);
    expect(copy.status).toBe("idle");
    expect(await api.get(`/threads/${copy.thread_id}/runs`)).toEqual([]);
    gate.openAll();
  });
});

describe("delete", () => {
  test("stops the runs of the thread; nothing of it is left", async () => {
    await using data = await tempDir();
    const server = await startServer({ data: data.dir });
    const on = (path: string) => `${server.url}${path}`;
    const post = async (path: string, body: Body): Promise<Any> => {
      const init = { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" } };
      return (await fetch(on(path), init)).json();
    };
    const { thread_id } = await post("/threads", { metadata: { a: 1 } });
    await post(`/threads/${thread_id}/runs/wait`, { ...plain, stream_resumable: true });
    count += 1;
    const gate = new Gate(temp.dir, `thread-${count}`);
    const slow = { assistant_id: "slow", input: gate.input, stream_resumable: true };
    const first = await post(`/threads/${thread_id}/runs`, slow);
    await post(`/threads/${thread_id}/runs`, slow);
    await eventually(() => gate.log.includes("start 1"));
    const reader = fetch(on(`/threads/${thread_id}/runs/${first.run_id}/stream`)).then((answer) => answer.text());

    const deleted = await fetch(on(`/threads/${thread_id}`), { method: "DELETE" });
    expect([deleted.status, await deleted.json()]).toEqual([200, {}]);
    expect(await reader).not.toContain("event: error");
    await eventually(() => gate.log.at(-1) === "aborted 1");
    for (const path of ["", "/state", "/runs", `/runs/${first.run_id}`, `/runs/${first.run_id}/stream`]) {
      expect((await fetch(on(`/threads/${thread_id}${path}`))).status, path).toBe(404);
    }
    expect((await fetch(on(`/threads/${thread_id}`), { method: "DELETE" })).status).toBe(404);
    await server.stop();
    const db = database(data.dir);
    const pairs = ON_POSTGRES ? [] : ["thread_pairs"];
    const tables = [...pairs, "threads", "thread_values", "runs", "event_logs", "event_chunks", "checkpoints"];
    for (const table of [...tables, "checkpoint_blobs", "checkpoint_writes"]) {
      expect((await db.all(`select count(*) as rows from ${table}`))[0].rows, table).toBe(0);
    }
    if (!ON_POSTGRES)
      expect(await db.all("select key, value, threads from metadata_pairs")).toMatchObject([{ key: "", threads: 0 }]);
    db.close();
    expect(gate.log).toEqual(["start 1", "aborted 1"]);
  });

  test("an id can be used again, and knows nothing of what was", async () => {
    const { thread_id } = await create();
    await run(thread_id, plain);
    await api.http.delete(`/threads/${thread_id}`);
    await create({ thread_id });
    expect((await run(thread_id, plain)).steps).toHaveLength(2);
  });
});

describe("prune", () => {
  const prune = (thread_ids: string[], strategy?: string) => api.post("/threads/prune", { thread_ids, strategy });

  test("delete removes the threads and counts those that were there", async () => {
    const ids = [await api.thread(), await api.thread()];
    const { gate } = await running(ids[0] as string);
    expect(await prune([...ids, UNKNOWN, ids[0] as string])).toEqual({ pruned_count: 2 });
    await eventually(() => gate.log.at(-1) === "aborted 1");
    for (const id of ids) expect((await api.http.get(`/threads/${id}`)).status).toBe(404);
    expect(await prune(ids, "delete")).toEqual({ pruned_count: 0 });
  });

  test("keep_latest keeps the thread and its latest state, and the next run goes on from it", async () => {
    const { thread_id } = await create({ metadata: { a: 1 } });
    await run(thread_id, plain);
    await run(thread_id, plain);
    const { run_id } = (await api.get(`/threads/${thread_id}/runs`))[1];
    const thread = await api.get(`/threads/${thread_id}`);
    const state = await api.get(`/threads/${thread_id}/state`);
    expect(await prune([thread_id, UNKNOWN], "keep_latest")).toEqual({ pruned_count: 1 });
    expect(await api.get(`/threads/${thread_id}`)).toEqual(thread);
    const cut = await api.get(`/threads/${thread_id}/state`);
    expect(cut).toEqual({ ...state, parent_checkpoint: null, parent_checkpoint_id: null });
    const gone = await api.http.get(`/threads/${thread_id}/state/${state.parent_checkpoint_id}`);
    expect(gone.status).toBe(404);
    // Its runs are still listed, and may still be asked for.
    expect((await api.http.get(`/threads/${thread_id}/runs/${run_id}/join`)).status).toBe(200);
    expect((await run(thread_id, plain)).steps).toHaveLength(6);
  });

  test("keep_latest of a thread whose subgraph waits for an answer keeps the subgraph's state", async () => {
    const thread_id = await api.thread();
    await run(thread_id, { assistant_id: "nested", input: {} });
    await run(thread_id, { assistant_id: "nested", input: { ask: true } });
    const state = await api.get(`/threads/${thread_id}/state?subgraphs=true`);
    expect(await prune([thread_id], "keep_latest")).toEqual({ pruned_count: 1 });
    const cut = await api.get(`/threads/${thread_id}/state?subgraphs=true`);
    expect(cut.tasks[0].state.tasks[0].state.values).toEqual(state.tasks[0].state.tasks[0].state.values);
    const end = await run(thread_id, { assistant_id: "nested", command: { resume: "fine" } });
    expect(end.trail).toContain("answer: fine");
  });

  test("keep_latest leaves a thread alone that has a run in flight", async () => {
    const thread_id = await api.thread();
    const { gate } = await running(thread_id);
    expect(await prune([thread_id], "keep_latest")).toEqual({ pruned_count: 0 });
    gate.openAll();
  });
});

test("the JavaScript SDK's client of threads", async () => {
  const { threads } = new Client({ apiUrl: api.url });
  const m = mark();
  const made = await threads.create({ metadata: m, graphId: "plain", ttl: 5 });
  expect(made.metadata).toEqual({ ...m, graph_id: "plain" });
  expect(await threads.get(made.thread_id, { include: ["ttl"] })).toMatchObject({ ttl: { ttl_minutes: 5 } });
  expect(await threads.update(made.thread_id, { metadata: { b: 2 }, returnMinimal: true })).toBeUndefined();
  const copy = await threads.copy(made.thread_id);
  const page = await threads.search({ metadata: { ...m, b: 2 }, sortBy: "created_at", sortOrder: "asc" });
  expect(page.map(({ thread_id }) => thread_id)).toEqual([made.thread_id, copy.thread_id]);
  expect(await threads.count({ metadata: m, status: "idle" })).toBe(2);
  expect(await threads.prune([made.thread_id], { strategy: "keep_latest" })).toEqual({ pruned_count: 1 });
  await threads.delete(copy.thread_id);
  await expect(threads.get(copy.thread_id)).rejects.toThrow(/404/);
});

test("nobody loses a reader: a thread deleted while its run streams ends the stream", async () => {
  const thread_id = await api.thread();
  count += 1;
  const gate = new Gate(temp.dir, `thread-${count}`);
  const stream = await api.open(`/threads/${thread_id}/runs/stream`, {
    body: { assistant_id: "slow", input: gate.input, stream_mode: "updates" },
  });
  await eventually(() => gate.log.includes("start 1"));
  await api.http.delete(`/threads/${thread_id}`);
  expect(names(await stream.rest())).toEqual(["metadata"]);
});
