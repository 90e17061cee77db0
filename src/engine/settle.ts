/**
 * The end of a run in one transaction: run row, thread status and values, checkpoints of a rollback, the
 * webhook to send, the end of its event log. Whoever commits it then tells the world.
 */
import type { CancelAction, Json, Snapshot, WholeSnapshot } from "../executor/protocol.ts";
import type { ThreadStatus } from "../schemas/threads.ts";
import { isShared, lockThread } from "../storage/locks.ts";
import type { NewRun, RunRecord, Tx } from "../storage/storage.ts";
import * as checkpoints from "../storage/tables/checkpoints.ts";
import * as departed from "../storage/tables/departed-runs.ts";
import * as events from "../storage/tables/events.ts";
import * as outcomes from "../storage/tables/outcomes.ts";
import * as runs from "../storage/tables/runs.ts";
import * as threads from "../storage/tables/threads.ts";
import * as webhooks from "../storage/tables/webhooks.ts";
import { together } from "../storage/together.ts";
import type { RunLog, RunOutput } from "../streaming/run-log.ts";
import type { RunHold } from "./executor-thread.ts";
import { type Ending, finalOutput, type NextStep } from "./lifecycle.ts";
import { callsSomebody, webhooksFor } from "./webhook-payload.ts";

/** How a thread stands when a run has left it. */
export interface Left {
  /** False: the thread shows nothing until somebody has read its state. */
  readonly isShown: boolean;
  /** Other runs are in flight on it: one of them may be ready now. */
  readonly isBusy: boolean;
}

/** Undefined: the lease is lost, and nothing was written. */
type Written = Left | undefined;

/** Where a run's events stand on its thread, and how far they go, as the log of who holds or has held it knows. */
export type Stand = Pick<RunLog, "place" | "next">;

/** A thread that goes with its run; others wait on it only by a client that guessed its id, and go too. */
const GONE: Left = { isShown: true, isBusy: false };
/** The run itself is in flight still. */
const WAITS: Left = { isShown: true, isBusy: true };

/** Ends a run that is held under `run.fence`, as the caller has seen when it locked the row; of a temporary one it is seen here. */
async function settleRun(tx: Tx, run: NewRun, hold: RunHold, ending: Ending, now: number): Promise<Written> {
  const checkpoint_id = ending.snapshot?.checkpoint_id ?? null;
  const { status, error } = ending;
  const { run_id, fence, thread_id } = run;
  const settled: NewRun = { ...run, status, updated_at: now, ended_at: now };
  if (run.kwargs.temporary) {
    // The thread goes with its run: there is no row to bring up to date.
    if (!(await runs.removeHeld(tx, { run_id, fence, thread_id }))) return undefined;
    await leaveBehind(tx, settled, ending, now);
    await keepWhose(tx, run, now);
    const output = finalOutput(ending);
    await together(tx, [
      () => threads.remove(tx, thread_id, { hasRuns: false, hasCheckpoints: hold.hasStored }),
      () => keepOutcome(tx, run_id, output, now),
    ]);
    return GONE;
  }
  const [isSettled, left] = await together(tx, [
    () => runs.settle(tx, run_id, fence, { status, error, checkpoint_id, now }),
    () => updateThread(tx, thread_id, ending.thread, ending.snapshot, now),
  ]);
  if (!isSettled) throw new Error(`run ${run_id} is held, and was not to be settled`);
  await leaveBehind(tx, settled, ending, now);
  return left;
}

/** What was written of an attempt's end. */
export interface Concluded {
  readonly next: NextStep;
  readonly left: Left;
  /** Somebody is to be told: the outbox has calls to make. */
  readonly calls: boolean;
}

/**
 * Ends a run, hands it back or erases it, as `decide` says when it hears of the cancel that is on the row by now. Returns
 * what was written; undefined when the lease is lost: nothing was.
 */
export async function conclude(
  tx: Tx,
  run: NewRun,
  hold: RunHold,
  decide: (cancel: CancelAction | null) => NextStep,
  now: number,
  stand?: Stand,
): Promise<Concluded | undefined> {
  lockThread(tx, run.thread_id);
  // A temporary thread is gone either way.
  const found = run.kwargs.temporary ? run : await runs.findLocked(tx, run.run_id);
  if (found?.status !== "running" || found.fence !== run.fence) return undefined;
  const cancel_action = run.kwargs.temporary ? null : found.cancel_action;
  const next = decide(cancel_action);
  // Whom to tell may have been said since the run was claimed.
  const { task } = found.kwargs;
  const told = task === undefined ? run : { ...run, kwargs: { ...run.kwargs, task }, cancel_action };
  const left = await carryOut(tx, told, hold, next, now, stand);
  return left && { next, left, calls: next.kind === "settle" && callsSomebody(told) };
}

