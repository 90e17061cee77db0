/** Runs: how they come to be, and how they are read, followed, waited for and cancelled. */
import { v7 as uuid7 } from "uuid";
import { type CancelEffect, cancelFound, cancelRun } from "../engine/cancellation.ts";
import { errorOutput } from "../engine/lifecycle.ts";
import { decide } from "../engine/multitask.ts";
import type { Slot } from "../engine/queue.ts";
import type { TakeTick } from "../engine/scheduler.ts";
import { removeEndedRun, updateThread } from "../engine/settle.ts";
import { callsSomebody } from "../engine/webhook-payload.ts";
import { runToWire } from "../engine/wire.ts";
import { conflict, invalid, notFound, SkeinError, unavailable } from "../errors.ts";
import type { CancelAction, Json, Question, WholeSnapshot } from "../executor/protocol.ts";
import type { Logger } from "../observability/logger.ts";
import type { Metrics } from "../observability/metrics.ts";
import type { RequestFacts } from "../observability/request.ts";
import type { Tracing } from "../observability/tracing.ts";
import type { Run, RunCreateStateful, RunCreateStateless, RunField, RunsCancel } from "../schemas/runs.ts";
import { lockThread, shareAssistant } from "../storage/locks.ts";
import type { AssistantRecord, NewRun, RunRecord, Storage, ThreadRecord, Tx } from "../storage/storage.ts";
import * as assistants from "../storage/tables/assistants.ts";
import * as checkpoints from "../storage/tables/checkpoints.ts";
import * as events from "../storage/tables/events.ts";
import * as outcomes from "../storage/tables/outcomes.ts";
import * as runs from "../storage/tables/runs.ts";
import * as threadValues from "../storage/tables/thread-values.ts";
import * as threads from "../storage/tables/threads.ts";
import { together } from "../storage/together.ts";
import type { EventLogs } from "../streaming/event-logs.ts";
import type { RunEvent, StreamEvent } from "../streaming/events.ts";
import { untilEnd } from "../streaming/follow.ts";
import { followThread } from "../streaming/follow-thread.ts";
import { eventFilter, threadFilter } from "../streaming/modes.ts";
import { followModes } from "../streaming/protocol/as-modes.ts";
import { erasedLog, lackingEvents, type RunLog, type RunOutput } from "../streaming/run-log.ts";
import type { Admit, MadeBy, Visible } from "./access.ts";
import { assistantIdOf } from "./assistants.ts";
import { requireCheckpoint } from "./checkpoints.ts";
import type { FollowOptions, FollowThreadOptions, RunOrigin, RunRequest, RunsPage, RunsService } from "./contract.ts";
import { madeBefore, rememberMade } from "./idempotency.ts";
import { claimed, newRun } from "./new-run.ts";
import { requireQuestion } from "./tasks.ts";
import { type TtlDefaults, ttlWithRun } from "./thread-ttl.ts";

export interface RunsOptions {
  readonly storage: Storage;
  readonly logs: EventLogs;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** Null: nobody traces. */
  readonly tracing: Tracing | null;
  readonly ask: (question: Question) => Promise<Json>;
  /** Where runs wait for a slot, or are given one at once. `ready`: so many are committed that other processes may take. */
  readonly queue: { nudge(): void; reserve(): Slot | undefined; ready(runs: number): void };
  /** Tells whoever holds the run to stop it. */
  readonly signalCancel: (run_id: string, action: CancelAction) => void;
  /** Runs have ended that nobody held: tells other processes. */
  readonly signalOver: (run_ids: readonly string[]) => void;
  /** Runs are deleted that nobody here holds: tells other processes. */
  readonly signalGone: (run_ids: readonly string[]) => void;
  /** A run ended with a webhook in the outbox. */
  readonly onWebhook: () => void;
  /** The time of threads that come to be with their run. */
  readonly ttl: TtlDefaults;
  /** Throws when a webhook may not be called. Null: the server makes no webhook calls at all. */
  readonly checkWebhook: ((url: string) => void) | null;
  /** The project in which LangSmith has the runs of this server; null where it has none. */
  readonly langsmith: string | null;
}

const EMPTY: Json = "null";

function refuseLangsmith({ langsmith_tracer, langsmith_session_name }: RunCreateStateless): void {
  const why = "this server does not trace to LangSmith (LANGSMITH_TRACING is not true)";
  if (langsmith_tracer?.project_name != null || langsmith_tracer?.example_id != null) {
    throw invalid("langsmith_tracer", why);
  }
  if (langsmith_session_name != null) throw invalid("langsmith_session_name", why);
}

export class Runs implements RunsService {
  readonly #options: RunsOptions;

  constructor(options: RunsOptions) {
    this.#options = options;
  }

