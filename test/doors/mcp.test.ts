/** MCP, driven by the official client, by a LangGraph agent that uses our tools, and by raw HTTP. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { MultiServerMCPClient } from "@langchain/mcp-adapters";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { McpError, type Progress } from "@modelcontextprotocol/sdk/types.js";
import { Ajv } from "ajv";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { inputSchemaOf } from "../../src/services/mcp/tools.ts";
import { linesOf, openGate } from "../faults/support.ts";
import { http, ok } from "../support/http.ts";
import { eventually, FIXTURES, project, startServer, type TestServer, tempDir } from "../support/server.ts";

let server: TestServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(async () => server?.[Symbol.asyncDispose]());

async function connect(path = "/mcp", to = server): Promise<Client & AsyncDisposable> {
  const client = new Client({ name: "test", version: "1.0.0" });
  await client.connect(new StreamableHTTPClientTransport(new URL(path, to.url)));
  return Object.assign(client, { [Symbol.asyncDispose]: () => client.close() });
}

interface Content {
  readonly text: string;
}
const textOf = (result: object): string => (result as { content: Content[] }).content.map(({ text }) => text).join("");

/** Counts what is in flight on any thread. */
const running = async (): Promise<number> => {
  const { queue } = (await ok(http(server.url).get("/metrics?format=json"))) as { queue?: { n_running?: number } };
  return queue?.n_running ?? 0;
};