async function carryOut(
  tx: Tx,
  run: NewRun,
  hold: RunHold,
  next: NextStep,
  now: number,
  stand: Stand | undefined,
): Promise<Written> {
  switch (next.kind) {
    case "settle":
      return settleRun(tx, run, hold, next.ending, now);
    case "erase":
      return eraseRun(tx, run, run.fence, now, stand);
    case "requeue": {
      const isReleased = await runs.release(tx, run.run_id, run.fence, { now, spend_attempt: next.spendAttempt });
      return isReleased ? WAITS : undefined;
    }
    default:
      return next satisfies never;
  }
}

/** Ends a run that was never claimed (cancelled while pending). False when it is no longer pending. */
export async function settlePendingRun(tx: Tx, run: NewRun, now: number): Promise<boolean> {
  if (!(await runs.settlePending(tx, run.run_id, { status: "interrupted", now }))) return false;
  if (isToldOf(run)) await events.openLast(tx, run.run_id, run.thread_id, now);
  const ending: Ending = { status: "interrupted", thread: "idle", snapshot: null, output: null, error: null };
  await leaveBehind(tx, { ...run, status: "interrupted", updated_at: now, ended_at: now }, ending, now);
  if (run.kwargs.temporary) await removeWithThread(tx, run, now);
  else await restThread(tx, run.thread_id, now);
  return true;
}

/** Streaming v2 tells the end of every run made for it: there is a log to end, though nothing is in it. */
const isToldOf = ({ kwargs }: NewRun): boolean => kwargs.protocol !== undefined;

/** Of a run that is over and left no output. */
async function removeWithThread(tx: Tx, run: NewRun, now: number): Promise<void> {
  const { run_id, thread_id } = run;
  await keepWhose(tx, run, now);
  await threads.remove(tx, thread_id);
  await keepOutcome(tx, run_id, null, now);
}

/** Where users log in, a run that goes with its thread is its user's for as long as anybody is told of it. */
async function keepWhose(tx: Tx, { run_id, thread_id, kwargs }: NewRun, now: number): Promise<void> {
  if (kwargs.user !== undefined) await departed.keep(tx, { run_id, thread_id, now });
}

/**
 * Nothing is left in the database of a run that goes with its thread, and whoever is to tell its end may die before it has:
 * where others share the database, what `wait` answers stays for a while. Such a run says its output itself: there is no
 * thread that could show it.
 */
async function keepOutcome(tx: Tx, run_id: string, output: RunOutput | null, now: number): Promise<void> {
  if (isShared(tx)) await outcomes.keep(tx, run_id, typeof output === "string" ? output : "null", now);
}

/**
 * Removes a run and its checkpoints as if it had never been. `fence` undefined for a run that is still pending. Its thread
 * still shows what the run before left, because only a settled run changes that. Undefined when the run is that no longer.
 */
export async function eraseRun(
  tx: Tx,
  run: NewRun,
  fence: number | undefined,
  now: number,
  stand?: Stand,
): Promise<Written> {
  if (!(await isStill(tx, run.run_id, fence))) return undefined;
  if (fence === undefined && isToldOf(run)) await events.openLast(tx, run.run_id, run.thread_id, now);
  await removeTraces(tx, run, now, stand);
  if (!run.kwargs.temporary) return restThread(tx, run.thread_id, now);
  await removeWithThread(tx, run, now);
  return GONE;
}

/**
 * Removes a run that has ended, with its checkpoints unless others need them. True when it had to do with the newest checkpoint of the thread:
 * then the thread shows nothing until somebody has read what is there now.
 */
export async function removeEndedRun(tx: Tx, run: NewRun, now: number, stand?: Stand): Promise<boolean> {
  const { thread_id } = run;
  if (await isStoodOn(tx, thread_id)) {
    await removeRecord(tx, run, now, stand);
    return false;
  }
  const before = await checkpoints.latestOf(tx, thread_id);
  const hasWritten = before !== null && (await checkpoints.hasWritten(tx, thread_id, before, run.run_id));
  await removeTraces(tx, run, now, stand);
  if (!hasWritten && before === (await checkpoints.latestOf(tx, thread_id))) return false;
  const nothing: WholeSnapshot = { values: null, interrupts: "{}", interrupted: false, checkpoint_id: null };
  await updateThread(tx, thread_id, "idle", nothing, now);
  return true;
}

