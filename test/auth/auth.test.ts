/** Users over every door: who they are, what they make, what they see of each other. */
import { randomUUID } from "node:crypto";
import { Client } from "@langchain/langgraph-sdk";
import { describe, expect, onTestFinished, test } from "vitest";
import { WebSocket } from "ws";
import { type Any, type Body, Gate, useServer, useTempDir } from "../runs/support.ts";
import { ok } from "../support/http.ts";
import { eventually } from "../support/server.ts";
import { openSse } from "../support/sse.ts";
import { type As, as, FIXTURE, headersOf } from "./support.ts";

const api = useServer(() => ({ project: FIXTURE }));
const temp = useTempDir();
const RED: As = { user: "ruby", org: "red" };
const BLUE: As = { user: "bly", org: "blue" };
const red = () => as(api.url, RED);
const blue = () => as(api.url, BLUE);
const run = (body: Body = {}) => ({ assistant_id: "whoami", input: {}, ...body });
const clientOf = (who: As) => new Client({ apiUrl: api.url, apiKey: null, defaultHeaders: headersOf(who) });

async function threadOf(who: As, body: Body = {}): Promise<string> {
  return (await ok<Any>(as(api.url, who).post("/threads", body))).thread_id;
}

describe("authenticate", () => {
  test("its own status, words and headers are the answer", async () => {
    const { status, body, headers } = await as(api.url, { user: "teapot" }).get("/threads/x");
    expect([status, body, headers.get("x-tea")]).toEqual([418, { detail: "short and stout" }, "yes"]);
  });

  test("whatever else it throws is a 401 that does not show it; the log does", async () => {
    const { status, body } = await as(api.url, { user: "broken" }).post("/threads", {});
    expect([status, body]).toEqual([401, { detail: "Unauthorized" }]);
    expect(await eventually(() => api.server.output.includes("secret words"))).toBe(true);
  });

  test("somebody who is nobody is refused", async () => {
    expect((await as(api.url, { user: "" }).get("/threads/x")).status).toBe(401);
  });

  test("preflights of browsers need no user", async () => {
    const headers = { origin: "https://app.example", "access-control-request-method": "POST" };
    expect((await fetch(`${api.url}/threads`, { method: "OPTIONS", headers })).status).toBe(204);
  });

  test("a refusal can be read by browsers", async () => {
    const response = await fetch(`${api.url}/threads`, { method: "POST", headers: { origin: "https://app.example" } });
    expect([response.status, response.headers.get("access-control-allow-origin")]).toEqual([401, "*"]);
    await response.body?.cancel();
  });
});

describe("the user in the graph", () => {
  const seen = (user: string) => ({
    user: {
      identity: user,
      org: "red",
      deny: [""],
      permissions: ["talk"],
      secret: "s3cret",
      is_authenticated: true,
      display_name: user,
    },
    id: user,
    permissions: ["talk"],
    server: user,
  });

  test("of runs over each door", async () => {
    const thread_id = await threadOf(RED);
    expect((await ok(red().post("/runs/wait", run()))).found).toEqual(seen("ruby"));
    expect((await ok(red().post(`/threads/${thread_id}/runs/wait`, run()))).found).toEqual(seen("ruby"));
    const call = { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "whoami", arguments: {} } };
    const accept = { accept: "application/json, text/event-stream" };
    const { result } = await ok<Any>(red().post("/mcp", call, { headers: accept }));
    expect(JSON.parse(result.content[0].text).found).toEqual(seen("ruby"));
    const command = { id: 1, method: "run.start", params: run() };
    const started = await ok<Any>(red().post(`/threads/${thread_id}/commands`, command));
    const output = await ok(red().get(`/threads/${thread_id}/runs/${started.result.run_id}/join`));
    expect(output.found).toEqual(seen("ruby"));
  });

  test("whoever sees the run sees who made it, and no more of the user; nor do checkpoints", async () => {
    const thread_id = await threadOf(RED);
    const forged = { configurable: { langgraph_auth_user: { identity: "eve" }, langgraph_auth_user_id: "eve" } };
    await ok(red().post(`/threads/${thread_id}/runs/wait`, run({ config: forged })));
    const [shown] = await ok<Any>(red().get(`/threads/${thread_id}/runs`));
    expect(shown.kwargs.config.configurable).toMatchObject({
      langgraph_auth_user_id: "ruby",
      langgraph_auth_permissions: ["talk"],
    });
    const history = await ok(red().post(`/threads/${thread_id}/history`, { limit: 10 }));
    expect(JSON.stringify([shown, history.map(({ metadata }: Any) => metadata)])).not.toMatch(
      /s3cret|langgraph_auth_user"/,
    );
    expect(JSON.stringify(history.map(({ metadata }: Any) => metadata))).not.toContain("langgraph_auth");
    expect((await ok(red().get(`/threads/${thread_id}/state`))).values.found).toEqual(seen("ruby"));
  });

  test("a client without a URL inside of a node is the server itself", async () => {
    const mark = randomUUID();
    await threadOf(RED, { metadata: { mark } });
    const { found } = await ok<Any>(blue().post("/runs/wait", run({ input: { ask: { mark } } })));
    expect(found).toMatchObject({ id: "bly", threads: 1 });
  });
});