  async create(
    thread_id: string,
    asked: RunCreateStateful,
    from: RunRequest,
    origin?: RunOrigin,
    by?: MadeBy,
  ): Promise<Run> {
    const request = this.#allowed(asked);
    const asking = { thread_id, request, from, origin, by };
    const work: Creation = (tx, now, slot) => this.#createOnThread(tx, asking, slot, now);
    const fingerprinted = origin?.door === "command" ? origin.asked : (by?.asked ?? request);
    return only(await this.#commit(work, fingerprinted, from.repeatable));
  }

  async createStateless(asked: RunCreateStateless, from: RunRequest, by?: MadeBy): Promise<Run> {
    const request = this.#allowed(asked);
    const work: Creation = (tx, now, slot) => createWithThread(tx, { request, from, by }, slot, now, this.#options);
    return only(await this.#commit(work, by?.asked ?? request, from.repeatable));
  }

  /** `by`: one for each request. */
  async createBatch(
    asked: readonly RunCreateStateless[],
    from: RunRequest,
    by?: readonly MadeBy[],
  ): Promise<readonly Run[]> {
    const requests = asked.map((request) => this.#allowed(request));
    const work: Creation = async (tx, now) => {
      const made: RunRecord[] = [];
      for (const [i, request] of requests.entries()) {
        const asking = { request, from, by: by?.[i] };
        made.push(...(await createWithThread(tx, asking, undefined, now, this.#options)).made);
      }
      return { made, effects: [] };
    };
    return this.#commit(work, by?.map((each) => each.asked) ?? requests, from.repeatable);
  }

  /** A cron's run. `take` opens the transaction and says what to run; when it throws, nothing is written. */
  async createDue(take: TakeTick, from: RequestFacts): Promise<Run> {
    const work: Creation = async (tx, now, slot) => {
      const { cron_id, thread_id, request, by } = await take(tx);
      const asking = { request: this.#allowed(request), from, by };
      if (thread_id !== null) return this.#createOnThread(tx, { ...asking, thread_id }, slot, now);
      return createWithThread(tx, asking, slot, now, this.#options, { cron_id });
    };
    return only(await this.#commit(work, null, undefined));
  }

  async get(thread_id: string | null, run_id: string): Promise<Run> {
    return runToWire(await this.#find(thread_id, run_id));
  }

  async list(thread_id: string, { select, ...page }: RunsPage): Promise<readonly Partial<Run>[]> {
    const records = await this.#options.storage.read(async (db) => {
      if ((await threads.findBare(db, thread_id)) === undefined)
        throw notFound(`Thread ${thread_id} not found`, "thread");
      return runs.listOfThread(db, thread_id, page);
    });
    const all = records.map(runToWire);
    return select === null ? all : all.map((run) => selected(run, select));
  }

  async delete(thread_id: string, run_id: string, admit?: Admit): Promise<void> {
    const { storage, logs, signalGone } = this.#options;
    const log = await this.#log(thread_id, run_id);
    const remove = async (tx: Tx): Promise<CancelEffect | "newest" | "other"> => {
      lockThread(tx, thread_id);
      await admit?.(tx);
      const run = await runs.findLocked(tx, run_id);
      if (run === undefined || run.thread_id !== thread_id) throw notFound(`Run ${run_id} not found`, "run");
      if (isInFlight(run)) return cancelFound(tx, run, "rollback", storage.now());
      return (await removeEndedRun(tx, run, storage.now(), log)) ? "newest" : "other";
    };
    const removed = await storage.write(remove);
    if (typeof removed === "string") {
      logs.drop(run_id);
      signalGone([run_id]);
      if (removed === "newest") await this.showNewest(thread_id);
      return;
    }
    await this.act([removed]);
    if (removed.kind === "ended") return;
    await untilEnd(log, new AbortController().signal);
    // It may have come to another end first, such as its time limit.
    if ((await storage.read((db) => runs.find(db, run_id))) !== undefined) await this.delete(thread_id, run_id, admit);
  }

  async follow(
    thread_id: string | null,
    run_id: string,
    options: FollowOptions,
  ): Promise<AsyncIterable<readonly RunEvent[]>> {
    const log = await this.#log(thread_id, run_id);
    const { after, signal, modes } = options;
    const events = followModes(log, {
      after,
      signal,
      wants: eventFilter(modes),
      isNative: (id) => this.#isNative(id),
    });
    return orLacking(log, events, signal);
  }

  async wait(thread_id: string | null, run_id: string, signal: AbortSignal): Promise<Json> {
    const log = await this.#log(thread_id, run_id).catch(ifGone);
    if (log === undefined) return this.#leftOutput(thread_id, run_id);
    await untilEnd(log, signal);
    const { thread_id: of, output } = log;
    if (typeof output === "string") return output;
    signal.throwIfAborted();
    return (output && (await this.#shownOutput(of, output))) ?? this.#storedOutput(run_id, log.isCut);
  }

  /** Undefined when the thread has moved on since the run: the checkpoint has its output. */
  #shownOutput(thread_id: string, { members, checkpoint_id }: Exclude<RunOutput, Json>): Promise<Json | undefined> {
    return this.#options.storage.read((db) => threadValues.valuesAt(db, { thread_id, checkpoint_id }, members));
  }

  async cancel(thread_id: string, run_id: string, action: CancelAction, wait: boolean, admit?: Admit): Promise<void> {
    const log = wait ? await this.#log(thread_id, run_id) : undefined;
    const { storage } = this.#options;
    const effect = await storage.write(async (tx) => {
      lockThread(tx, thread_id);
      await admit?.(tx);
      return cancelRun(tx, thread_id, run_id, action, storage.now());
    });
    await this.act([effect]);
    if (log === undefined || effect.kind === "ended") return;
    await untilEnd(log, new AbortController().signal);
  }

  /** `visible`: the threads on which runs may be cancelled. */
  async cancelMany(
    { status, thread_id, run_ids }: RunsCancel,
    action: CancelAction,
    visible: Visible = null,
    admit?: Admit,
  ): Promise<void> {
    if (thread_id != null && run_ids != null) await this.#cancelNamed(thread_id, new Set(run_ids), action, admit);
    else await this.#cancelAll(status === "pending" || status === "running" ? [status] : IN_FLIGHT, action, visible);
  }

  async #cancelNamed(
    thread_id: string,
    run_ids: ReadonlySet<string>,
    action: CancelAction,
    admit: Admit | undefined,
  ): Promise<void> {
    const { storage } = this.#options;
    const effects = await storage.write(async (tx) => {
      const effects: CancelEffect[] = [];
      lockThread(tx, thread_id);
      await admit?.(tx);
      for (const run_id of run_ids) {
        const run = await runs.findLocked(tx, run_id);
        if (run === undefined || run.thread_id !== thread_id) throw notFound(`Run ${run_id} not found`, "run");
        if (isInFlight(run)) effects.push(await cancelFound(tx, run, action, storage.now()));
      }
      return effects;
    });
    await this.act(effects);
  }

  /** In lots, so that others get their turn between; runs made meanwhile are not meant. */
  async #cancelAll(statuses: typeof IN_FLIGHT, action: CancelAction, visible: Visible): Promise<void> {
    const { storage } = this.#options;
    const last = await storage.read((db) => runs.newest(db));
    for (let after = 0; ; ) {
      const lot = await storage.write(async (tx) => {
        const found = await runs.lockInFlightAnywhere(tx, { statuses, after, last, limit: CANCEL_LOT, visible });
        const effects: CancelEffect[] = [];
        for (const run of found) effects.push(await cancelFound(tx, run, action, storage.now()));
        return { effects, newest: found.at(-1)?.seq };
      });
      await this.act(lot.effects);
      if (lot.newest === undefined) return;
      after = lot.newest;
    }
  }

  async followThread(
    thread_id: string,
    { after, modes, signal }: FollowThreadOptions,
  ): Promise<AsyncIterable<readonly StreamEvent[]>> {
    const { storage, logs } = this.#options;
    const thread = await storage.read((db) => threads.findBare(db, thread_id));
    if (thread === undefined) throw notFound(`Thread ${thread_id} not found`, "thread");
    return followThread({
      logs,
      thread_id,
      after,
      filter: threadFilter(modes),
      signal,
      stored: (place) => this.#olderRuns(thread_id, place),
      open: (run_id) => this.#log(thread_id, run_id).catch(ifGone),
      stateAfter: (run_id) => this.#stateAfter(thread_id, run_id),
      isNative: (run_id) => this.#isNative(run_id),
    });
  }

  /** Runs of the thread whose events streaming v2 can show though they are not in memory, in order. */
  async keptRuns(thread_id: string): Promise<readonly string[]> {
    const { logs, storage } = this.#options;
    // Other processes have what runs there, and remember for a while what they do not store.
    const [stored, running, lately] = await Promise.all([
      this.#storedRuns(thread_id, 0),
      logs.line(thread_id, null),
      logs.line(thread_id, (storage.now() - REMEMBERED_ELSEWHERE_MS) * 1000),
    ]);
    return idsInLine([...running, ...lately.filter(({ resumable }) => !resumable), ...stored]);
  }

  /** The log of a run of the thread, wherever its events are, or what is left of it; undefined when there is nothing. */
  async logOf(thread_id: string, run_id: string): Promise<RunLog | undefined> {
    return (await this.#log(thread_id, run_id).catch(ifGone)) ?? this.#erasedLog(thread_id, run_id);
  }

  async #erasedLog(thread_id: string, run_id: string): Promise<RunLog | undefined> {
    return this.#options.storage.read(async (db) => {
      const left = await events.log(db, run_id);
      if (left === undefined || left.ended_at === null || left.thread_id !== thread_id) return undefined;
      return erasedLog({ run_id, thread_id, place: left.place, next: (await events.last(db, run_id)) + 1 });
    });
  }

  /** Runs of the thread whose events can be had though they are not in memory, in order; null: of those running. */
  async #olderRuns(thread_id: string, place: number | null): Promise<readonly string[]> {
    const stored = place === null ? [] : await this.#storedRuns(thread_id, place);
    return idsInLine([...stored, ...(await this.#options.logs.line(thread_id, place))]);
  }

  /** Runs of the thread whose kept events are in storage. What a live run stores and does not keep is not among them. */
  async #storedRuns(thread_id: string, place: number): Promise<readonly InLine[]> {
    return this.#options.storage.read(async (db) => {
      const kept: InLine[] = [];
      for (const log of await events.logsOfThread(db, thread_id, place)) {
        if (log.ended_at !== null || (await runs.find(db, log.run_id))?.kwargs.resumable === true) kept.push(log);
      }
      return kept;
    });
  }

  /** Made by a command of streaming v2: modes have no events of their own. */
  async #isNative(run_id: string): Promise<boolean> {
    const run = await this.#options.storage.read((db) => runs.find(db, run_id));
    return run?.kwargs.protocol === "native";
  }

  /** The thread's state as the run left it; null when the thread went with its run. */
  async #stateAfter(thread_id: string, run_id: string): Promise<Json | null> {
    const { run, thread } = await this.#options.storage.read(async (db) => ({
      run: await runs.find(db, run_id),
      thread: await threads.findBare(db, thread_id),
    }));
    if (thread === undefined) return null;
    return this.#stateAt(thread, run?.checkpoint_id ?? null);
  }

