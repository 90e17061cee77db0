/** Several processes on one PostgreSQL and one Redis are one server, whichever of them a client meets. */
import { randomUUID } from "node:crypto";
import type pg from "pg";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { type Flags, loadProject, readSettings } from "../../src/config.ts";
import { Api, Gate, ids, numbers, useTempDir } from "../runs/support.ts";
import { freshSchema, onPostgres, requirePostgres, type TestDatabase } from "../support/postgres.ts";
import { dropKeys, freshPrefix, REDIS, requireRedis } from "../support/redis.ts";
import { eventually, FIXTURES, startServer, type TestServer } from "../support/server.ts";
import type { Frame, SseStream } from "../support/sse.ts";

let database: TestDatabase | undefined;
const prefix = freshPrefix();
const servers: TestServer[] = [];
let [api, w1, w2] = [] as unknown as [Api, Api, Api];
const temp = useTempDir();

const shared = (): Record<string, string> => ({ DATABASE_URI: database?.uri ?? "", SKEIN_LEASE_SECS: "3" });

const start = async (command: "start" | "worker", ...args: string[]): Promise<Api> => {
  const env = { ...shared(), REDIS_URI: REDIS, REDIS_KEY_PREFIX: prefix };
  const server = await startServer({ command, args: ["--threads", "1", ...args], env });
  servers.push(server);
  return new Api(server);
};

let started: Promise<void> | undefined;

async function startAll(): Promise<void> {
  database = await freshSchema();
  api = await start("start", "--no-worker");
  [w1, w2] = await Promise.all([start("start"), start("start")]);
}

beforeEach(async (context) => {
  await requirePostgres(context);
  await requireRedis(context);
  started ??= startAll();
  await started;
});
/** What the database says. */
const rows = <T extends pg.QueryResultRow>(query: string): Promise<T[]> => onPostgres<T>(database?.uri ?? "", query);

afterAll(async () => {
  for (const server of servers) await server[Symbol.asyncDispose]();
  await database?.drop();
  await dropKeys(REDIS, prefix);
});

describe("a run", () => {
  test("created on one process is streamed on a second and cancelled on a third", async () => {
    const gate = new Gate(temp.dir, randomUUID());
    const run = await api.background({ assistant_id: "slow", input: gate.input, stream_mode: ["updates"] });
    await using first = await w1.open(`${run.path}/stream`);
    await using second = await w2.open(`${run.path}/stream`);
    await using third = await api.open(`${run.path}/stream`);
    gate.open(1);
    for (const stream of [first, second, third]) {
      const seen = await stream.until(({ event }) => event === "updates");
      expect(ids(seen)).toEqual(numbers(seen.length));
    }
    await eventually(() => gate.log.includes("start 2"));
    for (const other of [w1, w2, api]) {
      // Whoever holds the run, two of these do not.
      const { status } = await other.get(run.path);
      expect(status).toBe("running");
    }
    expect((await api.http.post(`${run.path}/cancel?wait=1`)).status).toBeLessThan(300);
    for (const stream of [first, second, third]) await stream.rest();
    expect((await w2.get(run.path)).status).toBe("interrupted");
  });

  test.each(["/runs/stream", "/runs/wait"])(
    "of %s on a process that executes nothing is answered as anywhere",
    async (path) => {
      const body = { assistant_id: "plain", input: { text: "hi" } };
      const here = path.endsWith("wait")
        ? [await api.wait(body)]
        : (await api.stream(body)).map(({ event, id }) => [event, id]);
      const there = path.endsWith("wait")
        ? [await w1.wait(body)]
        : (await w1.stream(body)).map(({ event, id }) => [event, id]);
      expect(here).toEqual(there);
    },
  );

  test("whose events have been seen in part goes on from any index at any process", async () => {
    const config = { configurable: { tokens: 30, delay_ms: 2 } };
    const run = await api.background({
      assistant_id: "chat",
      input: { messages: [{ role: "user", content: "go" }] },
      config,
      stream_mode: ["messages-tuple"],
    });
    const whole = await api.frames(`${run.path}/stream`);
    expect(ids(whole)).toEqual(numbers(whole.length));
    expect(whole.length).toBeGreaterThan(30);
    for (const after of numbers(whole.length)) {
      const at = [api, w1, w2][after % 3] as Api;
      const rest = await at.frames(`${run.path}/stream`, { lastEventId: `${after}` });
      expect(ids(rest)).toEqual(numbers(whole.length).slice(after + 1));
    }
  });

  test("that waits on its thread starts when the one before ends elsewhere", async () => {
    const thread_id = await api.thread();
    const runs: string[] = [];
    for (let i = 0; i < 6; i += 1) {
      const at = [api, w1, w2][i % 3] as Api;
      const body = { assistant_id: "remember", input: { text: `${i}` } };
      runs.push((await at.post(`/threads/${thread_id}/runs`, body)).run_id);
    }
    for (const run_id of runs) await w1.get(`/threads/${thread_id}/runs/${run_id}/join`);
    const listed = await w2.get<{ run_id: string; status: string }[]>(`/threads/${thread_id}/runs`);
    expect(listed.map(({ run_id }) => run_id)).toEqual(runs.reverse());
    expect(new Set(listed.map(({ status }) => status))).toEqual(new Set(["success"]));
  });

  test("that is deleted while another process holds it is gone, and its streams end", async () => {
    const gate = new Gate(temp.dir, randomUUID());
    const run = await api.background({ assistant_id: "slow", input: gate.input });
    await eventually(() => gate.log.includes("start 1"));
    const streams = await Promise.all([api, w1, w2].map((each) => each.open(`${run.path}/stream`)));
    expect((await api.http.delete(run.path)).status).toBeLessThan(300);
    for (const stream of streams) await stream.rest();
    for (const each of [api, w1, w2]) expect((await each.http.get(run.path)).status).toBe(404);
  });

  test("goes with its thread, wherever it is held", async () => {
    const gate = new Gate(temp.dir, randomUUID());
    const run = await api.background({ assistant_id: "slow", input: gate.input });
    await eventually(() => gate.log.includes("start 1"));
    const streams = await Promise.all([api, w1, w2].map((each) => each.open(`${run.path}/stream`)));
    expect((await api.http.delete(`/threads/${run.thread_id}`)).status).toBeLessThan(300);
    for (const stream of streams) await stream.rest();
    await eventually(() => gate.log.includes("aborted 1"));
  });
});

