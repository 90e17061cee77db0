/** Redis is lost in every way it can be lost: runs go on, every stream has an end, and what is resumable is whole. */
import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { eventually } from "../../support/server.ts";
import type { Frame, SseStream } from "../../support/sse.ts";
import { idsOf, toldBy, upTo } from "../support.ts";
import { type Cluster, LEASE_MS, type Member, startCluster } from "./kit/cluster.ts";
import { begun, executions, ONCE, open, startsOf } from "./kit/executions.ts";
import { useServices } from "./kit/services.ts";

const cluster = useServices((services) => startCluster(services, { members: ["api", "api", "worker"] }));

const EVENTS = 60;
let count = 0;

interface Talk {
  readonly id: string;
  readonly log: string;
  readonly gate: string;
  readonly kept: SseStream;
  readonly passing: SseStream;
  readonly paths: readonly string[];
}

/**
 * Two runs on the worker, one resumable and one not, both followed from the first API. Each sends events, waits for its
 * gate, and sends more.
 */
async function talking(): Promise<Talk> {
  count += 1;
  const id = `talk-${count}`;
  const [first] = cluster().front as [Member];
  const [log, gate] = [cluster().file(`${id}.log`), cluster().file(`${id}.gate`)];
  const orders = { one: { events: EVENTS, every: 5 }, two: { gate }, three: { events: EVENTS, every: 5 } };
  const follow = (resumable: boolean) =>
    cluster().stream(first, {
      assistant_id: "work",
      input: { id: `${id}-${resumable}`, log, ...orders },
      stream_mode: ["custom", "updates"],
      stream_resumable: resumable,
    });
  const [kept, passing] = await Promise.all([follow(true), follow(false)]);
  await Promise.all([true, false].map((resumable) => begun(log, `${id}-${resumable}`, "one")));
  return { id, log, gate, kept: kept.stream, passing: passing.stream, paths: [kept.path, passing.path] };
}

/** What must be true however Redis fared meanwhile. */
async function expectWhole({ id, log, kept, passing, paths }: Talk): Promise<void> {
  const [keptFrames, passingFrames] = await Promise.all([kept.rest(), passing.rest()]);
  expect([kept.complete, passing.complete]).toEqual([true, true]);
  // Nothing resumable may be missing.
  expect(idsOf(keptFrames)).toEqual(upTo(keptFrames.length));
  expect(customOf(keptFrames)).toEqual([...upTo(EVENTS), ...upTo(EVENTS)]);
  // Of what is not kept some may be lost with Redis, but nothing comes twice or in another order.
  const ids = idsOf(passingFrames);
  expect(ids).toEqual([...new Set(ids)].sort((a, b) => a - b));
  for (const resumable of [true, false]) expect(startsOf(log, `${id}-${resumable}`)).toEqual(ONCE);
  const [, second] = cluster().front as [Member, Member];
  await using again = await second.open(`${paths[0]}/stream`, { lastEventId: "-1" });
  expect(toldBy(await again.rest())).toEqual(toldBy(keptFrames));
  expect(await cluster().faults()).toEqual([]);
}

const customOf = (frames: readonly Frame[]): number[] =>
  frames.filter(({ event }) => event === "custom").map(({ data }) => JSON.parse(data ?? "").i);

/** A run made on the first API is done by the worker, though nobody can tell it. */
async function expectRunsStart(all: Cluster, within: number): Promise<void> {
  count += 1;
  const [log, id] = [all.file(`quick-${count}.log`), `quick-${count}`];
  const [first] = all.front as [Member];
  await all.run(first, { assistant_id: "tick", input: { id, log } });
  await eventually(() => executions(log).length === 1, { ms: within });
}

test("nothing happens to it: all is there", async () => {
  const talk = await talking();
  open(talk.gate);
  await expectWhole(talk);
});

test("killed in the middle of streams, and back", async () => {
  const { redis } = cluster().services;
  const talk = await talking();
  await redis.kill();
  await expectRunsStart(cluster(), 12_000);
  open(talk.gate);
  await delay(100);
  await redis.start();
  await expectWhole(talk);
  await expectRunsStart(cluster(), 12_000);
});

test("killed for good while runs end: every stream has its end all the same", async () => {
  const { redis } = cluster().services;
  const talk = await talking();
  await redis.kill();
  open(talk.gate);
  await expectWhole(talk);
  await redis.start();
});

test("flushed in the middle of streams", async () => {
  const talk = await talking();
  await cluster().services.redis.flush();
  open(talk.gate);
  await expectWhole(talk);
});

test("frozen for longer than a lease, and going on", async () => {
  const { redis } = cluster().services;
  const talk = await talking();
  await redis.freeze();
  open(talk.gate);
  await expectRunsStart(cluster(), 12_000);
  await delay(LEASE_MS);
  await redis.thaw();
  await expectWhole(talk);
});

test.each(["api", "worker"] as const)(
  "half-open towards one %s: the others do not notice, and it recovers",
  async (role) => {
    const member = cluster().members.find((candidate) => candidate.role === role) as Member;
    const talk = await talking();
    await member.toRedis.set("drop");
    try {
      await expectRunsStart(cluster(), 12_000);
      open(talk.gate);
      await Promise.all(
        [true, false].map((kept) => eventually(() => startsOf(talk.log, `${talk.id}-${kept}`).three === 1)),
      );
      await delay(300);
    } finally {
      await member.toRedis.set("pass");
    }
    await expectWhole(talk);
  },
);

test("a cancel is obeyed though every published message is lost", async () => {
  const [first, second] = cluster().front as [Member, Member];
  const [log, gate] = [cluster().file("deaf.log"), cluster().file("deaf.gate")];
  await Promise.all(cluster().members.map(({ toRedis }) => toRedis.set("deaf")));
  try {
    const run = await cluster().run(first, { assistant_id: "work", input: { id: "deaf", log, two: { gate } } });
    await begun(log, "deaf", "two");
    const path = `/threads/${run.thread_id}/runs/${run.run_id}`;
    const asked = performance.now();
    expect((await second.http.post(`${path}/cancel?wait=1`)).status).toBe(200);
    console.log(`cancel with every message lost: ${(performance.now() - asked).toFixed(0)} ms (lease ${LEASE_MS} ms)`);
    expect(await cluster().row(run.run_id)).toMatchObject({ status: "interrupted" });
    await eventually(() => executions(log).some(({ what }) => what === "aborted"));
    expect(startsOf(log, "deaf")).toEqual({ one: 1, two: 1 });
  } finally {
    await Promise.all(cluster().members.map(({ toRedis }) => toRedis.set("pass")));
  }
  expect(await cluster().faults()).toEqual([]);
});