describe("what a user makes", () => {
  test("has the metadata that handlers set, whatever the client wants", async () => {
    const thread_id = await threadOf(RED, { metadata: { org: "blue", note: 1 } });
    const { metadata } = await ok<Any>(red().get(`/threads/${thread_id}`));
    expect(metadata).toEqual({ org: "red", note: 1, langgraph_auth_user_id: "ruby" });
    const patched = await ok<Any>(
      red().patch(`/threads/${thread_id}`, { metadata: { org: "blue", langgraph_auth_user_id: "eve" } }),
    );
    expect(patched.metadata).toEqual(metadata);
    const assistant = await ok<Any>(
      red().post("/assistants", { graph_id: "plain", metadata: { created_by: "system" } }),
    );
    expect(assistant.metadata).toEqual({ org: "red" });
    expect((await blue().get(`/assistants/${assistant.assistant_id}`)).status).toBe(404);
  });

  test("a thread that comes to be with a run, stateless or by a command, is as one that was made", async () => {
    const [one, two] = [randomUUID(), randomUUID()];
    await ok(red().post(`/threads/${one}/runs/wait`, run({ if_not_exists: "create", metadata: { note: 1 } })));
    await ok(red().post(`/threads/${two}/commands`, { id: 1, method: "run.start", params: run() }));
    const kept = await ok<Any>(red().post("/runs", run({ on_completion: "keep" })));
    for (const id of [one, two, kept.thread_id]) {
      const { metadata } = await ok<Any>(red().get(`/threads/${id}`));
      expect(metadata).toMatchObject({ org: "red", langgraph_auth_user_id: "ruby", graph_id: "whoami" });
      expect(metadata.note).toBeUndefined();
      expect((await blue().get(`/threads/${id}`)).status).toBe(404);
    }
    expect((await ok<Any>(red().get(`/threads/${one}/runs`)))[0].metadata).toMatchObject({ org: "red", note: 1 });
  });

  test("does not take the place of what is somebody else's", async () => {
    const thread_id = await threadOf(RED);
    const { assistant_id } = await ok<Any>(red().post("/assistants", { graph_id: "plain" }));
    const again = { if_exists: "do_nothing" };
    expect((await blue().post("/threads", { thread_id, ...again })).status).toBe(409);
    expect((await blue().post("/assistants", { assistant_id, graph_id: "plain", ...again })).status).toBe(409);
    expect((await blue().post(`/threads/${thread_id}/runs`, run({ if_not_exists: "create" }))).status).toBe(404);
    expect((await red().post("/threads", { thread_id, ...again })).status).toBe(200);
    expect((await blue().post("/runs", run({ assistant_id }))).status).toBe(404);
    expect((await blue().post("/runs/crons", { assistant_id, schedule: "0 0 1 1 *" })).status).toBe(404);
    expect(
      (await blue().post(`/threads/${thread_id}/runs/crons`, { assistant_id: "plain", schedule: "0 0 1 1 *" })).status,
    ).toBe(404);
    expect(await ok(red().get(`/threads/${thread_id}/runs`))).toEqual([]);
  });

  test("a copy is the copier's", async () => {
    const thread_id = await threadOf(RED, { metadata: { note: 1 } });
    const copy = await ok<Any>(as(api.url, { user: "rob", org: "red" }).post(`/threads/${thread_id}/copy`));
    expect(copy.metadata).toEqual({ org: "red", note: 1, langgraph_auth_user_id: "rob" });
  });

  test("an idempotency key of one user says nothing to another", async () => {
    const headers = { "idempotency-key": randomUUID() };
    const [mine, again, other] = [
      await ok<Any>(red().post("/runs", run(), { headers })),
      await ok<Any>(red().post("/runs", run(), { headers })),
      await ok<Any>(blue().post("/runs", run(), { headers })),
    ];
    expect(again.run_id).toBe(mine.run_id);
    expect(other.run_id).not.toBe(mine.run_id);
    expect((await red().post("/runs", run({ metadata: { a: 1 } }), { headers })).status).toBe(409);
  });

  test("a cron's runs are made in the name of its maker, and seen by who may see the cron", async () => {
    const cron = await ok<Any>(red().post("/runs/crons", run({ schedule: "* * * * * *", on_run_completed: "keep" })));
    expect(cron).toMatchObject({ user_id: "ruby", metadata: { org: "red" } });
    expect(JSON.stringify(cron)).not.toContain("s3cret");
    const search = { metadata: { cron_id: cron.cron_id }, status: "idle" };
    const [thread] = await eventually(async () => {
      const found = await ok<Any>(red().post("/threads/search", search));
      return found.length > 0 ? found : undefined;
    });
    await ok(red().delete(`/runs/crons/${cron.cron_id}`));
    expect(thread.metadata).toMatchObject({ org: "red", langgraph_auth_user_id: "ruby" });
    expect(thread.values.found).toMatchObject({ id: "ruby", user: { secret: "s3cret" } });
    expect(await ok(blue().post("/threads/search", { metadata: { cron_id: cron.cron_id } }))).toEqual([]);
  });
});