  async #stateAt({ thread_id, metadata }: threads.BareThread, checkpoint_id: string | null): Promise<Json | null> {
    if (typeof metadata.graph_id !== "string") return null;
    return this.#options.ask({
      ask: "state",
      graph_id: metadata.graph_id,
      config: { configurable: {} },
      thread_id,
      checkpoint: checkpoint_id === null ? {} : { checkpoint_id },
      subgraphs: false,
    });
  }

  /** The thread shows nothing, or another checkpoint than its newest: what its row shows is brought up to date. */
  async showNewest(thread_id: string): Promise<void> {
    const { storage, logger } = this.#options;
    try {
      const { thread, newest } = await storage.read(async (db) => ({
        thread: await threads.findBare(db, thread_id),
        newest: await checkpoints.latestOf(db, thread_id),
      }));
      if (thread === undefined || newest === null) return;
      const state = await this.#stateAt(thread, newest);
      if (state === null) return;
      const { rest, snapshot } = shownState(state);
      await storage.write(async (tx) => {
        lockThread(tx, thread_id);
        // A run or an update has been faster: what it leaves is newer.
        if ((await checkpoints.latestOf(tx, thread_id)) !== newest) return;
        await updateThread(tx, thread_id, rest, snapshot, storage.now());
      });
    } catch (error) {
      // What came before is done and stays done; `GET …/state` reads the checkpoint itself.
      logger.error({ err: error, thread_id }, "showing the newest state of a thread failed");
    }
  }

  cancelOnDisconnect(run_id: string): void {
    this.#cancelAbandoned(run_id).catch((error: unknown) => {
      this.#options.logger.error({ err: error, run_id }, "cancelling a run after its client left failed");
    });
  }

  async #cancelAbandoned(run_id: string): Promise<void> {
    const { storage } = this.#options;
    const effect = await storage.write(async (tx) => {
      const run = await runs.findLockingThread(tx, run_id);
      // It may have ended while its client was leaving.
      if (run === undefined || !isInFlight(run)) return undefined;
      return cancelFound(tx, run, "interrupt", storage.now());
    });
    if (effect !== undefined) await this.act([effect]);
  }

  #allowed<T extends RunCreateStateless>(request: T): T {
    const { checkWebhook, langsmith } = this.#options;
    if (langsmith === null) refuseLangsmith(request);
    if (request.webhook == null) return request;
    if (checkWebhook === null) return { ...request, webhook: null };
    checkWebhook(request.webhook);
    return request;
  }

  async #createOnThread(
    tx: Tx,
    { thread_id, request: asked, from, origin, by }: AskedOnThread,
    slot: Slot | undefined,
    now: number,
  ): ReturnType<Creation> {
    shareAssistant(tx, assistantIdOf(asked.assistant_id));
    lockThread(tx, thread_id);
    await by?.admit?.(tx);
    const [assistant, found, busyWith] = await together(tx, [
      () => assistantFor(tx, asked.assistant_id),
      () => threads.findBare(tx, thread_id),
      () => runs.busyWith(tx, thread_id),
    ]);
    const thread = found ?? (await makeThread(tx, thread_id, asked, now, this.#options.ttl, by?.stamp));
    const command = origin?.door === "command" ? origin : undefined;
    const waiting = asked.command?.resume === undefined && command === undefined ? [] : waitingOn(thread);
    const request = command?.inputMayResume === true ? resumedByInput(asked, waiting, busyWith) : asked;
    if (command?.mustWait !== undefined) {
      requireWaiting(command.mustWait, waiting, thread_id);
      if (busyWith !== undefined) await requireUnanswered(tx, command.mustWait, thread_id);
    }
    if (origin?.door === "message" && origin.answers !== null) await requireQuestion(tx, origin.answers);
    const run = newRun({
      assistant,
      thread_id,
      request,
      from,
      langsmith: this.#options.langsmith,
      temporary: false,
      waiting,
      now,
      by,
      task: origin?.door === "message" ? origin.task : undefined,
      protocol: command !== undefined ? "native" : this.#isSeenByProtocol(thread) ? "beside" : undefined,
    });
    await requireCheckpoint(tx, thread_id, run.kwargs.config.configurable);
    const effects = await makeRoom(tx, run, busyWith, now);
    if (command !== undefined && !thread.protocol) await threads.markProtocol(tx, thread_id);
    const [inserted] = await together(tx, [
      () => runs.insert(tx, busyWith === undefined ? startable(run, slot) : run),
      () => threads.touch(tx, thread_id, { status: "busy", ...stamped(thread, run), updated_at: now }),
    ]);
    return { made: [inserted], effects };
  }

  /** A thread that has just come to be may have been waited for. */
  #isSeenByProtocol({ thread_id, protocol }: threads.BareThread): boolean {
    return protocol || this.#options.logs.isWatchedByProtocol(thread_id);
  }

  /**
   * Commits the creation. A run that was given the slot begins with the commit; others are claimed: on SQLite the claim is
   * queued right behind the creation, so that both share one commit.
   */
  async #commit(work: Creation, request: unknown, repeatable: RunRequest["repeatable"]): Promise<readonly Run[]> {
    const { storage, queue, metrics } = this.#options;
    const slot = queue.reserve();
    let begun: RunRecord | undefined;
    const onCommitted = (): void => {
      if (begun === undefined) queue.nudge();
      else slot?.begin(begun);
    };
    const make = async (tx: Tx): Promise<Created> => {
      const now = storage.now();
      begun = undefined;
      const before = repeatable && (await madeBefore(tx, repeatable, request, now));
      if (before !== undefined) return { runs: before, made: 0, effects: [] };
      const { made, effects } = await work(tx, now, slot);
      begun = made.find(({ status }) => status === "running");
      const created = made.map(asMade);
      if (repeatable !== undefined) await rememberMade(tx, repeatable, created);
      return { runs: created, made: made.length, effects };
    };
    try {
      // Where transactions run side by side, a claim must not look before the run is there.
      const shareCommit = slot === undefined && !storage.isShared;
      const committed = storage.write(make, shareCommit ? {} : { onCommitted });
      if (shareCommit) queue.nudge();
      const { runs: created, made, effects } = await committed;
      metrics.runsCreated.inc(made);
      if (begun === undefined) queue.ready(made);
      if (effects.length > 0) await this.act(effects);
      return created;
    } finally {
      slot?.release();
    }
  }

  async cancelMarked(mark: Readonly<Record<string, string>>, visible: Visible = null): Promise<void> {
    const { storage } = this.#options;
    const effects = await storage.write(async (tx) => {
      const effects: CancelEffect[] = [];
      for (const { run_id } of await runs.inFlightMarked(tx, mark, visible)) {
        const run = await runs.findLockingThread(tx, run_id);
        if (run !== undefined && isInFlight(run)) effects.push(await cancelFound(tx, run, "interrupt", storage.now()));
      }
      return effects;
    });
    await this.act(effects);
  }

  /** Tells the world about cancels that are committed: who runs a run stops it, who follows one that never ran hears its end. */
  async act(effects: readonly CancelEffect[]): Promise<void> {
    const { logs, metrics, tracing, signalCancel, onWebhook, queue } = this.#options;
    const over = effects.flatMap(({ kind, run }) => (kind === "ended" ? [run.run_id] : []));
    for (const effect of effects) {
      if (effect.kind === "signal") signalCancel(effect.run.run_id, effect.action);
      else {
        const status = effect.action === "rollback" ? "rollback" : "interrupted";
        metrics.runsEnded.inc({ status });
        tracing?.endRun(effect.run, status, null);
        const log = logs.own(effect.run.run_id);
        if (effect.run.kwargs.protocol !== undefined) await this.#endUnheld(effect.run);
        else if (log !== undefined && effect.action === "rollback") logs.erase(log);
        else logs.over(effect.run.run_id);
        if (effect.run.kwargs.temporary) logs.closeThread(effect.run.thread_id);
        if (callsSomebody(effect.run)) onWebhook();
        queue.nudge();
      }
    }
    if (over.length === 0) return;
    this.#options.signalOver(over);
    // Each may have been in the way of another.
    queue.ready(over.length);
  }

  /** A run that never began has ended: its log takes its place among those of its thread. */
  async #endUnheld(run: RunRecord): Promise<void> {
    const { logs, storage } = this.#options;
    const stored = await storage.read((db) => events.log(db, run.run_id));
    if (stored === undefined) logs.over(run.run_id);
    else logs.endUnheld(run, stored.place);
  }

  async #find(thread_id: string | null, run_id: string): Promise<RunRecord> {
    const run = await this.#options.storage.read((db) => runs.find(db, run_id));
    if (run === undefined || (thread_id !== null && run.thread_id !== thread_id)) {
      throw notFound(`Run ${run_id} not found`, "run");
    }
    return run;
  }

  /** The run's log: in memory, held by another process, or opened from what storage has. An ended run's log is ended. */
  async #log(thread_id: string | null, run_id: string): Promise<RunLog> {
    const { logs, storage } = this.#options;
    const live = logs.get(run_id);
    if (live !== undefined) return belongs(live, thread_id);
    const { run, stored, last, isGone } = await storage.read(async (db) => {
      const run = await runs.find(db, run_id);
      const stored = await events.log(db, run_id);
      // The events of a run that went with its thread are had for their time; of one that was taken back there are none.
      const isGone = run === undefined && stored !== undefined && (await events.isErased(db, run_id));
      return { run, stored, last: await events.last(db, run_id), isGone };
    });
    const isLive = run !== undefined && isInFlight(run);
    const kept = run?.kwargs.resumable === true || (stored !== undefined && !isLive && !isGone);
    const elsewhere = isLive || kept || isGone ? undefined : await logs.recall(run_id);
    const owner = run?.thread_id ?? (isGone ? undefined : stored?.thread_id) ?? elsewhere?.thread_id;
    if (owner === undefined || (thread_id !== null && owner !== thread_id))
      throw notFound(`Run ${run_id} not found`, "run");
    if (elsewhere !== undefined) return logs.elsewhere(elsewhere);
    if (isLive && logs.isShared) return logs.elsewhere({ ...run, resumable: kept, place: placeOf(run, stored) });
    // It may have been opened while we read.
    const open = logs.get(run_id);
    if (open !== undefined) return open;
    // What a live run has stored and does not keep is left over from an earlier process.
    const place = kept ? stored?.place : undefined;
    const log = logs.open({ run_id, thread_id: owner, resumable: kept, first: kept ? last + 1 : 0, place });
    if (!isLive) logs.end(log, null);
    return log;
  }

  /** The output of a run of which nothing else is left, in Redis neither; what is left does not say whose thread it was. */
  async #leftOutput(thread_id: string | null, run_id: string): Promise<Json> {
    const left = thread_id === null ? await this.#options.storage.read((db) => outcomes.find(db, run_id)) : undefined;
    if (left === undefined) throw notFound(`Run ${run_id} not found`, "run");
    return left;
  }

  /** The output of a run that ended before this process could keep it. `isCut`: nobody has said how it ended. */
  async #storedOutput(run_id: string, isCut: boolean): Promise<Json> {
    const { storage, ask } = this.#options;
    const run = await storage.read((db) => runs.find(db, run_id));
    if (run === undefined) {
      const left = await storage.read((db) => outcomes.find(db, run_id));
      // It was deleted, or ended long ago, or at the process that made it.
      if (left === undefined && isCut) throw unavailable(`run ${run_id} has ended; its output was not passed on`);
      return left ?? EMPTY;
    }
    if (run.error !== null) return errorOutput(run.error);
    if (run.checkpoint_id === null) return EMPTY;
    const { thread_id, graph_id, kwargs } = run;
    const config = { configurable: kwargs.config.configurable };
    return ask({ ask: "output", graph_id, config, thread_id, checkpoint: { checkpoint_id: run.checkpoint_id } });
  }
}

