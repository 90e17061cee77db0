/** LangSmith: a service of the test's own that counts who calls, and says what it was sent. */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { type Any, Api } from "../runs/support.ts";
import { ok } from "../support/http.ts";
import { eventually, startServer } from "../support/server.ts";

/** What a client of LangSmith posts, as text: bodies are JSON or parts of JSON. */
class FakeLangsmith implements AsyncDisposable {
  connections = 0;
  readonly bodies: string[] = [];
  readonly #server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    if (request.method === "GET") response.end("{}");
    else {
      this.bodies.push(Buffer.concat(chunks).toString());
      response.writeHead(202).end("{}");
    }
  }).on("connection", () => {
    this.connections += 1;
  });

  static async open(): Promise<FakeLangsmith> {
    const service = new FakeLangsmith();
    service.#server.listen(0, "127.0.0.1");
    await once(service.#server, "listening");
    return service;
  }

  /** Names of the projects that runs were sent to. */
  get projects(): Set<string> {
    return new Set(
      this.bodies.flatMap((body) => [...body.matchAll(/"session_name":"([^"]*)"/g)].map(([, name]) => name ?? "")),
    );
  }

  env(more: Record<string, string> = {}): Record<string, string> {
    const url = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
    return { LANGSMITH_ENDPOINT: url, LANGSMITH_API_KEY: "test", ...more };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

const plain = { assistant_id: "plain", input: { value: 1 } };
const EXAMPLE = "11111111-1111-4111-8111-111111111111";

test("not switched on: nobody is called, and who asks for it is refused", async () => {
  await using langsmith = await FakeLangsmith.open();
  await using server = await startServer({ env: langsmith.env({ LANGSMITH_TRACING: "false" }) });
  const api = new Api(server);
  expect(await api.wait(plain)).toMatchObject({ value: 4 });
  const thread_id = await api.thread();
  const { run_id } = await api.post(`/threads/${thread_id}/runs`, plain);
  expect((await api.get(`/threads/${thread_id}/runs?select=langsmith_session_name`))[0]).toEqual({
    langsmith_session_name: null,
  });
  expect(await api.get(`/threads/${thread_id}/runs/${run_id}`)).not.toHaveProperty("langsmith_session_name");
  for (const [field, value] of [
    ["langsmith_tracer", { project_name: "p" }],
    ["langsmith_tracer", { example_id: EXAMPLE }],
    ["langsmith_session_name", "p"],
  ] as const) {
    const { status, body } = await api.http.post("/runs/wait", { ...plain, [field]: value });
    expect([status, body.detail]).toEqual([422, expect.stringContaining(`${field}: this server does not trace`)]);
    const params = { ...plain, [field]: value };
    const command = await api.post(`/threads/${thread_id}/commands`, { id: 1, method: "run.start", params });
    expect(command).toMatchObject({
      type: "error",
      error: "invalid_argument",
      message: expect.stringContaining(field),
    });
  }
  expect(await api.wait({ ...plain, langsmith_tracer: {}, langsmith_session_name: null })).toMatchObject({
    value: 4,
  });
  expect((await api.get("/info")).flags.langsmith).toBe(false);
  await server.stop();
  expect(langsmith.connections).toBe(0);
});

test("switched on: LangChain's tracer sends each run, to the server's project or to its own; nothing is lost when the server stops", async () => {
  await using langsmith = await FakeLangsmith.open();
  await using server = await startServer({
    env: langsmith.env({ LANGSMITH_TRACING: "true", LANGSMITH_PROJECT: "ours" }),
  });
  const api = new Api(server);
  const thread_id = await api.thread();
  const make = (more: object): Promise<Any> => api.post(`/threads/${thread_id}/runs`, { ...plain, ...more });
  const first = (await ok(
    api.http.post(`/threads/${thread_id}/runs`, plain, { headers: { "x-request-id": "req-1" } }),
  )) as Any;
  await make({ langsmith_tracer: { project_name: "theirs", example_id: EXAMPLE } });
  const last = await make({ langsmith_session_name: "named" });
  expect([first.langsmith_session_name, last.langsmith_session_name]).toEqual(["ours", "named"]);
  await api.get(`/threads/${thread_id}/runs/${last.run_id}/join`);
  // Batches wait for company: what is left goes when the server stops.
  await server.stop();
  expect(langsmith.projects).toEqual(new Set(["ours", "theirs", "named"]));
  const sent = langsmith.bodies.join("\n");
  expect(sent).toContain(first.run_id);
  expect(sent).toContain('"langgraph_request_id":"req-1"');
  expect(sent).toContain(`"reference_example_id":"${EXAMPLE}"`);
});

test("services that are away harm nobody: neither this one, nor a collector of OpenTelemetry", async () => {
  const env = {
    LANGSMITH_ENDPOINT: "http://127.0.0.1:9",
    LANGSMITH_API_KEY: "test",
    LANGSMITH_TRACING: "true",
    OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:9",
    OTEL_BSP_SCHEDULE_DELAY: "50",
  };
  await using server = await startServer({ env });
  expect(await new Api(server).wait(plain)).toMatchObject({ value: 4 });
  await eventually(() => server.logs().some(({ msg }) => msg === "OpenTelemetry: what was to be sent is lost"));
  expect(await server.stop()).toMatchObject({ code: 0 });
});

test("a caller's trace is in the run's config, for graphs that want to be part of it", async () => {
  await using langsmith = await FakeLangsmith.open();
  await using server = await startServer({ env: langsmith.env() });
  const api = new Api(server);
  const trace = "20260101T000000000000Z0c7f0c3e-0000-4000-8000-000000000000";
  const baggage = [
    `langsmith-metadata=${encodeURIComponent(JSON.stringify({ who: "me" }))}`,
    "langsmith-tags=a%2Cb;prop=1",
    " langsmith-project=my%20project",
    "other=1",
  ].join(",");
  const seen = async (headers: Record<string, string>): Promise<Any> => {
    const body = { assistant_id: "echo", input: {}, config: { configurable: { own: 1 } } };
    return ((await ok(api.http.post("/runs/wait", body, { headers }))) as Any).seen.configurable;
  };
  expect(await seen({ "langsmith-trace": trace, baggage })).toMatchObject({
    own: 1,
    "langsmith-trace": trace,
    "langsmith-metadata": { who: "me" },
    "langsmith-tags": ["a", "b"],
    "langsmith-project": "my project",
  });
  // Baggage is the whole network's.
  expect(Object.keys(await seen({ baggage })).filter((key) => key.startsWith("langsmith"))).toEqual([]);
  for (const [wrong, why] of [
    ["langsmith-metadata=%7B", "baggage: langsmith-metadata is not JSON"],
    ["langsmith-metadata=1", "baggage: langsmith-metadata must be a JSON object"],
    ["langsmith-tags=%E0%A4%A", "baggage: langsmith-tags is not percent-encoded"],
  ] as const) {
    const headers = { "langsmith-trace": trace, baggage: wrong };
    const { status, body } = await api.http.post("/runs/wait", { assistant_id: "echo" }, { headers });
    expect([status, body]).toEqual([422, { detail: why }]);
  }
  expect(langsmith.connections).toBe(0);
});
