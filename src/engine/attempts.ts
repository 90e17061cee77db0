/**
 * The attempts of runs this process holds: from the claim to the settled end. Decides nothing itself:
 * `lifecycle.ts` says what an end means, `settle.ts` writes it; this file does one after the other and
 * tells readers when it is true.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { endOfTick } from "../end-of-tick.ts";
import { type ErrorBody, errorBody } from "../errors.ts";
import type { CancelAction, NodeStep, RunJob, WireEvent } from "../executor/protocol.ts";
import type { Logger } from "../observability/logger.ts";
import type { Metrics } from "../observability/metrics.ts";
import { namesOf } from "../observability/request.ts";
import type { AttemptSpan, Tracing } from "../observability/tracing.ts";
import { paramsText, protocolName } from "../schemas/protocol-events.ts";
import type { NewRun, Storage } from "../storage/storage.ts";
import * as checkpoints from "../storage/tables/checkpoints.ts";
import * as events from "../storage/tables/events.ts";
import * as runs from "../storage/tables/runs.ts";
import type { EventLog } from "../streaming/event-log.ts";
import type { EventLogs } from "../streaming/event-logs.ts";
import { endsOfUnfinished } from "../streaming/protocol/unfinished.ts";
import { firstOfAttempt } from "../streaming/run-log.ts";
import type { ExecutorThread, RunHold } from "./executor-thread.ts";
import {
  type AttemptEnd,
  type AttemptFacts,
  afterAttempt,
  type Ending,
  finalOutput,
  type NextStep,
} from "./lifecycle.ts";
import type { PendingWrite } from "./pending-write.ts";
import type { ExecutorPool } from "./pool.ts";
import type { AttemptOutcome } from "./queue.ts";
import { type Concluded, conclude } from "./settle.ts";
import { callsSomebody } from "./webhook-payload.ts";
import { kwargsShown } from "./wire.ts";

export interface AttemptsOptions {
  readonly storage: Storage;
  readonly pool: ExecutorPool;
  readonly logs: EventLogs;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** Null: nobody traces. */
  readonly tracing: Tracing | null;
  readonly maxAttempts: number;
  /** A run is stopped and ends `error` after this long, milliseconds. */
  readonly runTimeoutMs: number;
  /** How long a cancelled run may take to stop before it is settled without its executor, milliseconds. */
  readonly cancelGraceMs: number;
  /** A run was settled with a webhook in the outbox. */
  readonly onWebhook: () => void;
  /** A thread shows nothing of its state until somebody has read it. */
  readonly onUnshown: (thread_id: string) => void;
}

/** One attempt in hand. */
interface Attempt {
  readonly run: NewRun;
  /** Of a run that went ahead while it is being written. */
  readonly write: PendingWrite | undefined;
  /** The run is in the database. */
  isWritten: boolean;
  readonly hold: RunHold;
  readonly span: AttemptSpan | undefined;
  thread: ExecutorThread | undefined;
  cancel: CancelAction | null;
  timedOut: ErrorBody | null;
  giveUp: NodeJS.Timeout | undefined;
  /** As what it was given up before it was on an executor thread. */
  left: AttemptEnd | undefined;
  /** Its executor is done with it, and its end is being written: there is nothing to stop any more. */
  isDone: boolean;
  /** Ends the attempt for us, whatever its executor thread does, and even if it has none yet. */
  abandon: (end: AttemptEnd) => void;
  /** Settles when nothing of the attempt is in hand any more. Never rejects. */
  over: Promise<unknown>;
}

const LEFT_REMEMBERED = 10_000;
/** Between tries to write down that an attempt was lost. */
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 5000;

export class Attempts {
  readonly #options: AttemptsOptions;
  readonly #held = new Map<string, Attempt>();
  /** Aborted when the process goes down and waits no longer. */
  readonly #over = new AbortController();
  /** Runs that were on an executor thread when it died: they run alone next time. */
  readonly #suspects = new Set<string>();
  /** Checkpoints at which threads' last runs ended, and the executor thread that has the state at hand. Oldest first. */
  readonly #left = new Map<string, { readonly thread: ExecutorThread; readonly checkpoint_id: string }>();

