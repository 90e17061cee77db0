/** States back in time. */
import { beforeAll, describe, expect, test } from "vitest";
import { type Any, useServer } from "../runs/support.ts";

const api = useServer();
/** A thread on which `counter` has counted to 12: 14 checkpoints. */
let thread_id: string;
let all: Any[];

beforeAll(async () => {
  thread_id = await api.thread();
  await api.wait({ assistant_id: "counter", input: { steps: 12 } }, `/threads/${thread_id}/runs/wait`);
  all = await api.get(`/threads/${thread_id}/history?limit=1000`);
});

const counts = (states: Any[]): number[] => states.map(({ metadata }) => metadata.step);
const search = (body: object): Promise<Any[]> => api.post(`/threads/${thread_id}/history`, body);

test("is newest first, each state with its parent and what came next", () => {
  expect(counts(all)).toEqual([12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, -1]);
  expect(all.map(({ values }) => values.count)).toEqual([12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0]);
  for (const [index, state] of all.entries()) {
    expect(state.parent_checkpoint_id).toBe(all[index + 1]?.checkpoint_id ?? null);
    expect(state.checkpoint).toEqual({
      thread_id,
      checkpoint_ns: "",
      checkpoint_id: state.checkpoint_id,
      checkpoint_map: null,
    });
  }
  expect(all.map(({ next }) => next[0])).toEqual([undefined, ...Array.from({ length: 12 }, () => "tick"), "__start__"]);
  expect(all[1].tasks).toMatchObject([{ name: "tick", result: { count: 12 }, error: null, interrupts: [] }]);
});

test("shows each state as GET /state/{checkpoint_id} does", async () => {
  for (const state of all.slice(0, 3)) {
    expect(await api.get(`/threads/${thread_id}/state/${state.checkpoint_id}`)).toEqual(state);
  }
  expect(await api.get(`/threads/${thread_id}/state`)).toEqual(all[0]);
});

test("has ten states by GET, one by POST, or as many as asked for", async () => {
  expect(counts(await api.get(`/threads/${thread_id}/history`))).toEqual([12, 11, 10, 9, 8, 7, 6, 5, 4, 3]);
  expect(counts(await search({}))).toEqual([12]);
  expect(counts(await search({ limit: 2 }))).toEqual([12, 11]);
  expect(counts(await api.get(`/threads/${thread_id}/history?limit=3`))).toEqual([12, 11, 10]);
});

test("begins before a checkpoint, in every form that clients send", async () => {
  const { checkpoint_id } = all[4];
  expect(counts(await api.get(`/threads/${thread_id}/history?limit=2&before=${checkpoint_id}`))).toEqual([7, 6]);
  const forms = [checkpoint_id, { checkpoint_id }, all[4].checkpoint, { configurable: { checkpoint_id } }];
  for (const before of forms) expect(counts(await search({ limit: 2, before }))).toEqual([7, 6]);
  expect(counts(await search({ limit: 1, before: null }))).toEqual([12]);
});

test("filters by metadata, exactly", async () => {
  expect(counts(await search({ limit: 100, metadata: { source: "input" } }))).toEqual([-1]);
  expect(counts(await search({ limit: 2, metadata: { source: "loop", graph_id: "counter" } }))).toEqual([12, 11]);
  expect(counts(await search({ limit: 2, metadata: { step: 5, thread_id } }))).toEqual([5]);
  expect(await search({ limit: 2, metadata: { step: "5" } })).toEqual([]);
  expect(await search({ limit: 2, metadata: { thread_id: "another" } })).toEqual([]);
});

test("of one checkpoint is that state", async () => {
  const { checkpoint } = all[3];
  expect(await search({ limit: 5, checkpoint })).toEqual([all[3]]);
  expect(counts(await search({ limit: 2, checkpoint: { thread_id } }))).toEqual([12, 11]);
});

