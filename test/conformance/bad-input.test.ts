/**
 * Bad input over all operations, made from the list: never a 5xx, never silence, always `{"detail": …}`, and nothing
 * half written. `FC_RUNS` and `FC_SEED` repeat or deepen a run; a failure prints its seed.
 */
import { Agent, request } from "node:http";
import { join } from "node:path";
import { toUSVString } from "node:util";
import fc from "fast-check";
import Libsql from "libsql";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ON_POSTGRES, startServer, type TestServer } from "../support/server.ts";
import { type Any, Api, NOBODY, YEARLY } from "./kit.ts";
import { type Fields, nameOf, OPERATIONS, type Operation, type Value } from "./operations.ts";
import { OURS } from "./ours.ts";
import { GRAPHS } from "./target.ts";

/** Most of what is refused never gets to the database: fewer on the second. */
const RUNS = Number(process.env.FC_RUNS ?? (ON_POSTGRES ? 5 : 20));
const SEED = process.env.FC_SEED === undefined ? {} : { seed: Number(process.env.FC_SEED) };
const ANSWER_MS = 15_000;

/* -------------------------------------------------------------------------------- the server */

let server: TestServer | undefined;
let api: Api;
beforeAll(async () => {
  const url = process.env.SKEIN_CONFORMANCE_URL;
  if (url === undefined || url === "") server = await startServer({ project: GRAPHS, args: ["--jobs", "30"] });
  api = new Api(url === undefined || url === "" ? (server?.url ?? "") : url);
});
afterAll(() => server?.[Symbol.asyncDispose]());

interface Sent {
  readonly method: string;
  /** As it goes over the wire: nothing normalises it. */
  readonly path: string;
  readonly body?: string;
  readonly type?: string;
}

interface Received {
  readonly status: number;
  readonly type: string;
  readonly text: string;
}

const agent = new Agent({ keepAlive: true });
afterAll(() => agent.destroy());

function send({ method, path, body, type = "application/json" }: Sent): Promise<Received> {
  const { hostname, port } = new URL(api.url);
  const about = body === undefined ? {} : { "content-type": type, "content-length": Buffer.byteLength(body) };
  const headers = { accept: "application/json, text/event-stream", ...about };
  return new Promise((resolve, reject) => {
    const call = request({ agent, hostname, port, method, path, headers }, async (response) => {
      const received = { status: response.statusCode ?? 0, type: String(response.headers["content-type"]) };
      // Streams may stay open for ever: that one began is all there is to know.
      if (received.type.startsWith("text/event-stream")) {
        resolve({ ...received, text: "" });
        response.destroy();
        return;
      }
      let text = "";
      response.setEncoding("utf8");
      try {
        for await (const chunk of response) text += chunk;
        resolve({ ...received, text });
      } catch (error) {
        reject(error);
      }
    });
    call.setTimeout(ANSWER_MS, () => call.destroy(new Error(`no answer to ${method} ${path} in ${ANSWER_MS} ms`)));
    call.on("error", reject);
    call.end(body);
  });
}

/** What must be true of every answer. */
function decent({ status, type, text }: Received): void {
  expect(status, text).toBeGreaterThanOrEqual(200);
  expect(status, text).toBeLessThan(500);
  if (status < 400) return;
  expect(type).toContain("application/json");
  const { jsonrpc, id: _, error, ...told } = JSON.parse(text);
  const detail = expect.stringMatching(/\S/);
  // Commands are answered in the form of their protocol, with the detail beside it; what speaks JSON-RPC says it in those words too.
  if (status === 400 && told.type === "error")
    expect({ error, ...told }).toMatchObject({ error: "invalid_argument", detail });
  else
    expect(jsonrpc === undefined ? { ...told, ...(error === undefined ? {} : { error }) } : told).toEqual({ detail });
}

/* ------------------------------------------------------------------------------------ things */

/** One of each kind of thing, for requests to get past the first check. */
interface Things {
  readonly thread_id: string;
  readonly run_id: string;
  readonly checkpoint_id: string;
  readonly assistant_id: string;
  readonly cron_id: string;
}

