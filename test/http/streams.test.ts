/** What comes out of the long answers, byte by byte, and what happens when the client goes or will not read. */
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { invalid } from "../../src/errors.ts";
import type { RunEvent } from "../../src/streaming/events.ts";
import { event, type Harness, RUN, RUN_ID, start, THREAD_ID } from "./fake-services.ts";

const runs = `/threads/${THREAD_ID}/runs`;
const run = `${runs}/${RUN_ID}`;
const BODY = { assistant_id: "a" };

/** Resolves when the signal fires: the source that waits. */
const aborted = (signal: AbortSignal) =>
  new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));

async function* arrays(...all: RunEvent[][]): AsyncGenerator<readonly RunEvent[]> {
  yield* all;
}

async function* later(ms: number, ...all: RunEvent[][]): AsyncGenerator<readonly RunEvent[]> {
  await sleep(ms);
  yield* all;
}

/** A request by hand, to see times and bytes as they are. */
function raw(
  server: Harness,
  method: string,
  path: string,
  body?: unknown,
): { socket: Socket; text: () => string; at: () => number[] } {
  const socket = connect(server.port, "127.0.0.1");
  const started = performance.now();
  const chunks: string[] = [];
  const times: number[] = [];
  socket.on("data", (chunk) => {
    chunks.push(String(chunk));
    times.push(performance.now() - started);
  });
  socket.on("error", () => undefined);
  const json = body === undefined ? "" : JSON.stringify(body);
  socket.write(`${method} ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: ${Buffer.byteLength(json)}\r\n\r\n${json}`);
  return { socket, text: () => chunks.join(""), at: () => times };
}

async function until(condition: () => boolean, ms = 3000): Promise<void> {
  const deadline = performance.now() + ms;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error("waited too long");
    await sleep(5);
  }
}

const EVENTS = [event(0, "metadata", { run_id: RUN_ID, attempt: 1 }), event(1, "values", { foo: "x" })];
const BYTES =
  `event: metadata\ndata: {"run_id":"${RUN_ID}","attempt":1}\nid: 0\n\n` +
  `event: values\ndata: {"foo":"x"}\nid: 1\n\n`;

