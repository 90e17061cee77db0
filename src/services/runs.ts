/** Runs: how they come to be, and how they are read, followed, waited for and cancelled. */
import { v7 as uuid7 } from "uuid";
import { finalOutput } from "../engine/attempts.ts";
import { type CancelEffect, cancelFound, cancelRun } from "../engine/cancellation.ts";
import { decide } from "../engine/multitask.ts";
import type { Slot } from "../engine/queue.ts";
import type { TakeTick } from "../engine/scheduler.ts";
import { runToWire } from "../engine/wire.ts";
import { conflict, notFound } from "../errors.ts";
import type { CancelAction, Json, Question } from "../executor/protocol.ts";
import type { Logger } from "../observability/logger.ts";
import type { Metrics } from "../observability/metrics.ts";
import type { Run, RunCreateStateful, RunCreateStateless } from "../schemas/runs.ts";
import type { AssistantRecord, RunRecord, Storage, ThreadRecord, Tx } from "../storage/storage.ts";
import * as assistants from "../storage/tables/assistants.ts";
import * as checkpoints from "../storage/tables/checkpoints.ts";
import * as events from "../storage/tables/events.ts";
import * as runs from "../storage/tables/runs.ts";
import * as threads from "../storage/tables/threads.ts";
import type { EventLog } from "../streaming/event-log.ts";
import type { EventLogs } from "../streaming/event-logs.ts";
import type { RunEvent } from "../streaming/events.ts";
import { follow, untilEnd } from "../streaming/follow.ts";
import { eventFilter } from "../streaming/modes.ts";
import { assistantIdOf } from "./assistants.ts";
import type { FollowOptions, RunsService } from "./contract.ts";
import { claimed, type NewRun, newRun } from "./new-run.ts";

export interface RunsOptions {
  readonly storage: Storage;
  readonly logs: EventLogs;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly ask: (question: Question) => Promise<Json>;
  /** Where runs wait for a slot, or are given one at once. */
  readonly queue: { nudge(): void; reserve(): Slot | undefined };
  /** Tells whoever holds the run to stop it. */
  readonly signalCancel: (run_id: string, action: CancelAction) => void;
  /** A run ended with a webhook in the outbox. */
  readonly onWebhook: () => void;
  /** Throws when a webhook may not be called. Null: the server makes no webhook calls at all. */
  readonly checkWebhook: ((url: string) => void) | null;
}

const EMPTY: Json = "null";

export class Runs implements RunsService {
  readonly #options: RunsOptions;

  constructor(options: RunsOptions) {
    this.#options = options;
  }

  async create(thread_id: string, asked: RunCreateStateful): Promise<Run> {
    const request = this.#withAllowedWebhook(asked);
    const { run, effects } = await this.#commit((tx, now, slot) => createOnThread(tx, thread_id, request, slot, now));
    await this.act(effects);
    return asMade(run);
  }

