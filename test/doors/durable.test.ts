/** Tasks and the processes that hold them: a server that is killed, and several that are one. */
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { TaskState } from "@a2a-js/sdk";
import { UnsupportedOperationError } from "@a2a-js/sdk/errors";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { linesOf, openGate, SharedRestarts } from "../faults/support.ts";
import { http, ok } from "../support/http.ts";
import { freshSchema, requirePostgres, type TestDatabase } from "../support/postgres.ts";
import { dropKeys, freshPrefix, REDIS, requireRedis } from "../support/redis.ts";
import {
  eventually,
  FIXTURES,
  project,
  startServer,
  type TempDir,
  type TestServer,
  tempDir,
} from "../support/server.ts";
import { agent, all, artifactText, Inbox, lastStatus, send, streamOf } from "./support.ts";

const names = ["slow", "hitl", "chat"];
const graphs = Object.fromEntries(names.map((name) => [name, join(FIXTURES, `${name}.mjs:graph`)]));
const makeProject = (): Promise<TempDir> => project({}, { graphs, webhooks: { url: { disable_loopback: false } } });
const named = (id: string) => ({ tenant: "", id });

describe.concurrent("a server that is killed", () => {
  let own: TempDir;
  let server: TestServer;
  let shared: SharedRestarts;
  beforeAll(async () => {
    own = await makeProject();
    server = await startServer({ project: own });
    shared = new SharedRestarts(() => server.restart("SIGKILL"));
  });
  afterAll(async () => {
    await server?.[Symbol.asyncDispose]();
    await own?.[Symbol.asyncDispose]();
  });

  test("kill -9 in the middle: the task is there, goes on, is followed again, and tells whom it should", async () => {
    using restarts = shared.enter();
    await using inbox = await Inbox.open();
    const [gate, log] = [join(server.data, "gate"), join(server.data, "log")];
    const client = await agent(server, "slow");
    const task = await send(client, { data: { gate, log } }, { returnImmediately: true, push: { url: inbox.url } });
    openGate(gate, 1);
    await eventually(() => linesOf(log).includes("start 2"));

    await restarts.next();
    const found = await client.getTask({ ...named(task.id), historyLength: undefined });
    expect([TaskState.TASK_STATE_SUBMITTED, TaskState.TASK_STATE_WORKING]).toContain(found.status?.state);
    expect(found.contextId).toBe(task.contextId);
    const events = client.resubscribeTask(named(task.id));
    expect((await events.next()).value?.payload?.$case).toBe("task");
    openGate(gate, 2, 3);
    const seen = await all(events);
    expect(lastStatus(seen)).toBe(TaskState.TASK_STATE_COMPLETED);
    const [call] = await inbox.wait();
    expect(call?.body).toMatchObject({ task: { id: task.id, status: { state: "TASK_STATE_COMPLETED" } } });
    const done = await client.getTask({ ...named(task.id), historyLength: undefined });
    expect(done.artifacts[0]?.parts[0]?.content?.value).toMatchObject({ steps: [1, 2, 3] });
  });

  test("a question outlives the server that asked it", async () => {
    using restarts = shared.enter();
    const client = await agent(server, "hitl");
    const asked = await send(client, { data: { question: "Still there?" } });
    await restarts.next();
    const found = await client.getTask({ ...named(asked.id), historyLength: undefined });
    expect(found).toEqual(asked);
    const done = await send(client, { text: "yes", taskId: asked.id });
    expect([done.id, done.status?.state]).toEqual([asked.id, TaskState.TASK_STATE_COMPLETED]);
  });
});

