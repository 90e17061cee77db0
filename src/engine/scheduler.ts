/**
 * Fires crons. It sleeps until the next tick is due, or until a cron was made or changed.
 *
 * A tick is taken in the transaction that creates its run: the cron's row moves on to its next tick exactly when the run
 * is made. A crash leaves both or neither, and of several who try, one finds the tick still there. Ticks that passed while
 * nobody was there to fire them are one run: the next tick is reckoned from now.
 */
import { SkeinError } from "../errors.ts";
import type { Logger } from "../observability/logger.ts";
import type { Metrics } from "../observability/metrics.ts";
import { newRequestId, type RequestFacts } from "../observability/request.ts";
import type { Tracing } from "../observability/tracing.ts";
import type { RunCreateStateful, RunCreateStateless } from "../schemas/runs.ts";
import type { CronRecord, Storage, Tx } from "../storage/storage.ts";
import * as crons from "../storage/tables/crons.ts";
import { nextTick } from "./schedule.ts";

/** A run that a cron asks for. */
export type DueRun = (
  | { readonly thread_id: null; readonly request: RunCreateStateless }
  | { readonly thread_id: string; readonly request: RunCreateStateful }
) & {
  readonly cron_id: string;
  /** Who made the cron, where users log in: its runs are made in that name. */
  readonly by: CronRecord["made_by"];
};

/** Takes a tick in the transaction and says what to run; throws when there is nothing to take. */
export type TakeTick = (tx: Tx) => Promise<DueRun>;

export interface Clock {
  /** Epoch milliseconds. */
  now(): number;
  /** Calls back once after so many milliseconds, unless the returned function is called before. */
  after(ms: number, wake: () => void): () => void;
}

export const systemClock: Clock = {
  now: Date.now,
  after(ms, wake) {
    const timer = setTimeout(wake, ms).unref();
    return () => clearTimeout(timer);
  },
};

export interface SchedulerOptions {
  readonly storage: Storage;
  /** Creates the run in the transaction in which it calls `take`, or writes nothing at all. */
  readonly create: (take: TakeTick, from: RequestFacts) => Promise<{ readonly run_id: string }>;
  readonly logger: Pick<Logger, "debug" | "info" | "warn" | "error">;
  readonly metrics: Pick<Metrics, "cronTicks">;
  /** Null: nobody traces. */
  readonly tracing?: Tracing | null;
  readonly clock: Clock;
  /** Looks again after so long at most, milliseconds: other processes may make crons, or end. */
  readonly longestSleepMs?: number;
}

/** Timers do not count the time a machine sleeps, nor steps of its clock: look at the clock again now and then. */
const LONGEST_SLEEP_MS = 60_000;
const RETRY_MS = 1000;
/** Ticks fired at once; their writes share commits. */
const TOGETHER = 50;

/** The tick is gone: taken by somebody else, or the cron was changed or deleted. */
class TickGone extends Error {
  override readonly name = "TickGone";
}

export class Scheduler {
  readonly #options: SchedulerOptions;
  #accepting = false;
  #working: Promise<void> | undefined;
  #again = false;
  #cancelTimer: (() => void) | undefined;

  constructor(options: SchedulerOptions) {
    this.#options = options;
  }

  /** Fires what was missed, then what falls due. */
  start(): void {
    this.#accepting = true;
    this.nudge();
  }