/** A server that lacks an operation gets the others tested all the same. */
async function makeThings(): Promise<Things> {
  const { thread_id, run_id, path } = await api.start("plain", { value: 1 });
  await api.get(`${path}/join`);
  const { checkpoint } = await api.state(thread_id);
  const assistant = await api.http.post("/assistants", { graph_id: "plain", name: "fuzzed" });
  const cron = await api.http.post("/runs/crons", { assistant_id: "plain", schedule: YEARLY, enabled: false });
  await api.http.put("/store/items", { namespace: ["fuzzed"], key: "k", value: { a: 1 } });
  return {
    thread_id,
    run_id,
    checkpoint_id: checkpoint.checkpoint_id,
    assistant_id: assistant.body.assistant_id ?? NOBODY,
    cron_id: cron.body.cron_id ?? NOBODY,
  };
}

/** How much there is. Only accepted requests may add to it. */
async function counts(): Promise<number[]> {
  const paths = ["/threads/count", "/assistants/count", "/runs/crons/count"];
  const answers = await Promise.all(paths.map((path) => api.http.post(path, {})));
  return answers.map(({ status, body }) => (status === 200 ? body : 0));
}

/* -------------------------------------------------------------------------------- arbitraries */

const ODD_TEXTS = [
  "",
  " ",
  "..",
  "../../etc/passwd",
  "%2e%2e",
  "\0",
  "a\0b",
  "\ud800",
  "🙂",
  "null",
  "undefined",
  "NaN",
  "Infinity",
  "-1",
  "1e999",
  "0x10",
  "9007199254740993",
  "__proto__",
  "constructor",
  "'; drop table threads; --",
  "a".repeat(5000),
  "[",
  '["a"',
  "{}",
  NOBODY,
];
const oddText = fc.oneof(fc.constantFrom(...ODD_TEXTS), fc.string({ unit: "binary", maxLength: 20 }));
const json = fc.jsonValue({ maxDepth: 3 });
const oddJson = fc.oneof(
  json,
  oddText,
  fc.constantFrom<unknown>(null, true, 0, -1, 1.5, 1e308, -0, 2 ** 53, [], {}, [[]], [null], { a: null }),
);

const GRAPH = fc.constantFrom("plain", "functional", "echo", "hitl");
/** Fields where a random text would never get anywhere, or would do something slow. */
const KNOWN: Readonly<Record<string, (things: Things) => fc.Arbitrary<unknown>>> = {
  graph_id: () => GRAPH,
  assistant_id: ({ assistant_id }) => fc.oneof(GRAPH, fc.constant(assistant_id)),
  thread_id: ({ thread_id }) => fc.constantFrom(thread_id, NOBODY),
  thread_ids: ({ thread_id }) => fc.subarray([thread_id, NOBODY]),
  ids: ({ thread_id }) => fc.subarray([thread_id, NOBODY]),
  run_ids: ({ run_id }) => fc.subarray([run_id, NOBODY]),
  checkpoint_id: ({ checkpoint_id }) => fc.constantFrom(checkpoint_id, NOBODY),
  before: ({ checkpoint_id }) => fc.oneof(fc.constant(checkpoint_id), fc.constant({ checkpoint_id })),
  as_node: () => fc.constantFrom("first", "second", "__input__", "__start__", "nobody"),
  schedule: () => fc.constantFrom(YEARLY, "0 5 * * 1", "@yearly", "61 * * * *"),
  timezone: () => fc.constantFrom("UTC", "Europe/Berlin", "Mars/Olympus"),
  after_seconds: () => fc.constantFrom(0, 0.001),
  webhook: () => fc.constantFrom("http:", "ftp://x", "//", "http://[::1", "relative"),
  namespace: () => fc.array(oddText, { maxLength: 3 }),
  extract: () => fc.dictionary(oddText, fc.constantFrom("values.a", "metadata[0]", "values..a", "values[-1].b", "x.y")),
};

function right(name: string, value: Value, things: Things): fc.Arbitrary<unknown> {
  const known = Object.hasOwn(KNOWN, name) ? KNOWN[name]?.(things) : undefined;
  if (known !== undefined) return known;
  return fc.oneof(...value.kinds.map((kind) => ofKind(kind, value, things)));
}

