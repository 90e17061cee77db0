/** The connection of streaming v2 that carries both: handshakes, commands, subscriptions, the end. */
import { randomUUID } from "node:crypto";
import { request } from "node:http";
import { connect } from "node:net";
import { describe, expect, onTestFinished, test } from "vitest";
import { WebSocket } from "ws";
import { type Any, type Body, Gate, useServer, useTempDir } from "../runs/support.ts";
import { eventually, startServer } from "../support/server.ts";
import { openSse } from "../support/sse.ts";

const api = useServer(() => ({ env: { RESUMABLE_STREAM_TTL_SECONDS: "600" } }));
const temp = useTempDir();
const ALL = ["values", "updates", "messages", "tools", "lifecycle", "input", "checkpoints", "tasks", "custom"];
const chat = { assistant_id: "chat", input: { messages: [{ role: "user", content: "hello" }] } };

class Socket {
  readonly frames: Any[] = [];
  readonly ws: WebSocket;
  #id = 0;
  readonly closed: Promise<[number, string]>;

  constructor(
    thread_id: string,
    { url = api.url, headers = {} }: { url?: string; headers?: Record<string, string> } = {},
  ) {
    this.ws = new WebSocket(`${url.replace("http", "ws")}/threads/${thread_id}/stream/events`, { headers });
    this.ws.on("message", (data) => this.frames.push(JSON.parse(String(data))));
    this.ws.on("error", () => undefined);
    this.closed = new Promise((resolve) => this.ws.on("close", (code, reason) => resolve([code, String(reason)])));
    onTestFinished(() => this.ws.terminate());
  }

  async open(): Promise<this> {
    await new Promise((resolve) => this.ws.once("open", resolve));
    return this;
  }

  send(method: string, params: Body = {}): Promise<Any> {
    this.#id += 1;
    const id = this.#id;
    this.ws.send(JSON.stringify({ id, method, params }));
    return eventually(() => this.frames.find((frame) => frame.type !== "event" && frame.id === id));
  }

  get events(): Any[] {
    return this.frames.filter(({ type }) => type === "event");
  }

  /** Events once there are so many ends of runs. */
  async ends(count = 1): Promise<Any[]> {
    await eventually(() => this.events.filter(isEnd).length >= count);
    return this.events;
  }
}

const isEnd = ({ method, params }: Any): boolean =>
  method === "lifecycle" && params.namespace.length === 0 && /^(completed|failed|interrupted)$/.test(params.data.event);
const open = (thread_id: string, options = {}): Promise<Socket> => new Socket(thread_id, options).open();

