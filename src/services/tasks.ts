/**
 * Tasks: runs as A2A sees them. A task is known by its first run; each answer to a question it asks is another run on the same
 * thread, which names the first (`kwargs.task`). Nothing is kept of a task but its runs.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import type { CancelEffect } from "../engine/cancellation.ts";
import { cancelFound } from "../engine/cancellation.ts";
import { notificationsOfWithdrawal } from "../engine/webhook-payload.ts";
import { runToWire } from "../engine/wire.ts";
import { conflict, invalid, notFound } from "../errors.ts";
import type { PushConfig, RunStatus, TaskOfRun } from "../schemas/runs.ts";
import { lockThread } from "../storage/locks.ts";
import type { RunRecord, Storage, Tx } from "../storage/storage.ts";
import * as runs from "../storage/tables/runs.ts";
import * as threads from "../storage/tables/threads.ts";
import * as webhooks from "../storage/tables/webhooks.ts";
import type { Visible } from "./access.ts";
import { assistantIdOf } from "./assistants.ts";
import type { TaskPage, TaskState, TasksService, TaskView } from "./contract.ts";

export interface TasksOptions {
  readonly storage: Storage;
  /** Tells the world about cancels that are committed. */
  readonly onCancelled: (effects: readonly CancelEffect[]) => Promise<void>;
  /** Somebody is to be told. */
  readonly onWebhook: () => void;
  /** Resolves when the run has ended. */
  readonly untilEnd: (run_id: string) => Promise<unknown>;
  /** Throws when a URL may not be called. Null: the server calls nobody. */
  readonly checkWebhook: ((url: string, field: string) => void) | null;
}

/** Whom one task tells, at most. */
const MAX_PUSH = 20;
const SCANNED_AT_ONCE = 100;

export class Tasks implements TasksService {
  readonly #options: TasksOptions;

  constructor(options: TasksOptions) {
    this.#options = options;
  }

  get canPush(): boolean {
    return this.#options.checkWebhook !== null;
  }

  checkPush(url: string, field: string): void {
    this.#options.checkWebhook?.(url, field);
  }

  async get(assistant_id: string, run_id: string): Promise<TaskView> {
    return this.#options.storage.read(async (db) => viewOf(db, await newestRun(db, assistant_id, run_id)));
  }

  /** `visible`: the threads on which tasks are shown. */
  async list(assistant_id: string, page: TaskPage, visible: Visible = null): ReturnType<TasksService["list"]> {
    const { state, updated_since, thread_id, limit } = page;
    const filter = {
      assistant_id: assistantIdOf(assistant_id),
      thread_id,
      statuses: state === null ? ALL : STATUSES[state],
      updated_since: updated_since === null ? null : Date.parse(updated_since),
      visible,
    };
    return this.#options.storage.read(async (db) => {
      const found: RunRecord[] = [];
      // One more than asked for says that there is another page.
      for await (const run of walk(db, { ...filter, before: page.before }, state)) {
        found.push(run);
        if (found.length > limit) break;
      }
      const shown = found.slice(0, limit);
      const tasks: TaskView[] = [];
      for (const run of shown) tasks.push(await viewOf(db, run));
      const last = found.length > limit ? shown.at(-1) : undefined;
      return {
        tasks,
        next: last === undefined ? null : { updated_at: last.updated_at, seq: last.seq },
        total: await totalOf(db, filter, state),
      };
    });
  }

  async cancel(assistant_id: string, run_id: string): Promise<void> {
    const now = this.#options.storage.now();
    const effect = await this.#change(assistant_id, run_id, async (tx, run, view) => {
      if (ENDED.has(view.state)) throw conflict(`Task ${view.task_id} has already ended (${view.state})`);
      if (view.state === "input-required") return withdraw(tx, run, now);
      if (run.kwargs.task !== undefined) await setTask(tx, run, { ...run.kwargs.task, canceled: true });
      return cancelFound(tx, run, "interrupt", now);
    });
    if (effect === undefined) return this.#options.onWebhook();
    await this.#options.onCancelled([effect]);
    if (effect.kind === "signal") await this.#options.untilEnd(effect.run.run_id);
  }

  async setPush(assistant_id: string, run_id: string, config: PushConfig): Promise<void> {
    await this.#changePush(assistant_id, run_id, (push) => {
      const others = push.filter(({ id }) => id !== config.id);
      if (others.length >= MAX_PUSH) throw invalid("pushNotificationConfig", `a task tells ${MAX_PUSH} at most`);
      return [...others, config];
    });
  }

  async deletePush(assistant_id: string, run_id: string, config_id: string): Promise<void> {
    await this.#changePush(assistant_id, run_id, (push) => push.filter(({ id }) => id !== config_id));
  }

  #changePush(
    assistant_id: string,
    run_id: string,
    change: (push: readonly PushConfig[]) => readonly PushConfig[],
  ): Promise<void> {
    return this.#change(assistant_id, run_id, async (tx, run) => {
      const { task } = run.kwargs;
      if (task === undefined) throw conflict(`Run ${run.run_id} was not made as a task`);
      await setTask(tx, run, { ...task, push: change(task.push) });
    });
  }

  /** Changes a task's newest run, which nobody settles or continues meanwhile. */
  #change<T>(
    assistant_id: string,
    run_id: string,
    work: (tx: Tx, run: RunRecord, view: TaskView) => Promise<T>,
  ): Promise<T> {
    return this.#options.storage.write(async (tx) => {
      const { thread_id } = await newestRun(tx, assistant_id, run_id);
      lockThread(tx, thread_id);
      const newest = await newestRun(tx, assistant_id, run_id);
      const run = await runs.findLocked(tx, newest.run_id);
      if (run === undefined) throw noTask(run_id);
      return work(tx, run, await viewOf(tx, run));
    });
  }
}

