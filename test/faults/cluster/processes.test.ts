/** Processes of a cluster die, freeze, are held up and are replaced; the runs go on elsewhere, once. */
import { expect, test } from "vitest";
import { ok } from "../../support/http.ts";
import { eventually } from "../../support/server.ts";
import type { Frame } from "../../support/sse.ts";
import { attemptsOf, idsOf, type RunRow, upTo } from "../support.ts";
import { LEASE_MS, type Member, startCluster } from "./kit/cluster.ts";
import { begun, executions, ONCE, open, startsOf } from "./kit/executions.ts";
import type { WorkInput } from "./kit/graphs.ts";
import { useServices } from "./kit/services.ts";

/** That a worker takes at once, unless it is told otherwise. */
const JOBS = 10;
const HOUR_MS = 3_600_000;

const cluster = useServices((services) =>
  startCluster(services, {
    // Clocks of machines differ.
    members: [
      "api",
      { role: "api", skewMs: 700 },
      { role: "worker", skewMs: -HOUR_MS },
      { role: "worker", skewMs: HOUR_MS },
    ],
    env: { BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS: "10" },
  }),
);

/** A run whose second node waits at a gate. Each finished node is on the disk before the next begins. */
function waiting(id: string, extra: object = {}) {
  const gate = cluster().file(`${id}.gate`);
  const log = cluster().file(`${id}.log`);
  const input: WorkInput = { id, log, two: { gate } };
  return {
    gate,
    log,
    body: {
      assistant_id: "work",
      input,
      durability: "sync",
      stream_mode: ["updates", "custom"],
      stream_resumable: true,
      ...extra,
    },
  };
}

const steps = async (member: Member, thread_id: string): Promise<unknown> =>
  (await ok(member.http.get<{ values: { steps: unknown } }>(`/threads/${thread_id}/state`))).values.steps;
const allSteps = (id: string): string[] => [`${id} one`, `${id} two`, `${id} three`];
const updatesOf = (frames: readonly Frame[]): string[] =>
  frames.filter(({ event }) => event === "updates").map(({ data }) => Object.keys(JSON.parse(data ?? "")).join());

test("kill -9 of a worker in a node: another one goes on at that node, and the stream with it", async () => {
  const { gate, log, body } = waiting("worker");
  const [first] = cluster().front as [Member];
  const { stream, run } = await cluster().stream(first, body);
  const worker = cluster().memberOf(await begun(log, "worker", "two"));
  await worker.crash();
  const other = cluster().memberOf(await begun(log, "worker", "two", 2));
  expect(other).not.toBe(worker);
  open(gate);
  const frames = await stream.rest();
  expect(stream.complete).toBe(true);
  expect(idsOf(frames)).toEqual(upTo(frames.length));
  expect(attemptsOf(frames)).toEqual([1, 2]);
  expect(updatesOf(frames)).toEqual(["do_one", "do_two", "do_three"]);
  expect(startsOf(log, "worker")).toEqual({ one: 1, two: 2, three: 1 });
  expect(await steps(first, run.thread_id)).toEqual(allSteps("worker"));
  await worker.server.start();
  expect(await cluster().faults()).toEqual([]);
});

test("kill -9 of the API in a stream: the run does not notice, and the other API has the rest", async () => {
  const { gate, log, body } = waiting("api");
  const [first, second] = cluster().front as [Member, Member];
  const { stream, run, path } = await cluster().stream(first, body);
  const seen = await stream.until(({ data }) => data?.includes("do_one") === true);
  await begun(log, "api", "two");
  await first.crash();
  expect(await stream.next()).toBeUndefined();
  expect(stream.complete).toBe(false);
  await using joined = await second.open(`${path}/stream`, { lastEventId: seen.at(-1)?.id ?? "" });
  open(gate);
  seen.push(...(await joined.rest()));
  expect(joined.complete).toBe(true);
  expect(idsOf(seen)).toEqual(upTo(seen.length));
  expect(updatesOf(seen)).toEqual(["do_one", "do_two", "do_three"]);
  expect(startsOf(log, "api")).toEqual(ONCE);
  expect(await cluster().row(run.run_id)).toMatchObject({ status: "success", attempt: 1 });
  await first.server.start();
  expect(await cluster().faults()).toEqual([]);
});