/** A run, and where its log stands on its thread. */
interface InLine {
  readonly run_id: string;
  readonly place: number;
}

/** Each run once, in the order of the thread. */
function idsInLine(runs: readonly InLine[]): readonly string[] {
  const places = new Map(runs.map(({ run_id, place }) => [run_id, place]));
  return [...places].sort(([, a], [, b]) => a - b).map(([run_id]) => run_id);
}

/** The events of a log; fails at the end when it lacks some. */
async function* orLacking<E>(log: RunLog, events: AsyncIterable<E>, signal: AbortSignal): AsyncGenerator<E, void> {
  yield* events;
  if (log.lacksEvents && !signal.aborted) throw lackingEvents(log);
}

/** As long as ended logs stay in memory. */
const REMEMBERED_ELSEWHERE_MS = 30_000;
const IN_FLIGHT: readonly ("pending" | "running")[] = ["pending", "running"];
const CANCEL_LOT = 100;

interface AskedOnThread {
  readonly thread_id: string;
  readonly request: RunCreateStateful;
  readonly from: RequestFacts;
  readonly origin?: RunOrigin | undefined;
  readonly by?: MadeBy | undefined;
}

/** What a creation does in its transaction. */
type Creation = (
  tx: Tx,
  now: number,
  slot: Slot | undefined,
) => Promise<{ readonly made: readonly RunRecord[]; readonly effects: readonly CancelEffect[] }>;

