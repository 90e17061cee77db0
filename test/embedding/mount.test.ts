/** The server inside other programs: the examples of `examples/mount`, run as they stand, with the package as it is published. */
import { execFileSync } from "node:child_process";
import { cpSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";
import { Client } from "@langchain/langgraph-sdk";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { newestBuild, ROOT, type TempDir } from "../support/project.ts";
import { installed, Program } from "./support.ts";

let place: TempDir;
beforeAll(async () => {
  place = await installed();
});
afterAll(() => place[Symbol.asyncDispose]());

const input = { messages: [{ role: "user", content: "What is the weather in Lisbon?" }] };

/** What a client of LangGraph does, all over one URL. */
async function drive(apiUrl: string): Promise<void> {
  const client = new Client({ apiUrl });
  expect((await client.assistants.search()).map(({ graph_id }) => graph_id).sort()).toContain("agent");
  const { thread_id } = await client.threads.create();
  const events: string[] = [];
  for await (const { event } of client.runs.stream(thread_id, "agent", { input, streamMode: ["values", "messages"] })) {
    events.push(event);
  }
  expect(new Set(events)).toEqual(
    new Set(["metadata", "values", "messages/metadata", "messages/partial", "messages/complete"]),
  );
  const values = (await client.runs.wait(thread_id, "agent", { input })) as { messages: { content: unknown }[] };
  expect(JSON.stringify(values.messages.at(-1))).toContain("24 °C");
  const missing = await fetch(`${apiUrl}/threads/00000000-0000-4000-8000-000000000000`);
  expect([missing.status, await missing.json()]).toEqual([404, { detail: expect.stringContaining("not found") }]);
  const bad = await fetch(`${apiUrl}/runs`, { method: "POST", body: "{" });
  expect([bad.status, await bad.json()]).toEqual([422, { detail: expect.any(String) }]);
}

/** Event streams over a WebSocket: the answer to a command, and the events of the run that it starts. */
async function driveSocket(apiUrl: string): Promise<void> {
  const { thread_id } = await new Client({ apiUrl }).threads.create();
  const socket = new WebSocket(`${apiUrl.replace("http", "ws")}/threads/${thread_id}/stream/events`);
  const seen: string[] = [];
  await new Promise<void>((resolve, reject) => {
    socket.onerror = () => reject(new Error(`the WebSocket of ${apiUrl} failed`));
    socket.onopen = () => {
      socket.send(JSON.stringify({ id: 1, method: "subscription.subscribe", params: { channels: ["lifecycle"] } }));
      socket.send(JSON.stringify({ id: 2, method: "run.start", params: { assistant_id: "agent", input } }));
    };
    socket.onmessage = ({ data }) => {
      seen.push(String(data));
      if (String(data).includes('"completed"')) resolve();
    };
  });
  socket.close();
  expect(seen.some((text) => text.includes('"id":2') && text.includes("run_id"))).toBe(true);
}

/** What `npm run build` does when the sources have changed: another build is the newest. */
async function rebuild(): Promise<void> {
  const dist = join(place.dir, "node_modules", "skein", "dist");
  const before = newestBuild(dist);
  const fresh = join(place.dir, "fresh");
  cpSync(before, fresh, { recursive: true });
  const { place: put } = (await import(pathToFileURL(join(ROOT, "scripts", "builds.mjs")).href)) as {
    place(fresh: string, dist: string, hash: string): void;
  };
  put(fresh, dist, basename(before).split("").reverse().join(""));
  expect(newestBuild(dist)).not.toBe(before);
}

/** What a server loads when it is first asked for it. */
async function driveLate(apiUrl: string): Promise<void> {
  const [id, method, params] = ["1", "initialize", { protocolVersion: "2025-06-18", capabilities: {} }];
  const mcp = await fetch(`${apiUrl}/mcp`, {
    method: "POST",
    headers: { "content-type": "application/json", accept: "application/json, text/event-stream" },
    body: JSON.stringify({
      jsonrpc: "2.0",
      id,
      method,
      params: { ...params, clientInfo: { name: "c", version: "1" } },
    }),
  });
  expect(await mcp.text()).toContain("serverInfo");
  const card = await fetch(`${apiUrl}/a2a/agent/.well-known/agent-card.json`);
  expect(await card.json()).toMatchObject({ name: expect.any(String) });
}

describe.each([
  ["hono", ["--import", "tsx", "mount/hono.ts"]],
  ["express", ["mount/express.mjs"]],
])("inside %s", (name, args) => {
  it("clients get what they get elsewhere, through the app's middleware", async () => {
    await using program = new Program(place.dir, args);
    const url = await program.url();
    await drive(url);
    await driveSocket(url);
    await rebuild();
    await driveLate(url);
    const response = await fetch(`${url}/ok`);
    expect([response.status, response.headers.get("x-served-by")]).toEqual([200, name]);
    expect(await (await fetch(new URL("/", url))).text()).toContain("A page of the app");
    expect(await program.stop()).toBe(0);
  });
});

describe("inside Next.js", () => {
  // Next.js itself is not here: what it does with a route handler is done by `serve.ts`, on web requests.
  it("the route handler answers web requests as they are", async () => {
    const serve = `
      import { serve } from "@hono/node-server";
      import * as route from "./mount/next/app/api/agents/[[...path]]/route.ts";
      const fetch = (request) => route[request.method]?.(request) ?? new Response(null, { status: 405 });
      const server = serve({ fetch, hostname: "127.0.0.1", port: 0, overrideGlobalObjects: false }, ({ port }) =>
        console.log(\`http://127.0.0.1:\${port}/api/agents\`));
      process.once("SIGTERM", async () => {
        await (await globalThis.agents)?.close();
        server.close(() => process.exit(0));
      });`;
    writeFileSync(join(place.dir, "serve-next.ts"), serve);
    await using program = new Program(place.dir, ["--import", "tsx", "serve-next.ts"]);
    await drive(await program.url());
    expect(await program.stop()).toBe(0);
  });
});

/** What a program prints, line by line. */
const outputOf = (file: string): string[] =>
  execFileSync(process.execPath, [file], {
    cwd: place.dir,
    encoding: "utf8",
    timeout: 40_000,
    env: { ...process.env, LOG_LEVEL: "silent" },
  })
    .trim()
    .split("\n");

describe("the package", () => {
  it("says its types", () => {
    writeFileSync(
      join(place.dir, "use.ts"),
      `import { createServer, type Server, type ServerOptions } from "skein";
       const options: ServerOptions = { config: ".", mountPrefix: "/x", jobs: 2 };
       const server: Server = await createServer(options);
       const response: Response = await server.fetch(new Request("http://x/x/ok"));
       const { url, port }: { url: string; port: number } = await server.listen({ port: 0 });
       // @ts-expect-error a port is a number
       await server.listen({ port: "1" });
       console.log(response.status, url, port);
       await server.close();`,
    );
    const tsc = join(ROOT, "node_modules", "typescript", "bin", "tsc");
    const flags = [
      "--noEmit",
      "--strict",
      "--module",
      "nodenext",
      "--target",
      "es2023",
      "--types",
      "node",
      "--ignoreConfig",
    ];
    execFileSync(process.execPath, [tsc, ...flags, "use.ts"], { cwd: place.dir, stdio: "pipe" });
  });

  it("graphs call the server they run in, a port of its own may be opened, and the host's globals stay as they are", () => {
    writeFileSync(
      join(place.dir, "self.mjs"),
      `import { Client } from "@langchain/langgraph-sdk";
       import { Annotation, END, START, StateGraph } from "@langchain/langgraph";
       const State = Annotation.Root({ thread: Annotation(), asked: Annotation() });
       const ask = async () => ({ thread: (await new Client().threads.create()).thread_id });
       export const graph = new StateGraph(State).addNode("ask", ask).addEdge(START, "ask").addEdge("ask", END).compile();`,
    );
    writeFileSync(join(place.dir, "self.json"), JSON.stringify({ graphs: { self: "./self.mjs:graph" } }));
    const script = `
      import { createServer } from "skein";
      const before = [Request, Response];
      const server = await createServer({ config: "self.json", data: "self-data", mountPrefix: "/here" });
      const body = JSON.stringify({ assistant_id: "self", input: {} });
      const headers = { "content-type": "application/json" };
      const output = await (await server.fetch(new Request("http://x/here/runs/wait", { method: "POST", headers, body }))).json();
      const thread = await server.fetch(new Request("http://x/here/threads/" + output.thread));
      console.log(thread.status, before[0] === Request, before[1] === Response);
      const { url, port } = await server.listen({ port: 0 });
      console.log((await fetch(url + "/threads/" + output.thread)).status, port > 0, new URL(url).pathname);
      await Promise.all([server.close(), server.close()]);
      console.log(await fetch(url).then(() => "open", () => "closed"));
      console.log(await server.listen({ port: 0 }).then(() => "open", (error) => error.message));
      console.log(await createServer({ config: "nowhere" }).then(() => "started", (error) => error.message));
    `;
    writeFileSync(join(place.dir, "call.mjs"), script);
    expect(outputOf("call.mjs")).toEqual([
      "200 true true",
      "200 true /here",
      "closed",
      "the server is closed",
      expect.stringContaining("nowhere does not exist"),
    ]);
  });

  it("ends streams that are read by fetch when it closes, and starts again on the same data", async () => {
    const script = `
      import { createServer } from "skein";
      const json = (body) => ({ method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
      const first = await createServer({ env: { BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS: "0" } });
      const thread = await (await first.fetch(new Request("http://x/threads", json({})))).json();
      const path = "http://x/threads/" + thread.thread_id;
      const long = { assistant_id: "report", input: { step_ms: 20000 }, stream_mode: "custom", on_disconnect: "cancel" };
      const stream = (await first.fetch(new Request(path + "/runs/stream", json(long)))).body.getReader();
      console.log(new TextDecoder().decode((await stream.read()).value).split("\\n")[0]);
      const upgrade = new Request(path + "/stream/events", { headers: { upgrade: "websocket" } });
      console.log((await first.fetch(upgrade)).status);
      const closing = first.close();
      for (;;) {
        const next = await stream.read().catch((error) => ({ failed: error.message }));
        if (next.failed !== undefined || next.done) { console.log("cut:", next.failed); break; }
      }
      await closing;
      console.log((await first.fetch(new Request("http://x/ok"))).status);
      const second = await createServer();
      const runs = await (await second.fetch(new Request(path + "/runs"))).json();
      console.log(runs.length, ["pending", "running"].includes(runs[0].status));
      await second.fetch(new Request(path + "/runs/" + runs[0].run_id + "/cancel?wait=true", json({})));
      await second.close();
    `;
    writeFileSync(join(place.dir, "close.mjs"), script);
    expect(outputOf("close.mjs")).toEqual(["event: metadata", "426", "cut: the server is going down", "503", "1 true"]);
  });
});
