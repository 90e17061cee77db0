/** How often a log of another process is looked at when nothing is heard of it. */
import { expect, onTestFinished, test } from "vitest";
import type { RunEvent } from "../../src/streaming/events.ts";
import { RemoteLogs, type RemoteSource } from "../../src/streaming/remote-log.ts";
import { eventually } from "../support/server.ts";
import { collect } from "./support.ts";

const WHICH = { run_id: "r", thread_id: "t", resumable: true, place: undefined };
const STATE = { thread_id: "t", place: 1, resumable: true, next: 1, size: 1, ended: false, output: null };
const EVENT: RunEvent = { id: 0, event: "values", data: "1" };

/** Logs whose rounds follow each other quickly; Redis has `events`, or is away when they are undefined. */
function logsOf(inRedis: { events: RunEvent[] | undefined }) {
  const counts = { rounds: 0, reads: 0, loads: 0 };
  let isOver = false;
  const source: RemoteSource = {
    async read(_run_id, after) {
      counts.reads += 1;
      if (inRedis.events === undefined) throw new Error("away");
      return { state: STATE, events: inRedis.events.filter(({ id }) => id > after), full: false };
    },
    async load() {
      counts.loads += 1;
      return [];
    },
    listen: () => ({ ready: Promise.resolve(), stop: () => undefined }),
    ask: () => undefined,
    lastWordsMs: 0,
    onError: () => undefined,
  };
  const inFlight = async (run_ids: readonly string[]): Promise<ReadonlySet<string>> => {
    counts.rounds += 1;
    return new Set(isOver ? [] : run_ids);
  };
  const logs = new RemoteLogs({
    source,
    tailLimit: 1000,
    inFlight,
    everyMs: 2,
    onError: (error) => expect.fail(`${error}`),
  });
  onTestFinished(() => logs.close());
  const end = (): void => {
    isOver = true;
  };
  return { logs, counts, end };
}

test("Redis is asked about an idle log ever less often, up to a limit, and at once when the run is over", async () => {
  const { logs, counts, end } = logsOf({ events: [EVENT] });
  const seen = collect(logs.open(WHICH));
  await eventually(() => counts.rounds >= 100);
  const { rounds, reads } = counts;
  // Two at the beginning, then rounds 1, 2, 4, 8, and every eighth.
  expect(reads).toBeGreaterThan(rounds / 8 - 2);
  expect(reads).toBeLessThan(rounds / 8 + 8);
  end();
  expect(await seen).toEqual([EVENT]);
});

test("without Redis the database is asked in every round: there is nobody who would tell", async () => {
  const { logs, counts, end } = logsOf({ events: undefined });
  const seen = collect(logs.open(WHICH));
  await eventually(() => counts.rounds >= 50);
  expect(counts.loads).toBeGreaterThan(45);
  end();
  expect(await seen).toEqual([]);
});