const noTask = (run_id: string) => notFound(`Task ${run_id} not found`);

/** The task waits no longer. Its run has ended long ago; what changes is what the task says. */
async function withdraw(tx: Tx, run: RunRecord, now: number): Promise<undefined> {
  const { task } = run.kwargs;
  if (task === undefined) throw conflict(`Run ${run.run_id} was not made as a task and has ended`);
  const canceled: TaskOfRun = { ...task, canceled: true };
  const kwargs = { ...run.kwargs, task: canceled };
  await runs.setKwargs(tx, run.run_id, kwargs, now);
  for (const call of notificationsOfWithdrawal({ ...run, kwargs, updated_at: now }, now))
    await webhooks.insert(tx, call);
}

/** Conflict when the run's question has been answered or withdrawn. Nobody else changes that: the caller holds the thread. */
export async function requireQuestion(tx: Tx, run_id: string): Promise<void> {
  const run = await runs.find(tx, run_id);
  const view = run === undefined ? undefined : await viewOf(tx, run);
  if (view?.state !== "input-required") throw conflict(`Task ${view?.task_id ?? run_id} waits for no answer any more`);
}

/** The newest runs of tasks that are in the state; null for any. Others get their turn between two lots. */
async function* walk(
  db: Tx,
  filter: Omit<runs.AssistantPage, "limit">,
  wanted: TaskState | null,
): AsyncGenerator<RunRecord, void, undefined> {
  let { before } = filter;
  for (;;) {
    const lot = await runs.listOfAssistant(db, { ...filter, before, limit: SCANNED_AT_ONCE });
    const interrupted = lot.filter(({ status }) => status === "interrupted").map(({ run_id }) => run_id);
    const newest = await runs.newestOfThreads(db, interrupted);
    for (const run of lot) {
      const state = await stateIfNewest(db, run, newest.get(run.run_id));
      if (state !== undefined && (wanted === null || state === wanted)) yield run;
    }
    before = lot.at(-1) ?? null;
    if (lot.length < SCANNED_AT_ONCE) return;
    await nextTurn();
  }
}

/** How the task stands, when no later run goes on with it. `thread`: the status of the thread whose newest run it is. */
async function stateIfNewest(db: Tx, run: RunRecord, thread: string | undefined): Promise<TaskState | undefined> {
  if (thread === undefined && (await continued(db, run)) !== undefined) return undefined;
  return stateOf(run, thread === "interrupted" && mayWait(run));
}