  async createStateless(request: RunCreateStateless): Promise<Run> {
    const allowed = this.#withAllowedWebhook(request);
    return asMade((await this.#commit((tx, now, slot) => createWithThread(tx, allowed, slot, now))).run);
  }

  async createBatch(asked: readonly RunCreateStateless[]): Promise<readonly Run[]> {
    const requests = asked.map((request) => this.#withAllowedWebhook(request));
    const { made } = await this.#commit(async (tx, now) => {
      const made: RunRecord[] = [];
      for (const request of requests) made.push((await createWithThread(tx, request, undefined, now)).run);
      return { run: undefined, made };
    });
    return made.map(asMade);
  }

  /** A cron's run. `take` opens the transaction and says what to run; when it throws, nothing is written. */
  async createDue(take: TakeTick): Promise<Run> {
    const { run, effects } = await this.#commit(async (tx, now, slot) => {
      const { cron_id, thread_id, request } = await take(tx);
      const allowed = this.#withAllowedWebhook(request);
      if (thread_id !== null) return createOnThread(tx, thread_id, allowed, slot, now);
      return { ...(await createWithThread(tx, allowed, slot, now, { cron_id })), effects: [] };
    });
    await this.act(effects);
    return asMade(run);
  }

  async get(thread_id: string | null, run_id: string): Promise<Run> {
    return runToWire(await this.#find(thread_id, run_id));
  }

  async list(
    thread_id: string,
    page: { limit: number; offset: number; status: Run["status"] | null },
  ): Promise<readonly Run[]> {
    const records = await this.#options.storage.read(async (db) => {
      if ((await threads.find(db, thread_id)) === undefined) throw notFound(`Thread ${thread_id} not found`);
      return runs.listOfThread(db, thread_id, page);
    });
    return records.map(runToWire);
  }

  async follow(
    thread_id: string | null,
    run_id: string,
    options: FollowOptions,
  ): Promise<AsyncIterable<readonly RunEvent[]>> {
    const log = await this.#log(thread_id, run_id);
    return follow(log, { after: options.after, signal: options.signal, wants: eventFilter(options.modes) });
  }

  async wait(thread_id: string | null, run_id: string, signal: AbortSignal): Promise<Json> {
    const log = await this.#log(thread_id, run_id);
    await untilEnd(log, signal);
    if (log.output !== null) return log.output;
    signal.throwIfAborted();
    return this.#storedOutput(run_id);
  }

  async cancel(thread_id: string, run_id: string, action: CancelAction, wait: boolean): Promise<void> {
    const log = wait ? await this.#log(thread_id, run_id) : undefined;
    const effect = await this.#options.storage.write((tx) => cancelRun(tx, thread_id, run_id, action, Date.now()));
    await this.act([effect]);
    if (log === undefined || effect.kind === "ended") return;
    await untilEnd(log, new AbortController().signal);
  }

  cancelOnDisconnect(run_id: string): void {
    this.#cancelAbandoned(run_id).catch((error: unknown) => {
      this.#options.logger.error({ err: error, run_id }, "cancelling a run after its client left failed");
    });
  }

  async #cancelAbandoned(run_id: string): Promise<void> {
    const effect = await this.#options.storage.write(async (tx) => {
      const run = await runs.find(tx, run_id);
      // It may have ended while its client was leaving.
      if (run === undefined || !isInFlight(run)) return undefined;
      return cancelFound(tx, run, "interrupt", Date.now());
    });
    if (effect !== undefined) await this.act([effect]);
  }

  #withAllowedWebhook<T extends RunCreateStateless>(request: T): T {
    const { checkWebhook } = this.#options;
    if (request.webhook == null) return request;
    if (checkWebhook === null) return { ...request, webhook: null };
    checkWebhook(request.webhook);
    return request;
  }

  /**
   * Commits the creation. A run that was given the slot begins with the commit; others are claimed: the claim is queued
   * right behind the creation, so that both share one commit.
   */
  async #commit<T extends { readonly run: RunRecord | undefined }>(
    work: (tx: Tx, now: number, slot: Slot | undefined) => Promise<T>,
  ): Promise<T> {
    const { storage, queue, metrics } = this.#options;
    const slot = queue.reserve();
    let run: RunRecord | undefined;
    const onCommitted = (): void => {
      if (run?.status === "running") slot?.begin(run);
      else queue.nudge();
    };
    const make = async (tx: Tx): Promise<T> => {
      const result = await work(tx, Date.now(), slot);
      run = result.run;
      return result;
    };
    try {
      const committed = storage.write(make, slot === undefined ? {} : { onCommitted });
      if (slot === undefined) queue.nudge();
      const result = await committed;
      metrics.runsCreated.inc();
      return result;
    } finally {
      slot?.release();
    }
  }

  /** Tells the world about cancels that are committed: who runs a run stops it, who follows one that never ran hears its end. */
  async act(effects: readonly CancelEffect[]): Promise<void> {
    const { logs, metrics, signalCancel, onWebhook, queue } = this.#options;
    for (const effect of effects) {
      if (effect.kind === "signal") signalCancel(effect.run.run_id, effect.action);
      else {
        metrics.runsEnded.inc({ status: effect.action === "rollback" ? "rollback" : "interrupted" });
        const log = logs.get(effect.run.run_id);
        if (log !== undefined) logs.end(log, null);
        if (effect.run.kwargs.webhook !== null) onWebhook();
        queue.nudge();
      }
    }
  }

  async #find(thread_id: string | null, run_id: string): Promise<RunRecord> {
    const run = await this.#options.storage.read((db) => runs.find(db, run_id));
    if (run === undefined || (thread_id !== null && run.thread_id !== thread_id)) {
      throw notFound(`Run ${run_id} not found`);
    }
    return run;
  }

  /** The run's log: in memory, or opened from what storage has. An ended run's log is ended. */
  async #log(thread_id: string | null, run_id: string): Promise<EventLog> {
    const { logs, storage } = this.#options;
    const live = logs.get(run_id);
    if (live !== undefined) return belongs(live, thread_id);
    const { run, stored, last } = await storage.read(async (db) => ({
      run: await runs.find(db, run_id),
      stored: await events.log(db, run_id),
      last: await events.last(db, run_id),
    }));
    const owner = run?.thread_id ?? stored?.thread_id;
    if (owner === undefined || (thread_id !== null && owner !== thread_id)) throw notFound(`Run ${run_id} not found`);
    // It may have been opened while we read.
    const open = logs.get(run_id);
    if (open !== undefined) return open;
    const isLive = run !== undefined && isInFlight(run);
    // What a live run has stored and does not keep is left over from an earlier process.
    const resumable = run?.kwargs.resumable === true || (stored !== undefined && !isLive);
    const log = logs.open({ run_id, thread_id: owner, resumable, first: resumable ? last + 1 : 0 });
    if (!isLive) logs.end(log, null);
    return log;
  }

  /** The output of a run that ended before this process could keep it. */
  async #storedOutput(run_id: string): Promise<Json> {
    const { storage, ask } = this.#options;
    const run = await storage.read((db) => runs.find(db, run_id));
    if (run === undefined) return EMPTY;
    if (run.error !== null) return finalOutput(null, run.error, null) ?? EMPTY;
    if (run.checkpoint_id === null) return EMPTY;
    const { thread_id, graph_id, kwargs } = run;
    const config = { configurable: kwargs.config.configurable };
    return ask({ ask: "output", graph_id, config, thread_id, checkpoint: { checkpoint_id: run.checkpoint_id } });
  }
}

