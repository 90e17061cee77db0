/** Crons over HTTP, and real processes that fire them. */
import { Client } from "@langchain/langgraph-sdk";
import { describe, expect, test } from "vitest";
import { type Any, Api, type Body, database, Gate, useServer, useTempDir } from "../runs/support.ts";
import { ok } from "../support/http.ts";
import { eventually, startServer } from "../support/server.ts";

const api = useServer();
const UNKNOWN = "00000000-0000-4000-8000-000000000000";
const YEARLY = "0 0 1 1 *";
const EACH_SECOND = "* * * * * *";

const create = (body: Body = {}): Promise<Any> =>
  api.post("/runs/crons", { assistant_id: "plain", schedule: YEARLY, ...body });
const createOn = (thread_id: string, body: Body = {}, on: Api = api): Promise<Any> =>
  on.post(`/threads/${thread_id}/runs/crons`, { assistant_id: "plain", schedule: YEARLY, ...body });
const patch = (cron_id: string, body: unknown): Promise<Any> => ok(api.http.patch(`/runs/crons/${cron_id}`, body));
const get = (cron_id: string): Promise<Any> => api.get(`/runs/crons/${cron_id}`);

/** All of a thread's runs, oldest first. */
const runsOf = async (thread_id: string, on: Api = api): Promise<Any[]> =>
  (await on.get<Any[]>(`/threads/${thread_id}/runs?limit=1000`)).reverse();

/** Waits until a cron has made so many runs on the thread. */
const fired = (thread_id: string, count: number, on: Api = api): Promise<Any[]> =>
  eventually(async () => {
    const runs = await runsOf(thread_id, on);
    return runs.length >= count ? runs : undefined;
  });

