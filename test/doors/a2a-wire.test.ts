/**
 * A2A on the wire: agent cards, envelopes, errors. The cases are those that the A2A project's compliance kit calls mandatory, in our
 * words: the kit itself is in no package registry.
 */
import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { http, ok } from "../support/http.ts";
import { startServer, type TestServer } from "../support/server.ts";
import { openSse } from "../support/sse.ts";
import { JSON_ACCEPT, rpc } from "./support.ts";

let server: TestServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(async () => server?.[Symbol.asyncDispose]());

const V1 = { "a2a-version": "1.0" };
const said = (text: string, more: object = {}) => ({
  message: { kind: "message", role: "user", messageId: randomUUID(), parts: [{ kind: "text", text }], ...more },
});
const post = (body: unknown, headers: Readonly<Record<string, string>> = JSON_ACCEPT, agent = "chat") =>
  http(server.url).post(`/a2a/${agent}`, body, { headers });

describe("the agent card", () => {
  const card = (
    headers: Readonly<Record<string, string>> = {},
    path = "/.well-known/agent-card.json?assistant_id=chat",
  ) => ok(http(server.url).get(path, { headers }));

  test("has what both versions require, at both addresses", async () => {
    const found = await card();
    expect(found).toMatchObject({
      name: "chat",
      version: expect.any(String),
      protocolVersion: "0.3.0",
      preferredTransport: "JSONRPC",
      url: `${server.url}/a2a/chat`,
      supportedInterfaces: [
        { url: `${server.url}/a2a/chat`, protocolBinding: "JSONRPC", protocolVersion: "1.0" },
        { url: `${server.url}/a2a/chat`, protocolBinding: "JSONRPC", protocolVersion: "0.3" },
      ],
      capabilities: { streaming: true, pushNotifications: true },
      defaultInputModes: ["text/plain", "application/json"],
      defaultOutputModes: ["text/plain", "application/json"],
    });
    expect(found.description).not.toBe("");
    for (const skill of found.skills) {
      expect(skill).toMatchObject({ id: expect.any(String), name: "chat", description: expect.any(String) });
      expect(skill.tags.length).toBeGreaterThan(0);
    }
    expect(await card({}, "/a2a/chat/.well-known/agent-card.json")).toEqual(found);
  });

  test("says where proxies say it is, and repeats no nonsense", async () => {
    const forwarded = {
      "x-forwarded-proto": "https",
      "x-forwarded-host": "agents.example.com",
      "x-forwarded-prefix": "/eu/one",
    };
    expect((await card(forwarded)).url).toBe("https://agents.example.com/eu/one/a2a/chat");
    expect((await card(forwarded, "/a2a/chat/.well-known/agent-card.json")).url).toBe(
      "https://agents.example.com/eu/one/a2a/chat",
    );
    const nonsense = {
      "x-forwarded-proto": "javascript",
      "x-forwarded-host": 'x"/><a',
      "x-forwarded-prefix": "//evil",
    };
    expect((await card(nonsense)).url).toBe(`${server.url}/a2a/chat`);
  });

  test("of nobody is not found", async () => {
    const status = async (path: string) => (await http(server.url).get(path)).status;
    expect(await status("/a2a/nobody/.well-known/agent-card.json")).toBe(404);
    expect(await status("/.well-known/agent-card.json?assistant_id=nobody")).toBe(404);
    expect(await status("/.well-known/agent-card.json")).toBe(422);
  });
});

