/** PostgreSQL goes away and comes back: what was acknowledged is there, runs go on, nobody gets an answer that is not true. */
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { expect, test } from "vitest";
import { http } from "../../support/http.ts";
import { eventually } from "../../support/server.ts";
import { idsOf, type RunRow, upTo } from "../support.ts";
import { type Cluster, LEASE_MS, type Member, startCluster, statusOf } from "./kit/cluster.ts";
import { begun, ONCE, open, startsOf } from "./kit/executions.ts";
import { useServices } from "./kit/services.ts";

const cluster = useServices(
  (services) =>
    startCluster(services, {
      members: [{ role: "both", env: { LANGGRAPH_POSTGRES_POOL_MAX_SIZE: "3" } }, "both", "worker"],
      env: { SKEIN_STATEMENT_TIMEOUT_SECS: "2" },
    }),
  // What was not flushed with its commit is lost with a crash, and not by chance now and then.
  { wal_writer_delay: "10s" },
);

/** Clients that create runs one after the other, and note what they were promised, until they are told to stop. */
function clients(all: Cluster, name: string) {
  const log = all.file(`${name}.log`);
  const statuses = new Map<number | string, number>();
  const ids: string[] = [];
  let isOver = false;
  const work = async (client: number): Promise<void> => {
    const member = all.front[client % all.front.length] as Member;
    for (let n = 0; !isOver; n++) {
      const id = `${name}-${client}-${n}`;
      const body = { assistant_id: "work", input: { id, log }, on_completion: "keep" };
      const status = await statusOf(
        http(member.url)
          .post<RunRow>("/runs", body)
          .then((answer) => {
            if (answer.status === 200) {
              all.note(answer.body);
              ids.push(id);
            }
            return answer;
          }),
      );
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
      await delay(status === 200 ? 30 : 100);
    }
  };
  const done = Promise.all(upTo(4).map(work));
  return {
    log,
    ids,
    statuses,
    /** Stops them and waits for their last answers. */
    async stop(): Promise<void> {
      isOver = true;
      await done;
    },
  };
}

/** Every run that was promised did each step with effect once; the answers were promises or honest refusals. */
async function expectKept(all: Cluster, { ids, statuses }: ReturnType<typeof clients>): Promise<void> {
  expect([...statuses.keys()].filter((status) => status !== 200 && status !== 503)).toEqual([]);
  expect(ids.length).toBeGreaterThan(10);
  expect(await all.faults()).toEqual([]);
  const failed = await all.query("select run_id, status, error from runs where status <> 'success'");
  expect(failed).toEqual([]);
}

/** Makes one run and waits for it: whatever there was is over. */
async function expectWell(all: Cluster): Promise<void> {
  for (const member of all.front) {
    await eventually(async () => (await member.http.get("/ok?check_db=1")).status === 200, { ms: 15_000 });
    const run = await all.run(member, { assistant_id: "tick", input: { id: crypto.randomUUID() } });
    await eventually(async () => (await all.row(run.run_id))?.status === "success", { ms: 15_000 });
  }
}

test("it crashes and recovers under load", async () => {
  const { postgres } = cluster().services;
  const [first] = cluster().front as [Member];
  const [log, gate] = [cluster().file("crash-held.log"), cluster().file("crash-held.gate")];
  const body = {
    assistant_id: "work",
    input: { id: "held", log, two: { gate } },
    stream_mode: "updates",
    stream_resumable: true,
  };
  const { stream } = await cluster().stream(first, body);
  await begun(log, "held", "two");
  const load = clients(cluster(), "crash");
  await eventually(() => load.ids.length >= 8);
  await postgres.stop("SIGQUIT");
  await delay(300);
  await postgres.start();
  const before = load.ids.length;
  await eventually(() => load.ids.length >= before + 8, { ms: 20_000 });
  await load.stop();
  open(gate);
  const frames = await stream.rest();
  expect(stream.complete).toBe(true);
  expect(idsOf(frames)).toEqual(upTo(frames.length));
  await expectWell(cluster());
  await expectKept(cluster(), load);
});

test("it crashes when nothing but a claim and checkpoints were written: no two processes hold the run by one token", async () => {
  const { postgres } = cluster().services;
  const [first] = cluster().front as [Member];
  const log = cluster().file("token.log");
  const gates = upTo(4).map((n) => [cluster().file(`token-${n}.a`), cluster().file(`token-${n}.b`)] as const);
  const body = (id: string, orders: object) => ({ assistant_id: "work", input: { id, log, ...orders } });
  // The second run of each thread is claimed when the first has ended, and no commit after that is waited for.
  const behind = await Promise.all(
    gates.map(async ([a, b], n) => {
      const { thread_id } = await cluster().run(first, body(`token-${n}-a`, { three: { gate: a } }));
      return cluster().run(first, body(`token-${n}-b`, { two: { gate: b } }), thread_id);
    }),
  );
  for (const [a] of gates) open(a);
  await Promise.all(gates.map((_, n) => begun(log, `token-${n}-b`, "two")));
  await postgres.stop("SIGQUIT");
  await postgres.start();
  await Promise.all(
    behind.map(({ run_id }) => eventually(async () => (await cluster().row(run_id))?.status === "running")),
  );
  for (const [, b] of gates) open(b);
  expect(await cluster().faults()).toEqual([]);
  for (const [n, { run_id }] of behind.entries()) {
    const row = await cluster().row(run_id);
    expect(row).toMatchObject({ status: "success" });
    // A lease may have been over by then: but whoever began the node anew did so under another token.
    expect(startsOf(log, `token-${n}-b`).two).toBeLessThanOrEqual(row?.fence ?? 0);
  }
});