describe("create", () => {
  test("for runs on threads of their own", async () => {
    const year = new Date().getUTCFullYear() + 1;
    const cron = await create({ input: { value: 1 } });
    const { assistant_id } = await api.get("/assistants/plain");
    expect(cron).toEqual({
      cron_id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      assistant_id,
      thread_id: null,
      on_run_completed: "delete",
      schedule: YEARLY,
      timezone: null,
      end_time: null,
      enabled: true,
      next_run_date: `${year}-01-01T00:00:00.000Z`,
      payload: { assistant_id, input: { value: 1 } },
      metadata: {},
      user_id: null,
      created_at: expect.any(String),
      updated_at: cron.created_at,
    });
    expect(await get(cron.cron_id)).toEqual(cron);
  });

  test("on a thread, with every field", async () => {
    const thread_id = await api.thread();
    const payload = {
      input: { value: 1 },
      config: { tags: ["a"], recursion_limit: 7, configurable: { tone: "dry" } },
      context: { who: "me" },
      interrupt_before: ["first"],
      interrupt_after: "*",
      stream_mode: ["updates", "custom"],
      stream_subgraphs: true,
      stream_resumable: true,
      durability: "exit",
      multitask_strategy: "reject",
    };
    const cron = await createOn(thread_id, {
      ...payload,
      timezone: "America/New_York",
      end_time: "2999-01-01T00:00:00.123456+02:00",
      enabled: false,
      metadata: { team: "x" },
      unknown_field: 1,
    });
    expect(cron).toMatchObject({
      thread_id,
      on_run_completed: null,
      timezone: "America/New_York",
      end_time: "2998-12-31T22:00:00.123Z",
      enabled: false,
      next_run_date: null,
      metadata: { team: "x" },
    });
    expect(cron.payload).toEqual({ assistant_id: cron.assistant_id, ...payload });
    expect(await get(cron.cron_id)).toEqual(cron);
  });

  test("in a time zone; a naive end_time is UTC", async () => {
    const cron = await create({ schedule: "0 9 1 7 *", timezone: "Asia/Kolkata", end_time: "2999-01-01T00:00:00" });
    expect(cron.next_run_date).toMatch(/-07-01T03:30:00.000Z$/);
    expect(cron.end_time).toBe("2999-01-01T00:00:00.000Z");
  });

  test("with an end in the past: there is no next run", async () => {
    expect((await create({ end_time: "2020-01-01T00:00:00Z" })).next_run_date).toBeNull();
  });

  const bodies: [string, Body, RegExp][] = [
    ["a schedule with too few fields", { schedule: "* * *" }, /^schedule: "\* \* \*" is not a cron schedule: five/],
    ["a schedule out of range", { schedule: "61 * * * *" }, /^schedule: .*61/],
    ["a schedule that never comes", { schedule: "0 0 30 2 *" }, /^schedule: .*never/],
    ["no schedule", { schedule: undefined }, /^schedule: field required/],
    ["a schedule that is no text", { schedule: 5 }, /^schedule: expected a string/],
    ["no assistant", { assistant_id: undefined }, /^assistant_id: field required/],
    ["a bad time zone", { timezone: "Mars/Olympus" }, /^timezone: "Mars\/Olympus"/],
    ["a bad end_time", { end_time: "soon" }, /^end_time: /],
    ["a bad date", { end_time: "2026-02-30T00:00:00Z" }, /^end_time: /],
    ["a bad enabled", { enabled: "yes" }, /^enabled: expected a boolean/],
    ["a bad stream_mode", { stream_mode: ["nope"] }, /^stream_mode.0: .*nope/],
    ["bad metadata", { metadata: [] }, /^metadata: expected an object/],
    ["bad config", { config: { recursion_limit: 0 } }, /^config.recursion_limit: /],
    ["a bad durability", { durability: "maybe" }, /^durability: .*maybe/],
    ["a webhook that may not be called", { webhook: "http://127.0.0.1/" }, /^webhook: /],
  ];
  const refused = async (path: string, body: Body, why: RegExp): Promise<void> => {
    const answer = await api.http.post(path, { assistant_id: "plain", schedule: YEARLY, ...body });
    expect(answer).toMatchObject({ status: 422, body: { detail: expect.stringMatching(why) } });
  };
  test.each(bodies)("%s is refused", async (_, body, why) => {
    await refused("/runs/crons", body, why);
    await refused(`/threads/${await api.thread()}/runs/crons`, body, why);
  });
  test("what only the other kind has is refused", async () => {
    await refused("/runs/crons", { on_run_completed: "never" }, /^on_run_completed: .*never/);
    const path = `/threads/${await api.thread()}/runs/crons`;
    await refused(path, { multitask_strategy: "never" }, /^multitask_strategy: .*never/);
    await refused(path, { on_run_completed: "delete" }, /^on_run_completed: .*delete/);
  });

  test("what is unknown is not found", async () => {
    const thread_id = await api.thread();
    const body = { assistant_id: "plain", schedule: YEARLY };
    for (const [path, change, what] of [
      ["/runs/crons", { assistant_id: "nope" }, "nope"],
      [`/threads/${thread_id}/runs/crons`, { assistant_id: UNKNOWN }, UNKNOWN],
      [`/threads/${UNKNOWN}/runs/crons`, {}, UNKNOWN],
    ] as const) {
      const answer = await api.http.post(path, { ...body, ...change });
      expect(answer).toMatchObject({ status: 404, body: { detail: expect.stringContaining(what) } });
    }
    expect((await api.http.post("/threads/nope/runs/crons", body)).status).toBe(422);
  });
});

