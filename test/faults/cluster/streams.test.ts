/** One server in several processes: made here, read there, cancelled elsewhere, and no reader sees the seam. */
import { expect, test } from "vitest";
import { ok } from "../../support/http.ts";
import { eventually } from "../../support/server.ts";
import type { SseStream } from "../../support/sse.ts";
import { idsOf, toldBy, upTo } from "../support.ts";
import { type Member, startCluster } from "./kit/cluster.ts";
import { begun, executions, ONCE, open, startsOf } from "./kit/executions.ts";
import { useServices } from "./kit/services.ts";

const cluster = useServices((services) =>
  startCluster(services, { members: ["api", "api", "both", "worker"], env: { SKEIN_LEASE_SECS: "10" } }),
);

test("made on one, streamed on a second, cancelled on a third", async () => {
  const [one, two, three] = cluster().front as [Member, Member, Member];
  const [log, gate] = [cluster().file("seam.log"), cluster().file("seam.gate")];
  const run = await cluster().run(one, {
    assistant_id: "work",
    input: { id: "seam", log, two: { gate } },
    stream_mode: "updates",
  });
  const path = `/threads/${run.thread_id}/runs/${run.run_id}`;
  await using stream = await two.open(`${path}/stream`);
  const joined = one.http.get(`${path}/join`);
  await stream.until(({ data }) => data?.includes("do_one") === true);
  await begun(log, "seam", "two");
  expect((await three.http.post(`${path}/cancel?wait=1`)).status).toBe(200);
  expect((await two.http.get(path)).body).toMatchObject({ status: "interrupted" });
  await stream.rest();
  expect(stream.complete).toBe(true);
  expect((await joined).body).toMatchObject({ steps: ["seam one"] });
  await eventually(() => executions(log).some(({ what }) => what === "aborted"));
  expect(await cluster().faults()).toEqual([]);
});

test.each([true, false])(
  "Last-Event-ID at every index, at another process, in the run and after it (resumable: %s)",
  async (resumable) => {
    const [one, two, three] = cluster().front as [Member, Member, Member];
    const id = `index-${resumable}`;
    const [log, gate] = [cluster().file(`${id}.log`), cluster().file(`${id}.gate`)];
    const orders = { one: { events: 12 }, two: { gate }, three: { events: 12 } };
    const body = {
      assistant_id: "work",
      input: { id, log, ...orders },
      stream_mode: ["custom", "updates"],
      stream_resumable: resumable,
    };
    const { stream, path } = await cluster().stream(one, body);
    const seen = await stream.until(({ data }) => data?.includes("do_one") === true);
    await begun(log, id, "two");
    const during = await Promise.all(
      upTo(seen.length + 1).map((n) =>
        (n % 2 === 0 ? two : three).open(`${path}/stream`, { lastEventId: String(n - 1) }),
      ),
    );
    open(gate);
    seen.push(...(await stream.rest()));
    expect(idsOf(seen)).toEqual(upTo(seen.length));
    for (const [n, reader] of during.entries()) {
      expect([n, toldBy(await reader.rest())]).toEqual([n, toldBy(seen.slice(n))]);
      expect(reader.complete).toBe(true);
    }
    for (const n of upTo(resumable ? seen.length + 1 : 0)) {
      await using reader = await (n % 2 === 0 ? two : three).open(`${path}/stream`, { lastEventId: String(n - 1) });
      expect([n, toldBy(await reader.rest())]).toEqual([n, toldBy(seen.slice(n))]);
    }
    expect(startsOf(log, id)).toEqual(ONCE);
    expect(await cluster().faults()).toEqual([]);
  },
);

test("a process dies between the end of a run that leaves no row and the word of it: whoever waits elsewhere has the output", async () => {
  const [one, two, three] = cluster().front as [Member, Member, Member];
  const [log, gate] = [cluster().file("word.log"), cluster().file("word.gate")];
  const body = { assistant_id: "work", input: { id: "word", log, two: { gate } } };
  const { run_id } = await ok(three.http.post<{ run_id: string }>("/runs", body));
  expect(await begun(log, "word", "two")).toBe(three.server.pid);
  const joined = one.http.get(`/runs/${run_id}/join`);
  await three.toRedis.set("drop");
  open(gate);
  await eventually(async () => (await cluster().row(run_id)) === undefined);
  await three.crash();
  const output = { steps: ["word one", "word two", "word three"] };
  expect(await joined).toMatchObject({ status: 200, body: output });
  // Nor is it lost when Redis forgets that there was such a run.
  await cluster().services.redis.flush();
  expect(await two.http.get(`/runs/${run_id}/join`)).toMatchObject({ status: 200, body: output });
  expect(startsOf(log, "word")).toEqual(ONCE);
  expect(await cluster().faults()).toEqual([]);
});

test("1,000 attaches during a publish storm: each sees exactly the rest", async () => {
  const [one, two] = cluster().front as [Member, Member];
  const log = cluster().file("storm.log");
  const events = 400;
  const body = {
    assistant_id: "work",
    input: { id: "storm", log, one: { events, every: 4 }, two: { gate: cluster().file("storm.gate") } },
    stream_mode: "custom",
  };
  const { stream, path } = await cluster().stream(one, body);
  const whole = stream.rest();
  const opened: Promise<readonly [number, SseStream]>[] = [];
  for (const n of upTo(1000)) {
    const from = (n * 7) % 300;
    const attach = async () =>
      [from, await (n % 2 === 0 ? one : two).open(`${path}/stream`, { lastEventId: String(from) })] as const;
    opened.push(attach());
    // As fast as they come, and not all before the storm has begun.
    if (n % 50 === 49) await new Promise((resolve) => setImmediate(resolve));
  }
  // What is not resumable can be had for half a minute after its end, and a busy machine may need that to open them all.
  const readers = await Promise.all(opened);
  open(cluster().file("storm.gate"));
  const all = toldBy(await whole);
  expect(all.length).toBe(events + 1);
  for (const [from, reader] of readers) {
    expect(toldBy(await reader.rest())).toEqual(all.slice(from + 1));
    expect(reader.complete).toBe(true);
  }
  expect(startsOf(log, "storm")).toEqual(ONCE);
  expect(await cluster().faults()).toEqual([]);
});