test("wake-ups: runs created on a process that executes none start at once elsewhere, and evenly", async () => {
  const since = Number((await rows<{ seq: string }>("select coalesce(max(seq), 0) as seq from runs"))[0]?.seq);
  const ran = async (each: Api): Promise<number> => {
    const { text } = await each.http.get("/metrics");
    return Number(/skein_runs_ended_total\{status="success"\} (\d+)/.exec(text)?.[1] ?? 0);
  };
  const before = [await ran(w1), await ran(w2)];
  for (let i = 0; i < 60; i += 1) {
    const run = await api.background({ assistant_id: "plain", input: {} });
    await api.get(`${run.path}/join`);
  }
  const waits = (
    await rows<{ wait: string }>(`select started_at - created_at as wait from runs where seq > ${since}`)
  ).map(({ wait }) => Number(wait));
  waits.sort((a, b) => a - b);
  const [a = 0, b = 0] = [await ran(w1), await ran(w2)].map((count, index) => count - (before[index] ?? 0));
  console.info(`runs started elsewhere after ${waits[30]} ms (p50), ${waits[54]} ms (p90); on each worker: ${a}, ${b}`);
  expect(waits.length).toBe(60);
  // About 10 ms on a machine that does nothing else; without the wake-up it would be seconds.
  expect(waits[30]).toBeLessThan(250);
  expect(Math.min(a, b)).toBeGreaterThan(20);
});

test("a batch of hundreds is run once each, by all workers", async () => {
  const [before] = await rows<{ seq: string | null }>("select max(seq) as seq from runs");
  const body = { assistant_id: "plain", input: {}, on_completion: "keep" };
  await api.post(
    "/runs/batch",
    numbers(200).map(() => body),
  );
  const made = () =>
    rows<{ status: string; attempt: string; fence: string }>(
      `select status, attempt, fence from runs where seq > ${before?.seq ?? 0}`,
    );
  await eventually(async () => (await made()).every(({ status }) => status === "success"), { ms: 40_000, every: 200 });
  const all = await made();
  expect(all.length).toBe(200);
  expect(all.filter(({ attempt, fence }) => Number(attempt) !== 1 || Number(fence) !== 1)).toEqual([]);
});