describe("change", () => {
  test("keeps what is left out, and merges metadata", async () => {
    const made = await create({ metadata: { a: 1, b: 1 }, input: { value: 1 }, timezone: "Europe/Berlin" });
    const changed = await patch(made.cron_id, { metadata: { b: 2, c: 3 }, context: { x: 1 } });
    expect(changed).toEqual({
      ...made,
      metadata: { a: 1, b: 2, c: 3 },
      payload: { ...made.payload, context: { x: 1 } },
      updated_at: expect.any(String),
    });
    expect(changed.updated_at >= made.updated_at).toBe(true);
    expect(await get(made.cron_id)).toEqual(changed);
    expect(await patch(made.cron_id, {})).toMatchObject({ metadata: changed.metadata, payload: changed.payload });
  });

  test("of the time sets the next run", async () => {
    const { cron_id } = await create();
    const berlin = await patch(cron_id, { schedule: "0 9 1 7 *", timezone: "Europe/Berlin" });
    expect(berlin.next_run_date).toMatch(/-07-01T07:00:00.000Z$/);
    expect((await patch(cron_id, { timezone: null })).next_run_date).toMatch(/-07-01T09:00:00.000Z$/);
    expect(await patch(cron_id, { enabled: false })).toMatchObject({ enabled: false, next_run_date: null });
    expect((await patch(cron_id, { enabled: true })).next_run_date).toMatch(/-07-01T09:00:00.000Z$/);
  });

  test("sets, keeps and clears end_time", async () => {
    const { cron_id, next_run_date } = await create({ end_time: "2999-01-01T00:00:00Z" });
    expect((await patch(cron_id, { enabled: true })).end_time).toBe("2999-01-01T00:00:00.000Z");
    const ended = { end_time: "2020-01-01T00:00:00.000Z", next_run_date: null };
    expect(await patch(cron_id, { end_time: "2020-01-01T00:00:00Z" })).toMatchObject(ended);
    expect(await patch(cron_id, { end_time: null })).toMatchObject({ end_time: null, next_run_date });
  });

  test.each([
    ["assistant_id", "echo"],
    ["multitask_strategy", "reject"],
    ["thread_id", UNKNOWN],
  ])("of %s is refused", async (field, value) => {
    const { cron_id } = await createOn(await api.thread());
    const answer = await api.http.patch(`/runs/crons/${cron_id}`, { [field]: value, enabled: false });
    const detail = expect.stringMatching(new RegExp(`^${field}: cannot be changed`));
    expect(answer).toMatchObject({ status: 422, body: { detail } });
    expect((await get(cron_id)).enabled).toBe(true);
  });

  test("to what is wrong is refused, and changes nothing", async () => {
    const made = await create();
    for (const [body, why] of [
      [{ schedule: "nope" }, /^schedule: /],
      [{ schedule: null }, /^schedule: /],
      [{ timezone: "Nowhere" }, /^timezone: /],
      [{ end_time: "soon" }, /^end_time: /],
      [{ enabled: null }, /^enabled: /],
      [{ webhook: "http://localhost/" }, /^webhook: /],
    ] as const) {
      const answer = await api.http.patch(`/runs/crons/${made.cron_id}`, { ...body, metadata: { no: 1 } });
      expect(answer).toMatchObject({ status: 422, body: { detail: expect.stringMatching(why) } });
    }
    const onThread = await createOn(await api.thread());
    const answer = await api.http.patch(`/runs/crons/${onThread.cron_id}`, { on_run_completed: "delete" });
    expect(answer).toMatchObject({ status: 422, body: { detail: expect.stringMatching(/^on_run_completed: /) } });
    expect(await get(made.cron_id)).toEqual(made);
  });
});

test("a deleted cron is gone; what is unknown is not found", async () => {
  const { cron_id } = await create();
  expect(await api.http.delete(`/runs/crons/${cron_id}`)).toMatchObject({ status: 200, body: {} });
  for (const answer of [
    await api.http.delete(`/runs/crons/${cron_id}`),
    await api.http.get(`/runs/crons/${cron_id}`),
    await api.http.patch(`/runs/crons/${cron_id}`, { enabled: false }),
  ]) {
    expect(answer).toMatchObject({ status: 404, body: { detail: expect.stringContaining(cron_id) } });
  }
  expect((await api.http.get("/runs/crons/nope")).status).toBe(422);
});