test("kill -9 of both at once: whoever is left has the whole stream", async () => {
  const { gate, log, body } = waiting("both");
  const [first, second] = cluster().front as [Member, Member];
  const { stream, run, path } = await cluster().stream(first, body);
  const seen = await stream.until(({ data }) => data?.includes("do_one") === true);
  const worker = cluster().memberOf(await begun(log, "both", "two"));
  await Promise.all([first.crash(), worker.crash()]);
  await begun(log, "both", "two", 2);
  await using joined = await second.open(`${path}/stream`, { lastEventId: seen.at(-1)?.id ?? "" });
  open(gate);
  seen.push(...(await joined.rest()));
  expect(joined.complete).toBe(true);
  expect(idsOf(seen)).toEqual(upTo(seen.length));
  expect(attemptsOf(seen)).toEqual([1, 2]);
  expect(updatesOf(seen)).toEqual(["do_one", "do_two", "do_three"]);
  expect(startsOf(log, "both")).toEqual({ one: 1, two: 2, three: 1 });
  expect(await steps(second, run.thread_id)).toEqual(allSteps("both"));
  await Promise.all([first.server.start(), worker.server.start()]);
  expect(await cluster().faults()).toEqual([]);
});

test("a worker frozen past its lease wakes up and changes nothing, whether its runs have ended elsewhere or still run", async () => {
  const [first] = cluster().front as [Member];
  // Of three runs on two workers, two are on the same.
  const names = ["ended", "running", "third"].map((name) => `frozen-${name}`);
  const jobs = names.map((name) => waiting(name));
  const runs = await Promise.all(jobs.map(({ body }) => cluster().run(first, body)));
  const pids = await Promise.all(names.map((name, index) => begun(jobs[index]?.log ?? "", name, "two")));
  const pid = pids.find((candidate, index) => pids.indexOf(candidate) !== index) as number;
  const frozen = cluster().memberOf(pid);
  const [ended, running] = names.flatMap((_, index) => (pids[index] === pid ? [index] : [])) as [number, number];
  const job = (index: number) => jobs[index] as (typeof jobs)[number];

  await frozen.freeze();
  await Promise.all([ended, running].map((index) => begun(job(index).log, names[index] ?? "", "two", 2)));
  open(job(ended).gate);
  await eventually(async () => (await cluster().row(runs[ended]?.run_id ?? ""))?.status === "success");
  const before = await everything(runs[ended]?.thread_id ?? "");
  const fence = (await cluster().row(runs[running]?.run_id ?? ""))?.fence;
  await frozen.thaw();
  // It comes out of its node and tries to write what it has.
  await eventually(() =>
    executions(job(ended).log).some((line) => line.pid === pid && line.node === "two" && line.what !== "start"),
  );
  await idle(frozen);
  expect(await everything(runs[ended]?.thread_id ?? "")).toEqual(before);
  expect(await cluster().row(runs[running]?.run_id ?? "")).toMatchObject({ status: "running", fence });

  open(job(running).gate);
  for (const { gate } of jobs) open(gate);
  await cluster().settled();
  for (const [index, name] of names.entries()) {
    expect(await steps(first, runs[index]?.thread_id ?? "")).toEqual(allSteps(name));
    await using stream = await first.open(`/threads/${runs[index]?.thread_id}/runs/${runs[index]?.run_id}/stream`, {
      lastEventId: "-1",
    });
    const frames = await stream.rest();
    expect(idsOf(frames)).toEqual(upTo(frames.length));
    expect(updatesOf(frames)).toEqual(["do_one", "do_two", "do_three"]);
  }
  expect(await cluster().faults()).toEqual([]);
});