describe("SSE", () => {
  it("has exact bytes and headers, with ids on stateless runs too", async () => {
    await using server = await start({ events: () => arrays(EVENTS, []) });
    const cases: [string, unknown, string][] = [
      [`${runs}/stream`, BODY, run],
      ["/runs/stream", BODY, `/runs/${RUN_ID}`],
      [`${run}/stream`, undefined, run],
      [`/runs/${RUN_ID}/stream`, undefined, `/runs/${RUN_ID}`],
    ];
    for (const [path, body, url] of cases) {
      const response = await (body === undefined ? server.fetch(path) : server.post(path, body));
      expect(response.status).toBe(200);
      expect(Object.fromEntries(response.headers)).toMatchObject({
        "content-type": "text/event-stream",
        "cache-control": "no-cache",
        "x-accel-buffering": "no",
        "content-location": url,
        location: `${url}/stream`,
        "access-control-allow-origin": "*",
        "x-request-id": expect.any(String),
      });
      expect(await response.text()).toBe(BYTES);
    }
    expect(server.calls.filter((call) => call.name === "runs.follow").map((call) => call.args[0])).toEqual([
      THREAD_ID,
      null,
      THREAD_ID,
      null,
    ]);
  });

  it("takes line breaks out of event names", async () => {
    await using server = await start({ events: () => arrays([event(0, "values|a\nid: 9\r\n\n:1", 1)]) });
    expect(await (await server.post(`${runs}/stream`, BODY)).text()).toBe("event: values|aid: 9:1\ndata: 1\nid: 0\n\n");
  });

  it("sends its headers before the first event", async () => {
    let release!: () => void;
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    async function* source(): AsyncGenerator<readonly RunEvent[]> {
      await released;
      yield [EVENTS[0] as RunEvent];
    }
    await using server = await start({ events: source });
    const response = await server.post(`${runs}/stream`, BODY);
    expect(response.headers.get("content-location")).toBe(run);
    release();
    expect(await response.text()).toContain("event: metadata");
  });

  it("beats in silence, from the opening on, and never in company", async () => {
    async function* source(): AsyncGenerator<readonly RunEvent[]> {
      await sleep(250);
      for (let id = 0; id < 5; id++) {
        yield [event(id, "custom", id)];
        await sleep(40);
      }
      await sleep(230);
      yield [event(5, "custom", 5)];
    }
    await using server = await start({ events: source }, { heartbeatMs: 100 });
    const frame = (id: number) => `event: custom\ndata: ${id}\nid: ${id}\n\n`;
    const beat = ": heartbeat\n";
    const text = await (await server.post(`${runs}/stream`, BODY)).text();
    expect(text).toBe(`${beat}${beat}${[0, 1, 2, 3, 4].map(frame).join("")}${beat}${beat}${frame(5)}`);
  });

  it("beats once early when nothing has come", async () => {
    await using server = await start({ events: () => later(1700, []) }, { heartbeatMs: 1500 });
    const { socket, text, at } = raw(server, "POST", `${runs}/stream`, BODY);
    await until(() => text().endsWith("0\r\n\r\n"));
    expect(text().match(/: heartbeat\n/g)?.length).toBe(2);
    const [, early = 0, regular = 0] = at();
    expect([early, regular].map((ms) => Math.round(ms / 250) * 250)).toEqual([1000, 1500]);
    socket.destroy();
  });

  it("tells of a source that fails, in a frame", async () => {
    async function* source(thrown: Error): AsyncGenerator<readonly RunEvent[]> {
      yield [EVENTS[1] as RunEvent];
      throw thrown;
    }
    let thrown: Error = invalid("x", "wrong");
    await using server = await start({ events: () => source(thrown) });
    const text = async () => (await server.post(`${runs}/stream`, BODY)).text();
    const first = `event: values\ndata: {"foo":"x"}\nid: 1\n\n`;
    expect(await text()).toBe(`${first}event: error\ndata: {"error":"SkeinError","message":"x: wrong"}\n\n`);
    thrown = new Error("postgres://user:secret@db");
    expect(await text()).toBe(
      `${first}event: error\ndata: {"error":"InternalServerError","message":"Internal Server Error"}\n\n`,
    );
    expect(server.logged.map((entry) => entry.level)).toEqual(["error", "error"]);
  });

  it("never pulls ahead of a client that does not read", async () => {
    let pulled = 0;
    const data = "x".repeat(1_000_000);
    let end: AbortSignal | null = null;
    async function* source(signal: AbortSignal): AsyncGenerator<readonly RunEvent[]> {
      end = signal;
      for (let id = 0; id < 200; id++) {
        pulled++;
        yield [event(id, "custom", data)];
      }
    }
    await using server = await start({ events: source }, { heartbeatMs: 20 });
    const { socket } = raw(server, "POST", `${runs}/stream`, BODY);
    socket.pause();
    await until(() => pulled > 0);
    await sleep(400);
    // What the kernel buffers on both sides, and no more.
    const held = pulled;
    expect(held).toBeLessThan(20);
    await sleep(200);
    expect(pulled).toBe(held);
    socket.destroy();
    await until(() => end?.aborted === true);
  });

  it("goes on where a slow reader left off, without stored heartbeats", async () => {
    const data = "x".repeat(1_000_000);
    await using server = await start(
      { events: () => arrays(...Array.from({ length: 20 }, (_, id) => [event(id, "custom", data)])) },
      { heartbeatMs: 20 },
    );
    const { socket, text } = raw(server, "POST", `${runs}/stream`, BODY);
    socket.pause();
    await sleep(300);
    socket.resume();
    await until(() => text().endsWith("0\r\n\r\n"), 10_000);
    expect(text().match(/\nid: \d+\n/g)?.length).toBe(20);
    expect(text().match(/heartbeat/g)?.length ?? 0).toBeLessThan(5);
    socket.destroy();
  });
});

