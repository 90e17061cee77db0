/** Stopping runs. The intent is durable: it is on the run row before anyone is told. */
import { conflict, notFound } from "../errors.ts";
import type { CancelAction } from "../executor/protocol.ts";
import { lockThread } from "../storage/locks.ts";
import type { RunRecord, Tx } from "../storage/storage.ts";
import * as runs from "../storage/tables/runs.ts";
import { eraseRun, settlePendingRun } from "./settle.ts";

/** What a cancel did, for the caller to act on after the commit. */
export type CancelEffect =
  /** The run had not started: it has ended with this transaction. */
  | { readonly kind: "ended"; readonly run: RunRecord; readonly action: CancelAction }
  /** The run is running: whoever holds it must be told. */
  | { readonly kind: "signal"; readonly run: RunRecord; readonly action: CancelAction };

/** Cancels a run in the transaction. Not found and already ended are errors. */
export async function cancelRun(
  tx: Tx,
  thread_id: string | null,
  run_id: string,
  action: CancelAction,
  now: number,
): Promise<CancelEffect> {
  if (thread_id !== null) lockThread(tx, thread_id);
  const run = await (thread_id === null ? runs.findLockingThread(tx, run_id) : runs.findLocked(tx, run_id));
  if (run === undefined || (thread_id !== null && run.thread_id !== thread_id))
    throw notFound(`Run ${run_id} not found`);
  return cancelFound(tx, run, action, now);
}

/** The run's thread is locked. A rollback that somebody was promised stays one, whatever is asked for afterwards. */
export async function cancelFound(tx: Tx, run: RunRecord, asked: CancelAction, now: number): Promise<CancelEffect> {
  const action = run.cancel_action === "rollback" ? "rollback" : asked;
  if (run.status === "running") {
    await runs.setCancel(tx, run.run_id, action, now);
    return { kind: "signal", run, action };
  }
  if (run.status !== "pending") throw conflict(`Run ${run.run_id} has already ended (status ${run.status})`);
  if (action === "rollback") await eraseRun(tx, run, undefined, now);
  else await settlePendingRun(tx, run, now);
  return { kind: "ended", run, action };
}
