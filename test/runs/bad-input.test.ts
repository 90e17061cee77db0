/** Bad input: a 4xx `{detail}` that names the field, whatever is sent, and nothing half written. */
import { Agent, request } from "node:http";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startServer, type TestServer } from "../support/server.ts";
import { type Any, Api, type Body, database, numbers, useServer, useTempDir, WAYS } from "./support.ts";

const MAX_BODY = 200_000;
const api = useServer(() => ({ env: { HTTP_MAX_REQUEST_BODY_BYTES: String(MAX_BODY) } }));
const plain = { assistant_id: "plain", input: { value: 1 } };
const temp = useTempDir();

/** One wrong value for each field; the detail must name it. */
const WRONG: readonly [string, Body][] = [
  ["assistant_id", { assistant_id: 7 }],
  ["command", { command: "resume" }],
  ["command.update", { command: { update: 1 } }],
  ["command.goto", { command: { goto: { input: 1 } } }],
  ["metadata", { metadata: "x" }],
  ["metadata", { metadata: ["x"] }],
  ["config", { config: [] }],
  ["config.tags", { config: { tags: "x" } }],
  ["config.tags.1", { config: { tags: ["x", 2] } }],
  ["config.recursion_limit", { config: { recursion_limit: 0 } }],
  ["config.recursion_limit", { config: { recursion_limit: 1.5 } }],
  ["config.recursion_limit", { config: { recursion_limit: "9" } }],
  ["config.configurable", { config: { configurable: "x" } }],
  ["context", { context: 1 }],
  ["webhook", { webhook: 1 }],
  ["webhook", { webhook: "" }],
  ["stream_mode", { stream_mode: "everything" }],
  ["stream_mode.1", { stream_mode: ["values", "everything"] }],
  ["stream_mode", { stream_mode: { mode: "values" } }],
  ["feedback_keys", { feedback_keys: "x" }],
  ["feedback_keys.0", { feedback_keys: [1] }],
  ["stream_subgraphs", { stream_subgraphs: "yes" }],
  ["stream_resumable", { stream_resumable: 1 }],
  ["after_seconds", { after_seconds: -1 }],
  ["after_seconds", { after_seconds: "soon" }],
  ["after_seconds", { after_seconds: 1e300 }],
  ["checkpoint_during", { checkpoint_during: "yes" }],
  ["durability", { durability: "forever" }],
  ["interrupt_before", { interrupt_before: "second" }],
  ["interrupt_after", { interrupt_after: [1] }],
];
const STATELESS: readonly [string, Body][] = [["on_completion", { on_completion: "burn" }]];
const STATEFUL: readonly [string, Body][] = [
  ["multitask_strategy", { multitask_strategy: "fight" }],
  ["if_not_exists", { if_not_exists: "maybe" }],
  ["checkpoint", { checkpoint: "x" }],
  ["checkpoint_id", { checkpoint_id: 3 }],
];

