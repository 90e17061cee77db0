/** A log whose storage is slow, fails or does not answer: what it holds meanwhile, and that each index keeps its event. */
import { expect, test } from "vitest";
import { EventLog, type EventShelf } from "../../src/streaming/event-log.ts";
import type { RunEvent } from "../../src/streaming/events.ts";
import { range } from "./support.ts";

const LIMIT = 1000;

/** A shelf that answers when it is told to. */
class Barrier implements EventShelf {
  readonly stored: RunEvent[] = [];
  readonly #waiting: (() => void)[] = [];
  failures = 0;

  async store(_log: unknown, events: readonly RunEvent[]): Promise<boolean> {
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
    if (this.failures-- > 0) throw new Error("the disk is full");
    this.stored.push(...events);
    return true;
  }

  async load(_run_id: string, after: number): Promise<readonly RunEvent[]> {
    return this.stored.filter(({ id }) => id > after);
  }

  get asked(): number {
    return this.#waiting.length;
  }

  /** Answers what has been asked, and whatever is asked until nothing is any more. */
  async open(): Promise<void> {
    while (this.#waiting.length > 0) {
      for (const answer of this.#waiting.splice(0)) answer();
      await new Promise(setImmediate);
    }
  }
}

function logOn(shelf: EventShelf, resumable = false): EventLog {
  const names = { run_id: "r", thread_id: "t", resumable, first: 0 };
  return new EventLog({ ...names, tailLimit: LIMIT, shelf, onError: () => undefined });
}

const event = (size: number): { event: string; data: string } => ({ event: "values", data: "x".repeat(size) });

/** As an executor thread does: no more until there is room. Returns whether it has to wait. */
const put = (log: EventLog, size = 100): Promise<void> | undefined => {
  log.append([event(size)]);
  return log.room();
};

async function readAll(log: EventLog): Promise<number[]> {
  const ids: number[] = [];
  for (;;) {
    const page = await log.read(ids.at(-1) ?? -1);
    if (page.length === 0) return ids;
    ids.push(...page.map(({ id }) => id));
  }
}

test.each([false, true])(
  "what does not fit into memory makes its writer wait for storage (resumable: %s)",
  async (resumable) => {
    const shelf = new Barrier();
    const log = logOn(shelf, resumable);
    let room: Promise<void> | undefined;
    let count = 0;
    while (room === undefined) {
      room = put(log);
      count += 1;
    }
    expect(count).toBe(LIMIT / 100 + 1);
    expect(shelf.asked).toBe(1);
    let hasRoom = false;
    const waited = room.then(() => {
      hasRoom = true;
    });
    await new Promise(setImmediate);
    expect(hasRoom).toBe(false);
    await shelf.open();
    await waited;
    expect(log.size).toBeLessThanOrEqual(LIMIT);
    expect(await readAll(log)).toEqual(range(count));
  },
);

test("one event that is larger than the limit holds nobody up", () => {
  const log = logOn(new Barrier());
  expect(put(log, 3 * LIMIT)).toBeUndefined();
});

test("the end of the log lets its writer go", async () => {
  const shelf = new Barrier();
  const log = logOn(shelf);
  for (let i = 0; i < 30; i += 1) void put(log);
  const room = log.room();
  log.end(null);
  expect(log.room()).toBeUndefined();
  await shelf.open();
  await room;
});

test.each([false, true])(
  "storage that fails is tried again, and nothing is missing then (resumable: %s)",
  async (resumable) => {
    const shelf = new Barrier();
    const log = logOn(shelf, resumable);
    shelf.failures = 1;
    for (let i = 0; i < 20; i += 1) void put(log);
    let isOver = false;
    const room = log.room()?.finally(() => {
      isOver = true;
    });
    while (!isOver) await shelf.open().then(() => new Promise(setImmediate));
    await room;
    await Promise.all([log.flush(), shelf.open()]);
    log.append([event(1)]);
    await Promise.all([log.flush(), shelf.open()]);
    expect(await readAll(log)).toEqual(range(21));
    expect(log.size).toBeLessThanOrEqual(LIMIT);
  },
);

test("events that are kept and cannot be stored are not passed over: whoever wants them stored is told", async () => {
  const shelf = new Barrier();
  const log = logOn(shelf, true);
  shelf.failures = Number.POSITIVE_INFINITY;
  void put(log);
  const [flushed] = await Promise.allSettled([log.flush(), shelf.open().then(() => shelf.open())]);
  expect(flushed).toMatchObject({ status: "rejected", reason: { message: "events of run r could not be stored" } });
  expect(await log.read(-1)).toEqual([]);
  shelf.failures = 0;
  void put(log);
  await Promise.all([log.flush(), shelf.open()]);
  expect(await readAll(log)).toEqual([0, 1]);
});
