/** The line of a thread's logs: what a watcher gets, and that nothing stays behind it. */
import { describe, expect, onTestFinished, test } from "vitest";
import type { EventLog } from "../../src/streaming/event-log.ts";
import { EventLogs } from "../../src/streaming/event-logs.ts";
import type { StreamEvent } from "../../src/streaming/events.ts";
import { BEGINNING, followThread, parsePosition, type ThreadPosition } from "../../src/streaming/follow-thread.ts";
import { threadFilter } from "../../src/streaming/modes.ts";

function makeLogs(): EventLogs {
  const logs = new EventLogs({
    shelf: { store: () => Promise.resolve(true), load: () => Promise.resolve([]) },
    onError: (error) => {
      throw error;
    },
    keepEndedMs: 0,
    endedLimit: 1 << 20,
    tailLimit: 1 << 20,
    onForget: () => undefined,
    relay: null,
  });
  onTestFinished(() => logs.close());
  return logs;
}

const FIRST = { fence: 1, started_at: null };

let count = 0;
function begin(logs: EventLogs, thread_id = "t"): EventLog {
  count += 1;
  const log = logs.open({ run_id: `run ${count}`, thread_id, resumable: false, first: 0 });
  logs.begin(log, FIRST);
  return log;
}

/** A run with one event, from beginning to end. */
function runOnce(logs: EventLogs, data = "1"): EventLog {
  const log = begin(logs);
  log.append([{ event: "values", data }]);
  logs.end(log, null);
  return log;
}

function watch(logs: EventLogs, after: ThreadPosition | null = null) {
  const abort = new AbortController();
  const events = followThread({
    logs,
    thread_id: "t",
    after,
    filter: threadFilter(["run_modes"]),
    signal: abort.signal,
    stored: () => Promise.resolve([]),
    open: () => Promise.resolve(undefined),
    stateAfter: () => Promise.resolve(null),
    isNative: () => Promise.resolve(false),
  });
  onTestFinished(() => abort.abort());
  return { events, abort };
}

async function take(events: AsyncGenerator<readonly StreamEvent[]>, frames: number): Promise<StreamEvent[]> {
  const seen: StreamEvent[] = [];
  while (seen.length < frames) {
    const step = await events.next();
    if (step.done) break;
    seen.push(...step.value);
  }
  return seen;
}

describe("places", () => {
  test("grow with every run that begins, however fast, and an attempt after the first keeps its place", () => {
    const logs = makeLogs();
    const places = Array.from({ length: 50 }, () => begin(logs).place ?? 0);
    expect(places).toEqual([...new Set(places)].sort((a, b) => a - b));
    const log = begin(logs);
    const { place } = log;
    logs.begin(log, FIRST);
    expect(log.place).toBe(place);
  });

  test.each([
    ["12-3", { place: 12, index: 3 }],
    ["-", undefined],
    ["-1", undefined],
    ["1", undefined],
    ["1-2-3", undefined],
    ["99999999999999999-0", undefined],
  ])("%j", (id, position) => expect(parsePosition(id)).toEqual(position));
});

describe("a watcher", () => {
  test("takes a thousand runs and nothing stays behind", async () => {
    const logs = makeLogs();
    const { events, abort } = watch(logs);
    let next = events.next();
    for (let round = 0; round < 1000; round += 1) {
      const log = runOnce(logs);
      const [event] = (await next).value ?? [];
      expect(event?.id).toBe(`${log.place}-0`);
      expect((await take(events, 1))[0]?.id).toBe(`${log.place}-1`);
      next = events.next();
      await new Promise(setImmediate);
      expect(log.readers).toBe(0);
      logs.drop(log.run_id);
    }
    abort.abort();
    expect((await next).done).toBe(true);
    expect(logs.threads).toBe(0);
  });

  test("that does not read holds no more than so much, and is told", async () => {
    const logs = makeLogs();
    const { events } = watch(logs);
    const first = events.next();
    runOnce(logs);
    await first;
    const big = "x".repeat(1 << 20);
    const unread = Array.from({ length: 20 }, () => runOnce(logs, big));
    expect(unread.some(({ readers }) => readers > 0)).toBe(false);
    await expect(take(events, 100)).rejects.toThrow("too slow");
  });

  test("of a deleted thread reads what there is, and is done", async () => {
    const logs = makeLogs();
    const { events } = watch(logs, BEGINNING);
    const first = events.next();
    runOnce(logs);
    runOnce(logs);
    logs.closeThread("t");
    expect([...((await first).value ?? []), ...(await take(events, 10))]).toHaveLength(4);
    expect((await events.next()).done).toBe(true);
  });

  test("who comes later finds no part of an erased run; who was there sees its end", async () => {
    const logs = makeLogs();
    const before = watch(logs);
    const first = before.events.next();
    const log = begin(logs);
    log.append([{ event: "values", data: "1" }]);
    await first;
    logs.erase(log);
    expect((await take(before.events, 1)).map(({ data }) => data)).toEqual([
      JSON.stringify({ status: "run_done", run_id: log.run_id }),
    ]);
    const kept = runOnce(logs);
    const after = watch(logs, BEGINNING);
    expect((await take(after.events, 2)).map(({ id }) => id)).toEqual([`${kept.place}-0`, `${kept.place}-1`]);
  });
});