/** How many tasks there are. Only runs that were interrupted may have been gone on with, or be in another state: each is looked at. */
async function totalOf(
  db: Tx,
  filter: Omit<runs.AssistantPage, "limit" | "before">,
  state: TaskState | null,
): Promise<number> {
  const statuses = filter.statuses.filter((status) => status !== "interrupted");
  let total = statuses.length === 0 ? 0 : await runs.countOfAssistant(db, { ...filter, statuses });
  if (statuses.length === filter.statuses.length) return total;
  for await (const _ of walk(db, { ...filter, statuses: ["interrupted"], before: null }, state)) total += 1;
  return total;
}

const setTask = (tx: Tx, { run_id, kwargs }: RunRecord, task: TaskOfRun): Promise<void> =>
  runs.setKwargs(tx, run_id, { ...kwargs, task });

const taskIdOf = ({ run_id, kwargs }: RunRecord): string => kwargs.task?.id ?? run_id;

/** The newest run of the task that this run belongs to. */
async function newestRun(db: Tx, assistant_id: string, run_id: string): Promise<RunRecord> {
  const run = await runs.find(db, run_id);
  if (run === undefined || run.assistant_id !== assistantIdOf(assistant_id)) throw noTask(run_id);
  return (await continued(db, run)) ?? run;
}

/** The newest run that goes on with the task of this one. Only a run that was interrupted can be answered. */
async function continued(db: Tx, run: RunRecord): Promise<RunRecord | undefined> {
  if (run.status !== "interrupted") return undefined;
  const task_id = taskIdOf(run);
  for (let offset = 0; ; offset += SCANNED_AT_ONCE) {
    const page = { limit: SCANNED_AT_ONCE, offset, status: null };
    const lot = await runs.listOfThread(db, run.thread_id, page);
    for (const other of lot) {
      if (other.seq <= run.seq) return undefined;
      if (taskIdOf(other) === task_id) return other;
    }
    if (lot.length < SCANNED_AT_ONCE) return undefined;
  }
}

async function viewOf(db: Tx, run: RunRecord): Promise<TaskView> {
  const questions = mayWait(run) ? await questionsOf(db, run) : null;
  const { task } = run.kwargs;
  return {
    task_id: taskIdOf(run),
    run: runToWire(run),
    state: stateOf(run, questions !== null),
    message_id: task?.message_id ?? null,
    questions: questions ?? [],
    push: task?.push ?? [],
  };
}

/** A run that stopped by itself; one that was cancelled, or never began, asked nothing. */
const mayWait = ({ status, cancel_action, started_at, kwargs }: RunRecord): boolean =>
  status === "interrupted" && cancel_action === null && started_at !== null && kwargs.task?.canceled !== true;

/** What the thread waits for, as long as the run is its newest; null when it waits for nothing. */
async function questionsOf(db: Tx, run: RunRecord): Promise<TaskView["questions"] | null> {
  if ((await runs.latestSeq(db, run.thread_id)) !== run.seq) return null;
  const thread = await threads.findBare(db, run.thread_id);
  if (thread?.status !== "interrupted") return null;
  return Object.values(JSON.parse(thread.interrupts) as Record<string, TaskView["questions"]>).flat();
}

/** How a task stands by its newest run. */
export function stateOf({ status }: Pick<RunRecord, "status">, waits: boolean): TaskState {
  switch (status) {
    case "pending":
      return "submitted";
    case "running":
      return "working";
    case "success":
      return "completed";
    case "error":
    case "timeout":
      return "failed";
    case "interrupted":
      return waits ? "input-required" : "canceled";
    default:
      return status satisfies never;
  }
}

/** States that a task does not leave. */
export const ENDED: ReadonlySet<TaskState> = new Set(["completed", "failed", "canceled"]);

const STATUSES: Readonly<Record<TaskState, readonly RunStatus[]>> = {
  submitted: ["pending"],
  working: ["running"],
  completed: ["success"],
  failed: ["error", "timeout"],
  "input-required": ["interrupted"],
  canceled: ["interrupted"],
};
const ALL: readonly RunStatus[] = ["pending", "running", "error", "success", "timeout", "interrupted"];