  constructor(options: AttemptsOptions) {
    this.#options = options;
  }

  /** Fencing token under which this process holds the run; undefined when it does not. */
  fenceOf(run_id: string): number | undefined {
    return this.#held.get(run_id)?.run.fence;
  }

  /** Executes a claimed run and records its end. One that is still being written only makes ready until it is. */
  async execute(run: NewRun, write?: PendingWrite): Promise<AttemptOutcome> {
    const before = this.#held.get(run.run_id);
    if (before !== undefined) await this.#leaveToNext(before);
    const attempt = this.#hold(run, this.#options.tracing?.beginAttempt(run), write);
    if (run.fence === 1) this.#options.metrics.waitSeconds.observe(waitedMs(run) / 1000);
    return this.#toItsEnd(attempt, async () => {
      const log = await this.#openLog(run, run.fence === 1);
      this.#options.logs.begin(log, run);
      const end = attempt.cancel === null ? await this.#perform(attempt, log) : cancelledEarly;
      if ((await write?.settled) === false) return this.#forget(run.run_id);
      return this.#conclude(attempt, end, log);
    });
  }

  /** A run whose lease ran out: its process died with it. No executor thread is to blame, so it is no suspect. */
  async expire(run: NewRun): Promise<void> {
    const { storage, tracing } = this.#options;
    const before = this.#held.get(run.run_id);
    if (before !== undefined) await this.#leaveToNext(before);
    // Whoever takes a run over has a token of its own; the attempt that is lost had the one before, and began when it was claimed.
    const lost = { ...run, fence: storage.isShared ? run.fence - 1 : run.fence };
    const attempt = this.#hold(run, tracing?.beginAttempt(lost, run.updated_at));
    await this.#toItsEnd(attempt, async () => {
      const log = await this.#openLog(run, false);
      this.#options.logs.begin(log, run);
      return this.#conclude(attempt, { kind: "lost", reason: "the server process that held the run died" }, log);
    });
  }

  /**
   * Until the end of an attempt is written down the run is ours in the database, and we renew its lease. So when the database does
   * not take what came of it, the attempt counts as lost, and that is tried to be written until it is, or the server stops.
   */
  #toItsEnd(attempt: Attempt, work: () => Promise<AttemptOutcome>): Promise<AttemptOutcome> {
    const ended = this.#untilRecorded(attempt, work);
    attempt.over = ended.catch(() => undefined);
    return ended;
  }

  async #untilRecorded(attempt: Attempt, work: () => Promise<AttemptOutcome>): Promise<AttemptOutcome> {
    try {
      return await work();
    } catch (error) {
      if ((await attempt.write?.settled) === false) return this.#forget(attempt.run.run_id);
      const end: AttemptEnd = {
        kind: "lost",
        reason: `the attempt could not be recorded: ${errorBody(error).message}`,
      };
      for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
        this.#options.logger.error({ err: error, ...namesOf(attempt.run) }, "an attempt was not recorded, will be");
        await sleep(pause, undefined, { signal: this.#over.signal });
        const ended = await this.#tryToEnd(attempt, end);
        if (ended !== undefined) return ended;
      }
    }
  }

  async #tryToEnd(attempt: Attempt, end: AttemptEnd): Promise<AttemptOutcome | undefined> {
    try {
      return await this.#conclude(attempt, end, await this.#openLog(attempt.run, false));
    } catch (error) {
      this.#options.logger.warn({ err: error, ...namesOf(attempt.run) }, "the database does not take it yet");
      return undefined;
    }
  }

  /** The run has not come to be: nobody has heard of it. */
  #forget(run_id: string): "ended" {
    this.#held.delete(run_id);
    this.#options.logs.drop(run_id);
    return "ended";
  }

  #hold(run: NewRun, span: AttemptSpan | undefined, write?: PendingWrite): Attempt {
    const hold: RunHold = { fence: run.fence, failure: undefined, hasStored: run.fence > 1 };
    const cancel = run.cancel_action;
    const attempt: Attempt = {
      run,
      write,
      isWritten: write === undefined,
      hold,
      span,
      thread: undefined,
      cancel,
      timedOut: null,
      giveUp: undefined,
      left: undefined,
      isDone: false,
      abandon: (end) => {
        attempt.left ??= end;
      },
      over: Promise.resolve(),
    };
    this.#held.set(run.run_id, attempt);
    void write?.settled.then((written) => {
      attempt.isWritten = written;
    });
    return attempt;
  }

  /**
   * The run has come back here and was lost in between: to another process that could not keep it either, while this one was
   * frozen. What is left of the attempt before must not get into the way of the next: logs and events know the run by its id.
   */
  #leaveToNext(before: Attempt): Promise<unknown> {
    before.abandon({ kind: "drained" });
    return before.over;
  }

  /** Stops a run this process holds; true when it does. The end is recorded by the attempt itself. */
  cancel(run_id: string, action: CancelAction): boolean {
    const attempt = this.#held.get(run_id);
    if (attempt === undefined) return false;
    attempt.cancel = action;
    this.#stop(attempt, action);
    return true;
  }

  /**
   * To be called before a heartbeat; what it returns is to be given what the heartbeat found. A run that is held here and not
   * there has been taken over by another process; one that somebody wants cancelled is, should the word not have come.
   */
  heartbeat(): (found: readonly runs.Beat[]) => void {
    // A run that is still being written is nowhere to be found, and not lost.
    const before = [...this.#held.values()].filter(({ isWritten }) => isWritten);
    return (found) => {
      const beats = new Map(found.map((beat) => [beat.run_id, beat]));
      for (const attempt of before) {
        const { run_id, fence } = attempt.run;
        const beat = beats.get(run_id);
        if (beat?.fence !== fence) attempt.abandon({ kind: "drained" });
        else if (beat.cancel_action !== null && attempt.cancel === null) this.cancel(run_id, beat.cancel_action);
      }
    };
  }

  /** Hands back every run still in hand, without spending its attempt: the process is going down. */
  abandonAll(): void {
    this.#over.abort();
    for (const { run, abandon } of this.#held.values()) {
      this.#options.logger.warn(namesOf(run), "run did not come to a boundary in time; handed back as it is");
      abandon({ kind: "drained" });
    }
  }

  /**
   * The log the attempt writes to. After a restart a resumable one goes on behind what is stored; what was stored
   * of another had only spilled from memory, and its numbers start anew. With other processes, they may have readers of
   * what earlier attempts wrote: numbers go on, and what is stored stays.
   */
  async #openLog(run: NewRun, isNew: boolean): Promise<EventLog> {
    const { logs, storage } = this.#options;
    const { run_id, thread_id, kwargs } = run;
    const options = { run_id, thread_id, resumable: kwargs.resumable, first: 0 };
    const known = logs.own(run_id);
    if (isNew || known?.hasStored === true) return logs.open(options);
    if (kwargs.resumable) {
      const { stored, last } = await storage.read(async (db) => ({
        stored: await events.log(db, run_id),
        last: await events.last(db, run_id),
      }));
      return logs.open({ ...options, first: last + 1, place: stored?.place });
    }
    if (logs.isShared) return logs.open({ ...options, first: firstOfAttempt(run.fence) });
    await storage.write((tx) => events.remove(tx, run_id), { durable: false });
    return logs.open(options);
  }

  async #perform(attempt: Attempt, log: EventLog): Promise<AttemptEnd> {
    const { runTimeoutMs } = this.#options;
    const timer = setTimeout(() => this.#timeOut(attempt), Math.min(runTimeoutMs, 2 ** 31 - 1)).unref();
    try {
      return await this.#runOrAbandon(attempt, jobOf(attempt, await this.#latestCheckpoint(attempt.run)), log);
    } finally {
      clearTimeout(timer);
      clearTimeout(attempt.giveUp);
      attempt.isDone = true;
    }
  }

  #runOrAbandon(attempt: Attempt, job: RunJob, log: EventLog): Promise<AttemptEnd> {
    const { run_id } = job;
    const onEvents = (events: readonly WireEvent[]): Promise<void> | undefined => {
      log.append(events);
      return log.room();
    };
    const onNode = (step: NodeStep): void => attempt.span?.nodes([step]);
    const listener = { hold: attempt.hold, onEvents, onNode };
    if (attempt.left !== undefined) return Promise.resolve(attempt.left);
    let abandoned = false;
    return new Promise((resolve, reject) => {
      attempt.abandon = (end) => {
        abandoned = true;
        attempt.thread?.abandon(run_id, end);
        resolve(end);
      };
      const onPlaced = (thread: ExecutorThread): boolean => {
        // A thread that does not answer gives the run back: then it is placed again.
        const isFirst = attempt.thread === undefined;
        attempt.thread = thread;
        if (abandoned || attempt.cancel !== null) return false;
        if (isFirst) log.append(openingEvents(job));
        return true;
      };
      this.#options.pool.run(job, listener, this.#suspects.has(run_id), onPlaced).then(resolve, reject);
    });
  }

  /** Read here and sent along: the executor need not ask, and a thread that is as new as its run has none. */
  async #latestCheckpoint({ thread_id, fence, kwargs }: NewRun): Promise<NonNullable<RunJob["latest"]> | null> {
    if (kwargs.temporary && fence === 1) return null;
    return this.#options.storage.read(async (db) => {
      const left = this.#left.get(thread_id);
      if (left?.thread.isReady === true && (await checkpoints.latestOf(db, thread_id)) === left.checkpoint_id) {
        return { known: left.checkpoint_id };
      }
      return checkpoints.get(db, { thread_id, checkpoint_ns: "" });
    });
  }

  /** Notes where a thread's state stands, for its next run. */
  #noteLeft({ run, thread }: Attempt, { status, snapshot }: Ending): void {
    this.#left.delete(run.thread_id);
    const checkpoint_id = snapshot?.checkpoint_id ?? null;
    if (status !== "success" || thread === undefined || checkpoint_id === null || run.kwargs.temporary) return;
    this.#left.set(run.thread_id, { thread, checkpoint_id });
    if (this.#left.size <= LEFT_REMEMBERED) return;
    for (const oldest of this.#left.keys()) {
      this.#left.delete(oldest);
      return;
    }
  }

  #timeOut(attempt: Attempt): void {
    const seconds = this.#options.runTimeoutMs / 1000;
    attempt.timedOut = { error: "TimeoutError", message: `the run exceeded its time limit of ${seconds} s` };
    this.#stop(attempt, "interrupt");
  }

  #stop(attempt: Attempt, action: CancelAction): void {
    const { run, thread } = attempt;
    if (attempt.isDone) return;
    // It still waits for an executor thread: there is nothing to stop.
    if (thread === undefined) {
      attempt.abandon(cancelledEarly);
      return;
    }
    thread.cancel(run.run_id, action);
    attempt.giveUp ??= setTimeout(() => {
      this.#options.logger.warn(namesOf(run), "run did not stop in time; settling it without its executor");
      attempt.abandon(cancelledEarly);
    }, this.#options.cancelGraceMs).unref();
  }

  async #conclude(attempt: Attempt, end: AttemptEnd, log: EventLog): Promise<AttemptOutcome> {
    const { run } = attempt;
    if (end.kind === "lost") this.#noteLoss(attempt, end.reason);
    const written = await this.#record(attempt, end, log);
    this.#held.delete(run.run_id);
    const next = written?.next;
    // Of an attempt that was taken over, whoever took it tells.
    if (next !== undefined) attempt.span?.end(end.kind, failureOf(end));
    if (next?.kind === "requeue") {
      this.#options.logs.handOver(log);
      return "requeued";
    }
    this.#suspects.delete(run.run_id);
    if (written?.left.isShown === false) this.#showAnew(run);
    else if (next?.kind === "settle") this.#noteLeft(attempt, next.ending);
    if (written?.calls === true) this.#options.onWebhook();
    if (next !== undefined) await this.#announce(attempt, next, log);
    else await this.#leave(attempt, log);
    return written?.left.isBusy === true ? "thread free" : "ended";
  }

  /** The next run reads the thread's state from storage, and tells all of it. */
  #showAnew(run: NewRun): void {
    const { thread_id } = run;
    this.#left.delete(thread_id);
    this.#options.logger.warn(
      { ...namesOf(run), thread_id },
      "what the run left does not follow what its thread shows",
    );
    this.#options.onUnshown(thread_id);
  }

  /** The lease was lost: the run is gone, or another process has taken it over, and whoever follows it goes on there. */
  async #leave({ run, cancel }: Attempt, log: EventLog): Promise<void> {
    const { logs, storage } = this.#options;
    const { run_id } = run;
    const isGone = cancel === "rollback" && (await storage.read((db) => runs.find(db, run_id))) === undefined;
    if (isGone || !logs.isShared) return logs.drop(run_id);
    this.#options.logger.warn(namesOf(run), "the lease of a run was lost: another process has it, or it is gone");
    logs.handOver(log);
  }

  #noteLoss({ run, thread }: Attempt, reason: string): void {
    if (thread !== undefined) this.#suspects.add(run.run_id);
    this.#options.metrics.runAttemptsLost.inc();
    this.#options.logger.warn({ ...namesOf(run), attempt: run.attempt, reason }, "run lost its executor");
  }

  /**
   * Writes what the end means and returns it; a cancel that was promised while the graph came to its end still counts.
   * The last events of a resumable log ride in the same commit. Undefined: the lease was lost.
   */
  async #record(
    { run, hold, cancel, timedOut }: Attempt,
    seen: AttemptEnd,
    log: EventLog,
  ): Promise<Concluded | undefined> {
    const { storage, maxAttempts } = this.#options;
    const { isShared } = storage;
    // Events are stored under the lease, which the step below gives up.
    await log.flush();
    if (run.kwargs.protocol !== undefined && isCutOff(seen)) {
      log.append(await endsOfUnfinished(log, Date.now()));
      await log.flush();
    }
    // Nothing keeps writes in order on PostgreSQL: what the attempt has written comes before its end.
    if (isShared) await hold.writing;
    const end = lostWithDatabase(seen, hold);
    const facts: AttemptFacts = { attempt: run.attempt, maxAttempts, cancel, timedOut };
    const decide = (promised: CancelAction | null): NextStep => {
      const next = afterAttempt(end, { ...facts, cancel: promised ?? cancel });
      return next.kind === "settle" ? { kind: "settle", ending: sound(next.ending, hold) } : next;
    };
    const expected = afterAttempt(end, facts);
    if (expected.kind === "settle" && expected.ending.error !== null) {
      log.append([{ event: "error", data: JSON.stringify(expected.ending.error) }]);
    }
    // Once it is handed back, another process may write the next attempt, and nothing of this one is taken any more.
    if (expected.kind === "requeue") await this.#options.logs.shown(log);
    // A run that leaves nothing behind and calls nobody has nothing for the disk to remember.
    const durable = expected.kind !== "settle" || !run.kwargs.temporary || callsSomebody(run);
    if (isShared) await log.flush();
    const concluded = storage.write((tx) => conclude(tx, run, hold, decide, storage.now(), log), { durable });
    const [written] = await Promise.all([concluded, log.flush()]);
    return written;
  }

  async #announce({ run, span }: Attempt, next: Exclude<NextStep, { kind: "requeue" }>, log: EventLog): Promise<void> {
    const { logs, metrics, logger, tracing } = this.#options;
    if (next.kind === "erase") logs.erase(log);
    else logs.end(log, finalOutput(next.ending));
    if (run.kwargs.temporary) logs.closeThread(run.thread_id);
    // Who follows the run hears of its end before it is counted and logged, which takes longer than to tell them.
    await endOfTick();
    const status = next.kind === "erase" ? "rollback" : next.ending.status;
    const error = next.kind === "erase" ? null : next.ending.error;
    const { thread_id, graph_id, attempt } = run;
    // Of an error only its name: its message may be the user's data.
    const facts = { ...namesOf(run), thread_id, graph_id, status, attempt, error: error?.error, ...span?.ids };
    logger.info(facts, "run ended");
    tracing?.endRun(run, status, error);
    metrics.runsEnded.inc({ status });
    metrics.runSeconds.observe((Date.now() - (run.started_at ?? Date.now())) / 1000);
  }
}