describe("a thread", () => {
  test("is one sequence at every process, whoever runs its runs, and goes on anywhere from any id", async () => {
    const thread_id = await api.thread();
    const path = `/threads/${thread_id}/stream`;
    const all = [api, w1, w2];
    const watchers = await Promise.all(all.map((each) => each.open(path)));
    for (let i = 0; i < 6; i += 1) {
      const at = all[i % 3] as Api;
      await at.wait({ assistant_id: "plain", input: {} }, `/threads/${thread_id}/runs/wait`);
    }
    const seen = await Promise.all(
      watchers.map(async (stream) => {
        const frames = [];
        for (let done = 0; done < 6; ) {
          const frame = await stream.next();
          if (frame === undefined) break;
          frames.push(frame);
          if (frame.data?.includes("run_done") === true) done += 1;
        }
        return frames.map(({ id, event }) => `${id} ${event}`);
      }),
    );
    for (const watcher of watchers) watcher.close();
    expect(seen[1]).toEqual(seen[0]);
    expect(seen[2]).toEqual(seen[0]);
    const line = (seen[0] ?? []).map((each) => each.split(" ")[0] as string);
    for (const [index, id] of line.entries()) {
      if (index % 4 !== 0 || index === line.length - 1) continue;
      await using again = await (all[index % 3] as Api).open(path, { lastEventId: id });
      const rest = await again.until((frame) => frame.id === line.at(-1));
      expect(rest.map((frame) => frame.id)).toEqual(line.slice(index + 1));
    }
  });
});

test.each(["by a command", "by REST, before anybody read its thread's events"])(
  "a run made %s that is rolled back has an end in the event streams of all processes, also for who was away",
  async (how) => {
    const thread_id = randomUUID();
    const path = `/threads/${thread_id}/stream/events`;
    const body = { channels: ["lifecycle"] };
    const told = (frame: Frame): string => JSON.parse(frame.data ?? "").params.data.event;
    const params = { assistant_id: "slow", input: { gate: "/nowhere" } };
    const watch = (): Promise<SseStream[]> => Promise.all([api, w1, w2].map((each) => each.open(path, { body })));
    const byCommand = how === "by a command";
    const early = byCommand
      ? undefined
      : await api.post(`/threads/${thread_id}/runs`, { ...params, if_not_exists: "create" });
    const live = await watch();
    const { run_id } =
      early ?? (await api.post(`/threads/${thread_id}/commands`, { id: 1, method: "run.start", params })).result;
    const seen = await Promise.all(live.map((stream) => stream.until((frame) => told(frame) === "running")));
    await api.http.post(`/threads/${thread_id}/runs/${run_id}/cancel?action=rollback&wait=1`);
    for (const stream of live) {
      const end = await stream.next();
      expect([end && told(end), end?.data?.includes(`synth:${run_id}:`)]).toEqual(["interrupted", true]);
      stream.close();
    }
    for (const each of [api, w1, w2]) {
      await using again = await each.open(path, { body: { ...body, since: Number(seen[0]?.at(-1)?.id) } });
      const end = await again.next();
      expect([end && told(end), end?.data?.includes(`synth:${run_id}:`)]).toEqual(["interrupted", true]);
    }
  },
);

describe("a process that is killed", () => {
  test("leaves its run to another; whoever follows it at a third sees one stream to its end", async () => {
    const gate = new Gate(temp.dir, randomUUID());
    const doomed = await start("start");
    const run = await doomed.background({ assistant_id: "slow", input: gate.input, stream_mode: ["updates"] });
    await eventually(() => gate.log.includes("start 1"));
    await using stream = await api.open(`${run.path}/stream`);
    await stream.until(({ event }) => event === "metadata");
    gate.open(1);
    await stream.until(({ event }) => event === "updates");
    await doomed.server.kill("SIGKILL");
    gate.openAll();
    const rest = await stream.rest();
    expect(rest.map(({ event }) => event)).toEqual(expect.arrayContaining(["metadata", "updates"]));
    expect(rest.find(({ event }) => event === "metadata")?.data).toContain('"attempt":2');
    expect((await api.get(run.path)).status).toBe("success");
    // Who comes now sees the same.
    const late = await w1.frames(`${run.path}/stream`);
    expect(late.at(-1)?.id).toBe(rest.at(-1)?.id);
  });

  test("politely hands its run back, and it goes on at once elsewhere", async () => {
    const gate = new Gate(temp.dir, randomUUID());
    const leaving = await start("start");
    const run = await leaving.background({ assistant_id: "slow", input: gate.input, stream_mode: ["updates"] });
    await eventually(() => gate.log.includes("start 1"));
    await using stream = await api.open(`${run.path}/stream`);
    await stream.until(({ event }) => event === "metadata");
    const stopped = leaving.server.stop();
    await eventually(() => leaving.server.logs().some(({ msg }) => msg === "draining"));
    gate.open(1);
    await stopped;
    const begin = performance.now();
    await eventually(() => gate.log.includes("start 2"));
    expect(performance.now() - begin).toBeLessThan(1500);
    gate.openAll();
    expect((await stream.rest()).filter(({ event }) => event === "updates").length).toBeGreaterThanOrEqual(2);
    expect((await api.get(run.path)).status).toBe("success");
  });
});

