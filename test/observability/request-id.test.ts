/** One id for a request, its log line, the runs it makes, what their graphs see and what is logged of them; over every door. */
import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { WebSocket } from "ws";
import { Inbox, message } from "../doors/support.ts";
import { type Any, type Body, fixturesWith, useServer } from "../runs/support.ts";
import { ok } from "../support/http.ts";
import { eventually } from "../support/server.ts";

const allowing = { webhooks: { url: { disable_loopback: false } } };
const api = useServer(async () => ({ project: (await fixturesWith(allowing)).dir }));
const ID = "langgraph_request_id";
const echo = { assistant_id: "echo", input: { input: 1 } };

const post = (path: string, body: unknown, id: string, headers: Record<string, string> = {}): Promise<Any> =>
  ok(api.http.post(path, body, { headers: { "x-request-id": id, ...headers } }));

/** Each makes a run on a thread by a request of this id. */
const DOORS: readonly (readonly [door: string, make: (thread_id: string, id: string) => Promise<unknown>])[] = [
  ["REST", (thread_id, id) => post(`/threads/${thread_id}/runs`, echo, id)],
  ["REST, waiting", (thread_id, id) => post(`/threads/${thread_id}/runs/wait`, echo, id)],
  ["REST, streaming", (thread_id, id) => post(`/threads/${thread_id}/runs/stream`, echo, id)],
  ["a command", (thread_id, id) => post(`/threads/${thread_id}/commands`, start, id)],
  ["a WebSocket", (thread_id, id) => overWebSocket(thread_id, id)],
  ["A2A", (thread_id, id) => post("/a2a/echo", said(thread_id), id, { accept: "application/json" })],
];
const start = { id: 1, method: "run.start", params: echo };
const said = (contextId: string): Body => {
  const { messageId } = message({});
  const parts = [{ kind: "data", data: { input: 1 } }];
  const params = { message: { kind: "message", role: "user", messageId, contextId, parts } };
  return { jsonrpc: "2.0", id: 1, method: "message/send", params };
};

async function overWebSocket(thread_id: string, id: string): Promise<void> {
  const url = `${api.url.replace("http", "ws")}/threads/${thread_id}/stream/events`;
  const socket = new WebSocket(url, { headers: { "x-request-id": id } });
  const upgraded = new Promise<Any>((resolve) => socket.once("upgrade", resolve));
  await new Promise((resolve) => socket.once("open", resolve));
  expect((await upgraded).headers["x-request-id"]).toBe(id);
  socket.send(JSON.stringify(start));
  await new Promise((resolve) => socket.once("message", resolve));
  socket.terminate();
}

test.each(DOORS)("%s", async (_, make) => {
  const thread_id = await api.thread();
  const id = `test-${randomUUID()}`;
  await make(thread_id, id);
  const run = await eventually(async () => (await api.get(`/threads/${thread_id}/runs`))[0]);
  expect(run.metadata[ID]).toBe(id);
  expect(run.kwargs.config.configurable[ID]).toBe(id);
  expect(run.kwargs).not.toHaveProperty("trace");
  const { values, metadata } = await eventually(async () => {
    const state = await api.get(`/threads/${thread_id}/state`);
    return state.values.seen === undefined ? undefined : state;
  });
  expect(values.seen.configurable[ID]).toBe(id);
  expect(values.seen.metadata[ID]).toBe(id);
  expect(metadata).not.toHaveProperty(ID);
  const logged = await eventually(() => {
    const lines = api.server.logs().filter(({ request_id }) => request_id === id);
    return lines.length >= 2 ? lines : undefined;
  });
  expect(logged).toContainEqual(
    expect.objectContaining({ msg: "run ended", run_id: run.run_id, thread_id, graph_id: "echo", status: "success" }),
  );
  const request = logged.find(({ msg }) => msg === "request");
  expect(request).toMatchObject({ method: expect.any(String), route: expect.any(String), ms: expect.any(Number) });
});

test("stateless runs, batches and MCP", async () => {
  const id = `test-${randomUUID()}`;
  const { seen } = await post("/runs/wait", echo, id);
  expect(seen.configurable[ID]).toBe(id);
  const batch: Any[] = await post("/runs/batch", [echo, echo], id);
  expect(batch.map(({ metadata }) => metadata[ID])).toEqual([id, id]);
  const call = { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "echo", arguments: { input: 1 } } };
  const { result } = await post("/mcp", call, id, { accept: "application/json, text/event-stream" });
  expect(result.structuredContent.seen.configurable[ID]).toBe(id);
});

test("a client cannot set it but by its header; without one it is made, and a request that comes again has the first's", async () => {
  const forged = { ...echo, config: { configurable: { [ID]: "x" }, metadata: { [ID]: "x" } }, metadata: { [ID]: "x" } };
  const answer = await api.http.post("/runs/wait", forged);
  const id = answer.headers.get("x-request-id");
  expect(id).toMatch(/^[0-9a-f-]{36}$/);
  expect(answer.body.seen).toMatchObject({ configurable: { [ID]: id }, metadata: { [ID]: id } });
  const key = { "idempotency-key": randomUUID() };
  const first = await post("/runs", echo, "first", key);
  expect(await post("/runs", echo, "second", key)).toEqual(first);
  expect(first.metadata[ID]).toBe("first");
});

test("a request that fails half way or is refused is logged by its id", async () => {
  const { headers, status } = await api.http.post("/threads/nonsense/runs", echo, {
    headers: { "x-request-id": "bad" },
  });
  expect([status, headers.get("x-request-id")]).toEqual([422, "bad"]);
  const line = await eventually(() => api.server.logs().find(({ request_id }) => request_id === "bad"));
  expect(line).toMatchObject({ msg: "request", status: 422, path: "/threads/nonsense/runs" });
});

test("ticks of crons and calls of webhooks have ids of their own", async () => {
  await using inbox = await Inbox.open();
  const thread_id = await api.thread();
  const webhook = inbox.url;
  await api.post(`/threads/${thread_id}/runs/crons`, { ...echo, schedule: "* * * * * *", webhook });
  const call = await eventually(() => inbox.calls[0]);
  const run = call.body as Any;
  expect(run.metadata[ID]).toMatch(/^[0-9a-f-]{36}$/);
  expect(call.headers["x-request-id"]).toMatch(/^[0-9a-f-]{36}$/);
  expect(call.headers["x-request-id"]).not.toBe(run.metadata[ID]);
});