function ofKind(kind: string, value: Value, things: Things): fc.Arbitrary<unknown> {
  switch (kind) {
    case "string":
      if (value.values !== undefined) return fc.constantFrom(...value.values);
      return value.format === "date-time"
        ? fc.date({ noInvalidDate: true }).map((date) => date.toISOString())
        : oddText;
    case "integer":
      return fc.integer({ min: value.min ?? 0, max: Math.min(value.max ?? 20, 20) });
    case "number":
      return fc.double({ min: 0, max: 100, noNaN: true });
    case "boolean":
      return fc.boolean();
    case "null":
      return fc.constant(null);
    case "array":
      return fc.array(value.items === undefined ? json : near("", value.items, things), { maxLength: 3 });
    case "object":
      return value.fields === undefined
        ? fc.dictionary(oddText, oddJson, { maxKeys: 4 })
        : nearFields(value.fields, things);
    default:
      return json;
  }
}

/** Mostly what the field wants, sometimes not. */
const near = (name: string, value: Value, things: Things): fc.Arbitrary<unknown> =>
  fc.oneof({ weight: 14, arbitrary: right(name, value, things) }, { weight: 1, arbitrary: oddJson });

function nearFields(fields: Fields, things: Things): fc.Arbitrary<unknown> {
  const model = Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, near(name, value, things)]));
  const requiredKeys = Object.keys(fields).filter((name) => fields[name]?.required === true);
  return fc.record(model, { requiredKeys });
}

const RAW_BODIES = [
  "",
  " ",
  "null",
  "[]",
  "7",
  '"text"',
  "{",
  '{"a":1}}',
  "\0",
  "\ufeff{}",
  `${"[".repeat(3000)}${"]".repeat(3000)}`,
  `{"metadata":${'{"a":'.repeat(3000)}1${"}".repeat(3000)}}`,
  '{"__proto__":{"polluted":true}}',
  '{"metadata":{"__proto__":{"polluted":true}}}',
  '{"constructor":{"prototype":{"polluted":true}}}',
  '{"limit":1e400,"offset":-1e400}',
  '{"limit":1,"limit":"x"}',
  "a=1&b=2",
  "<xml/>",
];

function bodies({ body }: Operation, things: Things): fc.Arbitrary<string | undefined> {
  const far = fc.oneof(fc.constantFrom(...RAW_BODIES), fc.json({ maxDepth: 4 }), fc.string({ unit: "binary" }));
  if (body === null) return fc.oneof({ weight: 5, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: far });
  return fc.oneof(
    { weight: 5, arbitrary: near("", body, things).map((value) => JSON.stringify(value)) },
    { weight: 1, arbitrary: far },
    { weight: 1, arbitrary: fc.constant(undefined) },
  );
}

/** Pairs, so that names can come twice. */
function queries({ query }: Operation, things: Things): fc.Arbitrary<string> {
  const name = fc.oneof(fc.constantFrom(...Object.keys(query), "x"), oddText);
  const value = fc.oneof(
    { weight: 2, arbitrary: oddText },
    { weight: 1, arbitrary: fc.constantFrom("true", "1", "0", "false", things.checkpoint_id, "interrupt", "values") },
  );
  return fc
    .array(fc.tuple(name, value), { maxLength: 3 })
    .map((pairs) => pairs.map(([a, b]) => `${encoded(a)}=${encoded(b)}`).join("&"));
}

/** Segments as clients and attackers write them. */
function paths({ path }: Operation, things: Things): fc.Arbitrary<string> {
  const names = [...path.matchAll(/\{(\w+)\}/g)].map(([, name = ""]) => name);
  const ids = names.map((name) => {
    const existing = (things as unknown as Record<string, string>)[name] ?? "middle";
    const odd = fc.oneof(
      fc.constantFrom("%", "%zz", "%ff", "%00", ".", "..", "%2e%2e", "a%2Fb", ";", "~"),
      oddText.map(encoded),
    );
    return fc.oneof({ weight: 5, arbitrary: fc.constant(existing) }, { weight: 2, arbitrary: odd });
  });
  return fc
    .tuple(...ids)
    .map((all) => names.reduce((done, name, index) => done.replace(`{${name}}`, all[index] ?? ""), path));
}

const encoded = (text: string): string => encodeURIComponent(toUSVString(text));

/* -------------------------------------------------------------------------------- properties */