describe("envelopes", () => {
  const request = { jsonrpc: "2.0", id: "1", method: "tasks/get", params: { id: randomUUID() } };
  const { id: _, ...withoutId } = request;

  test.each([
    ["malformed JSON", '{"jsonrpc": "2.0", "method": "message/send", "params": {"foo": "bar"}', -32700],
    ["no body", "", -32700],
    ["a list", [request], -32600],
    ["text", '"hello"', -32600],
    ["null", "null", -32600],
    ["an empty object", {}, -32600],
    ["no jsonrpc", { ...request, jsonrpc: undefined }, -32600],
    ["another jsonrpc", { ...request, jsonrpc: "1.0" }, -32600],
    ["no id", withoutId, -32600],
    ["an object as id", { ...request, id: { bad: "id" } }, -32600],
    ["a list as id", { ...request, id: ["bad"] }, -32600],
    ["a fraction as id", { ...request, id: 1.5 }, -32600],
    ["no method", { ...request, method: undefined }, -32600],
    ["a number as method", { ...request, method: 5 }, -32600],
    ["params that are text", { ...request, params: "x" }, -32602],
    ["params that are a list", { ...request, params: [1] }, -32602],
    ["null as params", { ...request, params: null }, -32602],
  ])("%s: 400", async (_name, body, code) => {
    const answer = await post(body);
    expect([answer.status, answer.body.jsonrpc, answer.body.id, answer.body.error.code]).toEqual([
      400,
      "2.0",
      null,
      code,
    ]);
    expect(answer.body.detail).toBe(answer.body.error.message);
  });

  test.each(["abc", "", 7, 0, null])("the id comes back as it came: %j", async (id) => {
    const { status, body } = await post({ ...request, id });
    expect([status, body.jsonrpc, body.id, body.error.code]).toEqual([200, "2.0", id, -32001]);
  });

  test("Accept must fit the method", async () => {
    const stream = { ...request, method: "message/stream", params: said("hi") };
    const status = async (body: unknown, accept: string) => (await post(body, { accept })).status;
    expect(await status(request, "text/event-stream")).toBe(400);
    expect(await status(stream, "application/json")).toBe(400);
    expect(await status({ ...stream, method: "SendStreamingMessage" }, "application/json")).toBe(400);
    expect(await status(request, "text/html, application/*;q=0.5")).toBe(200);
    expect(await status(request, "*/*")).toBe(200);
    expect(await status(stream, "application/json, text/event-stream")).toBe(200);
  });

  test("unknown agents, methods and versions", async () => {
    expect(await post(request, JSON_ACCEPT, "nobody")).toMatchObject({
      status: 404,
      body: { error: { code: -32602 } },
    });
    expect(await post({ ...request, method: "nonexistent/method" })).toMatchObject({
      status: 200,
      body: { error: { code: -32601 } },
    });
    for (const method of ["nope", "message/send", "constructor", "toString"]) {
      const answer = await post({ ...request, method }, { ...JSON_ACCEPT, ...V1 });
      expect([answer.status, answer.body.error.code]).toEqual([200, -32601]);
    }
    for (const v of ["7.0", "1.1", "1.x", "1.0, 0.3", "0.4", "01.0"]) {
      const version = await post(request, { ...JSON_ACCEPT, "a2a-version": v });
      expect([v, version.status, version.body.error.code]).toEqual([v, 200, -32009]);
    }
    const listed = { ...request, method: "ListTasks", params: {} };
    const kindOf = async (query: string) =>
      (await post(listed, JSON_ACCEPT, `chat${query}`)).body.result.tasks.map(({ kind }: { kind?: string }) => kind);
    await post({ ...request, method: "message/send", params: said("hi") });
    expect([(await kindOf("?A2A-Version=1.0"))[0], (await kindOf(""))[0]]).toEqual([undefined, "task"]);
    for (const v of ["0.3", "0.3.0"])
      expect((await post(request, { ...JSON_ACCEPT, "a2a-version": v })).body.error.code).toBe(-32001);
  });
});