describe("search and count", () => {
  const group = crypto.randomUUID();
  const mine = { group };
  const search = (body: Body = {}) => api.post<Any[]>("/runs/crons/search", { metadata: mine, ...body });
  const ids = async (body: Body = {}): Promise<string[]> => (await search(body)).map(({ cron_id }) => cron_id);
  const made: Any[] = [];
  let thread_id = "";

  test("newest first", async () => {
    thread_id = await api.thread();
    made.push(await create({ metadata: { ...mine, n: 1 }, schedule: "0 0 2 1 *" }));
    made.push(await createOn(thread_id, { metadata: { ...mine, n: 2 }, assistant_id: "echo", enabled: false }));
    made.push(await create({ metadata: mine, end_time: "2999-01-01T00:00:00Z" }));
    expect(await search()).toEqual([...made].reverse());
    expect(await api.post("/runs/crons/count", { metadata: mine })).toBe(3);
  });

  test.each([
    ["assistant", { assistant_id: "plain" }, [2, 0]],
    ["thread", () => ({ thread_id }), [1]],
    ["switch on", { enabled: true }, [2, 0]],
    ["switch off", { enabled: false }, [1]],
    ["metadata", { metadata: { ...mine, n: 1 } }, [0]],
    ["nothing that matches", { assistant_id: "nope" }, []],
  ])("by %s", async (_, filter, expected) => {
    const body = typeof filter === "function" ? filter() : filter;
    expect(await ids(body)).toEqual(expected.map((n) => made[n].cron_id));
    expect(await api.post("/runs/crons/count", { metadata: mine, ...body })).toBe(expected.length);
  });

  test.each(["cron_id", "assistant_id", "thread_id", "next_run_date", "end_time", "created_at", "updated_at"])(
    "sorted by %s, what lacks it last",
    async (sort_by) => {
      for (const sort_order of ["asc", "desc"] as const) {
        const sign = sort_order === "asc" ? 1 : -1;
        const order = (a: string | null, b: string | null): number => {
          if (a === b) return 0;
          if (a === null || b === null) return a === null ? 1 : -1;
          return a < b ? -sign : sign;
        };
        const expected = [...made].sort((a, b) => order(a[sort_by], b[sort_by]) || order(a.cron_id, b.cron_id));
        expect(await ids({ sort_by, sort_order })).toEqual(expected.map(({ cron_id }) => cron_id));
      }
    },
  );

  test("in pages", async () => {
    const first = await api.http.post("/runs/crons/search", { metadata: mine, limit: 2 });
    expect([first.headers.get("x-pagination-total"), first.headers.get("x-pagination-next")]).toEqual(["3", "2"]);
    const last = await api.http.post("/runs/crons/search", { metadata: mine, limit: 2, offset: 2 });
    expect([last.body.length, last.headers.get("x-pagination-next")]).toEqual([1, null]);
  });

  test("only the fields asked for", async () => {
    const [cron] = await search({ select: ["cron_id", "timezone", "on_run_completed"] });
    expect(cron).toEqual({ cron_id: made[2].cron_id, timezone: null, on_run_completed: "delete" });
  });

  test.each([
    [{ limit: 0 }, "limit"],
    [{ limit: 1001 }, "limit"],
    [{ offset: -1 }, "offset"],
    [{ sort_by: "schedule" }, "sort_by"],
    [{ sort_order: "up" }, "sort_order"],
    [{ select: ["now"] }, "select.0"],
    [{ thread_id: "x" }, "thread_id"],
  ])("%j is refused", async (body, field) => {
    const answer = await api.http.post("/runs/crons/search", body);
    expect(answer).toMatchObject({ status: 422, body: { detail: expect.stringContaining(`${field}: `) } });
  });
});

