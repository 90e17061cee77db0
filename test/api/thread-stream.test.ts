/** GET /threads/{id}/stream: every run of a thread, in sequence, to every watcher. */
import { Client } from "@langchain/langgraph-sdk";
import { describe, expect, test } from "vitest";
import { type Any, type Body, Gate, json, names, numbers, useServer, useTempDir } from "../runs/support.ts";
import { eventually } from "../support/server.ts";
import type { Frame, SseStream } from "../support/sse.ts";

const api = useServer(() => ({ env: { RESUMABLE_STREAM_TTL_SECONDS: "600" } }));
const temp = useTempDir();
const plain = { assistant_id: "plain", input: { value: 1 } };
const UNKNOWN = "01a20228-0000-7000-8000-000000000000";

const path = (thread_id: string, query = ""): string => `/threads/${thread_id}/stream${query}`;
const isEnd = ({ event, data }: Frame): boolean => event === "metadata" && data?.includes("run_done") === true;

/** Frames up to and with the end of this many runs. */
async function runsOf(stream: SseStream, count: number): Promise<Frame[][]> {
  const runs: Frame[][] = [];
  for (const _ of numbers(count)) runs.push(await stream.until(isEnd));
  return runs;
}

const raw = (frames: readonly Frame[]): string[] => frames.map((frame) => frame.raw);
/** Without ids: as a run's own stream has them. */
const contents = (frames: readonly Frame[]): unknown[] => frames.map(({ event, data }) => [event, data]);
const isAfter = (a: string, b: string): boolean => {
  const [[place1, index1], [place2, index2]] = [a.split("-").map(Number), b.split("-").map(Number)] as [Any, Any];
  return place1 > place2 || (place1 === place2 && index1 > index2);
};

function expectOrdered(frames: readonly Frame[]): void {
  const ids = frames.map(({ id }) => id ?? "");
  for (const [at, id] of ids.entries())
    if (at > 0) expect([ids[at - 1], id, isAfter(id, ids[at - 1] ?? "")]).toEqual([ids[at - 1], id, true]);
}

const wait = (thread_id: string, body: Body = plain): Promise<Any> => api.wait(body, `/threads/${thread_id}/runs/wait`);

