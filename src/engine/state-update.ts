/**
 * A state update in one transaction: its checkpoints, and what the thread shows of them. It was worked out outside of
 * any transaction, so what it was worked out from is looked at again.
 */
import { conflict, notFound } from "../errors.ts";
import type { CheckpointKey, DraftWrite, StateChange, WholeSnapshot } from "../executor/protocol.ts";
import type { ThreadStatus } from "../schemas/threads.ts";
import { lockThread } from "../storage/locks.ts";
import type { Tx } from "../storage/storage.ts";
import * as checkpoints from "../storage/tables/checkpoints.ts";
import * as runs from "../storage/tables/runs.ts";
import * as threads from "../storage/tables/threads.ts";

/** A thread as an update found it: no run in flight, and this its newest run. */
export interface RestingThread {
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly latestRun: number | null;
}

/** The thread, when an update may change it: 404 when it is unknown, 409 while runs are in flight. */
export async function restingThread(db: Tx, thread_id: string): Promise<RestingThread> {
  const thread = await threads.findBare(db, thread_id);
  if (thread === undefined) throw notFound(`Thread ${thread_id} not found`);
  const busyWith = await runs.busyWith(db, thread_id);
  if (busyWith !== undefined) throw conflict(`Thread ${thread_id} is busy with run ${busyWith}`);
  return { metadata: thread.metadata, latestRun: await runs.latestSeq(db, thread_id) };
}

/**
 * Stores the change. False, and nothing written, when the thread has moved on since it was worked out: a run has come
 * and gone (it may have left no checkpoint, but answers), or there are other checkpoints.
 */
export async function applyChange(
  tx: Tx,
  thread_id: string,
  found: RestingThread,
  change: StateChange,
  now: number,
): Promise<boolean> {
  lockThread(tx, thread_id);
  const { latestRun } = await restingThread(tx, thread_id);
  if (latestRun !== found.latestRun || !(await isCurrent(tx, thread_id, change))) return false;
  await storeWrites(tx, change.writes);
  await threads.touch(tx, thread_id, { ...shownBy(change.snapshot), updated_at: now, state_updated_at: now });
  return true;
}

/**
 * True when the latest checkpoints are still those the change was worked out from, and those it stands on are there: it names their values,
 * which go with them when a run is deleted or a history is cut.
 */
export async function isCurrent(tx: Tx, thread_id: string, change: StateChange): Promise<boolean> {
  for (const { checkpoint_ns, checkpoint_id } of change.seen) {
    if ((await checkpoints.latestOf(tx, thread_id, checkpoint_ns)) !== checkpoint_id) return false;
  }
  for (const key of standsOn(change)) if (!(await checkpoints.exists(tx, key))) return false;
  return true;
}

/** The checkpoints that a change goes on from, or writes to, and neither makes itself nor has seen as the latest. */
function standsOn({ seen, writes }: StateChange): readonly CheckpointKey[] {
  const made = writes.flatMap((write) => (write.op === "put_checkpoint" ? [write.row.checkpoint_id] : []));
  const known = new Set([...made, ...seen.map(({ checkpoint_id }) => checkpoint_id)]);
  const keys = writes.flatMap((write) => {
    if (write.op === "put_writes") return [write.key];
    const { thread_id, checkpoint_ns, parent_checkpoint_id } = write.row;
    return parent_checkpoint_id === null ? [] : [{ thread_id, checkpoint_ns, checkpoint_id: parent_checkpoint_id }];
  });
  return keys.filter(({ checkpoint_id }) => !known.has(checkpoint_id));
}

export async function storeWrites(tx: Tx, writes: readonly DraftWrite[]): Promise<void> {
  for (const write of writes) {
    if (write.op === "put_checkpoint") await checkpoints.put(tx, null, write.row, write.blobs);
    else await checkpoints.putWrites(tx, null, write.key, write.writes, write.keep_existing);
  }
}

/** What a thread at rest shows of its state. */
export function shownBy({ values, interrupts, interrupted }: WholeSnapshot): {
  readonly status: ThreadStatus;
  readonly values: WholeSnapshot["values"];
  readonly interrupts: WholeSnapshot["interrupts"];
} {
  return { status: interrupted ? "interrupted" : "idle", values, interrupts };
}