/** The end as the database can hold it: a run whose checkpoints could not be stored has failed, whatever its graph says. */
function sound(ending: Ending, { failure }: RunHold): Ending {
  if (failure === undefined) return ending;
  return { status: "error", thread: "error", snapshot: null, output: null, error: failure };
}

/** A database that was away when it should have stored a checkpoint is no failure of the run: it goes on from the one before. */
const lostWithDatabase = (end: AttemptEnd, { away }: RunHold): AttemptEnd =>
  away === undefined || end.kind === "lost"
    ? end
    : { kind: "lost", reason: `its checkpoints could not be stored: ${away.message}` };

/** What an attempt's events begin with. */
function openingEvents({ run_id, graph_id, attempt, kwargs }: RunJob): WireEvent[] {
  const metadata = { event: "metadata", data: JSON.stringify({ run_id, attempt }) };
  if (kwargs.protocol === undefined) return [metadata];
  const said = (method: "lifecycle" | "input.answered", data: object): WireEvent => ({
    event: protocolName(method, []),
    data: paramsText([], Date.now(), undefined, JSON.stringify(data)),
  });
  const running = said("lifecycle", { event: "running", graph_name: graph_id });
  if (kwargs.answers === undefined) return [metadata, running];
  return [metadata, running, said("input.answered", { interrupt_ids: kwargs.answers })];
}

