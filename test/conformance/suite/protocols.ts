/** The doors of other protocols: MCP and A2A, on the wire. */
import { expect } from "vitest";
import type { Answer } from "../../support/http.ts";
import { type Any, type Api, behaviour, NOBODY } from "../kit.ts";

const BOTH = { accept: "application/json, text/event-stream" };

const mcp = (api: Api, body: unknown, headers: Readonly<Record<string, string>> = BOTH): Promise<Answer<Any>> =>
  api.http.post("/mcp/", body, { headers });

async function mcpResult(api: Api, method: string, params: unknown = {}): Promise<Any> {
  const { status, body, text } = await mcp(api, { jsonrpc: "2.0", id: 1, method, params });
  expect(status, text).toBe(200);
  return body.result ?? body;
}

const textOf = (result: Any): string => result.content.map(({ text }: { text: string }) => text).join("");

behaviour("mcp.initialize", async ({ api }) => {
  const params = { clientInfo: { name: "kit", version: "1" }, protocolVersion: "2024-11-05", capabilities: {} };
  const result = await mcpResult(api, "initialize", params);
  expect(result).toMatchObject({ protocolVersion: "2024-11-05", serverInfo: { name: expect.any(String) } });
  expect(result.capabilities).toHaveProperty("tools");
});

behaviour("mcp.accept", async ({ api }) => {
  const ping = { jsonrpc: "2.0", id: 1, method: "ping" };
  for (const accept of ["application/json", "text/event-stream"])
    expect((await mcp(api, ping, { accept })).status).toBe(400);
  expect((await mcp(api, ping)).status).toBe(200);
});

behaviour("mcp.notification", async ({ api }) => {
  const { status, text } = await mcp(api, { jsonrpc: "2.0", method: "notifications/initialized" });
  expect([status, text]).toEqual([202, ""]);
});

behaviour("mcp.malformed", async ({ api }) => {
  for (const body of ["{", "[]x", { hello: "world" }]) expect((await mcp(api, body)).status).toBe(400);
});

async function tools(api: Api): Promise<Any[]> {
  const found: Any[] = [];
  for (let cursor: string | undefined; ; ) {
    const page = await mcpResult(api, "tools/list", cursor === undefined ? {} : { cursor });
    found.push(...page.tools);
    cursor = page.nextCursor;
    if (cursor === undefined) return found;
  }
}

behaviour("mcp.tools", async ({ api }) => {
  const mark = api.mark();
  await api.assistant({ name: `A tool: ${mark}`, description: `About ${mark}.` });
  const all = await tools(api);
  const names = all.map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
  expect(names.filter((name) => !/^[\w-]{1,64}$/.test(name))).toEqual([]);
  expect(all.filter(({ inputSchema }) => inputSchema.type !== "object")).toEqual([]);
  expect(all.find(({ description }) => description === `About ${mark}.`)?.name).toContain(mark);
});

behaviour("mcp.call", async ({ api }) => {
  const result = await mcpResult(api, "tools/call", { name: "plain", arguments: { value: 1 } });
  expect(result.isError ?? false).toBe(false);
  expect(textOf(result)).toContain("4");
});

behaviour("mcp.call.context", async ({ api }) => {
  const result = await mcpResult(api, "tools/call", {
    name: "echo",
    arguments: { input: 1 },
    context: { tone: "dry" },
  });
  expect(textOf(result)).toContain("dry");
});

behaviour("mcp.call.error", async ({ api }) => {
  const result = await mcpResult(api, "tools/call", { name: "error", arguments: {} });
  expect(result.isError).toBe(true);
});

behaviour("mcp.call.unknown", async ({ api }) => {
  const { error } = await mcpResult(api, "tools/call", { name: "no such tool", arguments: {} });
  expect(error.code).toBe(-32602);
});

behaviour("mcp.get", async ({ api }) => {
  expect((await api.http.get("/mcp/", { headers: BOTH })).status).toBe(405);
});

behaviour("mcp.delete", async ({ api }) => {
  expect((await api.http.delete("/mcp/")).status).toBe(404);
});

/* ---------------------------------------------------------------------------------------- A2A */

function a2a(
  api: Api,
  assistant: string,
  method: string,
  params: unknown,
  accept = "application/json",
): Promise<Answer<Any>> {
  return api.http.post(`/a2a/${assistant}`, { jsonrpc: "2.0", id: "1", method, params }, { headers: { accept } });
}

async function result(pending: Promise<Answer<Any>>): Promise<Any> {
  const { status, body, text } = await pending;
  expect(status, text).toBe(200);
  expect(body, text).toMatchObject({ jsonrpc: "2.0", id: "1", result: expect.any(Object) });
  return body.result;
}

const text = (said: string, more: object = {}) => ({
  message: { role: "user", messageId: crypto.randomUUID(), parts: [{ kind: "text", text: said }], ...more },
});
const data = (value: object, more: object = {}) => ({
  message: { role: "user", messageId: crypto.randomUUID(), parts: [{ kind: "data", data: value }], ...more },
});

behaviour("a2a.send", async ({ api }) => {
  const task = await result(a2a(api, "chat", "message/send", text("hello")));
  expect(task).toMatchObject({ kind: "task", status: { state: "completed" } });
  expect(task.artifacts).toMatchObject([
    { name: "Assistant Response", parts: [{ kind: "text", text: expect.stringContaining("hello") }] },
  ]);
});