describe("waiting", () => {
  it("answers with plain JSON and says where the run is", async () => {
    await using server = await start();
    const cases: [string, unknown, string][] = [
      [`${runs}/wait`, BODY, run],
      ["/runs/wait", BODY, `/runs/${RUN_ID}`],
      [`${run}/join`, undefined, run],
      [`/runs/${RUN_ID}/join`, undefined, `/runs/${RUN_ID}`],
    ];
    for (const [path, body, url] of cases) {
      const response = await (body === undefined ? server.fetch(path) : server.post(path, body));
      expect(Object.fromEntries(response.headers)).toMatchObject({
        "content-type": "application/json",
        "content-location": url,
        location: `${url}/join`,
      });
      expect(await response.text()).toBe(`{"foo":"done"}`);
    }
  });

  it("keeps alive with whitespace, headers first", async () => {
    await using server = await start({ wait: () => sleep(350, "[1]") }, { heartbeatMs: 100 });
    const started = performance.now();
    const response = await server.post(`${runs}/wait`, BODY);
    expect(response.headers.get("location")).toBe(`${run}/join`);
    expect(performance.now() - started).toBeLessThan(300);
    const text = await response.text();
    expect(text).toBe("\n\n\n[1]");
    expect(JSON.parse(text)).toEqual([1]);
  });

  it("reports a failure half way in the body", async () => {
    await using server = await start({ wait: () => sleep(20).then(() => Promise.reject(new Error("secret"))) });
    const response = await server.post(`${runs}/wait`, BODY);
    expect(await response.json()).toEqual({
      __error__: { error: "InternalServerError", message: "Internal Server Error" },
    });
    expect(server.logged).toHaveLength(1);
  });

  it("a created run is announced at once", async () => {
    await using server = await start();
    const onThread = await server.post(runs, BODY);
    expect([onThread.status, onThread.headers.get("content-location"), onThread.headers.get("location")]).toEqual([
      200,
      run,
      null,
    ]);
    expect(await onThread.json()).toEqual(RUN);
    expect((await server.post("/runs", BODY)).headers.get("content-location")).toBe(`/runs/${RUN_ID}`);
    expect((await server.post("/runs/batch", [BODY, BODY])).status).toBe(200);
  });
});

describe("a client that goes away", () => {
  const cases: [string, string, string, unknown, boolean][] = [
    ["stream, by default", "POST", `${runs}/stream`, BODY, false],
    ["stream, on_disconnect", "POST", `${runs}/stream`, { ...BODY, on_disconnect: "cancel" }, true],
    ["stream, on_disconnect in the query", "POST", `${runs}/stream?on_disconnect=cancel`, BODY, true],
    [
      "stream, body before query",
      "POST",
      `${runs}/stream?on_disconnect=cancel`,
      { ...BODY, on_disconnect: "continue" },
      false,
    ],
    ["stateless stream", "POST", "/runs/stream", { ...BODY, on_disconnect: "cancel" }, true],
    ["wait", "POST", `${runs}/wait`, { ...BODY, on_disconnect: "cancel" }, true],
    ["stateless wait", "POST", "/runs/wait?cancel_on_disconnect=1", BODY, true],
    ["join", "GET", `${run}/join?cancel_on_disconnect=true`, undefined, true],
    ["join, by default", "GET", `${run}/join?cancel_on_disconnect=false`, undefined, false],
    ["join stream", "GET", `${run}/stream?cancel_on_disconnect=cancel`, undefined, true],
    ["join stream, not", "GET", `${run}/stream?cancel_on_disconnect=0`, undefined, false],
  ];
  it.each(cases)("%s", async (_, method, path, body, cancels) => {
    let gone = 0;
    const leaving = async (signal: AbortSignal) => {
      await aborted(signal);
      gone++;
    };
    async function* source(signal: AbortSignal): AsyncGenerator<readonly RunEvent[]> {
      yield EVENTS;
      await leaving(signal);
    }
    await using server = await start({ events: source, wait: (signal) => leaving(signal).then(() => "1") });
    const { socket, text } = raw(server, method, path, body);
    await until(() => text().includes("200 OK"));
    socket.destroy();
    await until(() => gone === 1);
    await sleep(10);
    const cancelled = server.calls.filter((call) => call.name === "runs.cancelOnDisconnect").map((call) => call.args);
    expect(cancelled).toEqual(cancels ? [[RUN_ID]] : []);
    expect(server.logged).toEqual([]);
  });

  it("while its run is being created", async () => {
    await using server = await start({ create: () => sleep(100, RUN), events: () => later(0, EVENTS) });
    const { socket } = raw(server, "POST", `${runs}/stream`, { ...BODY, on_disconnect: "cancel" });
    await until(() => server.calls.some((call) => call.name === "runs.create"));
    socket.destroy();
    await until(() => server.calls.some((call) => call.name === "runs.cancelOnDisconnect"));
  });

  it("after the end cancels nothing", async () => {
    await using server = await start({ events: () => arrays(EVENTS) });
    await (await server.post(`${runs}/stream`, { ...BODY, on_disconnect: "cancel" })).text();
    await server.listening.close(0);
    expect(server.calls.map((call) => call.name)).not.toContain("runs.cancelOnDisconnect");
  });

  it("does not leave a source that ignores the signal in charge", async () => {
    await using server = await start({ events: () => later(60_000, EVENTS) });
    const { socket, text } = raw(server, "POST", `${runs}/stream`, BODY);
    await until(() => text().includes("200 OK"));
    socket.destroy();
    await until(() => server.observed.length === 1);
  });
});