describe("anything near the schema and far from it", () => {
  test.each(OPERATIONS.map((operation) => [nameOf(operation), operation] as const))("%s", async (_, operation) => {
    const things = await makeThings();
    const types = fc.constantFrom(
      "application/json",
      "text/plain",
      "application/x-www-form-urlencoded",
      "multipart/form-data",
      "",
    );
    const sent = fc.record({
      path: paths(operation, things),
      query: queries(operation, things),
      body: bodies(operation, things),
      type: types,
    });
    const grows = operation.method !== "get";
    let known = grows ? await counts() : [];
    const property = fc.asyncProperty(sent, async ({ path, query, body, type }) => {
      const method = operation.method.toUpperCase();
      const whole = query === "" ? path : `${path}?${query}`;
      const received = await send({ method, path: whole, ...(body === undefined ? {} : { body }), type });
      decent(received);
      if (!grows) return;
      const now = await counts();
      // Threads of stateless runs may have gone meanwhile; refusals add nothing.
      if (received.status >= 400)
        for (const [index, count] of now.entries()) expect(count).toBeLessThanOrEqual(known[index] ?? 0);
      known = now;
    });
    await fc.assert(property, { numRuns: RUNS, ...SEED });
  });
});

/* ------------------------------------------------------------------------ each field, one by one */

interface Wrong {
  readonly place: string;
  readonly body: unknown;
}

const WRONG_VALUES: readonly [string, unknown][] = [
  ["string", 7],
  ["integer", 1.5],
  ["number", "many"],
  ["boolean", "perhaps"],
  ["object", "text"],
  ["array", { a: 1 }],
];

/** Values that the field cannot take; none where it takes anything. */
function wrongFor({ kinds, values, min, max }: Value): unknown[] {
  if (kinds.includes("any")) return [];
  const takes = (value: unknown): boolean =>
    kinds.some(
      (kind) =>
        (kind === "array" && Array.isArray(value)) ||
        (kind === "object" && typeof value === "object" && !Array.isArray(value)) ||
        ((kind === "number" || (kind === "integer" && Number.isInteger(value))) && typeof value === "number") ||
        kind === typeof value,
    );
  const ofOtherKind = WRONG_VALUES.filter(([kind, value]) => !kinds.includes(kind as Any) && !takes(value));
  return [
    ...ofOtherKind.map(([, value]) => value),
    ...(values === undefined || !kinds.includes("string") ? [] : ["no-such-word"]),
    ...(min === undefined ? [] : [min - 1]),
    ...(max === undefined ? [] : [max + 1]),
  ];
}

/** Every field of a body, objects in objects too, with each value it must refuse. */
function wrongs(fields: Fields, around: (inner: Any) => unknown, prefix = ""): Wrong[] {
  return Object.entries(fields).flatMap(([name, value]) => {
    const place = `${prefix}${name}`;
    const at = (inner: unknown) => around({ ...requiredOf(fields), [name]: inner });
    return [
      ...wrongFor(value).map((wrong) => ({ place, body: at(wrong) })),
      ...(value.required === true ? [{ place, body: around(without(requiredOf(fields), name)) }] : []),
      ...(value.fields === undefined || name === "goto" ? [] : wrongs(value.fields, at, `${place}.`)),
      ...(value.items === undefined || value.kinds.includes("string")
        ? []
        : wrongFor(value.items).map((wrong) => ({ place: `${place}.0`, body: at([wrong]) }))),
    ];
  });
}

const REQUIRED: Readonly<Record<string, unknown>> = {
  assistant_id: "plain",
  graph_id: "plain",
  schedule: YEARLY,
  thread_ids: [NOBODY],
  checkpoint: {},
  namespace: ["wrong"],
  key: "k",
  value: {},
  as_node: "first",
  node: "first",
  updates: [],
};
const requiredOf = (fields: Fields): Record<string, unknown> =>
  Object.fromEntries(
    Object.keys(fields).flatMap((name) => (fields[name]?.required === true ? [[name, REQUIRED[name]]] : [])),
  );
const without = (body: Record<string, unknown>, name: string): unknown => ({ ...body, [name]: undefined });

/** What our server takes beyond the list it need not refuse. */
const isOurs = (operation: Operation, place: string): boolean =>
  OURS.some(({ covers }) => covers(nameOf(operation), `body.${place}`));