interface Created {
  readonly runs: readonly Run[];
  /** How many of them are new. */
  readonly made: number;
  readonly effects: readonly CancelEffect[];
}

function only(created: readonly Run[]): Run {
  const [run] = created;
  if (run === undefined) throw new Error("a creation made no run");
  return run;
}

const isInFlight = (run: RunRecord): boolean => run.status === "pending" || run.status === "running";

function selected(run: Run, fields: readonly RunField[]): Partial<Run> {
  const all: Record<RunField, unknown> = { langsmith_session_name: null, ...run };
  return Object.fromEntries(fields.map((field) => [field, all[field]]));
}

function ifGone(error: unknown): undefined {
  if (error instanceof SkeinError && error.kind === "not_found") return undefined;
  throw error;
}

/** What a thread shows of a state. */
function shownState(json: Json): { rest: "idle" | "interrupted" | "error"; snapshot: WholeSnapshot } {
  const state = JSON.parse(json) as {
    readonly values: unknown;
    readonly next: readonly string[];
    readonly checkpoint_id: string | null;
    readonly tasks: readonly TaskShown[];
  };
  const pending = state.tasks.filter((task) => task.result === null || task.error !== null);
  const interrupted = state.next.length > 0 || pending.some((task) => task.interrupts.length > 0);
  const failed = pending.some((task) => task.error !== null);
  return {
    rest: failed ? "error" : interrupted ? "interrupted" : "idle",
    snapshot: {
      values: JSON.stringify(state.values),
      interrupts: JSON.stringify(Object.fromEntries(pending.map((task) => [task.id, task.interrupts]))),
      interrupted,
      checkpoint_id: state.checkpoint_id,
    },
  };
}

