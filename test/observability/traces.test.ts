/** OpenTelemetry: request → run → attempt → node is one trace, whatever lies between; and nothing where it is not asked for. */
import { execFile, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { WebSocket } from "ws";
import { loadProject, readSettings } from "../../src/config.ts";
import { type Any, Api, type Body, Gate, useTempDir } from "../runs/support.ts";
import { Collector, type SeenSpan, treeOf } from "../support/collector.ts";
import { ok } from "../support/http.ts";
import { freshSchema, requirePostgres, type TestDatabase } from "../support/postgres.ts";
import { FIXTURES, project, put, ROOT } from "../support/project.ts";
import { dropKeys, freshPrefix, REDIS, requireRedis } from "../support/redis.ts";
import { eventually, startServer, type TestServer } from "../support/server.ts";

const temp = useTempDir();
const TRACE = "0af7651916cd43dd8448eb211c80319c";
const CALLER = "b7ad6b7169203331";
const plain = { assistant_id: "plain", input: { value: 1 } };
const NODES = "node first, node second";

const named = (spans: readonly SeenSpan[], start: string): SeenSpan => {
  const found = spans.find(({ name }) => name.startsWith(start));
  if (found === undefined) throw new Error(`no span ${start} among ${spans.map(({ name }) => name)}`);
  return found;
};

describe("one process", () => {
  let collector: Collector;
  let server: TestServer;
  let api: Api;
  beforeAll(async () => {
    collector = await Collector.open();
    server = await startServer({ env: collector.env() });
    api = new Api(server);
  });
  afterAll(async () => {
    await server?.[Symbol.asyncDispose]();
    await collector?.[Symbol.asyncDispose]();
  });

  /** The newest run of the thread, once it has ended. */
  const lastRun = async (thread_id: string): Promise<Any> =>
    eventually(async () => {
      const [run] = await api.get(`/threads/${thread_id}/runs`);
      return run?.status === "success" || run?.status === "error" || run?.status === "interrupted" ? run : undefined;
    });

  test("a request goes on with its caller's trace; its log line and its run's say where", async () => {
    const thread_id = await api.thread();
    const headers = { traceparent: `00-${TRACE}-${CALLER}-01`, tracestate: "a=b", "x-request-id": "traced-1" };
    await ok(api.http.post(`/threads/${thread_id}/runs/wait`, plain, { headers }));
    const { run_id, kwargs } = await lastRun(thread_id);
    expect(kwargs).not.toHaveProperty("trace");
    const spans = await collector.ofRun(run_id, 2);
    expect(treeOf(spans)).toEqual([`POST /threads/{thread_id}/runs/wait [run plain [attempt [${NODES}]]]`]);
    const request = named(spans, "POST");
    expect(request).toMatchObject({ traceId: TRACE, parentSpanId: CALLER, kind: 2, status: 0 });
    expect(request.attributes).toMatchObject({
      "http.request.method": "POST",
      "http.route": "/threads/{thread_id}/runs/wait",
      "http.response.status_code": 200,
      "url.path": `/threads/${thread_id}/runs/wait`,
      "skein.request_id": "traced-1",
    });
    const ofRun = { "skein.run_id": run_id, "skein.thread_id": thread_id, "skein.request_id": "traced-1" };
    expect(named(spans, "run").attributes).toMatchObject({ ...ofRun, "skein.run.status": "success" });
    expect(named(spans, "attempt").attributes).toMatchObject({ ...ofRun, "skein.run.attempt": 1 });
    expect(named(spans, "node second").attributes).toEqual({
      "langgraph.node": "second",
      "langgraph.step": 2,
      "langgraph.checkpoint_ns": "",
    });
    const logged = (wanted: string) =>
      eventually(() => server.logs().find(({ request_id, msg }) => request_id === "traced-1" && msg === wanted));
    expect(await logged("request")).toMatchObject({ trace_id: TRACE, span_id: request.spanId });
    expect(await logged("run ended")).toMatchObject({ trace_id: TRACE });
  });

  test("subgraphs are inside the node that calls them", async () => {
    const { run_id } = await api.background({ assistant_id: "nested", input: {} });
    const inner = "node inner [node deep]";
    const nodes = `node last, node middle [node before, ${inner}], node outer`;
    expect(treeOf(await collector.ofRun(run_id, 6))).toEqual([
      `POST /threads/{thread_id}/runs [run nested [attempt [${nodes}]]]`,
    ]);
  });

  test("calls of models and tools are inside the node that makes them", async () => {
    const input = { messages: [{ role: "user", content: "hello" }] };
    const { run_id } = await api.background({ assistant_id: "agent", input });
    const spans = await collector.ofRun(run_id, 3);
    const answer = "node agent [model ScriptedModel]";
    expect(treeOf(spans)).toEqual([
      `POST /threads/{thread_id}/runs [run agent [attempt [${answer}, ${answer}, node tools [tool add, tool shout]]]]`,
    ]);
    expect(named(spans, "model").attributes).toMatchObject({ "gen_ai.request.model": "ScriptedModel" });
  });

  test("what fails says of what; a question and a cancel are no failures", async () => {
    const failed = await api.background({ assistant_id: "error", input: {} });
    const spans = await collector.ofRun(failed.run_id, 2);
    for (const name of ["run", "attempt", "node fails"]) {
      expect(named(spans, name)).toMatchObject({ status: 2, attributes: { "error.type": "TypeError" } });
    }
    expect(named(spans, "node works").status).toBe(0);
    const asked = await api.background({ assistant_id: "nested", input: { ask: true } });
    const quiet = await collector.ofRun(asked.run_id, 5);
    expect(quiet.filter(({ status }) => status === 2)).toEqual([]);
    expect(named(quiet, "node deep").attributes).toMatchObject({ "langgraph.left_by": "GraphInterrupt" });
    expect(named(quiet, "run").attributes).toMatchObject({ "skein.run.status": "interrupted" });
    const gate = new Gate(temp.dir, randomUUID());
    const slow = await api.background({ assistant_id: "slow", input: gate.input });
    await eventually(() => gate.log.includes("start 1"));
    await api.post(`${slow.path}/cancel?wait=1`);
    const cancelled = await collector.ofRun(slow.run_id);
    expect(named(cancelled, "run")).toMatchObject({ status: 0, attributes: { "skein.run.status": "interrupted" } });
    const never = await api.background({ ...plain, after_seconds: 600 });
    await api.post(`${never.path}/cancel`);
    expect(treeOf(await collector.ofRun(never.run_id))).toEqual(["POST /threads/{thread_id}/runs [run plain]"]);
  });

  const doors: readonly (readonly [door: string, parent: string, make: (thread_id: string) => Promise<unknown>])[] = [
    [
      "a stream",
      "POST /threads/{thread_id}/runs/stream",
      (id) => api.frames(`/threads/${id}/runs/stream`, { body: plain }),
    ],
    ["a command", "POST /threads/{thread_id}/commands", (id) => api.post(`/threads/${id}/commands`, start)],
    ["a WebSocket", "GET /threads/{thread_id}/stream/events", (id) => overWebSocket(id)],
    ["A2A", "POST /a2a/{assistant_id}", (id) => ok(api.http.post("/a2a/plain", said(id), { headers: JSON_ONLY }))],
    ["a cron", "cron tick", (id) => api.post(`/threads/${id}/runs/crons`, { ...plain, schedule: "* * * * * *" })],
  ];
  const start = { id: 1, method: "run.start", params: plain };
  const JSON_ONLY = { accept: "application/json" };
  const said = (contextId: string): Body => {
    const parts = [{ kind: "data", data: { value: 1 } }];
    const message = { kind: "message", role: "user", messageId: randomUUID(), contextId, parts };
    return { jsonrpc: "2.0", id: 1, method: "message/send", params: { message } };
  };
  const overWebSocket = async (thread_id: string): Promise<void> => {
    const socket = new WebSocket(`${api.url.replace("http", "ws")}/threads/${thread_id}/stream/events`);
    await new Promise((resolve) => socket.once("open", resolve));
    socket.send(JSON.stringify(start));
    await new Promise((resolve) => socket.once("message", resolve));
    socket.terminate();
  };

  test.each(doors)("%s", async (_, parent, make) => {
    const thread_id = await api.thread();
    await make(thread_id);
    const { run_id } = await lastRun(thread_id);
    expect(treeOf(await collector.ofRun(run_id, 2))).toEqual([`${parent} [run plain [attempt [${NODES}]]]`]);
  });

  test("a caller's trace that is not recorded is not recorded here either", async () => {
    const unsampled = "1af7651916cd43dd8448eb211c80319c";
    const headers = { traceparent: `00-${unsampled}-${CALLER}-00` };
    expect(await ok(api.http.post("/runs/wait", plain, { headers }))).toMatchObject({ value: 4 });
    const { run_id } = await api.background(plain);
    await collector.ofRun(run_id, 2);
    expect(collector.spans.filter(({ traceId }) => traceId === unsampled)).toEqual([]);
  });

  test("health is not traced", async () => {
    await api.get("/ok");
    const { run_id } = await api.background(plain);
    await collector.ofRun(run_id, 2);
    expect(collector.spans.map(({ attributes }) => attributes["url.path"])).not.toContain("/ok");
  });
});

test("after a kill -9, and after a stop that hands the run back, the next attempt goes on with the trace", async () => {
  await using collector = await Collector.open();
  const env = collector.env({ BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS: "0" });
  await using server = await startServer({ args: ["--threads", "1"], env });
  const api = new Api(server);
  const gate = new Gate(temp.dir, randomUUID());
  const asked = { assistant_id: "slow", input: gate.input, durability: "sync" };
  const { run_id } = await api.background(asked);
  const begun = (step: number): number => gate.log.filter((line) => line === `start ${step}`).length;
  gate.open(1);
  await eventually(() => begun(2) === 1);
  // What has not been sent goes with the process.
  const isSent = (wanted: string) => collector.spans.some(({ name }) => name.startsWith(wanted));
  await eventually(() => isSent("node one") && isSent("POST"));
  await server.restart("SIGKILL");
  await eventually(() => begun(2) === 2);
  // What its thread has told of the node waits a moment for company: the end of another run there takes it along.
  await ok(api.http.post("/runs/wait", plain));
  await server.restart();
  gate.openAll();
  const spans = await collector.ofRun(run_id, 4);
  const attempts = ["attempt [node one]", "attempt [node three, node two]", "attempt [node two]"];
  expect(treeOf(spans)).toEqual([`POST /threads/{thread_id}/runs [run slow [${attempts.join(", ")}]]`]);
  expect(new Set(spans.map(({ pid }) => pid)).size).toBe(3);
  const outcomes = spans
    .filter(({ name }) => name === "attempt")
    .map(({ status, attributes }) => [attributes["skein.run.outcome"], status]);
  expect(outcomes.sort()).toEqual([
    ["drained", 0],
    ["lost", 2],
    ["success", 0],
  ]);
});

test("processes that share PostgreSQL and Redis: one takes the request, others have the run, one of them is killed", async (context) => {
  await requirePostgres(context);
  await requireRedis(context);
  await using shared = await sharedDatabase();
  await using collector = await Collector.open();
  const env = { ...shared.env, ...collector.env() };
  const startWorker = () => startServer({ command: "worker", args: ["--threads", "1"], env });
  await using door = await startServer({ args: ["--no-worker"], env });
  await using first = await startWorker();
  const gate = new Gate(temp.dir, randomUUID());
  const { run_id } = await new Api(door).background({ assistant_id: "slow", input: gate.input, durability: "sync" });
  gate.open(1);
  await eventually(() => gate.log.includes("start 2"));
  await eventually(() => collector.spans.some(({ name }) => name === "node one"));
  const pid = first.pid;
  await first.kill();
  await using second = await startWorker();
  gate.openAll();
  const spans = await collector.ofRun(run_id, 3);
  expect(treeOf(spans)).toEqual([
    "POST /threads/{thread_id}/runs [run slow [attempt [node one], attempt [node three, node two]]]",
  ]);
  const pids = (start: string): number[] => spans.filter(({ name }) => name.startsWith(start)).map((span) => span.pid);
  expect(pids("POST")).toEqual([door.pid]);
  expect(pids("node one")).toEqual([pid]);
  expect(pids("node three")).toEqual([second.pid]);
  expect(pids("run")).toEqual([second.pid]);
});

interface Shared extends AsyncDisposable {
  readonly env: Readonly<Record<string, string>>;
}

async function sharedDatabase(): Promise<Shared> {
  const database: TestDatabase = await freshSchema();
  const prefix = freshPrefix();
  return {
    env: { DATABASE_URI: database.uri, SKEIN_LEASE_SECS: "1", REDIS_URI: REDIS, REDIS_KEY_PREFIX: prefix },
    async [Symbol.asyncDispose]() {
      await database.drop();
      await dropKeys(REDIS, prefix);
    },
  };
}

test("nobody asks for it: nothing is loaded, nobody is called", async () => {
  await using collector = await Collector.open();
  const { OTEL_EXPORTER_OTLP_ENDPOINT: _, ...env } = collector.env();
  await using server = await startServer({ env: { ...env, ...(await watchedImports()) } });
  expect(await new Api(server).wait(plain)).toMatchObject({ value: 4 });
  await server.stop();
  expect(server.output).not.toContain("LOADED");
  expect(collector.connections).toBe(0);
});

test("the settings of the project's env count, and those of the SDK: protobuf, a name", async () => {
  await using collector = await Collector.open();
  const { OTEL_EXPORTER_OTLP_PROTOCOL: _, ...env } = collector.env({ OTEL_SERVICE_NAME: "agents-of-mine" });
  await using folder = await project({ "plain.mjs": PLAIN }, { env });
  await using server = await startServer({ project: folder, env: await watchedImports() });
  await new Api(server).wait({ assistant_id: "plain", input: { value: 1 } });
  const sent = await eventually(() => collector.others.find(({ path }) => path === "/v1/traces"));
  expect(sent.type).toBe("application/x-protobuf");
  expect(sent.body.includes("agents-of-mine")).toBe(true);
  const metrics = await eventually(() => collector.others.find(({ path }) => path === "/v1/metrics"));
  expect(metrics.body.includes("skein_runs_created_total")).toBe(true);
  // What is not seen above can be seen.
  expect(server.output).toContain("LOADED @opentelemetry/sdk-trace-base");
});

const PLAIN = `
import { Annotation, END, START, StateGraph } from "@langchain/langgraph";
export const graph = new StateGraph(Annotation.Root({ value: Annotation() }))
  .addNode("only", ({ value }) => ({ value: value + 1 })).addEdge(START, "only").addEdge("only", END).compile();`;

/** Makes a server print each package of OpenTelemetry that it loads from a file. */
async function watchedImports(): Promise<Record<string, string>> {
  const hook = join(temp.dir, "hook.mjs");
  await put(hook, HOOK);
  return { NODE_OPTIONS: `--import ${hook}` };
}

const HOOK = `
import { register } from "node:module";
register("data:text/javascript," + encodeURIComponent(\`
  import { writeSync } from "node:fs";
  export async function resolve(specifier, context, next) {
    if (specifier.startsWith("@opentelemetry/")) writeSync(2, "LOADED " + specifier + "\\\\n");
    return next(specifier, context);
  }\`));`;

test("a server that stops sends what is left; the collector of the examples shows it", async () => {
  const script = join(ROOT, "examples/scripts/collector.ts");
  const collector = spawn(process.execPath, ["--import", "tsx", script], {
    cwd: ROOT,
    env: { ...process.env, PORT: "0" },
  });
  onTestFinished(() => void collector.kill("SIGKILL"));
  let printed = "";
  collector.stdout.on("data", (chunk) => {
    printed += chunk;
  });
  const url = await eventually(() => /http:\S+/.exec(printed)?.[0]);
  const env = {
    OTEL_EXPORTER_OTLP_ENDPOINT: url,
    OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
    OTEL_BSP_SCHEDULE_DELAY: "60000",
  };
  await using server = await startServer({ env });
  await new Api(server).wait(plain);
  await server.stop();
  const trace = await eventually(() => /trace [0-9a-f]{32}\n.*second.*\n/s.exec(printed)?.[0]);
  expect(trace.replaceAll(/ {2}[\d.]+ ms|[0-9a-f]{32}/g, "")).toBe(
    [
      "trace ",
      "  POST /runs/wait",
      "    run plain",
      "      attempt",
      "        node first",
      "        node second",
      "",
    ].join("\n"),
  );
});

test("a program that has the server in it keeps what is global for itself; streams and webhooks are traced to their end", async () => {
  await using collector = await Collector.open();
  const webhooks = { url: { disable_loopback: false } };
  await using folder = await project({ "plain.mjs": PLAIN }, { env: collector.env(), webhooks });
  const script = `
    import { createServer as listen } from "node:http";
    import { once } from "node:events";
    import { createServer } from ${JSON.stringify(pathToFileURL(join(ROOT, "dist/index.js")).href)};
    const inbox = listen().listen(0, "127.0.0.1");
    await once(inbox, "listening");
    const called = once(inbox, "request");
    const server = await createServer(${JSON.stringify({ config: folder.dir })});
    const ended = async () => /duration_ms_count.*runs.stream.* 1/.test(await (await server.fetch(new Request("http://host/metrics"))).text());
    const headers = { "content-type": "application/json" };
    const webhook = "http://127.0.0.1:" + inbox.address().port;
    const body = JSON.stringify({ assistant_id: "plain", input: { value: 1 }, webhook });
    const answer = await server.fetch(new Request("http://host/runs/stream", { method: "POST", headers, body }));
    const before = await ended();
    await answer.text();
    const after = await ended();
    const [request, response] = await called;
    response.end();
    await server.close();
    const shared = Object.keys(globalThis[Symbol.for("opentelemetry.js.api.1")] ?? {});
    const variables = Object.keys(process.env).filter((name) => name.startsWith("OTEL_"));
    console.log(JSON.stringify({ shared, variables, before, after, traceparent: request.headers.traceparent }));
    process.exit();`;
  const env = { ...process.env, LOG_LEVEL: "error" };
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", script], { env });
  const { spans } = collector;
  expect(treeOf(spans)).toEqual(["POST /runs/stream [run plain [attempt [node only], webhook]]"]);
  const { traceId, spanId } = named(spans, "webhook");
  const traceparent = `00-${traceId}-${spanId}-01`;
  expect(JSON.parse(stdout)).toEqual({ shared: [], variables: [], before: false, after: true, traceparent });
});

const ENDPOINT = { OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:9" };
const telemetry = (env: Record<string, string>) => readSettings("start", {}, loadProject(FIXTURES, env)).telemetry;

test("what switches it on, and off", () => {
  expect(telemetry({ OTEL_SERVICE_NAME: "x" })).toBeNull();
  expect(telemetry({ OTEL_EXPORTER_OTLP_ENDPOINT: " " })).toBeNull();
  expect(telemetry({ ...ENDPOINT, OTEL_SDK_DISABLED: "true" })).toBeNull();
  expect(telemetry({ ...ENDPOINT, OTEL_TRACES_EXPORTER: "none", OTEL_METRICS_EXPORTER: "none" })).toBeNull();
  const metrics = { protocol: "http/protobuf", intervalMs: 60_000, timeoutMs: 30_000 };
  const traces = { protocol: "http/protobuf", isW3c: true };
  const detectors = ["env", "host", "process"];
  expect(telemetry(ENDPOINT)).toEqual({ env: ENDPOINT, traces, metrics, detectors });
  expect(telemetry({ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "http://x" })).toMatchObject({ traces, metrics: null });
  expect(telemetry({ OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: "http://x" })).toMatchObject({ traces: null, metrics });
  expect(telemetry({ ...ENDPOINT, OTEL_PROPAGATORS: "none" })?.traces?.isW3c).toBe(false);
  expect(telemetry({ ...ENDPOINT, OTEL_NODE_RESOURCE_DETECTORS: "all" })?.detectors).toHaveLength(5);
});

test.each([
  [
    { OTEL_EXPORTER_OTLP_PROTOCOL: "pigeon" },
    'OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf or http/json or grpc, not "pigeon"',
  ],
  [{ OTEL_TRACES_EXPORTER: "zipkin" }, 'OTEL_TRACES_EXPORTER must be otlp or none, not "zipkin"'],
  [{ OTEL_METRIC_EXPORT_INTERVAL: "soon" }, "OTEL_METRIC_EXPORT_INTERVAL must be"],
  [
    { OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE: "delta" },
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE must be cumulative",
  ],
  [{ OTEL_PROPAGATORS: "b3" }, 'OTEL_PROPAGATORS may have tracecontext, baggage, none, not "b3"'],
  [{ OTEL_NODE_RESOURCE_DETECTORS: "cloud" }, "OTEL_NODE_RESOURCE_DETECTORS may have"],
  [{ OTEL_SDK_DISABLED: "maybe" }, "OTEL_SDK_DISABLED must be true or false"],
])("%j is refused", (env, why) => {
  expect(() => telemetry({ ...ENDPOINT, ...env })).toThrow(why);
});
