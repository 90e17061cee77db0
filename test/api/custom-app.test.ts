/** `examples/custom-app` as its users run it, and what a server says when the project's app is at fault. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Client } from "@langchain/langgraph-sdk";
import { Client as McpClient } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { http, ok } from "../support/http.ts";
import { freshSchema, requirePostgres } from "../support/postgres.ts";
import { project, ROOT } from "../support/project.ts";
import { startServer, type TempDir, type TestServer, tempDir } from "../support/server.ts";

const EXAMPLE = join(ROOT, "examples", "custom-app");
const headers = { "x-tenant": "acme" };
const input = { name: "Ada" };
const greeting = "Hello Ada of acme!";
const run = { assistant_id: "greeter", input };

const lines = (path: string): string[] => readFileSync(path, "utf8").trim().split("\n");

let server: TestServer;
let notes: TempDir;
let api: ReturnType<typeof http>;
beforeAll(async () => {
  notes = await tempDir();
  const env = { MOUNT_PREFIX: "/greetings", LIFE_LOG: join(notes.dir, "life.log") };
  server = await startServer({ project: EXAMPLE, env });
  api = http(server.url);
});
afterAll(async () => {
  await server?.[Symbol.asyncDispose]();
  await notes?.[Symbol.asyncDispose]();
});

describe("the example", () => {
  test("is where its prefix says, with its routes before ours and its middleware around ours", async () => {
    expect(new URL(server.url).pathname).toBe("/greetings");
    expect(await ok(api.get("/greetings/info"))).toEqual({ service: "greetings", version: 1 });
    const stream = await api.post("/greetings/runs/stream", run);
    expect(stream.headers.get("server-timing")).toMatch(/^total/);
    expect(stream.text).toContain("event: values\n");
    expect((await api.get("/ok")).status).toBe(200);
    expect((await api.get("/info")).status).toBe(404);
  });

  test("a handler's client without a URL runs a graph of this server", async () => {
    expect(await ok(api.get("/greetings/hello/Grace"))).toMatchObject({ greeting: "Hello Grace!" });
  });

  test("clients find everything below the prefix, also after a lost connection", async () => {
    const client = new Client({ apiUrl: server.url });
    const { thread_id } = await client.threads.create();
    const events: string[] = [];
    for await (const { event } of client.runs.stream(thread_id, "greeter", { input })) events.push(event);
    expect(events).toEqual(expect.arrayContaining(["metadata", "values"]));
    // Where a client asks again is what it puts behind its URL.
    const stream = await api.post("/greetings/runs/stream", { ...run, stream_resumable: true, on_completion: "keep" });
    const again = await fetch(`${server.url}${stream.headers.get("location")}`);
    expect(again.status).toBe(200);
    expect(await again.text()).toContain("event: values\n");
  });

  test("cors as the block says", async () => {
    const origin = "https://app.example";
    const response = await api.get("/greetings/ok", { headers: { origin } });
    expect(response.headers.get("access-control-allow-origin")).toBe(origin);
    expect(response.headers.get("access-control-allow-credentials")).toBe("true");
    const other = await api.get("/greetings/ok", { headers: { origin: "https://other.example" } });
    expect(other.headers.get("access-control-allow-origin")).toBeNull();
  });
});

describe("a header becomes part of the run's configurable, by every door", () => {
  test("REST, and it wins over the body", async () => {
    const config = { configurable: { "x-tenant": "other" } };
    expect(await ok(api.post("/greetings/runs/wait", { ...run, config }, { headers }))).toMatchObject({ greeting });
    const { thread_id } = await ok(api.post("/greetings/threads", {}));
    const path = `/greetings/threads/${thread_id}/runs/wait`;
    expect(await ok(api.post(path, run, { headers }))).toMatchObject({ greeting });
    expect(await ok(api.post(path, run, { headers: { "x-other": "acme" } }))).toMatchObject({ greeting: "Hello Ada!" });
    const batch = await ok(api.post("/greetings/runs/batch", [run], { headers }));
    expect(batch[0].kwargs.config.configurable).toMatchObject(headers);
  });

  test("the same request again is the same, whatever its headers say", async () => {
    const once = (more: Record<string, string>) =>
      ok(api.post("/greetings/runs", run, { headers: { "idempotency-key": "greet-ada", ...more } }));
    expect((await once(headers)).run_id).toBe((await once({ "x-tenant": "other" })).run_id);
  });

  test("commands of event streams, over HTTP and a WebSocket", async () => {
    const { thread_id } = await ok(api.post("/greetings/threads", {}));
    const at = `/greetings/threads/${thread_id}`;
    const started = await ok(api.post(`${at}/commands`, { id: 1, method: "run.start", params: run }, { headers }));
    expect(await ok(api.get(`${at}/runs/${started.result.run_id}/join`))).toMatchObject({ greeting });

    const socket = new WebSocket(new URL(`${at}/stream/events`, server.url.replace("http", "ws")), { headers });
    const answer = await new Promise<{ result: { run_id: string } }>((resolve, reject) => {
      socket.on("error", reject);
      socket.on("open", () => socket.send(JSON.stringify({ id: 1, method: "run.start", params: run })));
      socket.on("message", (data) => resolve(JSON.parse(String(data))));
    });
    socket.close();
    expect(await ok(api.get(`${at}/runs/${answer.result.run_id}/join`))).toMatchObject({ greeting });
  });

  test("MCP", async () => {
    const client = new McpClient({ name: "test", version: "1.0.0" });
    const url = new URL("/greetings/mcp", server.url);
    await client.connect(new StreamableHTTPClientTransport(url, { requestInit: { headers } }));
    const result = await client.callTool({ name: "greeter", arguments: input });
    await client.close();
    expect(JSON.stringify(result)).toContain(greeting);
  });

  test("A2A", async () => {
    const { url } = await ok(api.get("/greetings/.well-known/agent-card.json?assistant_id=greeter"));
    expect(url).toBe(`${server.url}/a2a/greeter`);
    const message = { role: "user", messageId: "1", parts: [{ kind: "data", data: input }] };
    const rpc = {
      jsonrpc: "2.0",
      id: "1",
      method: "message/send",
      params: { message, configuration: { blocking: true } },
    };
    const answer = await fetch(url, {
      method: "POST",
      headers: { ...headers, "content-type": "application/json", accept: "application/json" },
      body: JSON.stringify(rpc),
    });
    expect(await answer.text()).toContain(greeting);
  });
});

describe("the lifespan", () => {
  test("begins before the first request and ends after the last", async () => {
    expect(lines(join(notes.dir, "life.log"))).toEqual(["started"]);
    expect((await server.stop()).code).toBe(0);
    expect(lines(join(notes.dir, "life.log"))).toEqual(["started", "stopped"]);
  });

  test("is that of a worker, too, which serves the app to its graphs alone", async (context) => {
    await requirePostgres(context);
    await using place = await tempDir();
    const schema = await freshSchema();
    const env = {
      DATABASE_URI: schema.uri,
      LANGGRAPH_POSTGRES_POOL_MAX_SIZE: "4",
      LIFE_LOG: join(place.dir, "life.log"),
    };
    {
      await using worker = await startServer({ project: EXAMPLE, command: "worker", env });
      expect((await http(worker.url).get("/hello/Ada")).status).toBe(404);
      expect(lines(env.LIFE_LOG)).toEqual(["started"]);
      expect((await worker.stop()).code).toBe(0);
      expect(lines(env.LIFE_LOG)).toEqual(["started", "stopped"]);
    }
    await schema.drop();
  });
});

describe("a server whose app is at fault does not start, and says why", () => {
  const config = { graphs: {}, http: { app: "./app.mjs:app" } };
  test.each([
    ["export const server = {};", 'has no export "app". It exports: server.'],
    ["throw new Error('no licence');", "http.app: ./app.mjs:app does not load: no licence"],
    [
      "export const app = { fetch() {} }; export const lifespan = { async start() { throw new Error('no queue'); } };",
      "lifespan.start beside ./app.mjs:app threw: no queue",
    ],
  ])("%s", async (text, why) => {
    await using place = await project({ "app.mjs": text }, config);
    await expect(startServer({ project: place })).rejects.toThrow(why);
  });
});

test("the app sees the project's env, and a project without graphs of its own is one, too", async () => {
  await using place = await project(
    { "app.mjs": "export const app = { fetch: () => new Response(process.env.GREETING) };" },
    { graphs: {}, env: { GREETING: "hi" }, http: { app: "./app.mjs:app" } },
  );
  await using small = await startServer({ project: place });
  expect((await http(small.url).get("/")).text).toBe("hi");
});