test("the official JS client can do all of it", async () => {
  const client = new Client({ apiUrl: api.url });
  const { thread_id } = await client.threads.create();
  const group = crypto.randomUUID();
  const options = { schedule: YEARLY, input: { value: 1 }, metadata: { group }, timezone: "Europe/Berlin" };
  const own: Any = await client.crons.create("plain", {
    ...options,
    onRunCompleted: "keep",
    endTime: "2999-01-01T00:00:00Z",
  });
  const shared = await client.crons.createForThread(thread_id, "plain", { ...options, multitaskStrategy: "interrupt" });
  expect(shared.thread_id).toBe(thread_id);
  expect(await client.crons.update(own.cron_id, { endTime: null, enabled: false })).toMatchObject({
    cron_id: own.cron_id,
    on_run_completed: "keep",
    end_time: null,
    enabled: false,
  });
  expect(await client.crons.count({ metadata: { group } })).toBe(2);
  const found = await client.crons.search({ metadata: { group }, enabled: true, sortBy: "next_run_date" });
  expect(found.map(({ cron_id }) => cron_id)).toEqual([shared.cron_id]);
  await client.crons.delete(own.cron_id);
  expect(await client.crons.count({ metadata: { group } })).toBe(1);
});

describe.concurrent("firing", () => {
  const temp = useTempDir();

  test("each tick makes one run that is what the cron says", async () => {
    const thread_id = await api.thread();
    const asked = {
      assistant_id: "echo",
      schedule: EACH_SECOND,
      input: { input: "hello" },
      config: { tags: ["a"], configurable: { tone: "dry" } },
      context: { tone: "warm" },
      metadata: { team: "x" },
      stream_mode: ["updates"],
      stream_resumable: true,
      durability: "sync",
      multitask_strategy: "interrupt",
    };
    const { cron_id } = await createOn(thread_id, asked);
    const [run] = await fired(thread_id, 2);
    const stopped = await patch(cron_id, { enabled: false });
    const { input, stream_mode, durability } = asked;
    expect(run).toMatchObject({
      thread_id,
      metadata: { team: "x", cron_id },
      multitask_strategy: "interrupt",
      kwargs: { input, stream_mode, durability, resumable: true, temporary: false },
    });
    const output = await api.get(`/threads/${thread_id}/runs/${run.run_id}/join`);
    expect(output.seen).toMatchObject({ input: "hello", context: { tone: "warm" }, tags: ["a"] });
    expect(output.seen.configurable.tone).toBe("dry");
    expect(output.seen.metadata.cron_id).toBe(cron_id);
    expect(stopped.next_run_date).toBeNull();
    expectOnePerSecond(await runsOf(thread_id));
  });

  test("a disabled cron makes none, and one that has ended no more", async () => {
    const [on, off, over] = [await api.thread(), await api.thread(), await api.thread()];
    const end_time = new Date(Date.now() + 1500).toISOString();
    await createOn(off, { schedule: EACH_SECOND, enabled: false });
    const short = await createOn(over, { schedule: EACH_SECOND, end_time });
    const clock = await createOn(on, { schedule: EACH_SECOND });
    await eventually(async () => (await get(short.cron_id)).next_run_date === null);
    const before = (await runsOf(on)).length;
    const ended = await runsOf(over);
    await fired(on, before + 2);
    await patch(clock.cron_id, { enabled: false });
    expect(await runsOf(off)).toEqual([]);
    expect(await runsOf(over)).toHaveLength(ended.length);
    expect(ended.every((run) => run.created_at < end_time)).toBe(true);
  });

  test("a run that its thread refuses is logged, and the cron goes on", async () => {
    const gate = new Gate(temp.dir, "cron-reject");
    const { thread_id, path } = await api.background({ assistant_id: "slow", input: gate.input });
    const { cron_id } = await createOn(thread_id, { schedule: EACH_SECOND, multitask_strategy: "reject" });
    const refusals = () =>
      api.server.logs().filter((line) => line.cron_id === cron_id && /refused/.test(String(line.msg)));
    await eventually(() => refusals().length >= 2);
    expect(String(refusals()[0]?.reason)).toContain("busy");
    expect(await runsOf(thread_id)).toHaveLength(1);
    gate.openAll();
    await api.get(`${path}/join`);
    const [, run] = await fired(thread_id, 2);
    expect(run.metadata.cron_id).toBe(cron_id);
    await patch(cron_id, { enabled: false });
  });

  test("threads of their own are kept under the cron's id, or go with their runs", async () => {
    await using server = await startServer();
    const own = new Api(server);
    const body = { assistant_id: "plain", schedule: EACH_SECOND, input: { value: 1 } };
    const keep = await own.post("/runs/crons", { ...body, on_run_completed: "keep" });
    const drop = await own.post("/runs/crons", body);
    const metric = async (name: string): Promise<number> =>
      Number(new RegExp(`^skein_${name}\\{.*\\} (\\d+)$`, "m").exec((await own.http.get("/metrics")).text)?.[1] ?? 0);
    await eventually(async () => (await metric("cron_ticks_total")) >= 4);
    for (const { cron_id } of [keep, drop]) await ok(own.http.patch(`/runs/crons/${cron_id}`, { enabled: false }));
    const ticks = await metric("cron_ticks_total");
    await eventually(async () => (await metric("runs_ended_total")) === ticks);
    await server.stop();
    const db = database(server.data);
    const threads = (await db.all("select thread_id, metadata from threads")).map((row) => JSON.parse(row.metadata));
    const runs = (await db.all("select metadata from runs")).map((row) => JSON.parse(row.metadata));
    db.close();
    expect(threads.length).toBeGreaterThanOrEqual(2);
    for (const { cron_id } of [...threads, ...runs]) expect(cron_id).toBe(keep.cron_id);
    expect(runs).toHaveLength(threads.length);
  });
});