describe("of a subgraph", () => {
  test("is found by its namespace", async () => {
    const nested = await api.thread();
    await api.wait({ assistant_id: "nested", input: { ask: true } }, `/threads/${nested}/runs/wait`);
    const [{ tasks }] = await api.post(`/threads/${nested}/history`, {});
    const { checkpoint } = tasks[0];
    expect(checkpoint).toEqual({ thread_id: nested, checkpoint_ns: expect.stringMatching(/^middle:/) });
    const states: Any[] = await api.post(`/threads/${nested}/history`, { limit: 10, checkpoint });
    expect(states.map(({ next }) => next)).toEqual([["inner"], ["before"], ["__start__"]]);
    for (const state of states) expect(state.checkpoint.checkpoint_ns).toBe(checkpoint.checkpoint_ns);
    expect(states[0].tasks[0].interrupts).toMatchObject([{ value: "Deep down: go on?" }]);
    const before = states[1].checkpoint;
    expect(await api.post(`/threads/${nested}/history`, { checkpoint, before })).toEqual([states[2]]);
  });
});

test("answers only the fields asked for, in every form that clients send", async () => {
  const path = `/threads/${thread_id}`;
  const picked = { values: { count: 12 }, next: [] };
  const queries = ["select=values.count&select=next", "select=values.count,next", 'select=["values.count","next"]'];
  for (const query of queries) {
    expect(await api.get(`${path}/state?${query}`)).toEqual(picked);
    expect(await api.get(`${path}/state/${all[0].checkpoint_id}?${query}`)).toEqual(picked);
    expect(await api.get(`${path}/history?limit=1&${query}`)).toEqual([picked]);
  }
  const select = ["values.count", "next"];
  expect(await search({ select })).toEqual([picked]);
  expect(await api.post(`${path}/state/checkpoint`, { checkpoint: all[0].checkpoint, select })).toEqual(picked);
  expect(await api.get(`${path}/state?select=`)).toEqual(all[0]);
  expect(await search({ select: ["values", "values.count"] })).toEqual([{ values: all[0].values }]);
  expect(await api.get(`/threads/${await api.thread()}/state?select=next&select=values.x`)).toEqual({
    values: {},
    next: [],
  });
  const refused = await api.http.get(`${path}/state?select=secrets`);
  expect([refused.status, refused.body.detail]).toEqual([
    422,
    expect.stringMatching(/^select.0: secrets is not one of/),
  ]);
});

test("has messages as plain objects, of runs and of tasks", async () => {
  const chat = await api.thread();
  const input = { messages: [{ role: "user", content: "hi" }] };
  await api.wait({ assistant_id: "chat", input }, `/threads/${chat}/runs/wait`);
  const states: Any[] = await api.get(`/threads/${chat}/history`);
  expect(states[0].values.messages).toMatchObject([
    { type: "human", content: "hi" },
    { type: "ai", content: "You said: hi" },
  ]);
  expect(states[1].tasks[0].result.messages).toMatchObject([{ type: "ai", content: "You said: hi" }]);
  expect(JSON.stringify(states)).not.toContain("lc_kwargs");
  expect(JSON.stringify(states)).not.toContain('"constructor"');
});

test("is empty where no graph has run, and refused where it makes no sense", async () => {
  const empty = await api.thread();
  expect(await api.get(`/threads/${empty}/history`)).toEqual([]);
  expect(await api.post(`/threads/${empty}/history`, { limit: 10 })).toEqual([]);
  const refused = async (answer: Promise<{ status: number; body: Any }>, status: number, detail: RegExp) => {
    const { status: actual, body } = await answer;
    expect([actual, body.detail]).toEqual([status, expect.stringMatching(detail)]);
  };
  const path = `/threads/${thread_id}/history`;
  await refused(api.http.get(`${path}?limit=0`), 422, /^limit: /);
  await refused(api.http.get(`${path}?limit=1001`), 422, /^limit: /);
  await refused(api.http.post(path, { limit: "x" }), 422, /^limit: /);
  await refused(api.http.post(path, { limit: 1001 }), 422, /^limit: /);
  await refused(api.http.post(path, { before: {} }), 422, /^before.checkpoint_id: /);
  await refused(api.http.post(path, { before: 7 }), 422, /^before: /);
  await refused(api.http.post(path, { metadata: [] }), 422, /^metadata: /);
  await refused(api.http.post(path, { checkpoint: { checkpoint_id: "1f00" } }), 404, /^Checkpoint 1f00 of thread/);
  const unknown = "/threads/00000000-0000-4000-8000-000000000000/history";
  await refused(api.http.get(unknown), 404, /^Thread .* not found/);
  await refused(api.http.post(unknown, {}), 404, /^Thread .* not found/);
});
