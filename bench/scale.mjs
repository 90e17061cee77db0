/**
 * The server on a large file: 100,000 threads with metadata and 1,000,000 checkpoints, and one thread of 1,000 turns.
 * Targets are absolute, so there is no other side; every answer is checked.
 */
import { randomUUID } from "node:crypto";
import { statSync } from "node:fs";
import { join } from "node:path";
import Libsql from "libsql";
import { Agent, request } from "undici";
import { median, quantile } from "./loads.mjs";
import { startServer, tempFolder } from "./processes.mjs";

const THREADS = 100_000;
const USERS = 1_000;
/** Supersteps of the thread that is cloned: with its input's two, ten checkpoints. */
const STEPS = 8;
const QUERIES = { warmUp: 100, measured: 500 };
const CREATE = { clients: 32, warmUp: 1_000, ms: 4_000 };
const TURNS = 1_000;
/** Threads whose tenth turn is measured, and turns of the long thread up to its last. */
const SAMPLE = 30;

export async function scale() {
  const data = tempFolder("skein-bench-scale-");
  console.log(`scale: making a file of ${THREADS.toLocaleString("en-US")} threads`);
  const template = await withServer(data, makeTemplate);
  const threads = cloneThread(data, template);
  const counts = countRows(data);
  console.log(`  ${counts.checkpoints.toLocaleString("en-US")} checkpoints, ${megabytes(data).toFixed(0)} MB`);
  const rows = await withServer(data, async (api) => [
    ...(await searches(api)),
    ...(await states(api, threads)),
    await creations(api),
  ]);
  return [...rows, ...(await turns())];
}

async function withServer(data, work) {
  const server = await startServer({ data });
  const api = client(server.url);
  try {
    return await work(api);
  } finally {
    await api.close();
    await server.stop();
  }
}

