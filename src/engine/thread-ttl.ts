/** Threads that have outlived their time: removed, or cut to their latest state. */
import { isShared, lockThread } from "../storage/locks.ts";
import type { Storage, Tx } from "../storage/storage.ts";
import * as checkpoints from "../storage/tables/checkpoints.ts";
import * as runs from "../storage/tables/runs.ts";
import * as threads from "../storage/tables/threads.ts";
import { type RemovedRuns, removeThread } from "./thread-removal.ts";

export interface ThreadSweepOptions {
  readonly storage: Storage;
  /** Most threads in one round. */
  readonly limit: number;
  /** Told after the commit. */
  readonly onRemoved: (runs: RemovedRuns) => void;
}

/** How long one write goes on with the next thread: others wait for the writer. */
const SHARE_MS = 5;
/** Rows of a long history that go at a time. */
const PORTION = 200;

interface Share {
  readonly threads: number;
  readonly removed: readonly RemovedRuns[];
  /** There may be more to do. */
  readonly more: boolean;
}

/** One round: as many short writes as it takes. Returns how many threads it dealt with. A thread with runs in flight waits. */
export async function sweepThreads({ storage, limit, onRemoved }: ThreadSweepOptions): Promise<number> {
  const now = storage.now();
  let total = 0;
  let more = true;
  while (more && total < limit) {
    const share: Share = await storage.write((tx) => sweepShare(tx, now, limit - total), { durable: false });
    share.removed.forEach(onRemoved);
    total += share.threads;
    more = share.more;
  }
  return total;
}

async function sweepShare(tx: Tx, now: number, limit: number): Promise<Share> {
  const removed: RemovedRuns[] = [];
  const end = performance.now() + SHARE_MS;
  let done = 0;
  do {
    const expired = await threads.firstExpired(tx, now);
    if (expired === undefined) return { threads: done, removed, more: false };
    lockThread(tx, expired.thread_id);
    // Another process may have dealt with it, or a run has come.
    if (isShared(tx) && !(await threads.isExpired(tx, expired.thread_id, now)))
      return { threads: done, removed, more: true };
    const step = await sweepStep(tx, expired);
    if (step.removed !== undefined) removed.push(step.removed);
    if (step.done) done += 1;
    // Several in one transaction would be locked in no order.
  } while (performance.now() < end && done < limit && !isShared(tx));
  return { threads: done, removed, more: true };
}

/** A long history goes in portions, the latest state last: the thread is whole whenever a run comes in between. */
async function sweepStep(
  tx: Tx,
  { thread_id, strategy }: threads.Expired,
): Promise<{ readonly done: boolean; readonly removed?: RemovedRuns | undefined }> {
  const goesAtOnce = strategy === "delete" && (await checkpoints.countUpTo(tx, thread_id, PORTION + 1)) <= PORTION;
  if (!goesAtOnce && !(await cutHistory(tx, thread_id))) return { done: false };
  if (strategy === "delete") return { done: true, removed: await removeThread(tx, thread_id) };
  await threads.clearExpiry(tx, thread_id);
  return { done: true };
}

/** Takes a portion of a thread's history that its latest state does not need; true when that was the rest. */
export async function cutHistory(tx: Tx, thread_id: string): Promise<boolean> {
  const done = await checkpoints.prune(tx, thread_id, PORTION);
  if (done) await runs.forgetLostCheckpoints(tx, thread_id);
  return done;
}
