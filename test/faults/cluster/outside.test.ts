/** What a cluster does on its own account: crons, each tick once, and webhooks, each delivered once. */
import type { ServerResponse } from "node:http";
import { expect, test } from "vitest";
import { ok } from "../../support/http.ts";
import { eventually } from "../../support/server.ts";
import { listenOn, upTo } from "../support.ts";
import { type Cluster, type Member, startCluster } from "./kit/cluster.ts";
import { useServices } from "./kit/services.ts";
import { startWire } from "./kit/wire.ts";

/** The endpoints of these tests are on this machine. */
const LOOPBACK = { webhooks: { url: { disable_loopback: false } } };
const cluster = useServices((services) =>
  startCluster(services, { members: ["both", "both", "both"], config: LOOPBACK }),
);

const EVERY_SECONDS = 2;

test("crons over three processes, one of them killed and one frozen: each tick once, and none left out", async () => {
  const [one, two, three] = cluster().front as [Member, Member, Member];
  const created = await Promise.all(
    upTo(5).map((n) =>
      ok(
        (cluster().front[n % 3] as Member).http.post<{ cron_id: string }>("/runs/crons", {
          assistant_id: "tick",
          input: { id: `cron-${n}` },
          schedule: `*/${EVERY_SECONDS} * * * * *`,
          on_run_completed: "keep",
        }),
      ),
    ),
  );
  const ticks = () =>
    cluster().query<{ cron_id: string; tick: number; count: number }>(
      `select skein_json(metadata) ->> 'cron_id' as cron_id, (created_at / ${EVERY_SECONDS * 1000})::int as tick,
         count(*)::int as count
       from runs where skein_json(metadata) ? 'cron_id' group by 1, 2 order by 2`,
    );
  const now = (): number => Date.now() / 1000 / EVERY_SECONDS;
  /** Midway between two ticks, so many later: nobody is in the transaction of one, whose locks a frozen process would keep. */
  const past = async (count: number) => {
    const end = Math.floor(now()) + count + 0.5;
    await eventually(() => now() >= end, { ms: 30_000 });
    await eventually(
      async () => (await ticks()).filter(({ tick }) => tick === Math.floor(end)).length === created.length,
    );
  };
  await past(1);
  await three.crash();
  await past(1);
  await two.freeze();
  await past(2);
  await two.thaw();
  await three.server.start();
  await past(1);
  for (const { cron_id } of created) expect((await one.http.delete(`/runs/crons/${cron_id}`)).status).toBeLessThan(300);
  const fired = await ticks();
  expect(fired.filter(({ count }) => count !== 1)).toEqual([]);
  // One process was there at every moment: each cron's ticks follow each other without a gap.
  for (const { cron_id } of created) {
    const mine = fired.filter((each) => each.cron_id === cron_id).map(({ tick }) => tick);
    expect(mine.length).toBeGreaterThan(4);
    expect(mine).toEqual(upTo(mine.length).map((n) => (mine[0] ?? 0) + n));
  }
  expect(await cluster().faults()).toEqual([]);
});

/** Ends runs at all processes, each of which calls this URL. */
const callers = (all: Cluster, count: number, webhook: string) =>
  Promise.all(
    upTo(count).map(async (n) => {
      const member = all.front[n % all.front.length] as Member;
      return (await all.run(member, { assistant_id: "tick", input: { id: `hook-${webhook}-${n}` }, webhook })).run_id;
    }),
  );

const outbox = async (all: Cluster): Promise<number> => (await all.query("select 1 from webhooks")).length;

/** An endpoint that answers as told and keeps the run ids of its calls. */
async function receiver(answer: (response: ServerResponse) => void) {
  const calls: string[] = [];
  const listener = await listenOn((request, response) => {
    let text = "";
    request.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
    });
    request.on("end", () => {
      calls.push(text === "" ? "" : JSON.parse(text).run_id);
      answer(response);
    });
  });
  return Object.assign(listener, { calls });
}

test("webhooks of three processes: each is delivered, and once", async () => {
  await using target = await receiver((response) => response.end());
  const runs = await callers(cluster(), 60, `${target.url}/hook`);
  await eventually(() => target.calls.length >= runs.length);
  await eventually(async () => (await outbox(cluster())) === 0);
  expect([...target.calls].sort()).toEqual([...runs].sort());
  expect(await cluster().faults()).toEqual([]);
});

test("a webhook's target is down, then there: delivered once, and runs did not wait for it", async () => {
  await using target = await receiver((response) => response.end());
  await using wire = await startWire(target.port);
  await wire.set("refuse");
  const runs = await callers(cluster(), 9, `http://127.0.0.1:${wire.port}/hook`);
  await cluster().settled();
  expect(await outbox(cluster())).toBe(runs.length);
  await wire.set("pass");
  await eventually(async () => (await outbox(cluster())) === 0, { ms: 20_000 });
  expect([...target.calls].sort()).toEqual([...runs].sort());
  expect(await cluster().faults()).toEqual([]);
});

test("a webhook's target hangs, and its process is killed: runs go on, others are delivered, and another process calls again", async () => {
  let isHanging = true;
  await using hanging = await receiver((response) => {
    if (!isHanging) response.end();
  });
  await using target = await receiver((response) => response.end());
  const [one, two] = cluster().front as [Member, Member];
  const stuck = await cluster().run(two, {
    assistant_id: "tick",
    input: { id: "stuck" },
    webhook: `${hanging.url}/hook`,
  });
  await eventually(() => hanging.calls.length === 1);
  const runs = await callers(cluster(), 6, `${target.url}/hook`);
  await eventually(() => target.calls.length >= runs.length);
  expect([...target.calls].sort()).toEqual([...runs].sort());
  isHanging = false;
  const dying = cluster().members.filter((member) => member !== one);
  await Promise.all(dying.map((member) => member.crash()));
  // The minute in which the call was theirs has passed.
  await cluster().query("update webhooks set next_attempt_at = next_attempt_at - 60000");
  await Promise.all(dying.map((member) => member.server.start()));
  await eventually(async () => (await outbox(cluster())) === 0, { ms: 15_000 });
  expect(hanging.calls.every((run_id) => run_id === stuck.run_id)).toBe(true);
  expect(hanging.calls.length).toBeGreaterThanOrEqual(2);
  expect(await cluster().faults()).toEqual([]);
});

test("a webhook's target redirects inwards: nobody follows", async () => {
  await using inner = await receiver((response) => response.end());
  await using outer = await receiver((response) => response.writeHead(307, { location: `${inner.url}/admin` }).end());
  const [run] = await callers(cluster(), 1, `${outer.url}/hook`);
  await eventually(() => outer.calls.length >= 2);
  expect(outer.calls.every((run_id) => run_id === run)).toBe(true);
  expect(inner.calls).toEqual([]);
  expect(await cluster().faults()).toEqual([]);
});