interface TaskShown {
  readonly id: string;
  readonly error: string | null;
  readonly result: unknown;
  readonly interrupts: readonly unknown[];
}

/** Where a run's log stands on its thread, as far as the database knows. */
const placeOf = ({ started_at }: RunRecord, stored: { readonly place: number } | undefined): number | undefined =>
  stored?.place ?? (started_at === null ? undefined : started_at * 1000);

function belongs(log: RunLog, thread_id: string | null): RunLog {
  if (thread_id !== null && log.thread_id !== thread_id) throw notFound(`Run ${log.run_id} not found`);
  return log;
}

async function assistantFor(tx: Tx, assistant_id: string): Promise<AssistantRecord> {
  const assistant = await assistants.find(tx, assistantIdOf(assistant_id));
  if (assistant === undefined) throw notFound(`Assistant or graph "${assistant_id}" not found`, "assistant");
  return assistant;
}

/** A stateless run, and the thread that comes to be with it. */
async function createWithThread(
  tx: Tx,
  { request, from, by }: Omit<AskedOnThread, "thread_id" | "request"> & { readonly request: RunCreateStateless },
  slot: Slot | undefined,
  now: number,
  { ttl, langsmith }: Pick<RunsOptions, "ttl" | "langsmith">,
  stamp: Readonly<Record<string, unknown>> = {},
): ReturnType<Creation> {
  shareAssistant(tx, assistantIdOf(request.assistant_id));
  await by?.admit?.(tx);
  const assistant = await assistantFor(tx, request.assistant_id);
  const thread_id = uuid7();
  const temporary = request.on_completion !== "keep";
  const run = startable(newRun({ assistant, thread_id, request, from, langsmith, temporary, now, by }), slot);
  if (slot !== undefined) await goAhead(run, slot);
  const options = temporary ? { temporary } : { ttl: ttlWithRun(request.config?.configurable ?? {}, ttl, now) };
  const thread = newThread(thread_id, "busy", { ...by?.stamp, ...runStamp(run), ...stamp }, now, options);
  const [, inserted] = await together(tx, [() => threads.insert(tx, thread), () => runs.insert(tx, run)]);
  return { made: [inserted], effects: [] };
}