describe("subscriptions", () => {
  test("made at once, beside the run: each event comes once, in order, as it is over SSE", async () => {
    const thread_id = randomUUID();
    const socket = await open(thread_id);
    const [one, run, two] = await Promise.all([
      socket.send("subscription.subscribe", { channels: ["lifecycle", "input"] }),
      socket.send("run.start", chat),
      socket.send("subscription.subscribe", { channels: ALL.filter((channel) => channel !== "input") }),
    ]);
    expect(one).toMatchObject({
      type: "success",
      result: { subscription_id: expect.any(String) },
      meta: { thread_id },
    });
    expect(two.result.subscription_id).not.toBe(one.result.subscription_id);
    expect(run.result.run_id).toEqual(expect.any(String));
    const events = await socket.ends();
    const seqs = [...new Set(events.map(({ seq }) => seq))].sort((a, b) => a - b);
    await using sse = await api.open(`/threads/${thread_id}/stream/events`, { body: { channels: ALL } });
    const frames = await sse.until(({ data }) => isEnd(JSON.parse(data ?? "null")));
    const overSse = frames.map(({ data }) => JSON.parse(data ?? "null"));
    expect(seqs).toEqual(overSse.map(({ seq }) => seq));
    for (const event of events) expect(overSse).toContainEqual(event);
  });

  test("a later one gets what was there before, and says how much; then both share what comes", async () => {
    const thread_id = randomUUID();
    const socket = await open(thread_id);
    await socket.send("subscription.subscribe", { channels: ["lifecycle"] });
    await socket.send("run.start", chat);
    await socket.ends();
    const before = socket.events.length;
    const { result } = await socket.send("subscription.subscribe", { channels: ["values"] });
    await eventually(() => socket.events.length === before + result.replayed_events);
    expect(result.replayed_events).toBeGreaterThan(0);
    expect(socket.events.slice(before).every(({ method }) => method === "values")).toBe(true);
    const since = socket.events.at(-1).seq;
    await socket.send("run.start", chat);
    await socket.ends(2);
    const later = socket.events.slice(before + result.replayed_events);
    expect(later.map(({ seq }) => seq)).toEqual([...new Set(later.map(({ seq }) => seq))].sort((a, b) => a - b));
    expect(later[0].seq).toBeGreaterThan(since);
    expect(new Set(later.map(({ method }) => method))).toEqual(new Set(["lifecycle", "values"]));
  });

  test("one that is given up gets nothing more", async () => {
    const thread_id = randomUUID();
    const socket = await open(thread_id);
    const { result } = await socket.send("subscription.subscribe", { channels: ["values"] });
    await socket.send("subscription.subscribe", { channels: ["lifecycle"] });
    expect(await socket.send("subscription.unsubscribe", result)).toMatchObject({ type: "success", result: {} });
    expect(await socket.send("subscription.unsubscribe", result)).toMatchObject({ error: "no_such_subscription" });
    await socket.send("run.start", chat);
    expect((await socket.ends()).map(({ method }) => method)).toEqual(["lifecycle", "lifecycle"]);
  });

  test("those of a lost connection are taken up by another", async () => {
    const thread_id = randomUUID();
    const first = await open(thread_id);
    const { result } = await first.send("subscription.subscribe", { channels: ["lifecycle", "values"] });
    const run = await first.send("run.start", chat);
    const events = await first.ends();
    first.ws.close();
    const second = await open(thread_id);
    const back = await second.send("subscription.reconnect", {
      run_id: run.result.run_id,
      last_event_id: events[0].event_id,
      subscriptions: [result.subscription_id],
    });
    expect(back.result).toEqual({ restored: true, missed_events: events.length - 1, current_namespaces: [[]] });
    await eventually(() => second.events.length === events.length - 1);
    expect(second.events).toEqual(events.slice(1));
    await second.send("run.start", chat);
    await second.ends(2);
    const other = await second.send("subscription.reconnect", { run_id: run.result.run_id, subscriptions: ["x"] });
    expect(other.result).toMatchObject({ restored: false });
    const none = await second.send("subscription.reconnect", { run_id: randomUUID() });
    expect(none.error).toBe("no_such_run");
  });

  test.each([
    [{}, /channels/],
    [{ channels: [] }, /channels/],
    [{ channels: ["debug"] }, /channels/],
    [{ channels: ["values"], since: "x" }, /since/],
    [{ channels: ["values"], depth: 0.5 }, /depth/],
  ])("%j is refused", async (params, message) => {
    const socket = await open(randomUUID());
    expect(await socket.send("subscription.subscribe", params)).toMatchObject({
      type: "error",
      error: "invalid_argument",
      message: expect.stringMatching(message),
    });
  });

  test("there are 64 at most", async () => {
    const socket = await open(randomUUID());
    const all = await Promise.all(
      Array.from({ length: 65 }, () => socket.send("subscription.subscribe", { channels: ["values"] })),
    );
    expect(all.filter(({ type }) => type === "success").length).toBe(64);
    expect(all.at(-1)).toMatchObject({ error: "invalid_argument" });
  });
});