/**
 * Whether what is or will be written later cannot be read without earlier checkpoints: where channels are told in deltas, and while a run
 * stands on them. Locked, so that none begins meanwhile.
 */
async function isStoodOn(tx: Tx, thread_id: string): Promise<boolean> {
  const inFlight = await runs.inFlight(tx, thread_id);
  return inFlight.some(standsOnSome) || checkpoints.hasDeltas(tx, thread_id);
}

/**
 * A run that is at work has read the newest checkpoint and may have written nothing yet; one that has begun, and was handed back, goes on
 * where it was; one that names a checkpoint begins there.
 */
const standsOnSome = ({ status, fence, kwargs }: RunRecord): boolean =>
  status === "running" || fence > 0 || kwargs.config.configurable.checkpoint_id != null;

async function removeTraces(tx: Tx, run: NewRun, now: number, stand: Stand | undefined): Promise<void> {
  await checkpoints.removeForRuns(tx, run.thread_id, [run.run_id]);
  await removeRecord(tx, run, now, stand);
}

/** The run and its events, not its checkpoints. */
async function removeRecord(tx: Tx, run: NewRun, now: number, stand: Stand | undefined): Promise<void> {
  const { run_id, thread_id } = run;
  await runs.remove(tx, run_id);
  const [newest] = await runs.listOfThread(tx, thread_id, { limit: 1, offset: 0, status: null });
  const thread = await threads.findBare(tx, thread_id);
  // A run that was made before anybody read the thread's events may have been read since.
  if (isToldOf(run) || thread?.protocol === true) {
    if (stand?.place !== undefined) await events.open(tx, run_id, thread_id, stand.place);
    await events.erase(tx, run_id, { next: stand?.next, now });
  } else {
    await events.remove(tx, run_id);
  }
  if (newest === undefined || thread === undefined) return;
  // The thread's graph is that of its newest run: its state is read with it.
  const metadata = { ...thread.metadata, graph_id: newest.graph_id, assistant_id: newest.assistant_id };
  await threads.touch(tx, thread_id, { metadata, updated_at: now });
}

/** Pending, or running under this token; until the transaction ends nobody else writes for it. */
async function isStill(tx: Tx, run_id: string, fence: number | undefined): Promise<boolean> {
  const run = await runs.findLocked(tx, run_id);
  return fence === undefined ? run?.status === "pending" : run?.status === "running" && run.fence === fence;
}

/** What outlives a run whatever becomes of its thread: the webhook to send, and the end of events that are kept. */
async function leaveBehind(tx: Tx, run: NewRun, ending: Ending, now: number): Promise<void> {
  if (callsSomebody(run)) {
    const result = { values: await valuesFor(tx, run, ending), error: ending.error, interrupts: waitsFor(run, ending) };
    for (const call of webhooksFor(run, result, now)) await webhooks.insert(tx, call);
  }
  if (run.kwargs.resumable) await events.end(tx, run.run_id, now);
}

/** The questions a run leaves; a run that was cancelled asks nothing any more. */
const waitsFor = ({ cancel_action }: NewRun, { thread, snapshot }: Ending): Json | null =>
  thread === "interrupted" && cancel_action === null ? (snapshot?.interrupts ?? "{}") : null;

/** Those of a run that left none of its own, or told them in parts, are the thread's by now. */
async function valuesFor(tx: Tx, run: NewRun, { snapshot }: Ending): Promise<Json | null> {
  if (snapshot !== null && (snapshot.values === null || typeof snapshot.values === "string")) return snapshot.values;
  return (await threads.find(tx, run.thread_id))?.values ?? null;
}

/**
 * A thread that a run has left: with others in flight it stays busy, and the next in line may go. Values that do not follow
 * those that were there are not shown: the thread shows nothing now.
 */
export async function updateThread(
  tx: Tx,
  thread_id: string,
  rest: Exclude<ThreadStatus, "busy">,
  snapshot: Snapshot | null,
  now: number,
): Promise<Left> {
  const state =
    snapshot === null ? {} : { values: snapshot.values, interrupts: snapshot.interrupts, state_updated_at: now };
  const { put, isBusy } = await threads.touch(tx, thread_id, {
    status: "settled",
    rest_status: rest,
    updated_at: now,
    renew_ttl: true,
    ...state,
  });
  if (isBusy) await runs.promote(tx, thread_id, now);
  return { isShown: put !== "misfit", isBusy };
}

/** A run left without a word on the thread's state. */
export async function restThread(tx: Tx, thread_id: string, now: number): Promise<Left> {
  return updateThread(tx, thread_id, await threads.restStatus(tx, thread_id), null, now);
}
