/** Encryption at rest: no plain text of what clients and nodes keep is in any file, whatever happens to the server; keys can change. */
import { readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { loadProject, readSettings } from "../../src/config.ts";
import { Api, type Body } from "../runs/support.ts";
import { eventually, ON_POSTGRES, project, startServer, type TempDir, tempDir } from "../support/server.ts";

const KEY = "0123456789abcdef0123456789abcdef";
const NEW_KEY = "another-key-of-24-bytes!";
const JSON_KEYS = "note,api_token";
const encrypted = { LANGGRAPH_AES_KEY: KEY, LANGGRAPH_AES_JSON_KEYS: JSON_KEYS, SKEIN_RECLAIM_SECS: "0.1" };

/** Every secret has this in it, and nothing else does. */
const MARK = "Xq7Zk";
const secret = (where: string): string => `${MARK}-${where}-${MARK}`;

const GRAPH = `
  import { Annotation, START, StateGraph, interrupt } from "@langchain/langgraph";
  const last = { reducer: (_, next) => next, default: () => null };
  const State = Annotation.Root({ told: Annotation(last), long: Annotation(last), asked: Annotation(last), found: Annotation(last) });
  async function work({ told }, { store, writer }) {
    writer?.({ hint: "${secret("event")}" });
    await store.put(["notes"], "one", { text: "${secret("store")}" });
    const found = await store.search(["notes"]);
    const filtered = await store.search(["notes"], { filter: { text: "x" } }).then(() => "found", (error) => error.message);
    return { long: "${secret("state")} é ".repeat(400), found: [found[0].value.text, filtered, process.env.LANGGRAPH_AES_KEY ?? null] };
  }
  const ask = ({ told }) => {
    if (told === "fail") throw new Error("${secret("error")}");
    return { asked: interrupt({ question: "${secret("interrupt")}" }) };
  };
  export const graph = new StateGraph(State).addNode("work", work).addNode("ask", ask)
    .addEdge(START, "work").addEdge("work", "ask").compile();`;

let own: TempDir;
let webhook = "";
const receiver = createServer((_, response) => response.writeHead(503).end());

beforeAll(async () => {
  own = await project({ "vault.mjs": GRAPH }, { webhooks: { url: { disable_loopback: false } } });
  await new Promise<void>((resolve) => receiver.listen(0, "127.0.0.1", resolve));
  webhook = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/hook?token=${secret("url")}`;
});
afterAll(async () => {
  receiver.close();
  receiver.closeAllConnections();
  await own[Symbol.asyncDispose]();
});

const run = (body: Body = {}): Body => ({
  assistant_id: "vault",
  input: { told: secret("input") },
  metadata: { note: secret("run-metadata"), deep: [{ note: secret("deep") }], shown: "yes" },
  config: { configurable: { api_token: secret("configurable") } },
  context: { api_token: secret("context") },
  stream_mode: ["values", "custom"],
  stream_resumable: true,
  ...body,
});

/** A thread with everything that can hold a secret. */
async function fill(api: Api): Promise<string> {
  const { thread_id } = await api.post("/threads", { metadata: { note: secret("thread-metadata"), kind: "vault" } });
  const path = `/threads/${thread_id}/runs`;
  await api.wait(run({ webhook }), `${path}/wait`);
  await api.wait(run({ input: { told: "fail" }, on_completion: "keep" }), "/runs/wait");
  const repeated = () =>
    api.http.post("/runs", run({ after_seconds: 3600 }), { headers: { "idempotency-key": "once" } });
  expect((await repeated()).body).toEqual((await repeated()).body);
  const yearly = { assistant_id: "vault", schedule: "0 0 1 1 *", metadata: { note: secret("cron-metadata") } };
  const kept = { configurable: { api_token: secret("assistant-config") } };
  const marked = { note: secret("assistant-metadata"), kind: "vault" };
  await api.post("/assistants", { graph_id: "vault", name: "marked", config: kept, metadata: marked });
  const item = { namespace: ["kept"], key: "by-http", value: { text: secret("item") } };
  expect((await api.http.put("/store/items", item)).status).toBe(204);
  await api.post("/runs/crons", { ...yearly, input: { told: secret("cron") } });
  return thread_id;
}

async function expectReadable(api: Api, thread_id: string): Promise<void> {
  const state = await api.get(`/threads/${thread_id}/state`);
  expect(state.values).toMatchObject({ told: secret("input"), long: expect.stringContaining(secret("state")) });
  const thread = await api.get(`/threads/${thread_id}`);
  expect(thread.metadata).toMatchObject({ note: secret("thread-metadata"), kind: "vault" });
  expect(thread.values).toEqual(state.values);
  expect(JSON.stringify(thread.interrupts)).toContain(secret("interrupt"));
  const [of_thread] = await api.get(`/threads/${thread_id}/runs`);
  expect(of_thread.metadata).toMatchObject({ note: secret("run-metadata"), deep: [{ note: secret("deep") }] });
  expect(of_thread.kwargs.input).toEqual({ told: secret("input") });
  const [assistant] = await api.post("/assistants/search", { metadata: { kind: "vault" } });
  expect(assistant).toMatchObject({
    metadata: { note: secret("assistant-metadata") },
    config: { configurable: { api_token: secret("assistant-config") } },
  });
  expect(await api.post(`/assistants/${assistant.assistant_id}/versions`, {})).toMatchObject([
    { metadata: { note: secret("assistant-metadata") } },
  ]);
  const { items } = await api.post("/store/items/search", { namespace_prefix: ["kept"] });
  expect(items).toMatchObject([{ value: { text: secret("item") } }]);
  const [cron] = await api.post("/runs/crons/search", {});
  expect(cron).toMatchObject({
    metadata: { note: secret("cron-metadata") },
    payload: { input: { told: secret("cron") } },
  });
}

/** Files of the data folder that hold a secret, as UTF-8 or as UTF-16. */
const leaks = (data: string): string[] =>
  readdirSync(data).filter((file) => {
    const bytes = readFileSync(join(data, file));
    return bytes.includes(MARK) || bytes.includes(Buffer.from(MARK, "utf16le"));
  });

// Both look into files.
const inFiles = test.skipIf(ON_POSTGRES);

inFiles("without a key it is all there to read: the search finds what it looks for", async () => {
  await using data = await tempDir();
  await using server = await startServer({ project: own, data: data.dir });
  const thread_id = await fill(new Api(server));
  await server.kill();
  expect(leaks(data.dir)).not.toEqual([]);

  // What was written before the key stays readable, and is encrypted behind everyone's back.
  await using later = await startServer({ project: own, data: data.dir, env: encrypted });
  await expectReadable(new Api(later), thread_id);
  await eventually(() => later.output.includes("older keys can go"));
  await eventually(() => leaks(data.dir).length === 0, { every: 200 });
  await expectReadable(new Api(later), thread_id);
});

inFiles(
  "with a key nothing readable is on the disk: running, killed, restarted, stopped; and the key can change",
  async () => {
    await using data = await tempDir();
    await using server = await startServer({ project: own, data: data.dir, env: encrypted });
    const api = new Api(server);
    const thread_id = await fill(api);
    await expectSearchesRefused(api);
    // Text that looks sealed is a client's text.
    const forged = { note: "skein-aes:0123456789abcdef:AAAA", other: "skein-aes:0123456789abcdef:AAAA" };
    const lookalike = await api.post("/threads", { metadata: forged });
    expect((await api.get(`/threads/${lookalike.thread_id}`)).metadata).toMatchObject(forged);
    expect(leaks(data.dir)).toEqual([]);

    await server.kill("SIGKILL");
    expect(leaks(data.dir)).toEqual([]);
    await server.start();
    await expectReadable(api, thread_id);
    const [{ run_id }] = await api.get(`/threads/${thread_id}/runs`);
    const frames = await api.frames(`/threads/${thread_id}/runs/${run_id}/stream?last_event_id=-1`);
    expect(frames.map(({ raw }) => raw).join("")).toContain(secret("event"));
    // Resumed after the crash, from sealed checkpoints.
    await api.wait({ assistant_id: "vault", command: { resume: secret("resume") } }, `/threads/${thread_id}/runs/wait`);
    const { values } = await api.get(`/threads/${thread_id}/state`);
    expect(values.asked).toBe(secret("resume"));
    // The graph's own look at the store works, its search by value says why not, and it never sees the key.
    expect(values.found).toEqual([secret("store"), expect.stringContaining("encrypted"), null]);
    await server.stop();
    expect(leaks(data.dir)).toEqual([]);

    const start = (env: Record<string, string>) => startServer({ project: own, data: data.dir, env });
    await expect(start({})).rejects.toThrow(/holds data encrypted under the key .*Set LANGGRAPH_AES_KEY/);
    await using rotating = await start({ ...encrypted, LANGGRAPH_AES_KEY: NEW_KEY, LANGGRAPH_AES_KEYS_OLD: KEY });
    expect((await new Api(rotating).get(`/threads/${thread_id}/state`)).values).toEqual(values);
    await eventually(() => rotating.output.includes("older keys can go"));
    await rotating.kill();
    await expect(start({ LANGGRAPH_AES_KEY: KEY })).rejects.toThrow(/add it to LANGGRAPH_AES_KEYS_OLD/);
    await using rotated = await start({ ...encrypted, LANGGRAPH_AES_KEY: NEW_KEY });
    expect((await new Api(rotated).get(`/threads/${thread_id}/state`)).values).toEqual(values);
    expect(leaks(data.dir)).toEqual([]);
  },
);

async function expectSearchesRefused({ http }: Api): Promise<void> {
  for (const metadata of [{ note: "x" }, { shown: { note: "x" } }]) {
    for (const path of ["/assistants/search", "/assistants/count", "/runs/crons/search"]) {
      const { status, body } = await http.post(path, { metadata });
      expect([path, status, body.detail]).toEqual([path, 422, expect.stringContaining("metadata.note")]);
    }
  }
  const filtered = await http.post("/store/items/search", { namespace_prefix: ["kept"], filter: { text: "x" } });
  expect([filtered.status, filtered.body.detail]).toEqual([422, expect.stringContaining("filter: cannot be searched")]);
  expect((await http.post("/assistants/search", { metadata: { shown: "x" } })).status).toBe(200);
}

test.each([
  [{ LANGGRAPH_AES_KEY: "too short" }, "LANGGRAPH_AES_KEY must have 16, 24 or 32 bytes, not 9"],
  [{ LANGGRAPH_AES_KEY: "é".repeat(15) }, "not 30"],
  [{ LANGGRAPH_AES_KEY: KEY, LANGGRAPH_AES_KEYS_OLD: `${KEY},x` }, "LANGGRAPH_AES_KEYS_OLD (key 2)"],
  [{ LANGGRAPH_AES_JSON_KEYS: "note" }, "LANGGRAPH_AES_JSON_KEYS needs LANGGRAPH_AES_KEY"],
  [{ LANGGRAPH_AES_KEY: KEY, LANGGRAPH_AES_JSON_KEYS: "note,graph_id" }, "needs graph_id in plain text"],
] as const)("%j is refused at the start", (env, message) => {
  expect(() => readSettings("start", {}, loadProject(own.dir, env))).toThrow(message);
});

test("a module for encryption is refused, as it would not be asked", async () => {
  await using other = await project({ "vault.mjs": GRAPH }, { encryption: { path: "./own.ts:encryption" } });
  expect(() => loadProject(other.dir, {})).toThrow(/encryption: modules are not supported; LANGGRAPH_AES_KEY/);
});