test("without Redis: work, cancels, kept events and ends are found in the database, later", async () => {
  const args = ["--threads", "1"];
  const server = await startServer({ command: "start", args: [...args, "--no-worker"], env: shared() });
  servers.push(server);
  const lone = new Api(server);
  expect(await lone.get("/ok?check_db=1")).toEqual({ ok: true, broker: "none" });
  expect(server.logs().some(({ msg }) => `${msg}`.startsWith("no REDIS_URI"))).toBe(true);
  const body = { assistant_id: "plain", input: { text: "hi" } };
  const kept = { ...body, on_completion: "keep" };
  expect(await lone.wait(kept)).toEqual(await w1.wait(kept));
  // These leave no thread and no run: only what they came to.
  expect(await lone.wait(body)).toEqual(await w1.wait(body));
  const failing = { assistant_id: "error", input: {} };
  expect(await lone.wait(failing)).toEqual(await w1.wait(failing));
  const run = await lone.background({ ...body, stream_resumable: true });
  const seen = await lone.frames(`${run.path}/stream`);
  expect(ids(seen)).toEqual(ids(await w1.frames(`${run.path}/stream`)));
  expect(seen.length).toBeGreaterThan(1);
  const maker = await startServer({ command: "start", args, env: shared() });
  servers.push(maker);
  const made = new Gate(temp.dir, randomUUID());
  const stateless = await new Api(maker).post("/runs", { assistant_id: "slow", input: made.input });
  await eventually(() => made.log.includes("start 1"));
  const answer = await fetch(`${lone.url}/runs/${stateless.run_id}/join`);
  await using stream = await lone.open(`/runs/${stateless.run_id}/stream`);
  made.openAll();
  expect(await answer.json()).toMatchObject({ steps: [1, 2, 3] });
  // It went by without anything of it having been kept.
  const [told, ...more] = await stream.rest();
  expect([told?.event, more]).toEqual(["error", []]);
  expect(told?.data).toContain(`run ${stateless.run_id} has ended; events of it were lost`);
  const gate = new Gate(temp.dir, randomUUID());
  const slow = await lone.background({ assistant_id: "slow", input: gate.input });
  await eventually(() => gate.log.includes("start 1"));
  expect((await lone.http.post(`${slow.path}/cancel?wait=1`)).status).toBeLessThan(300);
  expect((await lone.get(slow.path)).status).toBe("interrupted");
});

test("a cron changed on one process fires once for each tick, whoever takes it", async () => {
  const cron = { assistant_id: "plain", input: {}, schedule: "* * * * * *", on_run_completed: "keep" };
  const { cron_id } = await api.post("/runs/crons", cron);
  const ticks = () =>
    rows<{ at: string }>(
      `select r.created_at as at from runs r join threads t using (thread_id) where t.metadata::text like '%${cron_id}%' order by 1`,
    );
  await eventually(async () => (await ticks()).length >= 4);
  await api.http.delete(`/runs/crons/${cron_id}`);
  const seconds = (await ticks()).map(({ at }) => Math.floor(Number(at) / 1000));
  expect(seconds.length).toBeGreaterThanOrEqual(4);
  expect(new Set(seconds).size).toBe(seconds.length);
});

describe("refused with a reason", () => {
  test.each([
    ["REDIS_URI without DATABASE_URI", { REDIS_URI: REDIS }, {}, "REDIS_URI needs DATABASE_URI"],
    ["--no-worker without DATABASE_URI", {}, { worker: false }, "--no-worker needs DATABASE_URI"],
    [
      "a REDIS_URI that is none",
      { REDIS_URI: "127.0.0.1:6379", DATABASE_URI: "postgres://h/d" },
      {},
      "REDIS_URI must be a Redis URI",
    ],
  ])("%s", (_, env: Record<string, string>, flags: Flags, why) => {
    expect(() => readSettings("start", flags, loadProject(FIXTURES, env))).toThrow(why);
  });
});

test("a process says how it hears of the others", async () => {
  expect(await api.get("/ok?check_db=1")).toEqual({ ok: true, broker: "connected" });
  expect((await api.http.get("/metrics")).text).toContain("skein_broker_connected 1");
});

test("a worker executes, and serves health, identity and numbers only", async () => {
  const worker = await start("worker", "--jobs", "2");
  expect(await worker.get("/ok")).toEqual({ ok: true });
  expect((await worker.http.get("/info")).status).toBe(200);
  expect((await worker.http.get("/metrics")).status).toBe(200);
  for (const path of ["/assistants/search", "/runs/wait", "/threads"]) {
    expect((await worker.http.post(path, {})).status).toBe(404);
  }
  await worker.server.stop();
});