/** Of a run that leaves nothing behind nothing can be stored before it is written itself: its graph may make ready meanwhile. */
async function goAhead(run: NewRun, slot: Slot): Promise<void> {
  if (run.kwargs.temporary && !run.kwargs.resumable && run.status === "running") await slot.prepare(run);
}

/** Claimed at once where nothing is in its way and a slot is kept for it. */
const startable = (run: NewRun, slot: Slot | undefined): NewRun =>
  slot === undefined || run.not_before > run.created_at ? run : claimed(run, slot.lease, run.created_at);

/** As a creation answers: the run as it was made, whatever has become of it since. */
const asMade = (run: RunRecord): Run => runToWire({ ...run, status: "pending" });

/** Where a thread waits for answers and nothing is under way, an input that names no checkpoint is the answer. Source: protocol `run.start`. */
function resumedByInput(
  request: RunCreateStateful,
  waiting: readonly string[],
  busyWith: string | undefined,
): RunCreateStateful {
  const { input, command, config, checkpoint, checkpoint_id } = request;
  const named = config?.configurable?.checkpoint_id ?? checkpoint?.checkpoint_id ?? checkpoint_id;
  if (input == null || command != null || named != null || waiting.length === 0 || busyWith !== undefined)
    return request;
  return { ...request, input: null, command: { resume: input } };
}