describe.each(WAYS)("$name", (way) => {
  const refused = async (body: Body | string, status: number, name: string): Promise<void> => {
    const sent = typeof body === "string" ? body : way.wrap(body);
    const answer = await api.http.post(await way.path(api), sent);
    expect([name, answer.status]).toEqual([name, status]);
    expect(answer.headers.get("content-type")).toContain("application/json");
    expect(Object.keys(answer.body)).toEqual(["detail"]);
    expect(answer.body.detail).toContain(name);
  };

  test("a value of the wrong kind: 422 that names the field", async () => {
    for (const [field, wrong] of [...WRONG, ...(way.stateful ? STATEFUL : STATELESS)]) {
      await refused({ ...plain, ...wrong }, 422, field);
    }
    await refused({ ...plain, on_disconnect: "cry" }, 422, "on_disconnect");
  });

  test("no JSON, or none that fits: 422", async () => {
    for (const text of ['{"assistant_id":', "plain", "", "null", "7", '"text"', "[7]", "[]", '{"a":1}}']) {
      const answer = await api.http.post(await way.path(api), text);
      expect([text, answer.status, typeof answer.body?.detail]).toEqual([text, 422, "string"]);
    }
  });

  test("400 levels of nesting, wherever: 422", async () => {
    const deep = (open: string, close: string): string => `${open.repeat(400)}1${close.repeat(400)}`;
    for (const nested of [deep("[", "]"), deep('{"a":', "}")]) {
      const item = `{"assistant_id":"plain","input":${nested}}`;
      await refused(Array.isArray(way.wrap({})) ? `[${item}]` : item, 422, "nested");
    }
  });

  test("__proto__ keys, wherever and however they are written: 422", async () => {
    const bodies = [
      '{"assistant_id":"plain","__proto__":{"x":1}}',
      '{"assistant_id":"plain","input":{"a":[{"__proto__":{"polluted":true}}]}}',
      '{"assistant_id":"plain","input":{"\\u005f_proto__":{"polluted":true}}}',
      '{"assistant_id":"plain","metadata":{"__proto__":null}}',
    ];
    for (const item of bodies) await refused(Array.isArray(way.wrap({})) ? `[${item}]` : item, 422, "__proto__");
    const harmless = {
      assistant_id: "functional",
      input: { constructor: 1, prototype: 2, toString: 3, text: "__proto__" },
    };
    expect(await way.output(api, harmless)).toEqual(harmless.input);
  });

  test("names that every object has: at worst the run's own error, never the executor's death", async () => {
    const names = ["constructor", "toString", "valueOf", "hasOwnProperty", "isPrototypeOf"];
    const update = { value: 1, ...Object.fromEntries(names.map((name) => [name, name])) };
    for (const given of [update, Object.entries(update)]) {
      const output = await way.output(api, { assistant_id: "plain", command: { update: given } });
      // LangGraph looks channels up in plain objects, and stumbles.
      expect(output).toMatchObject({ __error__: { error: "TypeError" } });
    }
    expect(await way.output(api, { ...plain, config: { configurable: update } })).toMatchObject({ value: 4 });
  });

  test("NUL bytes and lone surrogates become U+FFFD", async () => {
    const item = '{"assistant_id":"functional","input":{"a":"x\\u0000y","b":"\\ud800","c":"\\ud83d\\ude42"}}';
    const output = await way.output(api, JSON.parse(item));
    expect(output).toEqual({ a: "x\uFFFDy", b: "\uFFFD", c: "🙂" });
  });

  test("a body that is too large: 413", async () => {
    await refused({ ...plain, input: { value: "x".repeat(MAX_BODY) } }, 413, String(MAX_BODY));
    expect(await way.output(api, plain)).toMatchObject({ value: 4 });
  });
});

test("a body that is too large and does not say how large it is", async () => {
  const status = await new Promise((resolve, reject) => {
    const call = request(`${api.url}/runs/wait`, { method: "POST", agent: new Agent() });
    call.on("response", (response) => {
      response.resume();
      resolve(response.statusCode);
    });
    call.on("error", reject);
    for (const _ of numbers(10)) call.write("x".repeat(MAX_BODY / 5));
    call.end();
  });
  expect(status).toBe(413);
});

test("one bad run of a batch: none is made", async () => {
  const batch = [{ ...plain, on_completion: "keep" }, { assistant_id: "nobody" }];
  const before = await api.get("/metrics?format=json");
  expect((await api.http.post("/runs/batch", batch)).status).toBe(404);
  expect((await api.http.post("/runs/batch", [plain, { ...plain, stream_mode: "x" }])).body.detail).toContain(
    "1.stream_mode",
  );
  const after = await api.get("/metrics?format=json");
  expect(JSON.stringify(after.runs ?? null)).toBe(JSON.stringify(before.runs ?? null));
});

test("unknown fields are tolerated", async () => {
  expect(await api.wait({ ...plain, whatever: [1] })).toMatchObject({ value: 4 });
});