describe("live", () => {
  test("runs of every kind, each whole, in order, to three watchers", async () => {
    const thread_id = await api.thread();
    const watchers = await Promise.all(numbers(3).map(() => api.open(path(thread_id))));
    const streamed = await api.stream(
      { ...plain, stream_mode: ["values", "updates"] },
      `/threads/${thread_id}/runs/stream`,
    );
    await wait(thread_id);
    await wait(thread_id, { assistant_id: "error", input: {} });
    await wait(thread_id, { assistant_id: "hitl", input: {} });
    await wait(thread_id, { assistant_id: "hitl", command: { resume: 1 } });
    await wait(thread_id, { assistant_id: "nested", input: {}, stream_subgraphs: true, stream_mode: "values" });
    await wait(thread_id, { ...plain, stream_resumable: true, after_seconds: 0.05 });
    const seen = await Promise.all(watchers.map((watcher) => runsOf(watcher, 7)));
    const [first = []] = seen;
    for (const other of seen) expect(other.map(raw)).toEqual(first.map(raw));
    expectOrdered(first.flat());
    expect(contents(first[0] ?? []).slice(0, -1)).toEqual(contents(streamed));
    const listed = (await api.get(`/threads/${thread_id}/runs?limit=100`)).reverse();
    for (const [at, frames] of first.entries()) {
      expect(json(frames[0])).toEqual({ run_id: listed[at].run_id, attempt: 1 });
      expect(json(frames.at(-1))).toEqual({ status: "run_done", run_id: listed[at].run_id });
    }
    expect(names(first[2] ?? [])).toContain("error");
    expect(names(first[5] ?? []).some((name) => name?.startsWith("values|"))).toBe(true);
    for (const watcher of watchers) expect(watcher.complete).toBe(false);
    for (const watcher of watchers) watcher.close();
  });

  test("events appear while the run is at it, not when it is over", async () => {
    const thread_id = await api.thread();
    await using watcher = await api.open(path(thread_id));
    const gate = new Gate(temp.dir, "live");
    await api.post(`/threads/${thread_id}/runs`, { assistant_id: "slow", input: gate.input, stream_mode: "updates" });
    expect((await watcher.next())?.event).toBe("metadata");
    for (const step of [1, 2, 3]) {
      gate.open(step);
      expect((await watcher.next())?.event).toBe("updates");
    }
    expect(isEnd((await watcher.next()) as Frame)).toBe(true);
  });

  test("who comes in the middle of a run sees it from its start, and none of those before", async () => {
    const thread_id = await api.thread();
    await wait(thread_id);
    const gate = new Gate(temp.dir, "middle");
    const { run_id } = await api.post(`/threads/${thread_id}/runs`, { assistant_id: "slow", input: gate.input });
    gate.open(1);
    await eventually(() => gate.log.includes("start 2"));
    await using watcher = await api.open(path(thread_id));
    expect(json(await watcher.next())).toEqual({ run_id, attempt: 1 });
    gate.openAll();
    await watcher.until(isEnd);
  });

  test("a sign of life on a thread where nothing happens", async () => {
    const answer = await fetch(`${api.url}${path(await api.thread())}`);
    expect([answer.status, answer.headers.get("content-type")]).toEqual([200, "text/event-stream"]);
    const reader = answer.body?.getReader();
    expect(new TextDecoder().decode((await reader?.read())?.value)).toBe(": heartbeat\n");
    await reader?.cancel();
  });

  test("a thread that goes with its run: the stream ends when the run does", async () => {
    const gate = new Gate(temp.dir, "temporary");
    const { thread_id } = await api.post("/runs", { assistant_id: "slow", input: gate.input });
    await using watcher = await api.open(path(thread_id, "?stream_mode=run_modes&stream_mode=state_update"));
    expect(watcher.status).toBe(200);
    gate.openAll();
    const frames = await watcher.rest();
    expect(isEnd(frames.at(-1) as Frame)).toBe(true);
    expect(watcher.complete).toBe(true);
    expect((await api.http.get(path(thread_id))).status).toBe(404);
  });

  test("cancelled runs, and some that never began", async () => {
    const thread_id = await api.thread();
    await using watcher = await api.open(path(thread_id, "?stream_modes=lifecycle"));
    const gate = new Gate(temp.dir, "cancelled");
    const { run_id } = await api.post(`/threads/${thread_id}/runs`, { assistant_id: "slow", input: gate.input });
    const never = await api.post(`/threads/${thread_id}/runs`, plain);
    await watcher.next();
    await api.http.post(`/threads/${thread_id}/runs/${never.run_id}/cancel`);
    await api.http.post(`/threads/${thread_id}/runs/${run_id}/cancel`);
    await wait(thread_id);
    const frames = [...(await watcher.until(isEnd)), ...(await watcher.until(isEnd))];
    expect(frames.map((frame) => json(frame).status ?? "start")).toEqual(["run_done", "start", "run_done"]);
    expect(frames.some(({ data }) => data?.includes(never.run_id))).toBe(false);
  });

  test("a hundred runs on one watched thread", async () => {
    const thread_id = await api.thread();
    await using watcher = await api.open(path(thread_id, "?stream_modes=lifecycle"));
    const made: string[] = [];
    for (const _ of numbers(100))
      made.push((await api.post(`/threads/${thread_id}/runs`, { ...plain, input: null })).run_id);
    const ended: string[] = [];
    while (ended.length < 100) ended.push(json((await watcher.until(isEnd)).at(-1)).run_id);
    expect(ended).toEqual(made);
  });
});

describe("modes", () => {
  const spellings = [
    "?stream_modes=lifecycle&stream_modes=state_update",
    "?stream_mode=lifecycle&stream_mode=state_update",
    "?stream_modes=lifecycle,state_update",
    "?stream_mode=lifecycle&stream_modes=state_update",
    `?stream_mode=${encodeURIComponent('["lifecycle","state_update"]')}`,
  ];
  test.each(spellings)("%s", async (query) => {
    const thread_id = await api.thread();
    await using watcher = await api.open(path(thread_id, query));
    await wait(thread_id);
    const frames = [await watcher.next(), await watcher.next(), await watcher.next()] as Frame[];
    expect(names(frames)).toEqual(["metadata", "metadata", "state_update"]);
    expect(watcher.headers.location).toBe(`${path(thread_id)}?stream_modes=${watcher.headers.location?.split("=")[1]}`);
  });

  test("state_update: the state as each run left it, even when others have run since", async () => {
    const thread_id = await api.thread();
    const states: Any[] = [];
    for (const _ of numbers(3)) {
      await wait(thread_id);
      states.push(await api.get(`/threads/${thread_id}/state`));
    }
    await using watcher = await api.open(path(thread_id, "?stream_modes=state_update"), { lastEventId: "-" });
    for (const state of states) {
      const frame = await watcher.next();
      expect([frame?.event, json(frame)]).toEqual(["state_update", state]);
    }
  });

  test("an unknown one is named; so are an unknown thread and a bad id", async () => {
    const thread_id = await api.thread();
    const cases: [string, number][] = [
      [path(thread_id, "?stream_modes=all"), 422],
      [path(thread_id, "?stream_mode=run_modes&stream_mode=nope"), 422],
      [path(UNKNOWN), 404],
      [path("nonsense"), 422],
    ];
    for (const [target, expected] of cases) {
      const { status, body } = await api.http.get(target);
      expect([target, status, typeof body.detail]).toEqual([target, expected, "string"]);
    }
  });
});