  /** A cron was made or changed. */
  nudge(): void {
    if (!this.#accepting) return;
    if (this.#working !== undefined) this.#again = true;
    else {
      this.#working = this.#work().finally(() => {
        this.#working = undefined;
        if (this.#again) this.nudge();
      });
    }
  }

  /** Fires no more. Resolves when the ticks in hand are fired. */
  async stop(): Promise<void> {
    this.#accepting = false;
    this.#cancelTimer?.();
    await this.#working;
  }

  async #work(): Promise<void> {
    const { storage, clock, logger, longestSleepMs } = this.#options;
    this.#cancelTimer?.();
    try {
      do {
        this.#again = false;
        const now = clock.now();
        const { due, next } = await storage.read(async (db) => ({
          due: await crons.due(db, now),
          next: await crons.nextDue(db, now),
        }));
        const failures = await this.#fireAll(due);
        if (failures > 0) this.#sleep(RETRY_MS);
        // Firing has set new ticks.
        else if (due.length > 0) this.#again = true;
        else if (next !== undefined || longestSleepMs !== undefined) this.#sleep((next ?? Infinity) - clock.now());
      } while (this.#again && this.#accepting);
    } catch (error) {
      logger.error({ err: error }, "looking for due crons failed");
      this.#sleep(RETRY_MS);
    }
  }

  #sleep(ms: number): void {
    this.#cancelTimer?.();
    if (!this.#accepting) return;
    const wait = Math.min(Math.max(ms, 1), this.#options.longestSleepMs ?? LONGEST_SLEEP_MS);
    this.#cancelTimer = this.#options.clock.after(wait, () => this.nudge());
  }

  /** How many could not be fired, and stay due. */
  async #fireAll(ticks: readonly crons.DueTick[]): Promise<number> {
    let failures = 0;
    for (let start = 0; start < ticks.length && this.#accepting; start += TOGETHER) {
      const fired = await Promise.all(ticks.slice(start, start + TOGETHER).map((tick) => this.#fire(tick)));
      failures += fired.filter((done) => !done).length;
    }
    return failures;
  }

  /** False when the tick could not be fired and stays due. Never rejects. */
  async #fire(tick: crons.DueTick): Promise<boolean> {
    const { create, metrics, logger } = this.#options;
    const { cron_id } = tick;
    const request_id = newRequestId();
    const context = { cron_id, due: new Date(tick.next_run_date).toISOString(), request_id };
    const span = this.#options.tracing?.beginTick(cron_id, request_id);
    const from = { request_id, configurable: {}, trace: span?.context };
    try {
      const { run_id } = await create(async (tx) => runOf(await this.#take(tx, tick)), from);
      span?.end();
      metrics.cronTicks.inc({ outcome: "fired" });
      logger.debug({ ...context, run_id }, "cron fired");
      return true;
    } catch (error) {
      // Another process took it: there is nothing to tell, and its span is never ended.
      if (error instanceof TickGone) return true;
      span?.end(error instanceof Error ? error.message : String(error));
      if (isRefusal(error)) return this.#skip(tick, error.message, context);
      logger.error({ ...context, err: error }, "firing a cron failed, will be retried");
      return false;
    }
  }

  /** There is no run for this tick: the cron goes on to its next. */
  async #skip(tick: crons.DueTick, reason: string, context: object): Promise<boolean> {
    const { storage, metrics, logger } = this.#options;
    try {
      await storage.write((tx) => this.#advance(tx, tick));
      metrics.cronTicks.inc({ outcome: "refused" });
      logger.warn({ ...context, reason }, "a cron's run was refused; it goes on to its next tick");
      return true;
    } catch (error) {
      if (error instanceof TickGone) return true;
      logger.error({ ...context, err: error }, "moving a cron on failed, will be retried");
      return false;
    }
  }

  async #take(tx: Tx, tick: crons.DueTick): Promise<CronRecord> {
    const cron = await this.#advance(tx, tick);
    if (cron.end_time !== null && cron.end_time <= this.#options.clock.now()) {
      throw new SkeinError("conflict", `its end_time ${new Date(cron.end_time).toISOString()} has passed`);
    }
    return cron;
  }

  /** The cron as it is in this transaction, moved on to its next tick. */
  async #advance(tx: Tx, tick: crons.DueTick): Promise<CronRecord> {
    const cron = await crons.findLocked(tx, tick.cron_id);
    if (cron === undefined) throw new TickGone();
    // A clock that was set back must not bring the same tick again.
    const next = nextTick(cron, Math.max(this.#options.clock.now(), tick.next_run_date));
    if (!(await crons.advance(tx, tick, next))) throw new TickGone();
    return cron;
  }
}

/** Errors that a repetition would meet again: the run may not be. */
const isRefusal = (error: unknown): error is SkeinError =>
  error instanceof SkeinError && ["not_found", "conflict", "invalid"].includes(error.kind);

function runOf(cron: CronRecord): DueRun {
  const { cron_id, thread_id, assistant_id, on_run_completed, metadata, payload, made_by: by } = cron;
  const request = { ...payload, assistant_id, metadata: { ...by?.stamp, ...metadata, cron_id } };
  if (thread_id !== null) return { cron_id, thread_id, request, by };
  return { cron_id, thread_id, request: { ...request, on_completion: on_run_completed ?? "delete" }, by };
}