describe("the official client", () => {
  test.each(["/mcp", "/mcp/"])("lists a tool for each assistant, at %s", async (path) => {
    await using client = await connect(path);
    expect(client.getServerVersion()).toMatchObject({ name: "skein" });
    const { tools } = await client.listTools();
    const names = tools.map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(["agent", "plain", "hitl"]));
    expect(new Set(names).size).toBe(names.length);
    const agent = tools.find(({ name }) => name === "agent");
    expect(agent?.inputSchema.properties?.messages).toMatchObject({
      type: "array",
      items: { properties: { role: { enum: ["user", "assistant", "system"] }, content: { type: "string" } } },
    });
    expect(agent?.outputSchema?.properties).toHaveProperty("messages");
  });

  test("a tool is named and described as its assistant; two of one name are told apart", async () => {
    const make = (name: string) =>
      ok(http(server.url).post("/assistants", { graph_id: "plain", name, description: `About ${name}.` }));
    const first = await make("Ünser Rechner!");
    const second = await make("_nser_Rechner");
    const third = await make("nser Rechner");
    await using client = await connect();
    const { tools } = await client.listTools();
    const suffix = (id: string) => id.replaceAll("-", "").slice(-8);
    const named = tools.filter(({ name }) => name.startsWith("nser_Rechner"));
    expect(named.map(({ name }) => name)).toEqual([
      "nser_Rechner",
      `nser_Rechner_${suffix(second.assistant_id)}`,
      `nser_Rechner_${suffix(third.assistant_id)}`,
    ]);
    expect(named[0]).toMatchObject({ title: "Ünser Rechner!", description: "About Ünser Rechner!." });
    await ok(http(server.url).delete(`/assistants/${third.assistant_id}`));
    expect(await client.callTool({ name: named[1]?.name ?? "", arguments: { value: 1 } })).toMatchObject({
      structuredContent: { value: 4 },
    });
    await ok(http(server.url).delete(`/assistants/${first.assistant_id}`));
    await ok(http(server.url).delete(`/assistants/${second.assistant_id}`));
  });

  test("many assistants come in pages, each once", async () => {
    const made = await Promise.all(
      Array.from({ length: 105 }, (_, n) =>
        ok(http(server.url).post("/assistants", { graph_id: "plain", name: `many ${n}` })),
      ),
    );
    await using client = await connect();
    const first = await client.listTools();
    expect(first.tools).toHaveLength(100);
    const second = await client.listTools({ cursor: first.nextCursor });
    expect(second.nextCursor).toBeUndefined();
    const names = [...first.tools, ...second.tools].map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    expect(names.filter((name) => name.startsWith("many_"))).toHaveLength(105);
    await expect(client.listTools({ cursor: "nonsense" })).rejects.toMatchObject({ code: -32602 });
    for (const { assistant_id } of made) await ok(http(server.url).delete(`/assistants/${assistant_id}`));
  });

  test("a call runs the graph: structured output, and the answer as text", async () => {
    await using client = await connect();
    // The client checks structured content against the schema it was listed with.
    await client.listTools();
    const plain = await client.callTool({ name: "plain", arguments: { value: 2 } });
    expect(plain).toMatchObject({ structuredContent: { value: 6, steps: ["first", "second"] } });
    expect(JSON.parse(textOf(plain))).toEqual(plain.structuredContent);
    const agent = await client.callTool({ name: "agent", arguments: { messages: [{ role: "user", content: "hi" }] } });
    expect(textOf(agent)).toBe("Results: 5, HI");
    expect((agent.structuredContent as { messages: unknown[] }).messages).toHaveLength(5);
    const whole = await client.callTool({ name: "functional", arguments: { input: [1, "two"] } });
    expect(JSON.parse(textOf(whole))).toEqual([1, "two"]);
  });

  test("`context` is the run's", async () => {
    await using client = await connect();
    const params = { name: "echo", arguments: { input: 1 }, context: { tone: "dry" } };
    expect(await client.callTool(params)).toMatchObject({
      structuredContent: { seen: { input: 1, context: { tone: "dry" } } },
    });
  });

  test("an error of the graph is the tool's, and a question ends it", async () => {
    await using client = await connect();
    await client.listTools();
    expect(await client.callTool({ name: "error", arguments: {} })).toMatchObject({
      isError: true,
      content: [{ type: "text", text: "TypeError: kaboom" }],
    });
    const asked = await client.callTool({ name: "hitl", arguments: { question: "Sure?" } });
    expect(asked.isError).toBe(true);
    expect(textOf(asked)).toContain("Sure?");
  });

  test("bad arguments and unknown tools are errors of the protocol", async () => {
    await using client = await connect();
    const call = (name: string, given: Record<string, unknown>) => client.callTool({ name, arguments: given });
    await expect(call("agent", { messages: "hi" })).rejects.toMatchObject({ code: -32602 });
    await expect(call("agent", { messages: "hi" })).rejects.toThrow(/messages/);
    await expect(call("agent", { messages: [{ role: "pope", content: "hi" }] })).rejects.toBeInstanceOf(McpError);
    await expect(call("functional", {})).rejects.toMatchObject({ code: -32602 });
    await expect(call("nobody", {})).rejects.toThrow(/Unknown tool: nobody/);
  });

  test("progress is told where the client asks", async () => {
    await using client = await connect();
    const seen: Progress[] = [];
    const onprogress = (progress: Progress): void => void seen.push(progress);
    await client.callTool({ name: "slow", arguments: { delay_ms: 30 } }, undefined, { onprogress });
    expect(seen.map(({ progress, message }) => [progress, message])).toEqual([
      [1, "one"],
      [2, "two"],
      [3, "three"],
    ]);
  });

  test.each([true, false])("a call that its client cancels is stopped (progress: %s)", async (progress) => {
    await using temp = await tempDir();
    await using client = await connect();
    const [log, gate] = [join(temp.dir, "log"), join(temp.dir, "gate")];
    const stop = new AbortController();
    const options = { signal: stop.signal, ...(progress ? { onprogress: () => undefined } : {}) };
    const call = client.callTool({ name: "slow", arguments: { log, gate } }, undefined, options);
    call.catch(() => undefined);
    await eventually(() => linesOf(log).includes("start 1"));
    stop.abort("enough");
    await expect(call).rejects.toThrow(/enough/);
    await eventually(() => linesOf(log).includes("aborted 1"));
    await eventually(async () => (await running()) === 0);
  });

  test("another client's request of the same number goes on", async () => {
    await using temp = await tempDir();
    await using one = await connect();
    await using two = await connect();
    const start = (client: Client, name: string, signal?: AbortSignal) => {
      const given = { log: join(temp.dir, name), gate: join(temp.dir, "gate") };
      return client.callTool({ name: "slow", arguments: given }, undefined, signal === undefined ? {} : { signal });
    };
    const stop = new AbortController();
    const stopped = start(one, "one", stop.signal);
    stopped.catch(() => undefined);
    const kept = start(two, "two");
    await eventually(() => linesOf(join(temp.dir, "one")).length + linesOf(join(temp.dir, "two")).length === 2);
    stop.abort();
    await eventually(() => linesOf(join(temp.dir, "one")).includes("aborted 1"));
    for (const step of [1, 2, 3]) openGate(join(temp.dir, "gate"), step);
    expect(await kept).toMatchObject({ structuredContent: { steps: [1, 2, 3] } });
  });

  test.each([true, false])("a call whose client leaves is stopped (progress: %s)", async (progress) => {
    await using temp = await tempDir();
    const client = await connect();
    const [log, gate] = [join(temp.dir, "log"), join(temp.dir, "gate")];
    const call = client.callTool(
      { name: "slow", arguments: { log, gate } },
      undefined,
      progress ? { onprogress: () => undefined } : {},
    );
    call.catch(() => undefined);
    await eventually(() => linesOf(log).includes("start 1"));
    await client.close();
    await eventually(() => linesOf(log).includes("aborted 1"));
  });
});