describe("the store", () => {
  test("each organisation has a tree of its own, whatever it asks for", async () => {
    const [one, two] = [clientOf(RED), clientOf(BLUE)];
    await one.store.putItem(["notes", "a"], "k", { text: "red" });
    await two.store.putItem(["notes", "a"], "k", { text: "blue" });
    expect((await one.store.getItem(["notes", "a"], "k"))?.value).toEqual({ text: "red" });
    expect((await two.store.getItem(["notes", "a"], "k"))?.value).toEqual({ text: "blue" });
    expect(await two.store.getItem(["red", "notes", "a"], "k")).toBeNull();
    expect((await two.store.searchItems([])).items.map(({ namespace }) => namespace)).toEqual([["blue", "notes", "a"]]);
    expect((await two.store.listNamespaces({ prefix: [] })).namespaces).toEqual([["blue", "notes", "a"]]);
    await two.store.deleteItem(["notes", "a"], "k");
    expect((await one.store.getItem(["notes", "a"], "k"))?.value).toEqual({ text: "red" });
  });

  test("a handler's name of a namespace is never a pattern", async () => {
    const { status } = await as(api.url, { user: "star", org: "*" }).post("/store/namespaces", {});
    expect(status).toBe(500);
  });
});

describe("runs in flight", () => {
  const slow = (gate: Gate, body: Body = {}) => ({ assistant_id: "slow", input: gate.input, ...body });
  const statusOf = async (who: As, { thread_id, run_id }: Any): Promise<string> =>
    (await ok<Any>(as(api.url, who).get(`/threads/${thread_id}/runs/${run_id}`))).status;

  test("cancelling by status means those that are the user's to change", async () => {
    const gate = new Gate(temp.dir, "by-status");
    const [mine, other] = await Promise.all(
      [RED, BLUE].map(async (who) =>
        ok<Any>(as(api.url, who).post(`/threads/${await threadOf(who)}/runs`, slow(gate))),
      ),
    );
    expect((await blue().post("/runs/cancel", { status: "all" })).status).toBe(204);
    await eventually(async () => (await statusOf(BLUE, other)) === "interrupted");
    expect(await statusOf(RED, mine)).toBe("running");
    gate.openAll();
    await ok(red().get(`/threads/${mine.thread_id}/runs/${mine.run_id}/join`));
  });

  test("who made a stateless run hears of it; others do not find it; joining with cancel_on_disconnect needs the right", async () => {
    const gate = new Gate(temp.dir, "stateless");
    await using stream = await openSse(`${api.url}/runs/stream`, { body: slow(gate), headers: headersOf(RED) });
    const first = await stream.next();
    const run_id = JSON.parse(first?.data ?? "{}").run_id;
    expect((await blue().get(`/runs/${run_id}/join`)).status).toBe(404);
    expect((await blue().get(`/runs/${run_id}/stream`)).status).toBe(404);
    const watching = headersOf({ ...RED, deny: ["threads:update"] });
    const joined = await openSse(`${api.url}/runs/${run_id}/stream?cancel_on_disconnect=true`, { headers: watching });
    await joined.next();
    await joined.close();
    await eventually(() => api.server.output.includes("may not cancel the run"));
    gate.openAll();
    const rest = await stream.rest();
    expect(rest.filter(({ event }) => event === "error")).toEqual([]);
    expect(gate.log).toContain("end 3");
    // It has gone with its thread. Who may see it gets what anybody does where nobody logs in, nobody else finds it.
    const again = await openSse(`${api.url}/runs/${run_id}/stream`, { headers: headersOf(RED) });
    expect((await again.rest()).map(({ data }) => data)).toEqual([first, ...rest].map((event) => event?.data));
    expect((await red().get(`/runs/${run_id}/join`)).body).toEqual(JSON.parse(rest.at(-1)?.data ?? "null"));
    expect((await blue().get(`/runs/${run_id}/join`)).status).toBe(404);
    expect((await blue().get(`/runs/${run_id}/stream`)).status).toBe(404);
  });
});

