/** How the Python SDK and its users write requests, by raw HTTP. */
import { once } from "node:events";
import { describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { type Any, json, names, useServer } from "../runs/support.ts";
import type { Frame } from "../support/sse.ts";

const api = useServer();
const plain = { assistant_id: "plain", input: { value: 1 } };
const MODES = ["values", "updates", "custom"];

describe("stream_mode in the query of a joiner", () => {
  const joined = async (query: string): Promise<(string | undefined)[]> => {
    const { path } = await api.background({ ...plain, stream_mode: MODES });
    return names(await api.frames(`${path}/stream${query}`));
  };
  const everything = ["metadata", "custom", "custom", "updates", "updates", "values", "values", "values"];
  const updates = ["metadata", "updates", "updates"];
  const both = ["metadata", "custom", "custom", "updates", "updates"];
  const sorted = (events: readonly (string | undefined)[]) => [events[0], ...events.slice(1).sort()];

  test.each([
    ["nothing", "", everything],
    ["empty", "?stream_mode=", everything],
    ["empty list", "?stream_mode=[]", everything],
    ["one", "?stream_mode=updates", updates],
    ["repeated", "?stream_mode=updates&stream_mode=custom", both],
    ["a JSON string", `?stream_mode=${encodeURIComponent('["updates","custom"]')}`, both],
    ["a comma list", "?stream_mode=updates,custom", both],
    ["with what it always adds", "?cancel_on_disconnect=False&stream_mode=updates", updates],
    ["with booleans as words", "?cancel_on_disconnect=false&stream_mode=updates", updates],
    ["with booleans as numbers", "?cancel_on_disconnect=0&stream_mode=updates", updates],
    ["with unknown names", "?stream_mode=updates&namespace=&checkpoint_id=x", updates],
  ])("%s", async (_, query, expected) => expect(sorted(await joined(query))).toEqual(expected));

  test("an unknown one is named", async () => {
    const { path } = await api.background(plain);
    for (const query of ["?stream_mode=nope", "?stream_mode=updates&stream_mode=nope"]) {
      const { status, body } = await api.http.get(`${path}/stream${query}`);
      expect(status).toBe(422);
      expect(body.detail).toMatch(/stream_mode.*nope/);
    }
    expect((await api.http.get(`${path}/stream?cancel_on_disconnect=maybe`)).body.detail).toContain(
      "cancel_on_disconnect",
    );
  });
});

test("bodies with every key, most of them null, as it sends them", async () => {
  const body = {
    input: { value: 1 },
    command: null,
    config: null,
    context: null,
    metadata: null,
    stream_mode: "values",
    stream_subgraphs: false,
    stream_resumable: false,
    assistant_id: "plain",
    interrupt_before: null,
    interrupt_after: null,
    feedback_keys: null,
    webhook: null,
    checkpoint: null,
    checkpoint_id: null,
    checkpoint_during: null,
    multitask_strategy: null,
    if_not_exists: null,
    on_disconnect: null,
    on_completion: null,
    after_seconds: null,
    durability: null,
  };
  expect(names(await api.stream(body))).toEqual(["metadata", "values", "values", "values"]);
  const thread_id = await api.thread();
  expect(await api.wait(body, `/threads/${thread_id}/runs/wait`)).toMatchObject({ value: 4 });
});

test("RemoteGraph's command with every key: a null resume beside others is none", async () => {
  const thread_id = await api.thread();
  await api.wait(plain, `/threads/${thread_id}/runs/wait`);
  const command = { lg_name: "Command", graph: null, update: { value: 50 }, resume: null, goto: ["second"] };
  const send = { node: "second", input: { value: 7 } };
  const path = `/threads/${thread_id}/runs/wait`;
  expect(await api.wait({ assistant_id: "plain", input: null, command }, path)).toMatchObject({ value: 100 });
  const sent = await api.wait({ assistant_id: "plain", command: { ...command, update: null, goto: send } }, path);
  expect(sent).toMatchObject({ value: 14 });
});

test("cancel without a body or a content type, booleans in any case", async () => {
  for (const wait of ["0", "1", "False", "True"]) {
    const { path } = await api.background({ ...plain, after_seconds: 600 });
    const response = await fetch(`${api.url}${path}/cancel?wait=${wait}&action=interrupt`, { method: "POST" });
    expect([wait, response.status, await response.json()]).toEqual([wait, 200, {}]);
    expect((await api.get(path)).status).toBe("interrupted");
  }
});

test("a batch in snake_case", async () => {
  const made = await api.post("/runs/batch", [{ ...plain, on_completion: "keep", stream_mode: ["updates"] }, plain]);
  for (const { run_id } of made) expect(await api.get(`/runs/${run_id}/join`)).toMatchObject({ value: 4 });
  expect((await api.get(`/threads/${made[0].thread_id}`)).status).toBe("idle");
});

test("a thread with an id of its own, twice", async () => {
  const thread_id = "b3e1f8c2-1234-4abc-8def-0123456789ab";
  const body = { thread_id, metadata: { who: "me" }, if_exists: "raise", supersteps: null, ttl: null };
  expect((await api.post("/threads", body)).thread_id).toBe(thread_id);
  expect((await api.http.post("/threads", body)).status).toBe(409);
  expect((await api.post("/threads", { ...body, if_exists: "do_nothing" })).metadata).toMatchObject({ who: "me" });
});

test("graph and subgraphs with its query habits", async () => {
  for (const xray of ["True", "true", "1", "2", "False"]) {
    const { nodes, edges } = await api.get(`/assistants/nested/graph?xray=${xray}`);
    expect(nodes.length).toBeGreaterThan(3);
    const keys = new Set(edges.flatMap((edge: Any) => Object.keys(edge)));
    for (const key of keys) expect(["source", "target", "data", "conditional"]).toContain(key);
  }
  expect(Object.keys(await api.get("/assistants/nested/subgraphs?recurse=True"))).toEqual(["middle", "middle|inner"]);
});

describe("threads", () => {
  const ended = async (metadata = {}): Promise<string> => {
    const { thread_id } = await api.post("/threads", { metadata });
    await api.wait(plain, `/threads/${thread_id}/runs/wait`);
    return thread_id;
  };
  const ids = (threads: readonly Any[]): string[] => threads.map(({ thread_id }) => thread_id);

  test("ttl as a number, as an object, none; read with include", async () => {
    for (const [ttl, expected] of [
      [5, { ttl_minutes: 5, strategy: "delete" }],
      [
        { ttl: 2.5, strategy: "delete" },
        { ttl_minutes: 2.5, strategy: "delete" },
      ],
      [
        { ttl: 5, strategy: "keep_latest" },
        { ttl_minutes: 5, strategy: "keep_latest" },
      ],
      [null, null],
    ] as const) {
      const { thread_id } = await api.post("/threads", { metadata: { a: 1, graph_id: null }, ttl });
      for (const query of ["include=ttl", "include=ttl,", "include=&include=ttl", "include=%5B%22ttl%22%5D"]) {
        const read = (await api.get(`/threads/${thread_id}?${query}`)).ttl;
        expect(read).toEqual(expected === null ? null : expect.objectContaining(expected));
      }
      for (const query of ["", "?include="])
        expect(await api.get(`/threads/${thread_id}${query}`)).not.toHaveProperty("ttl");
      const changed = await api.http.patch(`/threads/${thread_id}`, { metadata: null, ttl: 7 });
      expect(changed.body.metadata).toMatchObject({ a: 1 });
      expect((await api.get(`/threads/${thread_id}?include=ttl`)).ttl).toMatchObject({ ttl_minutes: 7 });
    }
  });

  test("Prefer: return=minimal, however it is written", async () => {
    const thread_id = await api.thread();
    const patch = (prefer: string, value: number) =>
      api.http.patch(`/threads/${thread_id}`, { metadata: { value } }, { headers: { prefer } });
    for (const [index, prefer] of ["return=minimal", "Return=Minimal", "respond-async, return=minimal"].entries()) {
      const { status, text } = await patch(prefer, index);
      expect([prefer, status, text]).toEqual([prefer, 204, ""]);
      expect((await api.get(`/threads/${thread_id}`)).metadata).toMatchObject({ value: index });
    }
    expect(await patch("return=representation", 9)).toMatchObject({ status: 200, body: { thread_id } });
  });

  test("search and count with every key, most of them null", async () => {
    const metadata = { who: crypto.randomUUID() };
    const found = await ended(metadata);
    await api.post("/threads", { metadata });
    const nothing = {
      ids: null,
      values: null,
      status: null,
      sort_by: null,
      sort_order: null,
      select: null,
      extract: null,
    };
    expect(await api.post("/threads/search", { ...nothing, metadata, limit: 10, offset: 0 })).toHaveLength(2);
    const body = {
      ...nothing,
      metadata,
      values: { value: 4 },
      status: "idle",
      sort_by: "created_at",
      sort_order: "desc",
    };
    expect(ids(await api.post("/threads/search", body))).toEqual([found]);
    const narrow = { ...body, select: ["thread_id"], extract: { last: "values.steps[-1]" } };
    expect(await api.post("/threads/search", narrow)).toEqual([{ thread_id: found, extracted: { last: "second" } }]);
    expect(await api.post("/threads/count", { metadata, values: null, status: null })).toBe(2);
    expect(await api.post("/threads/count", {})).toBeGreaterThanOrEqual(2);
  });

  test("copy without a body or a content type, prune with its words", async () => {
    const thread_id = await ended();
    const copied = await fetch(`${api.url}/threads/${thread_id}/copy`, { method: "POST" });
    const copy = (await copied.json()) as Any;
    expect([copied.status, copy.values]).toEqual([200, { value: 4, steps: ["first", "second"] }]);
    const body = { thread_ids: [thread_id, copy.thread_id], strategy: "keep_latest" };
    expect(await api.post("/threads/prune", body)).toEqual({ pruned_count: 2 });
    expect(await api.post("/threads/prune", { ...body, strategy: "delete" })).toEqual({ pruned_count: 2 });
  });

  test("state: booleans as words, a checkpoint object with its nulls, quoted ids", async () => {
    const thread_id = await ended();
    const path = `/threads/${thread_id}/state`;
    const state = await api.get(`${path}?subgraphs=false`);
    for (const query of ["?subgraphs=False", "?subgraphs=true", "?subgraphs=", ""]) {
      expect(await api.get(`${path}${query}`)).toEqual(state);
    }
    const { checkpoint } = state;
    expect(checkpoint).toEqual({
      thread_id,
      checkpoint_id: expect.any(String),
      checkpoint_ns: "",
      checkpoint_map: null,
    });
    for (const subgraphs of [true, false, null]) {
      expect(await api.post(`${path}/checkpoint`, { checkpoint, subgraphs })).toEqual(state);
    }
    const quoted = checkpoint.checkpoint_id.replaceAll("-", "%2D");
    expect(await api.get(`${path}/${quoted}?subgraphs=false`)).toEqual(state);
    expect(await api.get(`/threads/${thread_id.replaceAll("-", "%2D")}/state`)).toEqual(state);
  });

  test("history: before as a checkpoint, as an id, in a query", async () => {
    const thread_id = await ended();
    const path = `/threads/${thread_id}/history`;
    const states = await api.post(path, { limit: 10 });
    expect(states).toHaveLength(4);
    for (const { checkpoint, metadata, parent_checkpoint } of states) {
      for (const part of [checkpoint, metadata]) expect(part).toBeInstanceOf(Object);
      expect(parent_checkpoint === null || parent_checkpoint.checkpoint_id).toBeTruthy();
    }
    const { checkpoint } = states[1];
    const nothing = { metadata: null, checkpoint: null };
    for (const before of [checkpoint, checkpoint.checkpoint_id, { configurable: checkpoint }]) {
      expect(await api.post(path, { ...nothing, limit: 10, before })).toEqual(states.slice(2));
    }
    expect(await api.post(path, { ...nothing, limit: 10, before: null })).toEqual(states);
    expect(await api.get(`${path}?limit=2&before=`)).toEqual(states.slice(0, 2));
    expect(await api.get(`${path}?limit=10&before=${checkpoint.checkpoint_id}`)).toEqual(states.slice(2));
  });

  test("update_state with every key", async () => {
    const thread_id = await ended();
    const path = `/threads/${thread_id}/state`;
    const nothing = { checkpoint: null, checkpoint_id: null };
    const { checkpoint } = await api.post(path, { ...nothing, values: { value: 50 }, as_node: "first" });
    expect(checkpoint).toMatchObject({ thread_id, checkpoint_ns: "", checkpoint_map: null });
    expect(await api.get(path)).toMatchObject({ next: ["second"], values: { value: 50 } });
    await api.post(path, { ...nothing, values: { value: 60 }, as_node: null });
    expect((await api.get(path)).values).toMatchObject({ value: 60 });
  });
});

describe("runs of a thread", () => {
  test("select in the query: repeated, a JSON string, a comma list, empty", async () => {
    const { thread_id, run_id, path } = await api.background(plain);
    await api.get(`${path}/join`);
    const list = (query: string) => api.get(`/threads/${thread_id}/runs?limit=10&offset=0${query}`);
    const short = [{ run_id, status: "success" }];
    for (const query of ["select=run_id&select=status", 'select=["run_id","status"]', "select=run_id,status"]) {
      expect(await list(`&${query}`)).toEqual(short);
    }
    const [whole] = await list("");
    expect(await list("&status=&select=")).toEqual([whole]);
    expect(await list("&status=pending")).toEqual([]);
    expect((await api.http.get(`/threads/${thread_id}/runs?select=nope`)).body.detail).toMatch(/select.*nope/);
  });

  test("cancel_many with its action in the query; delete", async () => {
    const { thread_id, run_id, path } = await api.background({ ...plain, after_seconds: 600 });
    const body = { thread_id, run_ids: [run_id], status: null };
    const { status, text } = await api.http.post("/runs/cancel?action=interrupt", body);
    expect([status, text]).toEqual([204, ""]);
    expect((await api.get(path)).status).toBe("interrupted");
    expect((await api.http.delete(path)).status).toBeLessThan(300);
    expect((await api.http.get(path)).status).toBe(404);
  });
});

describe("assistants", () => {
  test("create and update with every key, most of them null; delete with its boolean as a word", async () => {
    const nothing = { config: null, context: null, metadata: null, name: null, description: null };
    const made = await api.post("/assistants", { ...nothing, graph_id: "plain", assistant_id: null, if_exists: null });
    expect(made).toMatchObject({ graph_id: "plain", version: 1, config: {}, metadata: {} });
    const path = `/assistants/${made.assistant_id}`;
    const changed = await api.http.patch(path, { ...nothing, graph_id: null, metadata: { a: 1 } });
    expect(changed.body).toMatchObject({ graph_id: "plain", version: 2, name: made.name, metadata: { a: 1 } });
    const versions = await api.post(`${path}/versions`, { limit: 10, offset: 0, metadata: null });
    expect(versions).toHaveLength(2);
    expect((await api.http.delete(`${path}?delete_threads=False`)).status).toBe(200);
    expect((await api.http.get(path)).status).toBe(404);
  });

  test("names and namespaces are quoted", async () => {
    expect(await api.get("/assistants/%70lain")).toMatchObject({ graph_id: "plain" });
    for (const namespace of ["middle%7Cinner", "middle|inner"]) {
      const found = await api.get(`/assistants/nested/subgraphs/${namespace}?recurse=true`);
      expect(Object.keys(found)).toEqual(["middle|inner"]);
    }
  });
});

test("crons with every key, most of them null; times as Python writes them", async () => {
  const nothing = {
    config: null,
    context: null,
    webhook: null,
    interrupt_before: null,
    interrupt_after: null,
    on_run_completed: null,
    timezone: null,
    enabled: null,
    stream_mode: null,
    stream_subgraphs: null,
    stream_resumable: null,
    durability: null,
    multitask_strategy: null,
  };
  const metadata = { who: crypto.randomUUID() };
  const end_time = "2999-01-01T00:00:00.123456+00:00";
  const body = { ...nothing, schedule: "0 3 * * *", input: {}, metadata, assistant_id: "plain", end_time };
  const cron = await api.post("/runs/crons", body);
  expect(cron).toMatchObject({ enabled: true, end_time: "2999-01-01T00:00:00.123Z" });
  const thread_id = await api.thread();
  const { cron_id } = await api.post(`/threads/${thread_id}/runs/crons`, { ...body, end_time: null });
  const search = { assistant_id: null, thread_id: null, enabled: null, metadata, sort_by: null, select: null };
  expect(await api.post("/runs/crons/search", { ...search, limit: 10, offset: 0 })).toHaveLength(2);
  expect(await api.post("/runs/crons/search", { ...search, thread_id, select: ["cron_id"] })).toEqual([{ cron_id }]);
  expect(await api.post("/runs/crons/count", { assistant_id: null, thread_id: null, metadata })).toBe(2);
  const changed = await api.http.patch(`/runs/crons/${cron_id}`, { end_time: "2999-06-01T12:00:00+02:00" });
  expect(changed.body.end_time).toBe("2999-06-01T10:00:00.000Z");
  for (const each of [cron.cron_id, cron_id]) expect((await api.http.delete(`/runs/crons/${each}`)).status).toBe(200);
});

test("store: dotted namespaces, bodies of DELETE, every key", async () => {
  const item = { namespace: ["py", "notes"], key: "a b", value: { v: 1 } };
  for (const more of [{ index: false, ttl: 10 }, { index: ["v"], ttl: 0.5 }, { index: null, ttl: null }, {}]) {
    const { status, text } = await api.http.put("/store/items", { ...item, ...more });
    expect([status, text]).toEqual([204, ""]);
  }
  for (const query of ["namespace=py.notes", "namespace=py&namespace=notes"]) {
    for (const refresh of ["", "&refresh_ttl=true", "&refresh_ttl=False", "&refresh_ttl="]) {
      expect(await api.get(`/store/items?${query}&key=a+b${refresh}`)).toMatchObject({
        ...item,
        created_at: expect.any(String),
      });
    }
  }
  expect((await api.http.get("/store/items?namespace=py.notes&key=zz")).text).toBe("null");
  const search = { namespace_prefix: ["py"], filter: { v: 1 }, limit: 10, offset: 0, query: "x", refresh_ttl: null };
  expect((await api.post("/store/items/search", search)).items).toMatchObject([item]);
  const nothing = { namespace_prefix: ["py"], filter: null, query: null };
  expect((await api.post("/store/items/search", nothing)).items).toMatchObject([item]);
  const list = { prefix: ["py"], suffix: null, max_depth: 2, limit: 100, offset: 0 };
  expect(await api.post("/store/namespaces", list)).toEqual({ namespaces: [["py", "notes"]] });
  const { status, text } = await api.http.delete("/store/items", { namespace: ["py", "notes"], key: "a b" });
  expect([status, text]).toEqual([204, ""]);
  expect((await api.post("/store/items/search", nothing)).items).toEqual([]);
});

describe("event streams: a thread that the client names, commands over HTTP, and a connection for each subscription", () => {
  const CHANNELS = ["checkpoints", "lifecycle", "messages", "tools", "updates", "values"];
  const path = (thread_id: string): string => `/threads/${thread_id}`;
  const command = (thread_id: string, id: number, method: string, params: unknown): Promise<Any> =>
    api.post(`${path(thread_id)}/commands`, { id, method, params });
  const isEnd = ({ method, params }: Any): boolean =>
    method === "lifecycle" && params.namespace.length === 0 && params.data.event !== "running";

  test("by SSE: opened before the thread is there; questions, their answers, and who comes back", async () => {
    const thread_id = crypto.randomUUID();
    const headers = { "cache-control": "no-store" };
    const open = (body: object) => api.open(`${path(thread_id)}/stream/events`, { body, headers });
    await using watcher = await open({ channels: ["lifecycle", "input"] });
    await using all = await open({ channels: CHANNELS });
    const end = (frame: Frame): boolean => isEnd(json(frame));
    const started = await command(thread_id, 1, "run.start", {
      assistant_id: "hitl",
      input: { question: "Sure?" },
      config: { configurable: {} },
      metadata: { who: "python" },
    });
    expect(started).toMatchObject({ id: 1, type: "success", result: { run_id: expect.any(String) } });
    const seen = (await watcher.until(end)).map(json);
    const { params } = seen.find(({ method }) => method === "input.requested");
    const { interrupt_id } = params.data;
    const first = (await all.until(end)).map(json);
    const answer = { interrupt_id, namespace: params.namespace, response: "yes" };
    expect(await command(thread_id, 2, "input.respond", answer)).toMatchObject({ id: 2, type: "success" });
    const second = (await all.until(end)).map(json);
    expect(second.at(-1).params.data.event).toBe("completed");
    await using back = await open({ channels: CHANNELS, since: first.at(-1).seq });
    expect((await back.until(end)).map(json)).toEqual(second);
    // The client drops what it has seen by its id.
    const events = [...first, ...second].map(({ event_id }) => event_id);
    expect(new Set(events).size).toBe(events.length);
  });

  test("by WebSocket: each subscription on a socket of its own", async () => {
    const thread_id = crypto.randomUUID();
    const subscribed = async (params: object) => {
      const socket = new WebSocket(`${api.url.replace("http", "ws")}${path(thread_id)}/stream/events`);
      const events: Any[] = [];
      const ended = new Promise<Any[]>((resolve) => {
        socket.on("message", (data) => {
          const message = JSON.parse(String(data));
          events.push(message);
          if (message.type === "event" && isEnd(message)) resolve(events);
        });
      });
      await once(socket, "open");
      socket.send(JSON.stringify({ id: 1, method: "subscription.subscribe", params }));
      return { ended, close: () => socket.close() };
    };
    const [lifecycle, values] = await Promise.all([
      subscribed({ channels: ["lifecycle", "input"] }),
      subscribed({ channels: ["lifecycle", "values"] }),
    ]);
    await command(thread_id, 1, "run.start", { assistant_id: "plain", input: { value: 1 } });
    const methods = (events: Any[]) =>
      new Set(events.filter(({ type }) => type === "event").map(({ method }) => method));
    expect(methods(await lifecycle.ended)).toEqual(new Set(["lifecycle"]));
    expect(methods(await values.ended)).toEqual(new Set(["lifecycle", "values"]));
    for (const { close } of [lifecycle, values]) close();
  });

  test("a command that is refused is an envelope, not a status that the client would raise", async () => {
    const thread_id = crypto.randomUUID();
    const { status, body } = await api.http.post(`${path(thread_id)}/commands`, {
      id: 1,
      method: "run.start",
      params: { assistant_id: "nobody" },
    });
    expect([status, body]).toEqual([
      200,
      expect.objectContaining({ id: 1, type: "error", message: expect.stringContaining("nobody") }),
    ]);
  });
});