describe("frames", () => {
  test.each(["{", "1", "null", '{"id":9}', '{"method":"x"}', '{"id":-1,"method":"x"}'])(
    "%s is no command",
    async (text) => {
      const socket = await open(randomUUID());
      socket.ws.send(text);
      await eventually(() => socket.frames.length === 1);
      expect(socket.frames[0]).toMatchObject({ type: "error", error: "invalid_argument" });
      expect(await socket.send("nothing")).toMatchObject({ error: "unknown_command" });
    },
  );

  test("hold what a body may hold", async () => {
    const thread_id = randomUUID();
    const socket = await open(thread_id);
    const { result } = await socket.send("run.start", { ...chat, metadata: { "k\0": "v\ud800" } });
    expect((await api.get(`/threads/${thread_id}/runs/${result.run_id}`)).metadata).toMatchObject({
      "k\uFFFD": "v\uFFFD",
    });
    const nested = "[".repeat(2_000_000) + "]".repeat(2_000_000);
    for (const params of [`{"input":${nested}}`, '{"config":{"__proto__":{"a":1}}}']) {
      const before = socket.frames.length;
      socket.ws.send(`{"id":7,"method":"run.start","params":${params}}`);
      await eventually(() => socket.frames.length > before);
      expect(socket.frames.at(-1)).toMatchObject({ type: "error", id: null, error: "invalid_argument" });
    }
    expect(await socket.send("nothing")).toMatchObject({ error: "unknown_command" });
  });

  test("binary ones are not taken", async () => {
    const socket = await open(randomUUID());
    socket.ws.send(Buffer.from("{}"), { binary: true });
    expect((await socket.closed)[0]).toBe(1003);
  });

  test("too many commands that are not answered", async () => {
    const thread_id = randomUUID();
    const socket = await open(thread_id);
    const gate = new Gate(temp.dir, "unanswered");
    const { result } = await socket.send("run.start", { assistant_id: "slow", input: gate.input });
    await eventually(async () => (await api.get(`/threads/${thread_id}/runs/${result.run_id}`)).status === "running");
    // An answer to a question that may yet come waits for the run.
    for (let id = 10; id < 300; id += 1) {
      const params = { interrupt_id: "yet to come", response: 1 };
      socket.ws.send(JSON.stringify({ id, method: "input.respond", params }));
    }
    expect((await socket.closed)[0]).toBe(4429);
    // Whoever stopped reading hears why when it reads again, a while later.
    const deaf = await open(thread_id);
    deaf.ws.pause();
    // The answer names it.
    const unknown = JSON.stringify({ id: 1, method: "x".repeat(30_000) });
    for (let sent = 0; sent < 800; sent += 1) deaf.ws.send(unknown);
    await new Promise((resolve) => setTimeout(resolve, 3000));
    deaf.ws.resume();
    expect((await deaf.closed)[0]).toBe(4429);
    for (const step of [1, 2, 3]) gate.open(step);
  });
});

/** Status and body of a request to upgrade that is not accepted. */
function handshake(path: string, headers: Record<string, string> = {}): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const key = Buffer.from("0123456789abcdef").toString("base64");
    const own = {
      connection: "Upgrade",
      upgrade: "websocket",
      "sec-websocket-key": key,
      "sec-websocket-version": "13",
    };
    const call = request(`${api.url}${path}`, { agent: false, headers: { ...own, ...headers } });
    call.on("upgrade", (response, socket) => {
      socket.destroy();
      resolve({ status: response.statusCode ?? 0, body: "" });
    });
    call.on("response", (response) => {
      let body = "";
      response.on("data", (chunk) => {
        body += String(chunk);
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body }));
    });
    call.on("error", reject).end();
  });
}