function requireWaiting(ids: readonly string[], waiting: readonly string[], thread_id: string): void {
  const gone = ids.filter((id) => !waiting.includes(id));
  if (gone.length === 0) return;
  if (waiting.length === 0) {
    throw new SkeinError("conflict", `Thread ${thread_id} waits for no answer`, { missing: "interrupt" });
  }
  throw notFound(`Thread ${thread_id} does not wait for an answer to ${gone.join(", ")}`, "interrupt");
}

/** A thread shows its questions until the run that has the answers has ended. */
async function requireUnanswered(tx: Tx, ids: readonly string[], thread_id: string): Promise<void> {
  for (const { run_id, kwargs } of await runs.inFlight(tx, thread_id)) {
    const twice = ids.filter((id) => kwargs.answers?.includes(id));
    if (twice.length > 0) throw conflict(`Run ${run_id} has the answer to ${twice.join(", ")} already`);
  }
}

/** Ids of the interrupts the thread shows. */
export function waitingOn({ interrupts }: threads.BareThread): readonly string[] {
  const byTask = JSON.parse(interrupts) as Readonly<Record<string, readonly { readonly id?: string }[]>>;
  return Object.values(byTask).flatMap((ofTask) => ofTask.flatMap(({ id }) => id ?? []));
}

/** The thread is not there. */
async function makeThread(
  tx: Tx,
  thread_id: string,
  { if_not_exists, config }: RunCreateStateful,
  now: number,
  ttl: TtlDefaults,
  stamp: Readonly<Record<string, unknown>> = {},
): Promise<threads.BareThread> {
  if (if_not_exists !== "create") throw notFound(`Thread ${thread_id} not found`, "thread");
  const record = newThread(thread_id, "idle", stamp, now, { ttl: ttlWithRun(config?.configurable ?? {}, ttl, now) });
  await threads.insert(tx, record);
  return record;
}

/** Carries out the multitask strategy against the runs in flight. */
async function makeRoom(
  tx: Tx,
  run: NewRun,
  busyWith: string | undefined,
  now: number,
): Promise<readonly CancelEffect[]> {
  const decision = decide(run.multitask_strategy, busyWith);
  switch (decision.kind) {
    case "start":
      return [];
    case "refuse":
      throw conflict(`Thread ${run.thread_id} is busy with run ${decision.busyWith} (multitask_strategy: reject)`);
    case "replace": {
      const effects: CancelEffect[] = [];
      for (const other of await runs.inFlight(tx, run.thread_id))
        effects.push(await cancelFound(tx, other, decision.action, now));
      return effects;
    }
    default:
      return decision satisfies never;
  }
}

/** What a run leaves on its thread's metadata: chat UIs search threads by it. */
const runStamp = (run: NewRun): Record<string, unknown> => ({ graph_id: run.graph_id, assistant_id: run.assistant_id });

/** What the stamp changes: nothing on a thread that goes on with the same assistant. */
function stamped({ metadata }: threads.BareThread, run: NewRun): Pick<threads.ThreadChange, "metadata"> {
  const stamp = runStamp(run);
  const same = Object.entries(stamp).every(([key, value]) => metadata[key] === value);
  return same ? {} : { metadata: { ...metadata, ...stamp } };
}

export function newThread(
  thread_id: string,
  status: ThreadRecord["status"],
  metadata: Readonly<Record<string, unknown>>,
  now: number,
  {
    temporary = false,
    protocol = false,
    ttl = null,
  }: Partial<Pick<ThreadRecord, "temporary" | "protocol" | "ttl">> = {},
): ThreadRecord {
  const times = { created_at: now, updated_at: now, state_updated_at: now };
  return {
    thread_id,
    status,
    temporary,
    protocol,
    metadata,
    config: {},
    values: null,
    interrupts: "{}",
    ttl,
    ...times,
  };
}