describe("over raw HTTP", () => {
  const BOTH = { accept: "application/json, text/event-stream" };
  const ping = { jsonrpc: "2.0", id: 1, method: "ping" };

  test("POST needs both types in Accept", async () => {
    for (const accept of ["application/json", "text/event-stream", "*/*", "text/html"]) {
      const answer = await http(server.url).post("/mcp/", ping, { headers: { accept } });
      expect([accept, answer.status, typeof answer.body.detail]).toEqual([accept, 400, "string"]);
    }
    for (const accept of ["text/event-stream;q=0.5, Application/JSON", BOTH.accept]) {
      expect(await http(server.url).post("/mcp", ping, { headers: { accept } })).toMatchObject({
        status: 200,
        body: { jsonrpc: "2.0", id: 1, result: {} },
      });
    }
  });

  test("GET is not allowed, DELETE finds no session, notifications are taken", async () => {
    for (const path of ["/mcp", "/mcp/"]) {
      const got = await http(server.url).get(path, { headers: { accept: "text/event-stream" } });
      expect([got.status, got.headers.get("allow")]).toEqual([405, "POST, DELETE"]);
      const gone = await http(server.url).delete(path, undefined, { headers: { "mcp-session-id": "mine" } });
      expect([gone.status, gone.body.detail]).toEqual([404, "Session not found"]);
      const taken = await http(server.url).post(
        path,
        { jsonrpc: "2.0", method: "notifications/initialized" },
        { headers: BOTH },
      );
      expect([taken.status, taken.text]).toEqual([202, ""]);
    }
  });

  test.each([
    ["no JSON", "{", 400],
    ["nothing", "", 400],
    ["a number", "1", 400],
    ["no method", { jsonrpc: "2.0", id: 1 }, 400],
    ["another version", { jsonrpc: "1.0", id: 1, method: "ping" }, 400],
    ["an object as id", { jsonrpc: "2.0", id: {}, method: "ping" }, 400],
    ["an unknown method", { jsonrpc: "2.0", id: 1, method: "nope" }, -32601],
    ["a call without a name", { jsonrpc: "2.0", id: 1, method: "tools/call", params: {} }, -32602],
    [
      "arguments that are a list",
      { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "plain", arguments: [] } },
      -32602,
    ],
    ["an initialize without a client", { jsonrpc: "2.0", id: 1, method: "initialize", params: {} }, -32602],
    [
      "a context that is text",
      { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "plain", context: "x" } },
      -32602,
    ],
    ["a cursor that is a number", { jsonrpc: "2.0", id: 1, method: "tools/list", params: { cursor: 5 } }, -32602],
    ["a batch of nothing", [], 400],
    ["a batch with something else in it", [ping, 5], 400],
    ["a batch with a number twice", [ping, ping], 400],
    ["null as id", { ...ping, id: null }, 400],
    ["params that are a list", { ...ping, params: [1] }, 400],
    ["a progress token that is an object", { ...ping, params: { _meta: { progressToken: {} } } }, 400],
    ["another member", { ...ping, foo: 1 }, 400],
    ["a deep body", `${"[".repeat(300)}${"]".repeat(300)}`, 400],
    ["__proto__", '{"jsonrpc":"2.0","id":1,"method":"ping","params":{"__proto__":{}}}', 400],
  ])("bad input is told as such: %s", async (_, body, expected) => {
    const answer = await http(server.url).post("/mcp/", body, { headers: BOTH });
    if (expected > 0) expect(answer.status).toBe(expected);
    else expect([answer.status, answer.body.error?.code]).toEqual([200, expected]);
    expect(typeof answer.body.error.message).toBe("string");
  });

  test("what is no message is told by its place, and each of a batch gets its own answer", async () => {
    const post = async (body: unknown) => (await http(server.url).post("/mcp", body, { headers: BOTH })).body;
    const problems = [
      [{ ...ping, foo: 1 }, /foo/],
      [{ ...ping, params: [1] }, /params/],
      [{ ...ping, id: 1.5 }, /id/],
      [[ping, { ...ping, jsonrpc: "1.0", id: 2 }], /message 1: jsonrpc/],
      [[ping, ping], /message 1: id: stands twice/],
    ] as const;
    for (const [body, problem] of problems) {
      expect(await post(body)).toMatchObject({
        id: null,
        error: { code: -32600, message: expect.stringMatching(problem) },
      });
    }
    const call = { jsonrpc: "2.0", id: "a", method: "tools/call", params: { name: "plain", arguments: { value: 1 } } };
    const answers = await post([ping, call, { ...call, id: "b", params: {} }, { ...ping, id: "c", method: "nope" }]);
    const byId = Object.fromEntries(answers.map(({ id, ...answer }: { id: unknown }) => [id, answer]));
    expect(byId).toMatchObject({
      1: { result: {} },
      a: { result: { structuredContent: { value: 4 } } },
      b: { error: { code: -32602, message: expect.stringContaining("params.name") } },
      c: { error: { code: -32601, message: "Method not found: nope" } },
    });
  });

  test("a call that asks to be a task is a call", async () => {
    const params = { name: "plain", arguments: { value: 1 }, task: { ttl: 1000 } };
    const answer = await http(server.url).post("/mcp", { ...ping, method: "tools/call", params }, { headers: BOTH });
    expect(answer.body.result).toMatchObject({ structuredContent: { value: 4 } });
  });

  test("pages of other origins may read the session they are given", async () => {
    const { headers } = await http(server.url).post("/mcp", ping, { headers: { ...BOTH, origin: "https://page" } });
    expect(headers.get("access-control-expose-headers")).toContain("mcp-session-id");
  });

  test("nothing of a call stays", async () => {
    const call = { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "plain", arguments: { value: 1 } } };
    await ok(http(server.url).post("/mcp", call, { headers: BOTH }));
    expect(await ok(http(server.url).post("/threads/search", {}))).toEqual([]);
  });
});

