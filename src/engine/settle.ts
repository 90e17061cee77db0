/**
 * The end of a run in one transaction: run row, thread status and values, checkpoints of a rollback, the
 * webhook to send, the end of its event log. Whoever commits it then tells the world.
 */
import type { Json, Snapshot } from "../executor/protocol.ts";
import type { ThreadStatus } from "../schemas/threads.ts";
import type { RunRecord, Tx } from "../storage/storage.ts";
import * as checkpoints from "../storage/tables/checkpoints.ts";
import * as events from "../storage/tables/events.ts";
import * as runs from "../storage/tables/runs.ts";
import * as threads from "../storage/tables/threads.ts";
import * as webhooks from "../storage/tables/webhooks.ts";
import type { RunHold } from "./executor-thread.ts";
import type { Ending, NextStep } from "./lifecycle.ts";
import { webhookFor } from "./webhook-payload.ts";

/** Ends a run that is held under `run.fence`. False when the lease is lost: nothing is written. */
async function settleRun(tx: Tx, run: RunRecord, hold: RunHold, ending: Ending, now: number): Promise<boolean> {
  const checkpoint_id = ending.snapshot?.checkpoint_id ?? null;
  const { status, error } = ending;
  const { run_id, fence, thread_id } = run;
  const settled: RunRecord = { ...run, status, updated_at: now, ended_at: now };
  if (run.kwargs.temporary) {
    // The thread goes with its run: there is no row to bring up to date.
    if (!(await runs.removeHeld(tx, { run_id, fence }))) return false;
    await leaveBehind(tx, settled, ending, now);
    await threads.remove(tx, thread_id, { hasCheckpoints: hold.hasStored });
    return true;
  }
  if (!(await runs.settle(tx, run_id, fence, { status, error, checkpoint_id, now }))) return false;
  await leaveBehind(tx, settled, ending, now);
  await updateThread(tx, thread_id, ending.thread, ending.snapshot, now);
  return true;
}

/**
 * Ends a run as its graph did, unless somebody has been promised its cancellation since: the intent on the row decides.
 * Undefined when the lease is lost: nothing is written.
 */
export async function settleOrErase(
  tx: Tx,
  run: RunRecord,
  hold: RunHold,
  ending: Ending,
  now: number,
): Promise<NextStep | undefined> {
  // A temporary thread is gone either way.
  const asked = run.kwargs.temporary ? null : (await runs.find(tx, run.run_id))?.cancel_action;
  if (asked === "rollback") {
    const erased = await eraseRun(tx, run, run.fence, null, now);
    return erased ? { kind: "erase", snapshot: null } : undefined;
  }
  const told: Ending =
    asked === "interrupt" && ending.status === "success" ? { ...ending, status: "interrupted" } : ending;
  return (await settleRun(tx, run, hold, told, now)) ? { kind: "settle", ending: told } : undefined;
}

/** Ends a run that was never claimed (cancelled while pending). False when it is no longer pending. */
export async function settlePendingRun(tx: Tx, run: RunRecord, now: number): Promise<boolean> {
  if (!(await runs.settlePending(tx, run.run_id, { status: "interrupted", now }))) return false;
  const ending: Ending = { status: "interrupted", thread: "idle", snapshot: null, output: null, error: null };
  await leaveBehind(tx, { ...run, status: "interrupted", updated_at: now, ended_at: now }, ending, now);
  if (run.kwargs.temporary) await threads.remove(tx, run.thread_id);
  else await updateThread(tx, run.thread_id, ending.thread, ending.snapshot, now);
  return true;
}

/** Removes a run and its checkpoints as if it had never been. `fence` undefined for a run that is still pending. */
export async function eraseRun(
  tx: Tx,
  run: RunRecord,
  fence: number | undefined,
  snapshot: Snapshot | null,
  now: number,
): Promise<boolean> {
  const mine = fence === undefined ? await isPending(tx, run.run_id) : await runs.isHeld(tx, run.run_id, fence);
  if (!mine) return false;
  await checkpoints.removeForRuns(tx, run.thread_id, [run.run_id]);
  await runs.remove(tx, run.run_id);
  await events.remove(tx, run.run_id);
  if (run.kwargs.temporary) await threads.remove(tx, run.thread_id);
  else await updateThread(tx, run.thread_id, "idle", snapshot, now);
  return true;
}

async function isPending(tx: Tx, run_id: string): Promise<boolean> {
  return (await runs.find(tx, run_id))?.status === "pending";
}

/** What outlives a run whatever becomes of its thread: the webhook to send, and the end of events that are kept. */
async function leaveBehind(tx: Tx, run: RunRecord, ending: Ending, now: number): Promise<void> {
  if (run.kwargs.webhook !== null) {
    await webhooks.insert(tx, webhookFor(run, { values: await valuesFor(tx, run, ending), error: ending.error }, now));
  }
  if (run.kwargs.resumable) await events.end(tx, run.run_id, now);
}

async function valuesFor(tx: Tx, run: RunRecord, ending: Ending): Promise<Json | null> {
  if (ending.snapshot !== null) return ending.snapshot.values;
  return (await threads.find(tx, run.thread_id))?.values ?? null;
}

/** A thread with other runs in flight stays busy. */
export async function updateThread(
  tx: Tx,
  thread_id: string,
  rest: ThreadStatus,
  snapshot: Snapshot | null,
  now: number,
): Promise<void> {
  const status = (await runs.inFlight(tx, thread_id)).length > 0 ? "busy" : rest;
  const state =
    snapshot === null ? {} : { values: snapshot.values, interrupts: snapshot.interrupts, state_updated_at: now };
  await threads.touch(tx, thread_id, { status, updated_at: now, ...state });
}
