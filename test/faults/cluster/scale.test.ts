/** Many runs, several workers: each run once, spread evenly, soon, and those of a thread in their order. */
import { expect, test } from "vitest";
import { ok } from "../../support/http.ts";
import { upTo } from "../support.ts";
import { type Cluster, type Member, startCluster } from "./kit/cluster.ts";
import { executions } from "./kit/executions.ts";
import { useServices } from "./kit/services.ts";

const cluster = useServices((services) =>
  startCluster(services, { members: ["api", "worker", "worker", "worker", "worker"], env: { SKEIN_LEASE_SECS: "20" } }),
);

const quantile = (values: readonly number[], q: number): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length * q)] ?? Number.NaN;

/** Work in batches, so that the client does not open a thousand connections. */
async function inBatches<T>(items: readonly T[], size: number, work: (item: T) => Promise<unknown>): Promise<void> {
  const left = [...items].reverse();
  const lane = async (): Promise<void> => {
    for (let item = left.pop(); item !== undefined; item = left.pop()) await work(item);
  };
  await Promise.all(upTo(size).map(lane));
}

test("five processes that started at once have migrated once", async () => {
  // Whoever had come second would have met tables that are there, and not have started.
  expect(cluster().members.map(({ server }) => server.isRunning)).toEqual(cluster().members.map(() => true));
  const applied = await cluster().query<{ name: string }>("select name from kysely_migration order by name");
  expect(applied.length).toBeGreaterThan(0);
  // Default assistants were made once, too.
  expect((await cluster().query("select 1 from assistants")).length).toBe(3);
});

test("a run starts soon after it was made on another process", async () => {
  const [api] = cluster().front as [Member];
  const log = cluster().file("soon.log");
  const waits: number[] = [];
  for (const n of upTo(60)) {
    const thread_id = await cluster().thread(api);
    const made = Date.now();
    const run = await cluster().run(api, { assistant_id: "tick", input: { id: `soon-${n}`, log } }, thread_id);
    await ok(api.http.get(`/threads/${thread_id}/runs/${run.run_id}/join`));
    const started = executions(log).find(({ id }) => id === `soon-${n}`)?.at ?? Number.NaN;
    waits.push(started - made);
  }
  const claims = await cluster().query<{ ms: number }>("select (started_at - created_at)::int as ms from runs");
  const told = (name: string, values: readonly number[]) =>
    `${name} p50 ${quantile(values, 0.5)} ms, p95 ${quantile(values, 0.95)} ms`;
  console.log(
    `${told("request sent to node begun:", waits)}; ${told(
      "row made to claimed:",
      claims.map(({ ms }) => ms),
    )}`,
  );
  expect(quantile(waits, 0.5)).toBeLessThan(1000);
  expect(await cluster().faults()).toEqual([]);
});

test("1,000 runs over four workers: each once, spread evenly", async () => {
  const [api] = cluster().front as [Member];
  const log = cluster().file("spread.log");
  const begin = performance.now();
  await inBatches(upTo(1000), 32, async (n) => {
    const body = { assistant_id: "tick", input: { id: `spread-${n}`, log }, on_completion: "keep" };
    cluster().note(await ok(api.http.post("/runs", body)));
  });
  const made = performance.now() - begin;
  await cluster().settled(60_000);
  const done = executions(log);
  expect(done).toHaveLength(1000);
  expect(new Set(done.map(({ id }) => id)).size).toBe(1000);
  const shares = sharesOf(
    cluster(),
    done.map(({ pid }) => pid),
  );
  console.log(
    `1,000 runs: made in ${made.toFixed(0)} ms, done in ${(performance.now() - begin).toFixed(0)} ms; shares ${shares.join(", ")}`,
  );
  expect(shares).toHaveLength(4);
  // Even would be 250 each; who is slower takes fewer.
  expect(Math.min(...shares)).toBeGreaterThan(100);
  expect(Math.max(...shares)).toBeLessThan(450);
  expect(await cluster().faults()).toEqual([]);
});

const sharesOf = (all: Cluster, pids: readonly number[]): number[] =>
  all.members
    .filter(({ role }) => role === "worker")
    .map(({ server }) => pids.filter((pid) => pid === server.pid).length);

test("runs of a thread keep their order, whichever workers take them", async () => {
  const [api] = cluster().front as [Member];
  const log = cluster().file("order.log");
  const threads = await Promise.all(upTo(8).map(() => cluster().thread(api)));
  await Promise.all(
    threads.map(async (thread_id, t) => {
      for (const n of upTo(20)) {
        await cluster().run(api, { assistant_id: "work", input: { id: `order-${t}-${n}`, log } }, thread_id);
      }
    }),
  );
  await cluster().settled();
  const lines = executions(log);
  for (const [t, thread_id] of threads.entries()) {
    // Begun and ended one after the other: no line of the next before the last of the one before.
    const mine = lines.filter(({ id }) => id.startsWith(`order-${t}-`));
    const expected = upTo(20).flatMap((n) =>
      ["one", "two", "three"].flatMap((node) => ["start", "end"].map((what) => `order-${t}-${n} ${node} ${what}`)),
    );
    expect(mine.map(({ id, node, what }) => `${id} ${node} ${what}`)).toEqual(expected);
    const { values } = await ok(api.http.get(`/threads/${thread_id}/state`));
    expect(values.steps).toHaveLength(60);
  }
  expect(await cluster().faults()).toEqual([]);
});