const waitedMs = ({ created_at, not_before, started_at }: NewRun): number =>
  Math.max(0, (started_at ?? 0) - Math.max(created_at, not_before));

/** What an attempt failed of, as its span says it. */
function failureOf(end: AttemptEnd): ErrorBody | undefined {
  if (end.kind === "error") return end.error;
  return end.kind === "lost" ? { error: "Lost", message: end.reason } : undefined;
}

const cancelledEarly: AttemptEnd = { kind: "cancelled", snapshot: null };

/** The executor may have been in the middle of something. */
const isCutOff = (end: AttemptEnd): boolean => end.kind === "lost" || end.kind === "drained" || end === cancelledEarly;

function jobOf({ run, write, span }: Attempt, latest: NonNullable<RunJob["latest"]> | null): RunJob {
  const { run_id, thread_id, assistant_id, graph_id, fence, attempt, metadata } = run;
  const kwargs = kwargsShown(run);
  const { user } = run.kwargs;
  return {
    run_id,
    thread_id,
    assistant_id,
    graph_id,
    fence,
    attempt,
    resume: fence > 1,
    kwargs,
    metadata,
    latest,
    ...(user === undefined ? {} : { user }),
    ...(write === undefined ? {} : { written: write.flag }),
    ...(span === undefined ? {} : { traced: true }),
  };
}