behaviour("a2a.send.context", async ({ api }) => {
  const first = await result(a2a(api, "chat", "message/send", text("first")));
  const { contextId } = first;
  const second = await result(a2a(api, "chat", "message/send", text("second", { contextId })));
  expect(second.contextId).toBe(contextId);
  expect(second.id).not.toBe(first.id);
  const { values } = await api.get(`/threads/${contextId}/state`);
  expect(values.messages).toHaveLength(4);
});

behaviour("a2a.send.runtime-context", async ({ api }) => {
  const params = { ...data({ input: 1 }), context: { tone: "dry" } };
  expect(JSON.stringify(await result(a2a(api, "echo", "message/send", params)))).toContain("dry");
});

behaviour("a2a.send.data", async ({ api }) => {
  const task = await result(a2a(api, "plain", "message/send", data({ value: 1 })));
  expect(JSON.stringify(task.artifacts)).toContain("4");
});

behaviour("a2a.stream", async ({ api }) => {
  const body = { jsonrpc: "2.0", id: "s", method: "message/stream", params: text("hello") };
  const events = (await api.frames("/a2a/chat", { body })).map(({ data = "" }) => JSON.parse(data));
  for (const event of events) expect(event).toMatchObject({ jsonrpc: "2.0", id: "s", result: expect.any(Object) });
  const results = events.map((event) => event.result);
  expect(results.at(-1)).toMatchObject({ kind: "status-update", status: { state: "completed" }, final: true });
  expect(results.some(({ kind }) => kind === "artifact-update")).toBe(true);
});

behaviour("a2a.interrupt", async ({ api }) => {
  const asked = await result(a2a(api, "hitl", "message/send", data({ question: "Sure?" })));
  expect(asked.status.state).toBe("input-required");
  const answer = text("yes", { contextId: asked.contextId, taskId: asked.id });
  const task = await result(a2a(api, "hitl", "message/send", answer));
  expect(task.status.state).toBe("completed");
  expect((await api.get(`/threads/${asked.contextId}/state`)).values.answers).toEqual({ person: "yes" });
});

behaviour("a2a.interrupt.parallel", async ({ api }) => {
  const asked = await result(a2a(api, "hitl2", "message/send", data({ question: "Sure?" })));
  const { tasks } = await api.get(`/threads/${asked.contextId}/state`);
  const ids = tasks.flatMap(({ interrupts }: Any) => interrupts.map(({ id }: Any) => id));
  const resume = ids.map((id: string) => ({ id, value: id }));
  const answer = data({ resume }, { contextId: asked.contextId, taskId: asked.id });
  expect((await result(a2a(api, "hitl2", "message/send", answer))).status.state).toBe("completed");
  const { values } = await api.get(`/threads/${asked.contextId}/state`);
  expect(Object.values(values.answers).sort()).toEqual([...ids].sort());
});

behaviour("a2a.get", async ({ api }) => {
  const { id, contextId } = await result(a2a(api, "chat", "message/send", text("hello")));
  const got = await result(a2a(api, "chat", "tasks/get", { id, contextId, historyLength: 1 }));
  expect(got).toMatchObject({ kind: "task", id, contextId, status: { state: "completed" } });
  expect(got.history).toHaveLength(1);
});

behaviour("a2a.get.unknown", async ({ api }) => {
  const { body } = await a2a(api, "chat", "tasks/get", { id: NOBODY, contextId: NOBODY });
  expect(body.error.code).toBe(-32001);
});

behaviour("a2a.cancel.ended", async ({ api }) => {
  const { id, contextId } = await result(a2a(api, "chat", "message/send", text("hello")));
  expect((await a2a(api, "chat", "tasks/cancel", { id, contextId })).body.error.code).toBeLessThan(0);
});

behaviour("a2a.bad-params", async ({ api }) => {
  const { body } = await a2a(api, "chat", "message/send", {});
  expect(body.error).toMatchObject({ code: -32602, message: expect.stringContaining("message") });
});

behaviour("a2a.bad-envelope", async ({ api }) => {
  const headers = { accept: "application/json" };
  for (const body of ["{", [], { jsonrpc: "1.0", id: "1", method: "tasks/get" }, { jsonrpc: "2.0", id: "1" }]) {
    expect((await api.http.post("/a2a/chat", body, { headers })).status).toBe(400);
  }
});

behaviour("a2a.accept", async ({ api }) => {
  expect((await a2a(api, "chat", "message/stream", text("hello"))).status).toBe(400);
});

behaviour("a2a.unknown-assistant", async ({ api }) => {
  expect((await a2a(api, NOBODY, "message/send", text("hello"))).status).toBe(404);
});

behaviour("a2a.card", async ({ api }) => {
  const [{ assistant_id }] = await api.post("/assistants/search", { graph_id: "chat", limit: 1 });
  for (const path of [
    `/.well-known/agent-card.json?assistant_id=${assistant_id}`,
    `/a2a/${assistant_id}/.well-known/agent-card.json`,
  ]) {
    const card = await api.get(path);
    expect(card).toMatchObject({
      name: expect.any(String),
      description: expect.any(String),
      skills: expect.any(Array),
    });
    expect(new URL(card.url).pathname).toMatch(new RegExp(`/a2a/${assistant_id}$`));
  }
});

behaviour("a2a.card.forwarded", async ({ api }) => {
  const [{ assistant_id }] = await api.post("/assistants/search", { graph_id: "chat", limit: 1 });
  const headers = { "x-forwarded-proto": "https" };
  const { body } = await api.http.get(`/.well-known/agent-card.json?assistant_id=${assistant_id}`, { headers });
  expect(body.url).toMatch(/^https:/);
});
