/** `skein move`: a file to PostgreSQL and back, whole or not at all. */
import { once } from "node:events";
import { cpSync, existsSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { DERIVED, MOVED } from "../../src/storage/move.ts";
import { KEEPING } from "../../src/storage/sealed-columns.ts";
import { http, ok } from "../support/http.ts";
import { requirePostgres } from "../support/postgres.ts";
import type { TempDir } from "../support/project.ts";
import { eventually, type TestServer } from "../support/server.ts";
import { type Frame, openSse } from "../support/sse.ts";
import { makeProject, Place, type Populated, populate, skein } from "./support.ts";

interface Moved {
  readonly tables: readonly { readonly table: string; readonly rows: number; readonly checksum: string }[];
}

/** Moves with an empty environment: no key, no configuration. */
async function move(from: Place, to: Place): Promise<Moved> {
  const { code, out, err } = await skein(["move", "--from", from.name, "--to", to.name, "--json"]).done;
  if (code !== 0) throw new Error(`skein move ended with ${code}: ${err}`);
  return JSON.parse(out) as Moved;
}

const rowsOf = ({ tables }: Moved): Record<string, number> =>
  Object.fromEntries(tables.map(({ table, rows }) => [table, rows]));

/** Beside what `populate` makes. */
interface All extends Populated {
  /** A thread of streaming v2. */
  readonly protocol: string;
  /** A run whose webhook is still to be called. */
  readonly called: string;
}

async function populateAll(server: TestServer, place: Place, webhook: string): Promise<All> {
  const made = await populate(server);
  const api = http(server.url);
  const { thread_id: protocol } = await ok(api.post("/threads", {}));
  const params = { assistant_id: "chat", input: { messages: [{ role: "user", content: "native" }] } };
  await ok(api.post(`/threads/${protocol}/commands`, { id: 1, method: "run.start", params }));
  await using native = await openSse(`${server.url}/threads/${protocol}/stream/events`, {
    body: { channels: ["lifecycle"] },
  });
  await native.until(isOver);
  await ok(api.post(`/threads/${protocol}/runs/wait`, { assistant_id: "plain", input: {}, webhook }));
  const [{ run_id: called }] = (await ok(api.get<{ run_id: string }[]>(`/threads/${protocol}/runs`))) as [
    { run_id: string },
  ];
  await eventually(async () => (await place.sql("select 1 from webhook_deliveries")).length > 0);
  // Of a server whose users log in; without, nobody asks whose a run was.
  await place.sql(`insert into departed_runs values ('gone', '{"owner":"me"}', 4102444800000)`);
  return { ...made, protocol, called };
}

/** The end of a thread's run of streaming v2. */
const isOver = ({ event, data }: Frame): boolean => {
  const { params } = JSON.parse(data ?? "{}");
  return event === "lifecycle" && params.namespace.length === 0 && params.data.event === "completed";
};

/** What clients see of everything that was made. */
async function seen({ url }: TestServer, { threads, resumable, delayed, protocol }: All): Promise<unknown> {
  const get = async (path: string) => (await http(url).get(path)).body;
  const post = async (path: string, body: unknown) => (await http(url).post(path, body)).body;
  const ofThread = async (thread_id: string) => [
    await get(`/threads/${thread_id}`),
    await get(`/threads/${thread_id}/history?limit=100`),
    await get(`/threads/${thread_id}/runs`),
    (await http(url).get(`/threads/${thread_id}/state?subgraphs=true`)).body,
  ];
  await using stream = await openSse(`${url}/threads/${resumable.thread_id}/runs/${resumable.run_id}/stream`, {
    lastEventId: "1",
  });
  await using native = await openSse(`${url}/threads/${protocol}/stream/events`, {
    body: { channels: ["lifecycle", "messages", "values"] },
  });
  return {
    threads: await Promise.all(threads.map(ofThread)),
    search: await post("/threads/search", { metadata: { n: 1.5 }, sort_by: "thread_id" }),
    native: (await native.until(isOver)).map(({ id, event, data }) => [id, event, data]),
    events: (await stream.rest()).map(({ id, event, data }) => [id, event, data]),
    assistants: await post("/assistants/search", { limit: 100, sort_by: "assistant_id" }),
    crons: await post("/runs/crons/search", { limit: 100, sort_by: "cron_id" }),
    delayed: await get(`/threads/${delayed.thread_id}/runs/${delayed.run_id}`),
    items: await post("/store/items/search", { namespace_prefix: [], limit: 100 }),
    near: rounded(await post("/store/items/search", { namespace_prefix: [], query: "puppy" })),
  };
}

/** SQLite compares in 32 bits, PostgreSQL in 64. */
const rounded = ({ items }: { items: { score: number }[] }) =>
  items.map((item) => ({ ...item, score: item.score.toFixed(5) }));

const env = { RESUMABLE_STREAM_TTL_SECONDS: "3600" };

test("every table is moved, or made anew by the database", () => {
  expect([...MOVED.map(([table]) => table), ...DERIVED].sort()).toEqual(Object.keys(KEEPING).sort());
});

describe.each([
  ["plain", {}],
  ["encrypted", { LANGGRAPH_AES_KEY: "0123456789abcdef0123456789abcdef" }],
] as const)("a database that is %s", (kind, key) => {
  let graphs: TempDir;
  let ready: Promise<void> | undefined;
  let made: All;
  let before: unknown;
  const places: Place[] = [];
  /** Takes no call until it is told to; then it notes of which runs. */
  let takes = false;
  const calls: string[] = [];
  const hooks = createServer(async (request, response) => {
    let text = "";
    for await (const chunk of request) text += chunk;
    if (takes) calls.push(JSON.parse(text).run_id);
    response.writeHead(takes ? 200 : 503).end();
  });
  let [file, server, back] = [] as unknown as [Place, Place, Place];

  async function makeAll(): Promise<void> {
    hooks.listen(0, "127.0.0.1");
    await once(hooks, "listening");
    graphs = await makeProject({ webhooks: { url: { disable_loopback: false } } });
    for (const dialect of ["sqlite", "postgres", "sqlite"] as const) places.push(await Place.make(dialect));
    [file, server, back] = places as [Place, Place, Place];
    await using running = await file.start(graphs, { ...env, ...key });
    made = await populateAll(running, file, `http://127.0.0.1:${(hooks.address() as AddressInfo).port}/hook`);
    before = await seen(running, made);
    await running.stop();
  }
  beforeEach(async (context) => {
    await requirePostgres(context);
    ready ??= makeAll();
    await ready;
  });
  afterAll(async () => {
    hooks.close();
    hooks.closeAllConnections();
    for (const place of places) await place[Symbol.asyncDispose]();
    await graphs?.[Symbol.asyncDispose]();
  });

  // Three places and a dozen processes, one after the other.
  test("goes to PostgreSQL and back with every row, and answers as before", { timeout: 240_000 }, async () => {
    const there = await move(file, server);
    const empty = Object.entries(rowsOf(there)).filter(([, rows]) => rows === 0);
    // Outcomes are of runs that ended in the last two minutes where processes share a database.
    const mayBe = ["outcomes", "replaced_writes", ...("LANGGRAPH_AES_KEY" in key ? [] : ["encryption_keys"])];
    expect(empty.map(([table]) => table).filter((table) => !mayBe.includes(table))).toEqual([]);
    takes = true;
    const andBack = await move(server, back);
    expect(andBack.tables).toEqual(there.tables);
    // A third place, from the source that is as it was.
    for (const place of [server, back]) {
      const { findings } = JSON.parse(
        (await skein(["doctor", "--config", graphs.dir, "--data", place.data, "--json"], { ...place.env, ...key }).done)
          .out,
      );
      expect(findings).toEqual([]);
      // Each is served once: the rows are the same.
      if (place !== (kind === "plain" ? server : back)) continue;
      await place.sql("update webhooks set next_attempt_at = 0");
      await using running = await place.start(graphs, { ...env, ...key });
      expect(await seen(running, made)).toEqual(before);
      await goesOn(running, made);
      await eventually(() => calls.includes(made.called), { ms: 30_000 });
      calls.length = 0;
      await running.stop();
    }
  });
});

/** Threads, interrupts, numbering and crons work on. */
async function goesOn({ url }: TestServer, { chat, waiting, cron_id }: Populated): Promise<void> {
  const api = http(url);
  const turn = { assistant_id: "chat", input: { messages: [{ role: "user", content: "and now?" }] } };
  const { messages } = await ok(api.post(`/threads/${chat}/runs/wait`, turn));
  expect(messages.at(-1).content).toBe("You said: and now?");
  const resumed = await ok(
    api.post(`/threads/${waiting}/runs/wait`, { assistant_id: "hitl", command: { resume: "yes" } }),
  );
  expect(resumed).toMatchObject({ answers: { person: "yes" }, done: "person" });
  const { thread_id } = await ok(api.post("/threads", { metadata: { new: true } }));
  await ok(api.post(`/threads/${thread_id}/runs/wait`, turn));
  expect(await ok(api.post("/threads/search", { metadata: { new: true } }))).toHaveLength(1);
  await ok(api.put("/store/items", { namespace: ["new"], key: "wolf", value: { text: "a wolf" } }));
  expect((await ok(api.post("/store/items/search", { namespace_prefix: ["new"], query: "dog" }))).items).toHaveLength(
    1,
  );
  const { cron_id: found } = (await ok(api.post("/runs/crons/search", { limit: 100 }))).find(
    (cron: { cron_id: string }) => cron.cron_id === cron_id,
  );
  expect(found).toBe(cron_id);
}

describe("a move that cannot be", () => {
  let graphs: TempDir;
  let file: Place;
  let ready: Promise<void> | undefined;

  async function makeAll(): Promise<void> {
    graphs = await makeProject();
    file = await Place.make("sqlite");
    await using running = await file.start(graphs);
    const api = http(running.url);
    await ok(api.put("/store/items", { namespace: ["a"], key: "b", value: { text: "dog" } }));
    for (let n = 0; n < 5; n++) await ok(api.post("/threads", { metadata: { n } }));
    await running.stop();
  }
  beforeEach(async (context) => {
    await requirePostgres(context);
    ready ??= makeAll();
    await ready;
  });
  afterAll(async () => {
    await file?.[Symbol.asyncDispose]();
    await graphs?.[Symbol.asyncDispose]();
  });

  const refused = async (from: string, to: string): Promise<string> => {
    const { code, err } = await skein(["move", "--from", from, "--to", to]).done;
    expect(code).toBe(1);
    return err;
  };
  const isEmpty = async (place: Place): Promise<boolean> => {
    if (place.dialect === "sqlite") return !existsSync(join(place.data, "skein.db"));
    const counts = MOVED.map(([table]) => `(select count(*) from ${table})`).join(" + ");
    const [row] = await place.sql<{ total: string }>(`select ${counts} as total`);
    return Number(row?.total) === 0;
  };

  test("a target that has data is left alone", async () => {
    await using server = await Place.make("postgres");
    await move(file, server);
    expect(await refused(file.name, server.name)).toContain("There is data in");
    expect(await refused(server.name, file.name)).toContain("There is data in");
    expect(await refused(file.name, file.name)).toContain("--from and --to are both");
  });

  test("a file that is served, is not there or is older is refused", async () => {
    await using server = await Place.make("postgres");
    await using running = await file.start(graphs);
    expect(await refused(file.name, server.name)).toContain("Another Skein process serves the folder");
    await running.stop();
    expect(await refused(join(file.data, "nowhere"), server.name)).toContain("There is no database");
    expect(await refused(server.name, join(file.data, "new"))).toContain("Run `skein migrate` on it first");
    expect(await refused("postgres://root@127.0.0.1:1/none", join(file.data, "new"))).toContain("cannot be used");
  });

  test("a PostgreSQL source is refused while a server is on it, idle or come meanwhile, or runs have live leases", async () => {
    await using busy = await Place.make("postgres");
    const to = join(file.data, "new");
    await using working = await busy.start(graphs);
    expect(await refused(busy.name, to)).toContain("Servers are connected");
    await working.stop();
    await using target = await Place.make("sqlite");
    const late = await stuckOn(busy, skeinMove(busy, target), () => working.start());
    expect(late).toMatchObject({ code: 1, err: expect.stringContaining("Servers are connected") });
    expect(await isEmpty(target)).toBe(true);
    await ok(http(working.url).post("/runs", { assistant_id: "slow", input: { delay_ms: 60_000 } }));
    await eventually(async () => (await busy.sql("select 1 from runs where status = 'running'")).length > 0);
    await working.kill();
    expect(await refused(busy.name, to)).toContain("1 runs have live leases");
  });

  test("what the target cannot hold is said, and nothing is left there", async () => {
    await using odd = await Place.make("sqlite");
    await using server = await Place.make("postgres");
    cpSync(file.data, odd.data, { recursive: true });
    await odd.sql(`update store_items set ttl = 'no number'`);
    const err = await refused(odd.name, server.name);
    expect(err).toContain("Nothing was moved. The table store_items");
    expect(await isEmpty(server)).toBe(true);
    await move(file, server);
  });

  test("killed on the way to PostgreSQL it leaves nothing, and can be done again", async () => {
    await using server = await Place.make("postgres");
    await server.skein("migrate", graphs);
    const killed = await stuckOn(server, skeinMove(file, server), killedThere);
    expect(killed.signal).toBe("SIGKILL");
    await eventually(() => isEmpty(server));
    expect(rowsOf(await move(file, server))).toMatchObject({ threads: 5, store_items: 1 });
  });

  test("killed on the way to a file it leaves nothing, and can be done again", async () => {
    await using server = await Place.make("postgres");
    await using target = await Place.make("sqlite");
    await move(file, server);
    const killed = await stuckOn(server, skeinMove(server, target), killedThere);
    expect(killed.signal).toBe("SIGKILL");
    expect(await isEmpty(target)).toBe(true);
    expect(rowsOf(await move(server, target))).toMatchObject({ threads: 5, store_items: 1 });
    expect(await target.sql("select 1 from threads")).toHaveLength(5);
  });

  const skeinMove = (from: Place, to: Place) => () => skein(["move", "--from", from.name, "--to", to.name]);

  const killedThere = async (moving: ReturnType<typeof skein>) => {
    moving.kill();
    await moving.done;
  };

  /** Lets a move get as far as the store, whose table is locked; then goes on when `meanwhile` is over. */
  async function stuckOn(
    { uri }: Place,
    start: () => ReturnType<typeof skein>,
    meanwhile: (moving: ReturnType<typeof skein>) => Promise<unknown>,
  ) {
    const holder = new pg.Client({ connectionString: uri });
    await holder.connect();
    let moving: ReturnType<typeof skein>;
    try {
      await holder.query("begin");
      await holder.query("lock table store_items in access exclusive mode");
      const { rows } = await holder.query("select 'store_items'::regclass::oid as oid");
      moving = start();
      await eventually(async () => {
        const waits = "select 1 from pg_locks where relation = $1 and not granted";
        return (await holder.query(waits, [rows[0].oid])).rows.length > 0;
      });
      await meanwhile(moving);
    } finally {
      await holder.end();
    }
    return moving.done;
  }
});