describe("handshakes", () => {
  const path = `/threads/${randomUUID()}/stream/events`;

  test("another path is not found", async () => {
    const { status, body } = await handshake("/threads");
    expect([status, JSON.parse(body)]).toEqual([404, { detail: expect.any(String) }]);
  });

  test.each(["//", "http://[", "*", "http://x:99999/threads"])(
    "a target that is no URL is none (%s)",
    async (target) => {
      const answerTo = async (...headers: string[]): Promise<string> => {
        const socket = connect(Number(new URL(api.url).port), "127.0.0.1");
        onTestFinished(() => void socket.destroy());
        socket.write([`GET ${target} HTTP/1.1`, "host: x", ...headers, "", ""].join("\r\n"));
        let answer = "";
        for await (const chunk of socket) answer += String(chunk);
        return answer;
      };
      const upgrade = ["connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13"];
      expect(await answerTo(...upgrade)).toMatch(/^HTTP\/1\.1 404 .*"detail"/s);
      expect(await answerTo("connection: close")).toMatch(/^HTTP\/1\.1 40[04] .*"detail"/s);
      expect((await api.http.get("/ok")).status).toBe(200);
    },
  );

  test("a version that is not known is refused as the protocol says", async () => {
    expect((await handshake(path, { "sec-websocket-version": "3" })).status).toBe(400);
  });

  test("a thread id that is none is a close the client can read", async () => {
    expect(await new Socket("me").closed).toEqual([4422, expect.stringContaining("thread_id")]);
    expect((await new Socket("%E0%A4%A").closed)[0]).toBe(4422);
  });

  test("an origin that may not call", async () => {
    await using server = await startServer({ env: { CORS_ALLOW_ORIGINS: "https://ok.example" } });
    const { url } = server;
    const refused = new Socket(randomUUID(), { url, headers: { origin: "https://bad.example" } });
    expect((await refused.closed)[0]).toBe(4403);
    await open(randomUUID(), { url, headers: { origin: "https://ok.example" } });
  });

  test("a request that would rather be of HTTP/2 is answered as it is", async () => {
    const { port } = new URL(api.url);
    const socket = connect(Number(port), "127.0.0.1");
    onTestFinished(() => void socket.destroy());
    const body = JSON.stringify({ metadata: { a: 1 } });
    const head = ["POST /threads HTTP/1.1", "host: x", "connection: Upgrade, HTTP2-Settings", "upgrade: h2c"];
    socket.write(
      [
        ...head,
        "http2-settings: AAMAAABk",
        "content-type: application/json",
        `content-length: ${body.length}`,
        "",
        "",
      ].join("\r\n"),
    );
    socket.write(body);
    let answer = "";
    for await (const chunk of socket) answer += String(chunk);
    expect(answer).toMatch(/^HTTP\/1\.1 200/);
    expect(answer).toContain('"a":1');
  });
});

describe("the end", () => {
  test("a deleted thread closes its connections", async () => {
    const thread_id = await api.thread();
    const socket = await open(thread_id);
    await socket.send("subscription.subscribe", { channels: ["values"] });
    await api.http.delete(`/threads/${thread_id}`);
    expect((await socket.closed)[0]).toBe(4404);
  });

  test("a client that leaves does not end its run", async () => {
    const thread_id = randomUUID();
    const socket = await open(thread_id);
    const { result } = await socket.send("run.start", chat);
    socket.ws.terminate();
    const run = await eventually(async () => {
      const found = await api.get(`/threads/${thread_id}/runs/${result.run_id}`);
      return found.status === "success" ? found : undefined;
    });
    expect(run.status).toBe("success");
  });
});

test("the number of readers is told; a server that stops says so, and does not wait", async () => {
  await using server = await startServer();
  const metric = async (): Promise<string[]> =>
    (await (await fetch(`${server.url}/metrics`)).text())
      .split("\n")
      .filter((line) => /^skein_event_streams\{/.test(line));
  const line = (transport: string, count: number): string => `skein_event_streams{transport="${transport}"} ${count}`;
  const thread_id = randomUUID();
  const socket = await open(thread_id, { url: server.url });
  const sse = await openSse(`${server.url}/threads/${thread_id}/stream/events`, { body: { channels: ALL } });
  await eventually(async () => (await metric()).includes(line("sse", 1)));
  expect(await metric()).toContain(line("websocket", 1));
  socket.ws.close();
  sse.close();
  await eventually(
    async () => (await metric()).includes(line("sse", 0)) && (await metric()).includes(line("websocket", 0)),
  );
  const last = await open(randomUUID(), { url: server.url });
  await last.send("subscription.subscribe", { channels: ["values"] });
  const began = performance.now();
  await server.stop();
  expect((await last.closed)[0]).toBe(1001);
  expect(performance.now() - began).toBeLessThan(4000);
});