test.each([
  ["GET", "/runs/nonsense/stream", 422],
  ["GET", "/runs/nonsense/join", 422],
  ["POST", "/threads/nonsense/runs/wait", 422],
  ["GET", "/threads/nonsense", 422],
  ["GET", "/threads/01a20228-0000-7000-8000-000000000000", 404],
  ["GET", "/threads/01a20228-0000-7000-8000-000000000000/state", 404],
  ["POST", "/threads/01a20228-0000-7000-8000-000000000000/runs/wait", 404],
  ["GET", "/nowhere", 404],
  ["DELETE", "/runs/wait", 405],
])("%s %s: %i with a sentence", async (method, path, status) => {
  const body = method === "POST" ? JSON.stringify(plain) : undefined;
  const answer = await fetch(api.url + path, { method, ...(body === undefined ? {} : { body }) });
  expect(answer.status).toBe(status);
  expect(await answer.json()).toEqual({ detail: expect.any(String) });
});

describe("properties", () => {
  const RUNS = Number(process.env.FC_RUNS ?? 250);
  const word = fc.oneof(
    fc.string(),
    fc.string({ unit: "binary" }),
    fc.constantFrom("plain", "*", "values", "first", "__start__"),
  );
  const json = fc.jsonValue({ maxDepth: 4 });
  const object = fc.dictionary(word, json, { maxKeys: 4 });
  /** Mostly what the field wants, sometimes anything. */
  const mostly = (right: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> =>
    fc.oneof(
      { weight: 30, arbitrary: right },
      { weight: 1, arbitrary: json },
      { weight: 1, arbitrary: fc.constant(null) },
    );
  const modes = fc.constantFrom(
    ...[
      "values",
      "messages",
      "messages-tuple",
      "tasks",
      "checkpoints",
      "updates",
      "events",
      "debug",
      "custom",
      "tools",
    ],
  );
  const send = fc.record({ node: fc.oneof(word, fc.constantFrom("first", "second")), input: json });
  const goto = fc.oneof(word, send, fc.array(fc.oneof(word, send), { maxLength: 3 }));
  const command = fc.record({ resume: json, update: fc.oneof(object, fc.array(json)), goto }, { requiredKeys: [] });
  const config = fc.record(
    { tags: fc.array(word), recursion_limit: fc.integer({ min: 1, max: 30 }), configurable: object },
    { requiredKeys: [] },
  );
  const breakpoints = fc.oneof(fc.constant("*"), fc.array(word, { maxLength: 3 }));
  const body = fc.record(
    {
      assistant_id: fc.oneof(
        { weight: 20, arbitrary: fc.constantFrom("plain", "functional", "echo", "hitl") },
        mostly(word),
      ),
      input: fc.oneof(json, fc.record({ value: fc.integer() })),
      command: mostly(command),
      metadata: mostly(object),
      config: mostly(config),
      context: mostly(object),
      webhook: mostly(fc.constant(null)),
      stream_mode: mostly(fc.oneof(modes, fc.array(modes, { maxLength: 4 }))),
      feedback_keys: mostly(fc.array(word)),
      stream_subgraphs: mostly(fc.boolean()),
      stream_resumable: mostly(fc.boolean()),
      on_completion: mostly(fc.constantFrom("keep", "delete")),
      on_disconnect: mostly(fc.constantFrom("cancel", "continue")),
      after_seconds: mostly(fc.constantFrom(0, 0.001)),
      checkpoint_during: mostly(fc.boolean()),
      durability: mostly(fc.constantFrom("sync", "async", "exit")),
      interrupt_before: mostly(breakpoints),
      interrupt_after: mostly(breakpoints),
      multitask_strategy: mostly(fc.constantFrom("enqueue", "reject", "interrupt", "rollback")),
      if_not_exists: mostly(fc.constantFrom("create", "reject")),
      checkpoint_id: mostly(word),
      checkpoint: mostly(object),
    },
    { requiredKeys: ["assistant_id"] },
  );
  /** Whole numbers of seconds somebody generated would make the test wait for them. */
  const soon = (sent: Any): Any =>
    typeof sent?.after_seconds === "number" && sent.after_seconds > 0 ? { ...sent, after_seconds: 0.001 } : sent;

  let server: TestServer;
  let own: Api;
  let thread_id: string;
  /** Ids of runs whose creation was answered with a success. */
  const made = new Set<string>();
  let refused = 0;

  beforeAll(async () => {
    server = await startServer({ data: temp.dir });
    own = new Api(server);
    thread_id = await own.thread();
  });
  afterAll(() => server?.[Symbol.asyncDispose]());

  async function holds(path: string, sent: unknown): Promise<void> {
    const answer = await own.http.post(path, sent);
    expect(answer.status).toBeLessThan(500);
    if (answer.status < 300) {
      const located = answer.headers.get("content-location")?.split("/").at(-1);
      for (const id of located === undefined ? answer.body.map(({ run_id }: Any) => run_id) : [located]) made.add(id);
      return;
    }
    refused += 1;
    expect(answer.status).toBeGreaterThanOrEqual(400);
    expect(answer.body).toEqual({ detail: expect.stringMatching(/\S/) });
  }

  const paths = [
    "/runs",
    "/runs/wait",
    "/runs/stream",
    "/threads/{t}/runs",
    "/threads/{t}/runs/stream",
    "/threads/{t}/runs/wait",
  ];

  test("no body is answered with a 5xx, refusals are JSON with a detail", async () => {
    const property = fc.asyncProperty(fc.constantFrom(...paths), body, (path, sent) =>
      holds(path.replace("{t}", thread_id), soon(sent)),
    );
    await fc.assert(property, { numRuns: RUNS });
    expect(made.size).toBeGreaterThan(RUNS / 10);
    expect(refused).toBeGreaterThan(RUNS / 10);
  });

  test("batches", async () => {
    const property = fc.asyncProperty(fc.array(body, { maxLength: 3 }), (sent) => holds("/runs/batch", sent.map(soon)));
    await fc.assert(property, { numRuns: RUNS / 5 });
  });

  test("any JSON, and any text, as the body", async () => {
    const anything = fc.oneof(fc.json(), fc.string({ unit: "binary" }), fc.string());
    const property = fc.asyncProperty(fc.constantFrom(...paths, "/runs/batch"), anything, (path, text) =>
      holds(path.replace("{t}", thread_id), text),
    );
    await fc.assert(property, { numRuns: RUNS / 2 });
  });

  test("any query of a joiner", async () => {
    const { path } = await own.background(plain);
    await own.get(`${path}/join`);
    const names = fc.constantFrom(
      "stream_mode",
      "cancel_on_disconnect",
      "last_event_id",
      "namespace",
      "checkpoint_id",
      "x",
    );
    const query = fc.array(fc.tuple(names, fc.string({ unit: "binary" })), { maxLength: 4 });
    const property = fc.asyncProperty(query, fc.constantFrom("stream", "join"), async (pairs, how) => {
      const search = new URLSearchParams(pairs);
      const answer = await own.http.get(`${path}/${how}?${search}`);
      expect(answer.status === 200 || (answer.status === 422 && typeof answer.body.detail === "string")).toBe(true);
    });
    await fc.assert(property, { numRuns: RUNS / 5 });
  });

  test("and nothing is half written: every row belongs to a run that was answered for", async () => {
    expect((await server.stop()).code).toBe(0);
    const errors = server.logs().filter(({ level }) => Number(level) >= 50);
    expect(errors).toEqual([]);
    const db = database(temp.dir);
    const runs = await db.all("select run_id, thread_id, status from runs");
    const unknown = runs.filter(({ run_id }) => !made.has(run_id));
    // The one run that the joiner test made for itself.
    expect(unknown).toHaveLength(1);
    const orphans = (table: string) =>
      db.all(`select thread_id from ${table} where thread_id not in (select thread_id from threads)`);
    for (const table of ["runs", "checkpoints", "checkpoint_blobs", "checkpoint_writes"])
      expect([table, await orphans(table)]).toEqual([table, []]);
    const idle = await db.all("select thread_id from threads where thread_id not in (select thread_id from runs)");
    expect(idle.filter((row) => row.thread_id !== thread_id)).toEqual([]);
    expect(new Set(runs.map(({ status }) => status))).not.toContain("running");
    db.close();
  });
});