function client(url) {
  const dispatcher = new Agent({ bodyTimeout: 120_000, headersTimeout: 120_000 });
  const call = async (method, path, body) => {
    const answer = await request(url + path, {
      dispatcher,
      method,
      headers: { "content-type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await answer.body.text();
    if (answer.statusCode !== 200) throw new Error(`${method} ${path} answered ${answer.statusCode}: ${text}`);
    return text;
  };
  return {
    get: async (path) => JSON.parse(await call("GET", path)),
    post: async (path, body) => JSON.parse(await call("POST", path, body)),
    stream: (path, body) => call("POST", path, body),
    close: () => dispatcher.close(),
  };
}

/* ------------------------------------------------------------------------------- the file */

/** One thread as a run leaves it. */
async function makeTemplate(api) {
  const thread_id = randomUUID();
  await api.post("/threads", { thread_id, metadata: { user: "user-0", tier: "free" } });
  const body = { assistant_id: "steps", input: { steps: STEPS }, config: { recursion_limit: STEPS + 5 } };
  await api.post(`/threads/${thread_id}/runs/wait`, body);
  return thread_id;
}

/** Rows of the template once for each thread, in whatever tables belong to threads; runs and their logs are left out. */
function cloneThread(data, template) {
  const db = new Libsql(join(data, "skein.db"));
  const ids = Array.from({ length: THREADS }, () => randomUUID());
  db.exec("pragma journal_mode = off; pragma synchronous = off; begin");
  db.exec("create temp table clones (n integer primary key, thread_id text)");
  const insert = db.prepare("insert into clones values (?, ?)");
  for (const [n, id] of ids.entries()) insert.run(n, id);
  for (const { table, columns } of threadTables(db)) {
    db.prepare(
      `insert into ${table} (${columns.map((column) => `"${column}"`).join()})
       select ${columns.map(clonedValue).join()} from ${table} as t, clones where t.thread_id = ?`,
    ).run(template);
  }
  // What belongs to a thread by its number in the list of threads.
  db.prepare(
    `insert into thread_values (seq, "values") select threads.seq, v."values"
     from threads, thread_values as v join threads as t on t.seq = v.seq
     where t.thread_id = ? and threads.thread_id <> t.thread_id`,
  ).run(template);
  db.exec("commit; pragma journal_mode = wal");
  db.close();
  return ids;
}

/** Threads first: what belongs to them may look for them. Numbers that the database gives are left to it. */
function threadTables(db) {
  return ["threads", "checkpoints", "checkpoint_blobs", "checkpoint_writes"].map((table) => {
    const columns = db.prepare(`pragma table_info("${table}")`).all();
    return { table, columns: columns.map(({ name }) => name).filter((name) => name !== "seq") };
  });
}

/** Every thread is some user's, and was touched at a time of its own. */
function clonedValue(column) {
  if (column === "thread_id") return "clones.thread_id";
  if (/_at$/.test(column)) return `t."${column}" - clones.n * 1000`;
  return `replace(t."${column}", '"user-0"', '"user-' || (clones.n % ${USERS}) || '"')`;
}

function countRows(data) {
  const db = new Libsql(join(data, "skein.db"));
  const { total } = db.prepare("select count(*) as total from checkpoints").get();
  db.close();
  return { checkpoints: total };
}

const megabytes = (data) =>
  ["skein.db", "skein.db-wal"].reduce((sum, name) => {
    return sum + (statSync(join(data, name), { throwIfNoEntry: false })?.size ?? 0);
  }, 0) / 1e6;

/* ------------------------------------------------------------------------------ the loads */

async function searches(api) {
  const user = () => `user-${Math.floor(Math.random() * USERS)}`;
  const byMetadata = async () => {
    const wanted = user();
    const found = await api.post("/threads/search", { metadata: { user: wanted }, limit: 10 });
    expect(found.length === 10 && found.every(({ metadata }) => metadata.user === wanted), "a search by metadata");
  };
  const plain = async () => expect((await api.post("/threads/search", { limit: 10 })).length === 10, "a plain list");
  return [await latency("thread search by metadata, p95", 5, byMetadata), await latency("thread list, p95", 5, plain)];
}

async function states(api, threads) {
  const one = () => threads[Math.floor(Math.random() * threads.length)];
  const state = async () => expect((await api.get(`/threads/${one()}/state`)).values.count === STEPS, "a state");
  const history = async () => expect((await api.get(`/threads/${one()}/history?limit=10`)).length === 10, "a history");
  return [await latency("state, p95", 8, state), await latency("history of 10, p95", 8, history)];
}

async function latency(label, most, work) {
  for (let i = 0; i < QUERIES.warmUp; i++) await work();
  const times = [];
  for (let i = 0; i < QUERIES.measured; i++) {
    const started = performance.now();
    await work();
    times.push(performance.now() - started);
  }
  const value = quantile(times, 0.95);
  return { label, unit: "ms", value, target: `<= ${most}`, ok: value <= most };
}

async function creations(api) {
  let made = 0;
  const round = async (until) => {
    while (!until()) {
      await api.post("/threads", { metadata: { user: `user-${made % USERS}`, tier: "free" } });
      made++;
    }
  };
  const all = (until) => Promise.all(Array.from({ length: CREATE.clients }, () => round(until)));
  await all(() => made >= CREATE.warmUp);
  const [before, started] = [made, performance.now()];
  await all(() => performance.now() - started >= CREATE.ms);
  const value = ((made - before) * 1_000) / (performance.now() - started);
  const label = `create thread, ${CREATE.clients} clients`;
  return { label, unit: "per s", value, target: ">= 2,500", ok: value >= 2_500 };
}

/** What a turn costs when a thread has had many: in time, and in the file. */
async function turns() {
  const data = tempFolder("skein-bench-turns-");
  const sizes = [];
  const { tenth, last } = await withServer(data, async (api) => {
    const start = async () => {
      const thread_id = randomUUID();
      await api.post("/threads", { thread_id });
      return thread_id;
    };
    const turn = async (thread_id, index) => {
      const content = `Question ${index}: what is the weather like in the city that I told you about?`;
      const body = { assistant_id: "chat", input: { messages: [{ role: "user", content }] }, stream_mode: ["updates"] };
      const started = performance.now();
      const text = await api.stream(`/threads/${thread_id}/runs/stream`, body);
      const ms = performance.now() - started;
      expect(text.includes(`You have said ${index + 1} things`) && !text.includes("event: error"), `turn ${index}`);
      return ms;
    };
    const long = await start();
    const times = [];
    for (let index = 0; index < TURNS; index++) {
      times.push(await turn(long, index));
      if ((index + 1) % (TURNS / 2) === 0) sizes.push(stored(data));
    }
    // After the long one, so that both are measured on warm code; in turns with it, so that both see the same machine.
    const tens = [];
    for (let i = 0; i < SAMPLE; i++) {
      const thread_id = await start();
      for (let index = 0; index < 9; index++) await turn(thread_id, index);
      tens.push(await turn(thread_id, 9));
      times.push(await turn(long, TURNS + i));
    }
    return { tenth: median(tens), last: median(times.slice(-SAMPLE)) };
  });
  const growth = (sizes[1] - sizes[0]) / sizes[0];
  const ratio = last / tenth;
  return [
    { label: "10th turn of a thread", unit: "ms", value: tenth, target: null, ok: null },
    { label: "1,000th turn of a thread", unit: "ms", value: last, target: null, ok: null },
    { label: "  against its 10th", unit: "x", value: ratio, target: "<= 1.3", ok: ratio <= 1.3 },
    { label: "file, turns 501-1,000 against 1-500", unit: "x", value: growth, target: "<= 1.2", ok: growth <= 1.2 },
  ];
}

/** Bytes of pages in use: the log and free pages come and go. */
function stored(data) {
  const db = new Libsql(join(data, "skein.db"), { readonly: true });
  const { pages } = db
    .prepare(
      "select (select page_count from pragma_page_count) - (select freelist_count from pragma_freelist_count) as pages",
    )
    .get();
  db.close();
  return pages;
}

function expect(condition, what) {
  if (!condition) throw new Error(`${what} was answered wrongly`);
}
