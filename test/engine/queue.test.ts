/** Slots of the queue: who gets one at once, and who has to wait for its turn. */
import { expect, onTestFinished, test, vi } from "vitest";
import type { PendingWrite } from "../../src/engine/pending-write.ts";
import { type AttemptOutcome, Queue } from "../../src/engine/queue.ts";
import type { NewRun } from "../../src/storage/storage.ts";
import * as runs from "../../src/storage/tables/runs.ts";
import { NOW, newRun, openTemp } from "../storage/support.ts";

/** A queue whose runs end when they are told to. */
async function queueOf(slots: number, { maxAttempts = 1 } = {}) {
  const storage = await openTemp();
  const begun: string[] = [];
  const written = new Map<string, Promise<boolean> | undefined>();
  const ends = new Map<string, (outcome: AttemptOutcome) => void>();
  let arrived: (() => void) | undefined;
  const queue = new Queue({
    storage,
    owner: "me",
    slots,
    maxAttempts,
    leaseMs: 60_000,
    execute: ({ run_id }: NewRun, write?: PendingWrite) => {
      begun.push(run_id);
      written.set(run_id, write?.settled);
      arrived?.();
      return new Promise((resolve) => ends.set(run_id, resolve));
    },
    onExpired: async () => undefined,
    onLeft: () => undefined,
    onError: (error) => expect.fail(String(error)),
  });
  await queue.start({ alone: true });
  onTestFinished(async () => {
    for (const end of ends.values()) end("ended");
    await queue.stop();
  });
  const insert = (kwargs: object = {}, attempt = 0) =>
    storage.write((tx) => {
      const run = newRun({ created_at: NOW - 1e12, not_before: NOW - 1e12, attempt });
      return runs.insert(tx, { ...run, kwargs: { ...run.kwargs, ...kwargs } });
    });
  /** Resolves when this many runs have begun. */
  const count = async (wanted: number): Promise<void> => {
    while (begun.length < wanted) await new Promise<void>((resolve) => (arrived = resolve));
  };
  /** The queue has looked for work and found no more than it has. */
  const settled = async (): Promise<void> => {
    await storage.write(async () => undefined);
    await storage.write(async () => undefined);
  };
  return { storage, queue, begun, written, ends, insert, count, settled };
}

test("a free slot is kept for who asks, and given back when nothing comes of it", async () => {
  const { queue, begun, settled, insert } = await queueOf(1);
  await settled();
  const slot = queue.reserve();
  expect(slot?.lease.owner).toBe("me");
  expect(queue.reserve()).toBeUndefined();
  slot?.release();
  await settled();
  const again = queue.reserve();
  expect(again).toBeDefined();
  const run = await insert({ temporary: true });
  again?.begin(run);
  again?.release();
  await settled();
  expect(begun).toEqual([run.run_id]);
});

test("a run that went ahead hears whether it was written", async () => {
  const { queue, begun, written, settled, insert, count } = await queueOf(3);
  await settled();
  const [made, lost, first] = [newRun(), newRun(), newRun()];
  const slots = [queue.reserve(), queue.reserve(), queue.reserve()];
  await Promise.all([made, lost, first].map((run, index) => slots[index]?.prepare(run)));
  await count(3);
  slots[0]?.begin(made);
  slots[1]?.release();
  // The write was begun anew, and has made another run.
  const second = await insert({ temporary: true });
  slots[2]?.begin(second);
  for (const slot of slots) slot?.release();
  expect(await written.get(made.run_id)).toBe(true);
  expect(await written.get(lost.run_id)).toBe(false);
  expect(await written.get(first.run_id)).toBe(false);
  await count(4);
  expect(begun[3]).toBe(second.run_id);
  expect(written.get(second.run_id)).toBeUndefined();
});

test("nothing is looked for after a run that nobody waited for; the next on its thread is, after one that somebody did", async () => {
  const { storage, queue, ends, insert, begun, count, settled } = await queueOf(2);
  await settled();
  const slot = queue.reserve();
  const first = newRun();
  slot?.begin(first);
  slot?.release();
  await count(1);
  const write = vi.spyOn(storage, "write");
  ends.get(first.run_id)?.("ended");
  await vi.waitFor(() => expect(queue.running).toBe(0));
  expect(write).not.toHaveBeenCalled();

  const again = queue.reserve();
  const second = newRun();
  again?.begin(second);
  again?.release();
  const next = await insert();
  expect(begun).not.toContain(next.run_id);
  ends.get(second.run_id)?.("thread free");
  await count(3);
  expect(begun[2]).toBe(next.run_id);
});

test("nobody gets a slot past runs that wait for one", async () => {
  const { queue, begun, ends, insert, count, settled } = await queueOf(2);
  await settled();
  const waiting = [await insert(), await insert(), await insert()];
  queue.nudge();
  await count(2);
  ends.get(begun[0] ?? "")?.("ended");
  await count(3);
  expect(new Set(begun)).toEqual(new Set(waiting.map(({ run_id }) => run_id)));
  // One slot is free again as soon as the last that waited has ended, and nothing is in front any more.
  expect(queue.reserve()).toBeUndefined();
  ends.get(begun[1] ?? "")?.("ended");
  await settled();
  const slot = queue.reserve();
  expect(slot).toBeDefined();
  slot?.release();
});

test("a run that goes back is claimed again, though nothing else has happened", async () => {
  const { queue, begun, ends, insert, count, settled } = await queueOf(1);
  await settled();
  const slot = queue.reserve();
  const run = await insert({ temporary: true });
  slot?.begin(run);
  await count(1);
  ends.get(run.run_id)?.("requeued");
  await count(2);
  expect(begun).toEqual([run.run_id, run.run_id]);
});

test("no slots when the queue takes no more runs", async () => {
  const { queue, settled } = await queueOf(1);
  await settled();
  await queue.stop();
  expect(queue.reserve()).toBeUndefined();
});

test("of runs at their last attempt one is in hand at a time; others go on beside it", async () => {
  const { queue, begun, ends, insert, count, settled } = await queueOf(10, { maxAttempts: 3 });
  await settled();
  // Handed back twice, as runs are whose process died.
  const [first, second] = [await insert({}, 2), await insert({}, 2)];
  const [fresh, retried] = [await insert(), await insert({}, 1)];
  const requeued = await insert();
  queue.nudge();
  await count(3);
  await settled();
  expect(new Set(begun)).toEqual(new Set([fresh, retried, requeued].map(({ run_id }) => run_id)));
  // Whoever hands one back looks for those that may be waiting for their last attempt.
  ends.get(requeued.run_id)?.("requeued");
  await count(4);
  await settled();
  expect(begun.slice(3)).toEqual([first.run_id]);
  queue.nudge();
  await settled();
  expect(begun).toHaveLength(4);
  ends.get(first.run_id)?.("ended");
  await count(5);
  expect(begun.slice(4)).toEqual([second.run_id]);
});