describe("streams of a thread", () => {
  const ALL = ["values", "lifecycle"];
  const chat = { assistant_id: "chat", input: { messages: [{ role: "user", content: "hello" }] } };
  const isEnd = ({ data }: { data?: string }): boolean => /"event":"completed"/.test(data ?? "");

  test("one that does not exist yet shows what its maker's runs do, and nothing to others", async () => {
    const thread_id = randomUUID();
    const open = (who: As) =>
      openSse(`${api.url}/threads/${thread_id}/stream/events`, { body: { channels: ALL }, headers: headersOf(who) });
    await using mine = await open(RED);
    await using other = await open(BLUE);
    const heard = other.rest();
    await ok(red().post(`/threads/${thread_id}/commands`, { id: 1, method: "run.start", params: chat }));
    const frames = await mine.until(isEnd);
    expect(frames.length).toBeGreaterThan(2);
    // A second run, so that the other has had its time.
    await ok(red().post(`/threads/${thread_id}/commands`, { id: 2, method: "run.start", params: chat }));
    await mine.until(isEnd);
    await ok(red().delete(`/threads/${thread_id}`));
    await mine.rest();
    // It does not even show that the thread is gone.
    expect(other.complete).toBe(false);
    other.close();
    expect(await heard).toEqual([]);
  });

  class Socket {
    readonly frames: Any[] = [];
    readonly #ws: WebSocket;
    readonly closed: Promise<[number, string]>;

    constructor(thread_id: string, headers: Record<string, string>, query = "") {
      const url = `${api.url.replace("http", "ws")}/threads/${thread_id}/stream/events${query}`;
      this.#ws = new WebSocket(url, { headers });
      this.#ws.on("message", (data) => this.frames.push(JSON.parse(String(data))));
      this.closed = new Promise((resolve) => this.#ws.on("close", (code, reason) => resolve([code, String(reason)])));
      onTestFinished(() => this.#ws.terminate());
    }

    async send(id: number, method: string, params: Body): Promise<Any> {
      if (this.#ws.readyState !== WebSocket.OPEN) await new Promise((resolve) => this.#ws.once("open", resolve));
      this.#ws.send(JSON.stringify({ id, method, params }));
      return eventually(() => this.frames.find((frame) => frame.type !== "event" && frame.id === id));
    }
  }

  test("a WebSocket without a user is closed with the status", async () => {
    expect(await new Socket(randomUUID(), {}).closed).toEqual([4401, "who are you?"]);
    expect(await new Socket(randomUUID(), { "x-user": "teapot" }).closed).toEqual([4418, "short and stout"]);
    expect(await new Socket(randomUUID(), { "x-user": "broken" }).closed).toEqual([4401, "Unauthorized"]);
  });

  test("over a WebSocket commands and subscriptions are the user's; browsers name theirs in the query", async () => {
    const thread_id = randomUUID();
    const mine = new Socket(thread_id, {}, "?user=ruby&org=red");
    const other = new Socket(thread_id, headersOf(BLUE));
    const blind = new Socket(thread_id, headersOf({ ...RED, deny: ["threads:read"] }));
    await mine.send(1, "subscription.subscribe", { channels: ALL });
    await other.send(1, "subscription.subscribe", { channels: ALL });
    expect(await blind.send(1, "subscription.subscribe", { channels: ALL })).toMatchObject({
      error: "permission_denied",
    });
    const { result } = await mine.send(2, "run.start", chat);
    expect(result.run_id).toEqual(expect.any(String));
    await eventually(() => mine.frames.some((frame) => isEnd({ data: JSON.stringify(frame) })));
    expect(await other.send(2, "run.start", chat)).toMatchObject({ error: "no_such_run" });
    expect(await other.send(3, "state.get", {})).toMatchObject({ error: "no_such_run" });
    expect(await other.send(4, "subscription.subscribe", { channels: ALL })).toMatchObject({
      type: "success",
      result: { replayed_events: 0 },
    });
    expect(await other.send(5, "subscription.reconnect", { run_id: result.run_id })).toMatchObject({
      error: "no_such_run",
    });
    expect(await blind.send(2, "subscription.reconnect", { run_id: result.run_id })).toMatchObject({
      error: "permission_denied",
    });
    expect(other.frames.filter(({ type }) => type === "event")).toEqual([]);
    expect(await ok(red().get(`/threads/${thread_id}/runs`))).toHaveLength(1);
  });

  test("the official client, in a user's name", async () => {
    const client = clientOf(RED);
    const thread = client.threads.stream({ assistantId: "chat" });
    onTestFinished(() => thread.close());
    await thread.run.start({ input: chat.input });
    const state = await eventually(async () => {
      const found = await client.threads.get(thread.threadId).catch(() => undefined);
      return found?.status === "idle" ? found : undefined;
    });
    expect(state.metadata).toMatchObject({ org: "red" });
  });
});
