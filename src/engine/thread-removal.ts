/** The end of a thread and of all that belongs to it, in one transaction. Whoever commits it then tells the world. */
import { lockThread } from "../storage/locks.ts";
import type { Tx } from "../storage/storage.ts";
import * as events from "../storage/tables/events.ts";
import * as runs from "../storage/tables/runs.ts";
import * as threads from "../storage/tables/threads.ts";

/** The runs that went with a thread. */
export interface RemovedRuns {
  readonly thread_id: string;
  /** Somebody works on them: they must be told to stop. What they still write finds no run, so it is refused. */
  readonly running: readonly string[];
  readonly others: readonly string[];
}

/** Removes the thread with its runs, checkpoints and events. Undefined when there is no such thread. */
export async function removeThread(tx: Tx, thread_id: string): Promise<RemovedRuns | undefined> {
  lockThread(tx, thread_id);
  if ((await threads.findBare(tx, thread_id)) === undefined) return undefined;
  const all = await runs.statusesOfThread(tx, thread_id);
  await events.removeOfThread(tx, thread_id);
  await threads.remove(tx, thread_id);
  const idsOf = (running: boolean): string[] =>
    all.flatMap(({ run_id, status }) => ((status === "running") === running ? [run_id] : []));
  return { thread_id, running: idsOf(true), others: idsOf(false) };
}