describe("Last-Event-ID", () => {
  /** Three runs on a thread, the middle one resumable; all frames from the start. */
  async function three(): Promise<{ thread_id: string; whole: Frame[] }> {
    const thread_id = await api.thread();
    for (const stream_resumable of [false, true, false]) await wait(thread_id, { ...plain, stream_resumable });
    await using watcher = await api.open(path(thread_id), { lastEventId: "-" });
    return { thread_id, whole: (await runsOf(watcher, 3)).flat() };
  }

  test("each id gives exactly the rest", async () => {
    const { thread_id, whole } = await three();
    expectOrdered(whole);
    for (const [at, { id = "" }] of whole.slice(0, -1).entries()) {
      await using watcher = await api.open(path(thread_id), { lastEventId: id });
      const rest: Frame[] = [];
      while (rest.length < whole.length - at - 1) rest.push((await watcher.next()) as Frame);
      expect(raw(rest)).toEqual(raw(whole.slice(at + 1)));
    }
  });

  test.each(["-", "-1", "1700000000000", "0-0x"])(
    "%j: from the start of what is kept; after the last: only what is new",
    async (lastEventId) => {
      const { thread_id, whole } = await three();
      await using watcher = await api.open(path(thread_id), { lastEventId });
      expect(raw((await runsOf(watcher, 3)).flat())).toEqual(raw(whole));
      await using late = await api.open(path(thread_id, `?last_event_id=${whole.at(-1)?.id}`));
      await wait(thread_id);
      const [next] = await runsOf(late, 1);
      expect(raw(next ?? [])).toEqual(raw(await watcher.until(isEnd)));
      expectOrdered([...whole, ...(next ?? [])]);
    },
  );

  test("a watcher that drops after each event misses none, while runs come and go", async () => {
    const thread_id = await api.thread();
    await using steady = await api.open(path(thread_id));
    const done = (async () => {
      for (const _ of numbers(5)) await wait(thread_id);
    })();
    const seen: Frame[] = [];
    let id = "-";
    while (seen.filter(isEnd).length < 5) {
      await using watcher = await api.open(path(thread_id), { lastEventId: id });
      const frame = (await watcher.next()) as Frame;
      seen.push(frame);
      id = frame.id ?? "";
    }
    await done;
    expect(raw(seen)).toEqual(raw((await runsOf(steady, 5)).flat()));
  });

  test("after a restart: resumable runs are still there under the same ids, and new ones follow", async () => {
    const thread_id = await api.thread();
    for (const _ of numbers(2)) await api.wait({ ...plain, stream_resumable: true }, `/threads/${thread_id}/runs/wait`);
    const before = await api.open(path(thread_id), { lastEventId: "-" });
    const whole = (await runsOf(before, 2)).flat();
    await api.server.restart("SIGKILL");
    const middle = whole[2]?.id ?? "";
    await using after = await api.open(path(thread_id), { lastEventId: middle });
    expect(raw((await runsOf(after, 2)).flat())).toEqual(raw(whole.slice(3)));
    await api.wait(plain, `/threads/${thread_id}/runs/wait`);
    expectOrdered([...whole, ...(await after.until(isEnd))]);
  });
});

test("the SDK's joinStream", async () => {
  const client = new Client({ apiUrl: api.url });
  const { thread_id } = await client.threads.create();
  const abort = new AbortController();
  const seen: string[] = [];
  const watching = (async () => {
    const options = { streamMode: ["lifecycle", "state_update"] as Any, lastEventId: "-", signal: abort.signal };
    for await (const { event, data } of client.threads.joinStream(thread_id, options)) {
      seen.push(event);
      if ((data as Any).values?.steps?.length === 4) return;
    }
  })();
  await client.runs.wait(thread_id, "plain", { input: { value: 1 } });
  await client.runs.wait(thread_id, "plain", { input: { value: 1 } });
  await watching;
  abort.abort();
  expect(seen).toEqual(["metadata", "metadata", "state_update", "metadata", "metadata", "state_update"]);
});