test("a worker that froze and gets its own runs back, the others being full, runs them once more and mixes nothing up", async () => {
  const [first] = cluster().front as [Member];
  const jobs = upTo(2 * JOBS).map((n) => ({ id: `back-${n}`, ...waiting(`back-${n}`) }));
  const runs = await Promise.all(jobs.map(({ body }) => cluster().run(first, body)));
  const pids = await Promise.all(jobs.map(({ id, log }) => begun(log, id, "two")));
  const pid = pids[0] as number;
  const frozen = cluster().memberOf(pid);
  const [ended, ...itsOwn] = jobs
    .map((job, index) => ({ ...job, run: runs[index] as RunRow }))
    .filter((_, index) => pids[index] === pid);
  // It has a slot free: it may claim a run before it notices that it had lost it.
  open(ended?.gate ?? "");
  await eventually(async () => (await cluster().row(ended?.run.run_id ?? ""))?.status === "success");
  await frozen.freeze();
  await eventually(async () => {
    const rows = await Promise.all(itsOwn.map(({ run }) => cluster().row(run.run_id)));
    return rows.every((row) => row?.status === "pending");
  });
  await frozen.thaw();
  await Promise.all(itsOwn.map(({ id, log }) => begun(log, id, "two", 2)));
  for (const { gate } of jobs) open(gate);
  await cluster().settled();
  for (const { id, log, run } of itsOwn) {
    expect([id, startsOf(log, id)]).toEqual([id, { one: 1, two: 2, three: 1 }]);
    expect(executions(log).filter(({ what }) => what === "aborted")).toHaveLength(1);
    await using stream = await first.open(`/threads/${run.thread_id}/runs/${run.run_id}/stream`, {
      lastEventId: "-1",
    });
    const frames = await stream.rest();
    expect(idsOf(frames)).toEqual(upTo(frames.length));
    expect(attemptsOf(frames)).toEqual([1, 2]);
    expect(updatesOf(frames)).toEqual(["do_one", "do_two", "do_three"]);
  }
  expect(await cluster().faults()).toEqual([]);
});

/** Everything the database knows about a thread and its runs. */
async function everything(thread_id: string): Promise<unknown> {
  const tables = ["threads", "runs", "checkpoints", "checkpoint_blobs", "checkpoint_writes", "event_logs"];
  const where = `where thread_id = '${thread_id}'`;
  const rows = await Promise.all(
    tables.map((table) => cluster().query(`select md5(t::text) as row from ${table} as t ${where} order by 1`)),
  );
  const values = await Promise.all(
    ["thread_values", "thread_lists"].map((table) =>
      cluster().query(`select md5(t::text) as row from ${table} as t join threads using (seq) ${where} order by 1`),
    ),
  );
  const events = await cluster().query(
    `select * from event_chunks where run_id in (select run_id from runs ${where}) order by "first"`,
  );
  return [...rows, ...values, events];
}

/** Waits until nothing runs in the process any more. */
async function idle(member: Member): Promise<void> {
  await eventually(async () => /^skein_executor_runs 0$/m.test((await member.http.get("/metrics")).text));
}

/** What matters of "60 s" and "10 minutes" is how many leases pass meanwhile. Leases here are of 2 s, by default of 20 s. */
const LONG_LEASES = 3.5;

test(`a node that holds the CPU and one that sleeps, both for ${LONG_LEASES} leases, run once; the others go on`, async () => {
  const [first] = cluster().front as [Member];
  const log = cluster().file("long.log");
  const ms = LONG_LEASES * LEASE_MS;
  const body = (id: string, two: object) => ({ assistant_id: "work", input: { id, log, two } });
  const [blocked, slept] = await Promise.all([
    cluster().run(first, body("blocks", { block: ms })),
    cluster().run(first, body("sleeps", { sleep: ms })),
  ]);
  const worker = cluster().memberOf(await begun(log, "blocks", "two"));
  const asked = performance.now();
  expect((await worker.http.get("/ok")).status).toBe(200);
  for (const round of upTo(3)) {
    await Promise.all(upTo(4).map((n) => cluster().run(first, body(`quick-${round}-${n}`, {}))));
    await eventually(() => upTo(4).every((n) => startsOf(log, `quick-${round}-${n}`).three === 1));
  }
  const quick = performance.now() - asked;
  await cluster().settled();
  expect(quick).toBeLessThan(ms);
  for (const [id, run] of [
    ["blocks", blocked],
    ["sleeps", slept],
  ] as const) {
    expect([id, startsOf(log, id)]).toEqual([id, ONCE]);
    expect(await cluster().row(run.run_id)).toMatchObject({ status: "success", attempt: 1, fence: 1 });
  }
  expect(await cluster().faults()).toEqual([]);
});