const ODD = `
import { START, StateGraph, StateSchema } from "@langchain/langgraph";
import { z } from "zod";
const Tree = z.object({ name: z.string(), get children() { return z.array(Tree).default([]); } });
const User = z.object({ id: z.string() }).meta({ id: "User" });
const fields = {
  tree: Tree,
  "my/tree": z.array(Tree).optional(),
  user: User,
  friend: User.optional(),
  pair: z.tuple([z.string(), z.number()]).optional(),
  mail: z.string().regex(/^[\\w-.]+\\@x$/).optional(),
};
const same = (state) => new StateGraph(state).addNode("same", () => ({})).addEdge(START, "same").compile();
export const properties = same(new StateSchema(fields));
export const whole = same(z.object(fields));
// A date has no JSON form: zod writes nothing of a whole that has one.
export const parts = same(z.object({ ...fields, at: z.date().optional() }));
`;
test("schemas that refer to themselves, tuples and patterns can be read and kept by every client", async () => {
  const odd = Object.fromEntries(["properties", "whole", "parts"].map((name) => [name, `./odd.mjs:${name}`]));
  await using own = await project({ "odd.mjs": ODD }, { graphs: odd });
  await using strange = await startServer({ project: own });
  await using client = await connect("/mcp", strange);
  // It compiles all of them, and throws when one cannot be.
  await client.listTools();
  const leaf = { name: "leaf", children: [] };
  const tree = { name: "root", children: [leaf] };
  const given = { tree, "my/tree": [tree], user: { id: "a" }, friend: { id: "b" }, pair: ["a", 1], mail: "a@x" };
  const wrong = { ...given, tree: { name: "root", children: [{ name: 5 }] } };
  for (const name of ["properties", "whole", "parts"]) {
    expect(await client.callTool({ name, arguments: given })).toMatchObject({ structuredContent: given });
    await expect(client.callTool({ name, arguments: wrong })).rejects.toThrow(/Invalid arguments.*children\/0\/name/);
    const alien = { ...given, user: { id: 5 } };
    await expect(client.callTool({ name, arguments: alien })).rejects.toThrow(/Invalid arguments.*user\/id/);
  }
});

