/** Requests that come without a connection of ours: the same answers, byte by byte, and the same when their client goes. */
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { Hono } from "hono";
import { describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { loadApp } from "../../src/http/custom-app.ts";
import type { Doors } from "../../src/http/doors.ts";
import { offerInProcess } from "../../src/http/in-process.ts";
import type { RunEvent } from "../../src/streaming/events.ts";
import { project } from "../support/project.ts";
import { eventually } from "../support/server.ts";
import { doors, event, RUN_ID, start, THREAD_ID } from "./fake-services.ts";

const runs = `/threads/${THREAD_ID}/runs`;
const EVENTS = [event(0, "metadata", { run_id: RUN_ID }), event(1, "values", { text: "a – b" })];
const BASE = "http://host.example";

const post = (path: string, body: unknown, init: RequestInit = {}): Request =>
  new Request(`${BASE}${path}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    ...init,
  });

async function* events(...all: RunEvent[][]): AsyncGenerator<readonly RunEvent[]> {
  yield* all;
}

/** Says something, then waits for its reader to go. */
async function* endless(signal: AbortSignal): AsyncGenerator<readonly RunEvent[]> {
  yield EVENTS;
  await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}

const streaming = { assistant_id: "a", on_disconnect: "cancel" };
const cancelled = (calls: readonly { readonly name: string }[]): boolean =>
  calls.some(({ name }) => name === "runs.cancelOnDisconnect");

describe("fetch", () => {
  it.each([
    ["GET", "/ok"],
    ["GET", "/nowhere"],
    ["PUT", runs],
    ["GET", "/openapi.json"],
    ["OPTIONS", "/ok"],
    ["POST", `${runs}/stream`, { assistant_id: "a" }],
    ["POST", `${runs}/wait`, { assistant_id: "a" }],
    ["POST", "/assistants/search", {}],
    ["POST", "/runs", "no json"],
    ["POST", "/mcp", { jsonrpc: "2.0", id: 1, method: "ping" }],
    ["POST", `/threads/${THREAD_ID}/stream/events`, { channels: ["values"] }],
  ])("%s %s is answered as by a port", async (method, path, body?: unknown) => {
    const script = { events: () => events(EVENTS, [event(2, "end", {})]), wait: async () => '{"a":"ä"}' };
    const headers = {
      origin: "https://a.example",
      accept: "application/json, text/event-stream",
      "x-request-id": "same",
    };
    const init = {
      method,
      headers,
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
    };
    await using server = await start(script);
    const { doors: inside } = doors(script);
    const [there, here] = await Promise.all([
      server.fetch(path, init),
      inside.fetch(new Request(`${BASE}${path}`, init)),
    ]);
    expect(here.status).toBe(there.status);
    expect(await here.text()).toBe(await there.text());
    const ofConnections = new Set(["date", "connection", "keep-alive", "transfer-encoding", "content-length"]);
    const shown = (response: Response) => [...response.headers].filter(([name]) => !ofConnections.has(name)).sort();
    expect(shown(here)).toEqual(shown(there));
  });

  it("a reader that stops reading has left, and so has one whose request is aborted", async () => {
    const first = doors({ events: endless });
    const response = await first.doors.fetch(post(`${runs}/stream`, streaming));
    const reader = response.body?.getReader();
    await reader?.read();
    expect(cancelled(first.calls)).toBe(false);
    await reader?.cancel();
    expect(cancelled(first.calls)).toBe(true);

    const second = doors({ events: endless });
    const leaving = new AbortController();
    await second.doors.fetch(post(`${runs}/stream`, streaming, { signal: leaving.signal }));
    expect(cancelled(second.calls)).toBe(false);
    leaving.abort();
    expect(cancelled(second.calls)).toBe(true);
  });

  it("nothing is fetched that nobody reads", async () => {
    let pulled = 0;
    const { doors: inside } = doors({
      async *events() {
        for (;;) {
          pulled += 1;
          yield EVENTS;
        }
      },
    });
    const response = await inside.fetch(post(`${runs}/stream`, { assistant_id: "a" }));
    const reader = response.body?.getReader();
    await reader?.read();
    await reader?.read();
    await sleep(50);
    // What is read, and one array ahead.
    expect(pulled).toBeLessThanOrEqual(3);
    await reader?.cancel();
  });

  it("counts a body, whatever its length is said to be", async () => {
    const { doors: inside } = doors({}, { maxBodyBytes: 10 });
    const headers = { "content-type": "application/json", "content-length": "1" };
    const response = await inside.fetch(post("/runs", { assistant_id: "much too long" }, { headers }));
    expect([response.status, response.headers.get("connection")]).toEqual([413, null]);
  });

  it("takes no WebSocket, and says who does", async () => {
    const { doors: inside } = doors();
    const url = `${BASE}/threads/${THREAD_ID}/stream/events`;
    const response = await inside.fetch(new Request(url, { headers: { upgrade: "websocket" } }));
    expect([response.status, response.headers.get("upgrade")]).toEqual([426, "websocket"]);
    expect(await response.json()).toEqual({ detail: expect.stringContaining("listen()") });
  });

  it("the end waits for answers, cuts off what takes too long, and cancels nothing by that", async () => {
    const { doors: inside, calls } = doors({ events: endless });
    const response = await inside.fetch(post(`${runs}/stream`, streaming));
    const reader = response.body?.getReader();
    await reader?.read();
    const closing = inside.close(20);
    const late = await inside.fetch(new Request(`${BASE}/ok`));
    expect([late.status, await late.json()]).toEqual([503, { detail: "The server is going down" }]);
    await expect(reader?.read()).rejects.toThrow("the server is going down");
    await closing;
    expect(cancelled(calls)).toBe(false);

    const short = doors({ events: () => events(EVENTS) });
    const text = (await short.doors.fetch(post(`${runs}/stream`, streaming))).text();
    await short.doors.close(60_000);
    expect(await text).toContain("event: values");
  });

  it("one that waits for something else is answered when the server goes", async () => {
    const never = new Promise<never>(() => undefined);
    const { doors: inside } = doors({ create: () => never });
    const response = inside.fetch(post(runs, { assistant_id: "a" }));
    await inside.close(20);
    expect((await response).status).toBe(503);
  });
});

describe("a server of Node", () => {
  async function host(inside: Doors): Promise<{ url: string; server: Server }> {
    const server = createServer((request, response) => inside.handle(request, response));
    server.on("upgrade", (request, socket, head) => inside.upgrade(request, socket, head));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, server };
  }

  it("hands on requests and WebSockets; the end cuts them off", async () => {
    const { doors: inside, calls } = doors({ events: endless });
    const { url, server } = await host(inside);
    const response = await fetch(`${url}${runs}/stream`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(streaming),
    });
    const reader = response.body?.getReader();
    await reader?.read();
    const socket = new WebSocket(`${url.replace("http", "ws")}/threads/${THREAD_ID}/stream/events`);
    await once(socket, "open");
    await eventually(() => inside.sockets === 1);
    const closed = once(socket, "close");
    const closing = inside.close(20);
    expect((await closed)[0]).toBe(1001);
    await expect(reader?.read()).rejects.toThrow();
    await closing;
    expect(cancelled(calls)).toBe(false);
    expect((await fetch(`${url}/ok`)).status).toBe(503);
    server.close();
  });

  it("a client that leaves has left", async () => {
    const { doors: inside, calls } = doors({ events: endless });
    const { url, server } = await host(inside);
    const leaving = new AbortController();
    await fetch(`${url}${runs}/stream`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(streaming),
      signal: leaving.signal,
    });
    leaving.abort();
    await eventually(() => cancelled(calls));
    server.close();
  });

  it("what asks for another protocol than WebSockets is refused", async () => {
    const { doors: inside } = doors();
    const { url, server } = await host(inside);
    const { request } = await import("node:http");
    const asked = request(`${url}/ok`, { headers: { connection: "upgrade", upgrade: "h2c" } }).end();
    const [response] = await once(asked, "response");
    expect(response.statusCode).toBe(400);
    server.close();
  });
});

describe("code in this process", () => {
  it("reaches our routes and nothing in front of them, by the SDK's client without a URL", async () => {
    const app = new Hono().all("*", (c) => c.text("mine"));
    (globalThis as { app?: unknown }).app = app;
    await using made = await project({ "app.mjs": "export const app = globalThis.app;" }, { graphs: {} });
    const place = {
      file: `${made.dir}/app.mjs`,
      export_name: "app",
      path: "app",
      order: "auth_first",
      authenticated: true,
    } as const;
    const custom = { app: await loadApp(place, made.dir), ...place };
    const { doors: inside } = doors(
      { events: () => events(EVENTS) },
      { mountPrefix: "/agents" },
      { custom: { ...custom, app: custom.app }, authenticate: async (c) => c.text("no", 401) },
    );
    const withdraw = offerInProcess((request) => inside.call(request));
    const { Client } = await import("@langchain/langgraph-sdk");
    const client = new Client();
    expect((await client.threads.get(THREAD_ID)).thread_id).toBe(THREAD_ID);
    const seen: string[] = [];
    for await (const { event } of client.runs.stream(THREAD_ID, "agent", { input: {} })) {
      seen.push(event);
      // It would ask how the run ended, which this one never does.
      if (event === "values") break;
    }
    expect(seen).toEqual(["metadata", "values"]);
    withdraw();
    expect((globalThis as Record<symbol, unknown>)[Symbol.for("langgraph_api:fetch")]).toBeUndefined();
    expect((await inside.fetch(new Request(`${BASE}/agents/mine`))).status).toBe(401);
  });
});