describe("two processes on one PostgreSQL and one Redis", () => {
  const prefix = freshPrefix();
  let database: TestDatabase | undefined;
  let own: TempDir | undefined;
  let temp: TempDir | undefined;
  let servers: TestServer[] = [];
  let started: Promise<void> | undefined;

  beforeEach(async (context) => {
    await requirePostgres(context);
    await requireRedis(context);
    started ??= start();
    await started;
  });
  afterAll(async () => {
    for (const server of servers) await server[Symbol.asyncDispose]();
    await database?.drop();
    await dropKeys(REDIS, prefix);
    await own?.[Symbol.asyncDispose]();
    await temp?.[Symbol.asyncDispose]();
  });

  async function start(): Promise<void> {
    database = await freshSchema();
    own = await makeProject();
    temp = await tempDir();
    const env = {
      DATABASE_URI: database.uri,
      REDIS_URI: REDIS,
      REDIS_KEY_PREFIX: prefix,
      SKEIN_LEASE_SECS: "3",
      LANGGRAPH_POSTGRES_POOL_MAX_SIZE: "4",
    };
    // One serves, the other executes too: whatever the first is asked, the second does.
    servers = [
      await startServer({ project: own, env, args: ["--no-worker"] }),
      await startServer({ project: own, env, args: ["--threads", "1"] }),
    ];
  }
  const file = (): string => join(temp?.dir ?? "", randomUUID());
  const on = (index: number, graph: string) => agent(servers[index] as TestServer, graph);

  test("a task sent to one is followed, cancelled and read on the other", async () => {
    const [here, there] = [await on(0, "slow"), await on(1, "slow")];
    const log = file();
    const task = await send(here, { data: { gate: file(), log } }, { returnImmediately: true });
    await eventually(() => linesOf(log).includes("start 1"));
    const [first, second] = [here.resubscribeTask(named(task.id)), there.resubscribeTask(named(task.id))];
    await Promise.all([first.next(), second.next()]);
    const canceled = await here.cancelTask({ ...named(task.id), metadata: undefined });
    expect(canceled.status?.state).toBe(TaskState.TASK_STATE_CANCELED);
    for (const events of [first, second]) expect(lastStatus(await all(events))).toBe(TaskState.TASK_STATE_CANCELED);
    const read = await there.getTask({ ...named(task.id), historyLength: 0 });
    expect(read.status?.state).toBe(TaskState.TASK_STATE_CANCELED);
  });

  test("what one executes is streamed by the other, and a question is answered at either", async () => {
    const events = await all(streamOf(await on(0, "chat"), { text: "across" }));
    expect(artifactText(events)).toBe("You said: across");
    expect(lastStatus(events)).toBe(TaskState.TASK_STATE_COMPLETED);
    const asked = await send(await on(0, "hitl"), { data: {} });
    const done = await send(await on(1, "hitl"), { text: "yes", taskId: asked.id });
    expect([done.id, done.status?.state]).toEqual([asked.id, TaskState.TASK_STATE_COMPLETED]);
    const listed = await (await on(0, "hitl")).listTasks({
      tenant: "",
      contextId: asked.contextId,
      status: TaskState.TASK_STATE_COMPLETED,
      pageToken: "",
      statusTimestampAfter: undefined,
    });
    expect(listed.tasks.map(({ id }) => id)).toEqual([asked.id]);
  });

  test("a question that many answer at once, at either, is answered once", async () => {
    const here = await on(0, "hitl");
    const there = await on(1, "hitl");
    const asked = await send(here, { data: {} });
    const answers = await Promise.allSettled(
      Array.from({ length: 8 }, (_, n) => send(n % 2 === 0 ? here : there, { text: `${n}`, taskId: asked.id })),
    );
    const refused = answers.filter(({ status }) => status === "rejected");
    expect(refused).toHaveLength(7);
    for (const { reason } of refused as PromiseRejectedResult[]) {
      expect(reason).toBeInstanceOf(UnsupportedOperationError);
    }
    expect(await ok(http(servers[0]?.url ?? "").get(`/threads/${asked.contextId}/runs`))).toHaveLength(2);
  });

  test("whom to tell may be said on either, while it runs", async () => {
    await using inbox = await Inbox.open();
    const gate = file();
    const task = await send(await on(0, "slow"), { data: { gate } }, { returnImmediately: true });
    const config = { tenant: "", id: "", taskId: task.id, url: inbox.url, token: "t", authentication: undefined };
    await (await on(0, "slow")).createTaskPushNotificationConfig(config);
    openGate(gate, 1, 2, 3);
    const [call] = await inbox.wait();
    expect(call?.body).toMatchObject({ task: { id: task.id, status: { state: "TASK_STATE_COMPLETED" } } });
  });

  test("an MCP call that is cancelled at one stops on the other", async () => {
    const client = new Client({ name: "test", version: "1" });
    // Every other request goes to the other process, as behind a load balancer.
    let requests = 0;
    const balanced = (url: string | URL, init?: RequestInit): Promise<Response> => {
      const target = new URL(url);
      target.host = new URL(servers[requests++ % 2]?.url ?? "").host;
      return fetch(target, init);
    };
    const transport = new StreamableHTTPClientTransport(new URL("/mcp", servers[0]?.url), { fetch: balanced });
    await client.connect(transport);
    const log = file();
    const stop = new AbortController();
    const call = client.callTool({ name: "slow", arguments: { log, gate: file() } }, undefined, {
      signal: stop.signal,
    });
    call.catch(() => undefined);
    await eventually(() => linesOf(log).includes("start 1"));
    stop.abort();
    await eventually(() => linesOf(log).includes("aborted 1"));
    await client.close();
  });
});