test("a run that always kills its worker ends after its last attempt, and those beside it do not end with it", async () => {
  const [first] = cluster().front as [Member];
  const log = cluster().file("poison.log");
  const workers = cluster().members.filter(({ role }) => role === "worker");
  for (const worker of workers) worker.supervise();
  const run = (id: string, two: object) =>
    cluster().run(first, { assistant_id: "work", input: { id, log, two }, durability: "sync" });
  // They are in their second node when the poison acts, on both workers.
  const ids = upTo(6).map((n) => `beside-${n}`);
  const beside = await Promise.all(ids.map((id) => run(id, { sleep: 600 })));
  await Promise.all(ids.map((id) => begun(log, id, "two")));
  const poison = await run("poison", { poison: true });
  await cluster().settled(60_000);
  await Promise.all(workers.map((worker) => worker.dismiss()));
  const row = await cluster().row(poison.run_id);
  expect(row).toMatchObject({ status: "error", attempt: 3 });
  expect(JSON.parse(row?.error ?? "")).toMatchObject({
    error: "RunLostError",
    message: expect.stringContaining("3 of 3"),
  });
  expect(startsOf(log, "poison")).toEqual({ one: 1, two: 3 });
  for (const [index, id] of ids.entries()) {
    expect([id, (await cluster().row(beside[index]?.run_id ?? ""))?.status]).toEqual([id, "success"]);
  }
  await Promise.all(
    workers.map((worker) =>
      eventually(async () => (await worker.http.get("/ok").catch(() => undefined))?.status === 200),
    ),
  );
  expect(await cluster().faults()).toEqual([]);
});

test("a run on a machine whose clock is behind that of the run before goes on where that one ended", async () => {
  const [first] = cluster().front as [Member];
  const [behind, ahead] = cluster().members.filter(({ role }) => role === "worker") as [Member, Member];
  const log = cluster().file("skewed.log");
  const thread_id = await cluster().thread(first);
  const run = async (id: string) => {
    const { run_id } = await cluster().run(first, { assistant_id: "tick", input: { id, log } }, thread_id);
    await eventually(async () => (await cluster().row(run_id))?.status === "success", { every: 10 });
  };
  await behind.freeze();
  await run("skewed-1");
  await ahead.freeze();
  await behind.thaw();
  await run("skewed-2");
  await ahead.thaw();
  expect(executions(log).map(({ pid }) => pid)).toEqual([ahead.server.pid, behind.server.pid]);
  expect(await steps(first, thread_id)).toEqual(["skewed-1 tick", "skewed-2 tick"]);
  expect(await cluster().faults()).toEqual([]);
});

/** What servers say of a run that was taken from the process that had it, and whether that cost an attempt. */
const LOST = "run lost its executor";
const HANDED_BACK = "run did not come to a boundary in time; handed back as it is";
const saidOf = (run_id: string, what: string): number =>
  cluster()
    .members.flatMap(({ server }) => server.logs())
    .filter((line) => line.run_id === run_id && line.msg === what).length;

test("a rolling restart under 50 runs: none is lost, none spends an attempt, no node runs twice", async () => {
  const [first, second] = cluster().front as [Member, Member];
  const log = cluster().file("rolling.log");
  const input = (id: string): WorkInput => ({
    id,
    log,
    one: { sleep: 150 },
    two: { sleep: 150 },
    three: { sleep: 150 },
  });
  const ids = upTo(50).map((n) => `rolling-${n}`);
  const runs = await Promise.all(
    ids.map((id, n) =>
      cluster().run(n % 2 === 0 ? first : second, { assistant_id: "work", input: input(id), stream_resumable: true }),
    ),
  );
  for (const member of cluster().members) await member.server.restart("SIGTERM");
  await cluster().settled();
  for (const [index, id] of ids.entries()) {
    const run = runs[index] as (typeof runs)[number];
    // On a machine that starves its processes past their leases a run goes on elsewhere, and it is said.
    const lost = saidOf(run.run_id, LOST);
    const begins = 1 + lost + saidOf(run.run_id, HANDED_BACK);
    const nodes = startsOf(log, id);
    expect([id, Object.keys(nodes)]).toEqual([id, Object.keys(ONCE)]);
    expect([id, Object.values(nodes).filter((times) => times > begins)]).toEqual([id, []]);
    expect(await cluster().row(run.run_id)).toMatchObject({ status: "success", attempt: 1 + lost });
    await using stream = await second.open(`/threads/${run.thread_id}/runs/${run.run_id}/stream`, {
      lastEventId: "-1",
    });
    const frames = await stream.rest();
    expect(stream.complete).toBe(true);
    expect(idsOf(frames)).toEqual(upTo(frames.length));
  }
  expect(await cluster().faults()).toEqual([]);
});