test("what an input of the functional API refers to is found where it stands in the tool's", () => {
  const properties = { name: { type: "string" }, next: { $ref: "#/definitions/No~1de" } };
  const node = { type: "object", properties, required: ["name"] };
  const schema = { $schema: "x", $ref: "#/definitions/No~1de", definitions: { "No/de": node } };
  const tool = inputSchemaOf(schema);
  const check = new Ajv().compile(tool);
  expect(check({ input: { name: "a", next: { name: "b" } } })).toBe(true);
  for (const given of [{ input: { name: "a", next: {} } }, { input: {} }, {}]) expect(check(given)).toBe(false);
  const list = inputSchemaOf({ type: "array", items: { anyOf: [{ type: "string" }, { $ref: "#" }] } });
  expect(new Ajv().compile(list)({ input: ["a", ["b", ["c"]]] })).toBe(true);
  expect(new Ajv().compile(list)({ input: [{ input: [] }] })).toBe(false);
});

const USES_TOOLS = `
import { MultiServerMCPClient } from "@langchain/mcp-adapters";
import { MessagesAnnotation, START, StateGraph } from "@langchain/langgraph";
import { ToolNode, toolsCondition } from "@langchain/langgraph/prebuilt";
import { ScriptedModel } from "./scripted-model.mjs";

const script = (messages) => {
  const last = messages.at(-1);
  if (last.getType() === "tool") return { text: "They say: " + last.text };
  return { text: "", toolCalls: [{ name: "chat", args: { messages: [{ role: "user", content: last.text }] } }] };
};
const client = new MultiServerMCPClient({ skein: { url: process.env.MCP_URL, transport: "http" } });
const tools = await client.getTools();
const model = new ScriptedModel({ script }).bindTools(tools);

export const graph = new StateGraph(MessagesAnnotation)
  .addNode("agent", async ({ messages }) => ({ messages: [await model.invoke(messages)] }))
  .addNode("tools", new ToolNode(tools))
  .addEdge(START, "agent")
  .addConditionalEdges("agent", toolsCondition)
  .addEdge("tools", "agent")
  .compile();
`;

test("a LangGraph agent calls a tool of ours with @langchain/mcp-adapters", async () => {
  const client = new MultiServerMCPClient({ skein: { url: `${server.url}/mcp`, transport: "http" } });
  const tools = await client.getTools();
  const plain = tools.find(({ name }) => name === "plain");
  // The adapter gives models the text and the structured output together.
  expect(await plain?.invoke({ value: 3 })).toMatchObject({ structuredContent: { value: 8 } });
  await client.close();

  await using own = await project(
    {
      "caller.mjs": USES_TOOLS,
      "scripted-model.mjs": readFileSync(join(FIXTURES, "scripted-model.mjs"), "utf8"),
    },
    { graphs: { caller: "./caller.mjs:graph" } },
  );
  await using caller = await startServer({ project: own, env: { MCP_URL: `${server.url}/mcp` } });
  const input = { messages: [{ type: "human", content: "good morning" }] };
  const { messages } = await ok(http(caller.url).post("/runs/wait", { assistant_id: "caller", input }));
  expect(messages.at(-1).content).toContain('They say: {"type":"text","text":"You said: good morning"');
});

test("`disable_mcp` and `disable_a2a` take the doors away", async () => {
  const graphs = { plain: join(FIXTURES, "plain.mjs:graph") };
  await using own = await project({}, { graphs, http: { disable_mcp: true, disable_a2a: true } });
  await using closed = await startServer({ project: own });
  const headers = { accept: "application/json, text/event-stream" };
  const rpc = { jsonrpc: "2.0", id: "1", method: "ping" };
  for (const path of ["/mcp", "/mcp/", "/a2a/plain"]) {
    expect((await http(closed.url).post(path, rpc, { headers })).status).toBe(404);
  }
  expect((await http(closed.url).get("/mcp")).status).toBe(404);
  expect((await http(closed.url).delete("/mcp/")).status).toBe(404);
  expect((await http(closed.url).get("/.well-known/agent-card.json?assistant_id=plain")).status).toBe(404);
  const { paths } = await ok(http(closed.url).get("/openapi.json"));
  expect(Object.keys(paths).filter((path) => /mcp|a2a|agent-card/.test(path))).toEqual([]);
});