test("it is stopped for longer than a lease: whoever holds a run either keeps it or changes nothing", async () => {
  const { postgres } = cluster().services;
  const [first] = cluster().front as [Member];
  const [log, gate] = [cluster().file("away.log"), cluster().file("away.gate")];
  const ids = upTo(6).map((n) => `away-${n}`);
  await Promise.all(ids.map((id) => cluster().run(first, { assistant_id: "work", input: { id, log, two: { gate } } })));
  await Promise.all(ids.map((id) => begun(log, id, "two")));
  await postgres.stop("SIGINT");
  await delay(1.5 * LEASE_MS);
  open(gate);
  await delay(200);
  await postgres.start();
  await cluster().settled();
  await expectWell(cluster());
  expect(await cluster().faults()).toEqual([]);
  expect(await cluster().query("select run_id, status, error from runs where status <> 'success'")).toEqual([]);
});

test("all its backends are terminated, again and again", async () => {
  const { postgres } = cluster().services;
  const load = clients(cluster(), "terminated");
  let ended = 0;
  for (const round of upTo(6)) {
    const before = load.ids.length;
    await eventually(() => load.ids.length >= before + 5, { ms: 20_000 });
    ended += await postgres.terminateBackends(cluster().database);
    expect([round, ended > 0]).toEqual([round, true]);
  }
  await load.stop();
  await expectWell(cluster());
  await expectKept(cluster(), load);
});

test("more requests at once than the pool has connections: they wait their turn", async () => {
  const [small] = cluster().front as [Member];
  const log = cluster().file("pool.log");
  const ids = upTo(100).map((n) => `pool-${n}`);
  const body = (id: string) => ({ assistant_id: "work", input: { id, log }, on_completion: "keep" });
  const answers = await Promise.all(ids.map((id) => small.http.post("/runs", body(id))));
  expect([...new Set(answers.map(({ status }) => status))]).toEqual([200]);
  for (const { body } of answers) cluster().note(body);
  expect(await cluster().faults()).toEqual([]);
  for (const id of ids) expect([id, startsOf(log, id)]).toEqual([id, ONCE]);
});

test("no connection is left for anybody: requests are refused or wait, and all is well afterwards", async () => {
  const { postgres } = cluster().services;
  const hogs: pg.Client[] = [];
  const load = clients(cluster(), "hogged");
  try {
    await eventually(() => load.ids.length >= 8);
    // As many as it takes; then the server's own are ended, and cannot come back.
    for (;;) {
      const hog = new pg.Client({ connectionString: postgres.uri(cluster().database) });
      hog.on("error", () => undefined);
      try {
        await hog.connect();
        hogs.push(hog);
      } catch {
        break;
      }
    }
    await postgres.terminateBackends(cluster().database);
    await delay(500);
  } finally {
    await Promise.all(hogs.map((hog) => hog.end()));
  }
  const before = load.ids.length;
  await eventually(() => load.ids.length >= before + 8, { ms: 20_000 });
  await load.stop();
  await expectWell(cluster());
  await expectKept(cluster(), load);
});

test("statements run into their time limit: the answer is an honest refusal, and nothing is half done", async () => {
  const { postgres } = cluster().services;
  const blocker = new pg.Client({ connectionString: postgres.uri(cluster().database) });
  await blocker.connect();
  const load = clients(cluster(), "limit");
  try {
    await eventually(() => load.ids.length >= 8);
    await blocker.query("begin; lock table runs in access exclusive mode");
    await eventually(() => load.statuses.has(503), { ms: 20_000 });
    await blocker.query("rollback");
    const before = load.ids.length;
    await eventually(() => load.ids.length >= before + 8, { ms: 20_000 });
  } finally {
    await load.stop();
    await blocker.end();
  }
  await expectWell(cluster());
  await expectKept(cluster(), load);
});

test("half-open towards one worker past the lease: another finishes its run, and its return changes nothing", async () => {
  const [first] = cluster().front as [Member];
  const [log, gate] = [cluster().file("cut.log"), cluster().file("cut.gate")];
  const runs = await Promise.all(
    upTo(6).map((n) =>
      cluster().run(first, { assistant_id: "work", input: { id: `cut-${n}`, log, two: { gate } }, durability: "sync" }),
    ),
  );
  const pids = await Promise.all(upTo(6).map((n) => begun(log, `cut-${n}`, "two")));
  const victim = cluster().memberOf(pids[0] as number);
  const mine = upTo(6).filter((n) => pids[n] === victim.server.pid);
  await victim.toDatabase.set("drop");
  await Promise.all(mine.map((n) => begun(log, `cut-${n}`, "two", 2)));
  open(gate);
  await eventually(async () => {
    const rows = await Promise.all(mine.map((n) => cluster().row(runs[n]?.run_id ?? "")));
    return rows.every((row) => row?.status === "success");
  });
  await victim.toDatabase.set("pass");
  await expectWell(cluster());
  expect(await cluster().faults()).toEqual([]);
});
