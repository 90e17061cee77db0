/** Streaming v2 on one server in several processes: whoever serves a reader, it sees the same events under the same numbers. */
import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { eventually } from "../../support/server.ts";
import type { Frame, SseStream } from "../../support/sse.ts";
import { type Member, startCluster } from "./kit/cluster.ts";
import { begun, open } from "./kit/executions.ts";
import { useServices } from "./kit/services.ts";

const cluster = useServices((services) =>
  startCluster(services, {
    members: ["api", "api", "both", "worker"],
    env: { SKEIN_LEASE_SECS: "3", RESUMABLE_STREAM_TTL_SECONDS: "600" },
  }),
);

interface Event {
  readonly seq: number;
  readonly method: string;
  readonly params: { readonly namespace: readonly string[]; readonly data: { readonly event?: string } };
}

const CHANNELS = ["values", "updates", "messages", "tools", "lifecycle", "input", "checkpoints", "tasks", "custom"];
const eventOf = ({ data }: Frame): Event => JSON.parse(data ?? "null");
const isEnd = (frame: Frame): boolean => {
  const { method, params } = eventOf(frame);
  const ends = ["completed", "failed", "interrupted"];
  return method === "lifecycle" && params.namespace.length === 0 && ends.includes(params.data.event ?? "");
};
const watch = (member: Member, thread_id: string, since?: number): Promise<SseStream> =>
  member.open(`/threads/${thread_id}/stream/events`, {
    body: { channels: CHANNELS, ...(since === undefined ? {} : { since }) },
  });
const texts = (frames: readonly Frame[]): (string | undefined)[] => frames.map(({ data }) => data);
async function start(member: Member, thread_id: string, input: object): Promise<string> {
  const body = { id: 1, method: "run.start", params: { assistant_id: "work", input } };
  const answer = await member.http.post<{ result: { run_id: string } }>(`/threads/${thread_id}/commands`, body);
  return answer.body.result.run_id;
}

test("watched on every process, live and again, from every number on", async () => {
  const [one, two, three] = cluster().front as [Member, Member, Member];
  const thread_id = randomUUID();
  const watchers = await Promise.all([one, two, three].map((member) => watch(member, thread_id)));
  for (const id of ["first", "second"]) {
    const log = cluster().file(`v2-${id}.log`);
    await start(id === "first" ? one : two, thread_id, { id, log, one: { events: 5 } });
    await eventually(
      async () => (await one.http.get<{ status: string }>(`/threads/${thread_id}`)).body.status === "idle",
    );
  }
  const seen = await Promise.all(
    watchers.map(async (watcher) => [...(await watcher.until(isEnd)), ...(await watcher.until(isEnd))]),
  );
  const [whole = []] = seen;
  for (const other of seen) expect(texts(other)).toEqual(texts(whole));
  const seqs = whole.map((frame) => eventOf(frame).seq);
  expect(seqs).toEqual([...new Set(seqs)].sort((a, b) => a - b));
  for (const [at, since] of seqs.slice(0, -1).entries()) {
    await using reader = await watch(at % 2 === 0 ? two : three, thread_id, since);
    const rest: Frame[] = [];
    while (rest.length < whole.length - at - 1) rest.push((await reader.next()) as Frame);
    expect(texts(rest)).toEqual(texts(whole.slice(at + 1)));
  }
  expect(await cluster().faults()).toEqual([]);
});

test("a run that waits and is cancelled has an end everywhere", async () => {
  const [one, two] = cluster().front as [Member, Member];
  const thread_id = randomUUID();
  const watchers = await Promise.all([one, two].map((member) => watch(member, thread_id)));
  const [log, gate] = [cluster().file("v2-wait.log"), cluster().file("v2-wait.gate")];
  await start(one, thread_id, { id: "wait", log, two: { gate } });
  await begun(log, "wait", "two");
  const waiting = await start(one, thread_id, { id: "never", log });
  expect((await two.http.post(`/threads/${thread_id}/runs/${waiting}/cancel`)).status).toBeLessThan(300);
  open(gate);
  for (const watcher of watchers) {
    const frames = [...(await watcher.until(isEnd)), ...(await watcher.until(isEnd))];
    expect(frames.filter(isEnd).map((frame) => eventOf(frame).params.data.event)).toEqual(["completed", "interrupted"]);
  }
  expect(await cluster().faults()).toEqual([]);
});

test("kill -9 of the worker in a run: readers go on where another process does, each event once", async () => {
  const [one, two] = cluster().front as [Member, Member];
  const thread_id = randomUUID();
  await using watcher = await watch(one, thread_id);
  const [log, gate] = [cluster().file("v2-kill.log"), cluster().file("v2-kill.gate")];
  await start(two, thread_id, { id: "kill", log, one: { events: 5 }, two: { gate } });
  const victim = cluster().memberOf(await begun(log, "kill", "two"));
  // What nobody has seen may be lost with it.
  const before = await watcher.until((frame) => eventOf(frame).params.data.event === "running");
  await victim.crash();
  await begun(log, "kill", "two", 2);
  open(gate);
  const frames = [...before, ...(await watcher.until(isEnd))];
  const seqs = frames.map((frame) => eventOf(frame).seq);
  expect(seqs).toEqual([...new Set(seqs)].sort((a, b) => a - b));
  expect(eventOf(frames.at(-1) as Frame).params.data.event).toBe("completed");
  // Each attempt says that it runs.
  expect(frames.filter((frame) => eventOf(frame).params.data.event === "running").length).toBe(2);
  await using again = await watch(two, thread_id);
  expect(texts(await again.until(isEnd))).toEqual(texts(frames));
  await victim.server.start();
  expect(await cluster().faults()).toEqual([]);
});