describe.skipIf(ON_POSTGRES)("a value that a field cannot take is a 422, or 400, that names it", () => {
  let things: Things;
  let before: number[];
  beforeAll(async () => {
    things = await makeThings();
    before = await counts();
  });

  const inPath = ({ path }: Operation): string =>
    path.replaceAll(/\{(\w+)\}/g, (_, name: string) => (things as unknown as Record<string, string>)[name] ?? "middle");

  async function findings(operation: Operation, path: string, wrong: readonly Wrong[]): Promise<string[]> {
    const found: string[] = [];
    for (const { place, body } of wrong.filter(({ place }) => !isOurs(operation, place))) {
      const method = operation.method.toUpperCase();
      const received = await send({ method, path, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
      decent(received);
      if (
        received.status !== (operation.errors.includes(400) ? 400 : 422) ||
        !JSON.parse(received.text).detail.includes(place)
      )
        found.push(`${place} of ${JSON.stringify(body)}: ${received.status} ${received.text.slice(0, 200)}`);
    }
    return found;
  }

  // What speaks JSON-RPC has no 422.
  const checked = OPERATIONS.filter(({ body, errors }) => body !== null && errors.includes(422));
  test.each(checked.map((one) => [nameOf(one), one] as const))("%s", async (_, operation) => {
    const { fields, items } = operation.body ?? {};
    const wrong =
      fields === undefined ? wrongs(items?.fields ?? {}, (item) => [item], "0.") : wrongs(fields, (body) => body);
    expect((await findings(operation, inPath(operation), wrong)).join("\n")).toBe("");
  });

  test.each(OPERATIONS.filter(({ query }) => Object.keys(query).length > 0).map((one) => [nameOf(one), one] as const))(
    "%s, its query",
    async (_, operation) => {
      const refusing = Object.entries(operation.query).filter(
        ([, { kinds, values }]) => values !== undefined || !kinds.some((kind) => kind === "string" || kind === "array"),
      );
      const found: string[] = [];
      const body = operation.body === null ? undefined : (requiredOf(operation.body.fields ?? {}) as Any);
      for (const [name] of refusing) {
        for (const value of ["no-such-word", "1.5", "NaN"])
          found.push(...(await findings(operation, `${inPath(operation)}?${name}=${value}`, [{ place: name, body }])));
      }
      expect(found.join("\n")).toBe("");
    },
  );

  test("and nothing was made", async () => {
    expect(await counts()).toEqual(before);
  });
});

/* -------------------------------------------------------------------------------------- paths */

test("a request line that is too long is refused in JSON", async () => {
  const received = await send({ method: "GET", path: `/threads/${"x".repeat(20_000)}` });
  decent(received);
  expect(received.status).toBeGreaterThanOrEqual(400);
});

/** Events of a run can be read for a while after its thread has gone. */
const OUTLIVING = ["event_logs"];

test("the server is alive, and every row belongs to something", async () => {
  const { broker: _, ...health } = await api.get("/ok?check_db=1");
  expect(health).toEqual({ ok: true });
  if (server === undefined) return;
  expect(server.logs().filter(({ level }) => Number(level) >= 50)).toEqual([]);
  expect((await server.stop()).code).toBe(0);
  const db = new Libsql(join(server.data, "skein.db"), { readonly: true });
  const all = (sql: string): Any[] => db.prepare(sql).all();
  const tables = all("select name from sqlite_master where type = 'table'").map(({ name }) => name);
  const columns = (table: string): string[] =>
    all(`select name from pragma_table_info('${table}')`).map(({ name }) => name);
  const strays = (owner: string, id: string): string[] =>
    tables
      .filter((table) => table !== owner && !OUTLIVING.includes(table) && columns(table).includes(id))
      .flatMap((table) => {
        const stray = all(
          `select count(*) as n from ${table} where ${id} is not null and ${id} not in (select ${id} from ${owner})`,
        );
        return stray[0].n === 0 ? [] : [`${stray[0].n} rows of ${table} have no ${id}`];
      });
  expect([...strays("threads", "thread_id"), ...strays("assistants", "assistant_id")].join("\n")).toBe("");
  db.close();
});