/** No tick twice: a run is made at its tick or after, and the tick after that is in a later second. */
function expectOnePerSecond(runs: readonly Any[]): void {
  const seconds = runs.map((run) => Math.floor(Date.parse(run.created_at) / 1000));
  expect(new Set(seconds).size).toBe(seconds.length);
}

test("kill -9: a tick that passed while the server was down is fired once, at the start; no tick of ten crons comes twice, and all go on", async () => {
  await using server = await startServer();
  const own = new Api(server);
  const threads = await Promise.all(Array.from({ length: 10 }, () => own.thread()));
  for (const thread_id of threads) await createOn(thread_id, { schedule: EACH_SECOND, input: { value: 1 } }, own);
  // A schedule of six fields comes once a year.
  const date = new Date(Math.ceil((Date.now() + 4000) / 1000) * 1000);
  const fields = [date.getUTCSeconds(), date.getUTCMinutes(), date.getUTCHours(), date.getUTCDate()];
  const missed = await own.thread();
  const { cron_id } = await createOn(missed, { schedule: `${fields.join(" ")} ${date.getUTCMonth() + 1} *` }, own);
  for (const offset of [0, 3, 8]) {
    // Around the full second, when the ticks are fired.
    await eventually(() => (Date.now() % 1000) - offset <= 4 && Date.now() % 1000 >= offset, { every: 1 });
    await server.kill("SIGKILL");
    await eventually(() => Date.now() > date.getTime());
    await server.start();
    await fired(missed, 1, own);
  }
  expect((await own.get(`/runs/crons/${cron_id}`)).next_run_date).toMatch(new RegExp(`^${date.getUTCFullYear() + 1}-`));
  const before = (await runsOf(threads[0] ?? "", own)).length;
  await fired(threads[0] ?? "", before + 2, own);
  expect(await runsOf(missed, own)).toHaveLength(1);
  await server.stop();
  const db = database(server.data);
  const rows = await db.all("select thread_id, created_at from runs");
  const waiting = await db.all("select next_run_date from crons where cron_id <> ?", cron_id);
  db.close();
  for (const thread_id of threads) {
    const runs = rows.filter((row) => row.thread_id === thread_id);
    expectOnePerSecond(runs.map((row) => ({ created_at: new Date(row.created_at).toISOString() })));
    expect(runs.length).toBeGreaterThanOrEqual(2);
  }
  // Each cron waits for the tick after its last run.
  const last = Math.max(...rows.map((row) => row.created_at));
  for (const { next_run_date } of waiting) expect(next_run_date).toBeGreaterThan(last - 1000);
});