const isInFlight = (run: RunRecord): boolean => run.status === "pending" || run.status === "running";

function belongs(log: EventLog, thread_id: string | null): EventLog {
  if (thread_id !== null && log.thread_id !== thread_id) throw notFound(`Run ${log.run_id} not found`);
  return log;
}

async function assistantFor(tx: Tx, assistant_id: string): Promise<AssistantRecord> {
  const assistant = await assistants.find(tx, assistantIdOf(assistant_id));
  if (assistant === undefined) throw notFound(`Assistant or graph "${assistant_id}" not found`);
  return assistant;
}

/** A stateless run: its thread comes to be with it. */
async function createWithThread(
  tx: Tx,
  request: RunCreateStateless,
  slot: Slot | undefined,
  now: number,
  stamp: Readonly<Record<string, unknown>> = {},
): Promise<{ run: RunRecord }> {
  const assistant = await assistantFor(tx, request.assistant_id);
  const thread_id = uuid7();
  const run = newRun({ assistant, thread_id, request, temporary: request.on_completion !== "keep", now });
  await threads.insert(tx, newThread(thread_id, "busy", { ...runStamp(run), ...stamp }, now));
  return { run: await runs.insert(tx, startable(run, slot, now)) };
}

/** Claimed at once where nothing is in its way and a slot is kept for it. */
const startable = (run: NewRun, slot: Slot | undefined, now: number): NewRun =>
  slot === undefined || run.not_before > now ? run : claimed(run, slot.lease, now);

/** As a creation answers: the run as it was made, whatever has become of it since. */
const asMade = (run: RunRecord): Run => runToWire({ ...run, status: "pending" });

async function createOnThread(
  tx: Tx,
  thread_id: string,
  request: RunCreateStateful,
  slot: Slot | undefined,
  now: number,
): Promise<{ run: RunRecord; effects: readonly CancelEffect[] }> {
  const assistant = await assistantFor(tx, request.assistant_id);
  const thread = await findOrMake(tx, thread_id, request.if_not_exists === "create", now);
  const inFlight = await runs.inFlight(tx, thread_id);
  const run = newRun({ assistant, thread_id, request, temporary: false, now });
  await requireCheckpoint(tx, run);
  const effects = await makeRoom(tx, run, inFlight, now);
  const inserted = await runs.insert(tx, inFlight.length > 0 ? run : startable(run, slot, now));
  const metadata = { ...thread.metadata, ...runStamp(run) };
  await threads.touch(tx, thread_id, { status: "busy", metadata, updated_at: now });
  return { run: inserted, effects };
}

async function findOrMake(tx: Tx, thread_id: string, make: boolean, now: number): Promise<ThreadRecord> {
  const thread = await threads.find(tx, thread_id);
  if (thread !== undefined) return thread;
  if (!make) throw notFound(`Thread ${thread_id} not found`);
  const record = newThread(thread_id, "idle", {}, now);
  await threads.insert(tx, record);
  return record;
}

/** A run that is told to start at a checkpoint must not start anywhere else. */
async function requireCheckpoint(tx: Tx, { thread_id, kwargs }: NewRun): Promise<void> {
  const { checkpoint_id, checkpoint_ns } = kwargs.config.configurable;
  if (checkpoint_id === undefined) return;
  const key = { thread_id, checkpoint_ns: String(checkpoint_ns ?? ""), checkpoint_id: String(checkpoint_id) };
  if ((await checkpoints.get(tx, key)) === null) {
    throw notFound(`Checkpoint ${key.checkpoint_id} of thread ${thread_id} not found`);
  }
}

/** Carries out the multitask strategy against the runs in flight. */
async function makeRoom(
  tx: Tx,
  run: NewRun,
  inFlight: readonly RunRecord[],
  now: number,
): Promise<readonly CancelEffect[]> {
  const decision = decide(
    run.multitask_strategy,
    inFlight.map(({ run_id }) => run_id),
  );
  switch (decision.kind) {
    case "start":
      return [];
    case "refuse":
      throw conflict(`Thread ${run.thread_id} is busy with run ${decision.busyWith} (multitask_strategy: reject)`);
    case "replace": {
      const effects: CancelEffect[] = [];
      for (const other of inFlight) effects.push(await cancelFound(tx, other, decision.action, now));
      return effects;
    }
    default:
      return decision satisfies never;
  }
}

/** What a run leaves on its thread's metadata: chat UIs search threads by it. */
const runStamp = (run: NewRun): Record<string, unknown> => ({ graph_id: run.graph_id, assistant_id: run.assistant_id });

export function newThread(
  thread_id: string,
  status: ThreadRecord["status"],
  metadata: Readonly<Record<string, unknown>>,
  now: number,
): ThreadRecord {
  const times = { created_at: now, updated_at: now, state_updated_at: now };
  return { thread_id, status, metadata, config: {}, values: null, interrupts: "{}", ...times };
}