describe("bad parameters are told as such, and never as a fault of the server", () => {
  const UNKNOWN = randomUUID();
  const { message } = said("hi");
  const data = (value: unknown) => ({ message: { ...message, parts: [{ kind: "data", data: value }] } });
  const file = { kind: "file", file: { uri: "https://example.com/a.png" } };
  const push = (config: object) => ({ taskId: UNKNOWN, pushNotificationConfig: config });

  test.each<[string, string, unknown, number]>([
    ["no message", "message/send", {}, -32602],
    ["null as message", "message/send", { message: null }, -32602],
    ["an empty message", "message/send", { message: {} }, -32602],
    ["no messageId", "message/send", { message: { ...message, messageId: undefined } }, -32602],
    ["an empty messageId", "message/send", { message: { ...message, messageId: "" } }, -32602],
    ["no role", "message/send", { message: { ...message, role: undefined } }, -32602],
    ["another role", "message/send", { message: { ...message, role: "pope" } }, -32602],
    ["no parts", "message/send", { message: { ...message, parts: undefined } }, -32602],
    ["an empty list of parts", "message/send", { message: { ...message, parts: [] } }, -32602],
    ["parts that are text", "message/send", { message: { ...message, parts: "hi" } }, -32602],
    ["a part of no kind", "message/send", { message: { ...message, parts: [{}] } }, -32602],
    ["a part that is null", "message/send", { message: { ...message, parts: [null] } }, -32602],
    ["another kind of part", "message/send", { message: { ...message, parts: [{ kind: "smell" }] } }, -32602],
    ["text that is a number", "message/send", { message: { ...message, parts: [{ kind: "text", text: 5 }] } }, -32602],
    ["data that are a list", "message/send", data([1]), -32602],
    ["a file", "message/send", { message: { ...message, parts: [file] } }, -32005],
    ["a context that is no id", "message/send", { message: { ...message, contextId: "thread-1" } }, -32602],
    ["a context that is a number", "message/send", { message: { ...message, contextId: 5 } }, -32602],
    ["a task that is unknown", "message/send", { message: { ...message, taskId: UNKNOWN } }, -32001],
    ["a task that is no id", "message/send", { message: { ...message, taskId: "task" } }, -32001],
    ["a runtime context that is text", "message/send", { message, context: "dry" }, -32602],
    ["a command that is text", "message/send", { message, command: "go" }, -32602],
    ["a configuration that is text", "message/send", { message, configuration: "x" }, -32602],
    ["blocking that is text", "message/send", { message, configuration: { blocking: "no" } }, -32602],
    ["a negative history", "message/send", { message, configuration: { historyLength: -1 } }, -32602],
    [
      "output that we have not",
      "message/send",
      { message, configuration: { acceptedOutputModes: ["image/png"] } },
      -32005,
    ],
    [
      "a push URL that is none",
      "message/send",
      { message, configuration: { pushNotificationConfig: { url: "x y" } } },
      -32602,
    ],
    [
      "a push URL to this machine",
      "message/send",
      { message, configuration: { pushNotificationConfig: { url: "http://127.0.0.1/" } } },
      -32602,
    ],
    ["no task", "tasks/get", {}, -32602],
    ["a task that is a number", "tasks/get", { id: 5 }, -32602],
    ["an unknown task", "tasks/get", { id: UNKNOWN }, -32001],
    ["an unknown task of a context", "tasks/get", { id: `${UNKNOWN}:${UNKNOWN}` }, -32001],
    ["more history than there may be", "tasks/get", { id: UNKNOWN, historyLength: 11 }, -32602],
    ["negative history", "tasks/get", { id: UNKNOWN, historyLength: -1 }, -32602],
    ["history that is text", "tasks/get", { id: UNKNOWN, historyLength: "5" }, -32602],
    ["an unknown task to cancel", "tasks/cancel", { id: UNKNOWN }, -32001],
    ["no task to cancel", "tasks/cancel", {}, -32602],
    ["an unknown task to tell of", "tasks/pushNotificationConfig/set", push({ url: "https://example.com/x" }), -32001],
    [
      "a token with a line break",
      "tasks/pushNotificationConfig/set",
      push({ url: "https://example.com/x", token: "a\nb" }),
      -32602,
    ],
    [
      "credentials of no scheme",
      "tasks/pushNotificationConfig/set",
      push({ url: "https://example.com/x", authentication: { schemes: [], credentials: "key" } }),
      -32602,
    ],
    ["no config", "tasks/pushNotificationConfig/set", { taskId: UNKNOWN }, -32602],
    ["an unknown task's config", "tasks/pushNotificationConfig/get", { id: UNKNOWN }, -32001],
    ["an unknown task's configs", "tasks/pushNotificationConfig/list", { id: UNKNOWN }, -32001],
    ["a config to delete without its id", "tasks/pushNotificationConfig/delete", { id: UNKNOWN }, -32602],
    ["a page that is too large", "tasks/list", { pageSize: 101 }, -32602],
    ["a page of nothing", "tasks/list", { pageSize: 0 }, -32602],
    ["a page that nobody gave", "tasks/list", { pageToken: "../etc" }, -32602],
    ["a state that there is not", "tasks/list", { status: "SLEEPING" }, -32602],
    ["a time that is none", "tasks/list", { statusTimestampAfter: "yesterday" }, -32602],
    ["an extended card", "agent/getAuthenticatedExtendedCard", {}, -32007],
  ])("0.3, %s", async (_name, method, params, code) => {
    const { status, body } = await rpc(server, "chat", method, params);
    expect([status, body.error?.code]).toEqual([200, code]);
    expect([body.jsonrpc, body.id, typeof body.error.message]).toEqual(["2.0", "1", "string"]);
    expect(body.result).toBeUndefined();
  });

  const v1 = { messageId: "m", role: "ROLE_USER", parts: [{ text: "hi" }] };
  test("a URL that may not be called is named by the field that has it", async () => {
    const url = "http://127.0.0.1/";
    const old = await rpc(server, "chat", "message/send", {
      message,
      configuration: { pushNotificationConfig: { url } },
    });
    expect(old.body.error.message).toMatch(/^configuration\.pushNotificationConfig\.url: targets this machine/);
    const configuration = { taskPushNotificationConfig: { url } };
    const now = await rpc(server, "chat", "SendMessage", { message: v1, configuration }, { "a2a-version": "1.0" });
    expect(now.body.error.message).toMatch(/^configuration\.taskPushNotificationConfig\.url: targets this machine/);
  });

  test.each<[string, string, unknown, number]>([
    ["no message", "SendMessage", {}, -32602],
    ["a role of 0.3", "SendMessage", { message: { ...v1, role: "user" } }, -32602],
    ["no parts", "SendMessage", { message: { ...v1, parts: [] } }, -32602],
    ["a part of nothing", "SendMessage", { message: { ...v1, parts: [{}] } }, -32602],
    ["a file", "SendMessage", { message: { ...v1, parts: [{ url: "https://example.com/a" }] } }, -32005],
    ["bytes", "SendMessage", { message: { ...v1, parts: [{ raw: "AAAA" }] } }, -32005],
    ["an unknown task", "SendMessage", { message: { ...v1, taskId: UNKNOWN } }, -32001],
    ["an unknown task to read", "GetTask", { id: UNKNOWN }, -32001],
    ["no task", "GetTask", {}, -32602],
    ["an unknown task to cancel", "CancelTask", { id: UNKNOWN }, -32001],
    ["an unknown task to follow", "SubscribeToTask", { id: UNKNOWN }, -32001],
    ["a page that is too large", "ListTasks", { pageSize: 1000 }, -32602],
    ["a config without a URL", "CreateTaskPushNotificationConfig", { taskId: UNKNOWN }, -32602],
    [
      "credentials of no scheme",
      "CreateTaskPushNotificationConfig",
      { taskId: UNKNOWN, url: "https://example.com/x", authentication: { scheme: "", credentials: "key" } },
      -32602,
    ],
    ["an unknown task's config", "GetTaskPushNotificationConfig", { taskId: UNKNOWN, id: "x" }, -32001],
    ["an unknown task's configs", "ListTaskPushNotificationConfigs", { taskId: UNKNOWN }, -32001],
    ["an extended card", "GetExtendedAgentCard", {}, -32007],
  ])("1.0, %s", async (_name, method, params, code) => {
    const headers = { ...V1, accept: "application/json, text/event-stream" };
    const { status, body } = await rpc(server, "chat", method, params, headers);
    expect([status, body.error?.code]).toEqual([200, code]);
  });

  test("in a stream of 0.3, an error is an event", async () => {
    for (const [method, params, code] of [
      ["message/stream", {}, -32602],
      ["tasks/resubscribe", { id: UNKNOWN }, -32001],
      ["message/stream", said("hi", { taskId: UNKNOWN }), -32001],
    ] as const) {
      const body = { jsonrpc: "2.0", id: 9, method, params };
      await using stream = await openSse(`${server.url}/a2a/chat`, { body });
      const events = (await stream.rest()).map(({ data = "" }) => JSON.parse(data));
      expect(events).toMatchObject([{ jsonrpc: "2.0", id: 9, error: { code } }]);
    }
  });

  test("a task is of its context and of its agent", async () => {
    const { result } = (await rpc(server, "chat", "message/send", said("hi"))).body;
    const code = async (agent: string, method: string, params: unknown) =>
      (await rpc(server, agent, method, params)).body.error?.code;
    expect(await code("chat", "tasks/get", { id: result.id, contextId: result.contextId })).toBeUndefined();
    expect(await code("chat", "tasks/get", { id: `${result.contextId}:${result.id}` })).toBeUndefined();
    expect(await code("chat", "tasks/get", { id: result.id, contextId: UNKNOWN })).toBe(-32001);
    expect(await code("chat", "tasks/get", { id: `${UNKNOWN}:${result.id}` })).toBe(-32001);
    expect(await code("agent", "tasks/get", { id: result.id })).toBe(-32001);
    expect(await code("chat", "message/send", said("hi", { taskId: result.id }))).toBe(-32004);
    expect(await code("chat", "tasks/cancel", { id: result.id })).toBe(-32002);
  });
});

test("a stream is one envelope per event, first a task and last its state", async () => {
  const body = { jsonrpc: "2.0", id: "s", method: "message/stream", params: said("hi") };
  await using stream = await openSse(`${server.url}/a2a/chat`, { body });
  expect(stream.headers["content-type"]).toBe("text/event-stream");
  const events = (await stream.rest()).map(({ data = "" }) => JSON.parse(data));
  for (const event of events) expect([event.jsonrpc, event.id]).toEqual(["2.0", "s"]);
  const results = events.map(({ result }) => result);
  const { id, contextId } = results[0];
  expect(results[0].kind).toBe("task");
  for (const { taskId, contextId: context } of results.slice(1)) expect([taskId, context]).toEqual([id, contextId]);
  expect(results.filter(({ final }) => final === true)).toHaveLength(1);
  expect(results.at(-1)).toMatchObject({ kind: "status-update", status: { state: "completed" }, final: true });
  expect(results.filter(({ kind }) => kind === "artifact-update").at(-1)).toMatchObject({
    append: false,
    lastChunk: true,
    artifact: { artifactId: id, name: "Assistant Response", parts: [{ kind: "text", text: "You said: hi" }] },
  });
});
