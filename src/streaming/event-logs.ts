/**
 * The event logs this process holds: of runs in flight, and for a while of runs that ended, so that a
 * client whose connection dropped at the end finds the rest.
 */
import { EventLog, type EventShelf } from "./event-log.ts";

export interface EventLogsOptions {
  readonly shelf: EventShelf;
  readonly onError: (error: unknown) => void;
  /** How long an ended log stays in memory, milliseconds. */
  readonly keepEndedMs: number;
  /** Characters of ended logs kept in memory; the oldest go first. */
  readonly endedLimit: number;
  readonly tailLimit: number;
  /** Told when an ended log leaves memory. */
  readonly onForget: (log: EventLog) => void;
}

const JUST_ENDED_MS = 1000;

export interface OpenOptions {
  readonly run_id: string;
  readonly thread_id: string;
  readonly resumable: boolean;
  readonly first: number;
}

export class EventLogs {
  readonly #options: EventLogsOptions;
  readonly #logs = new Map<string, EventLog>();
  /** Ended logs, oldest first, with the time they ended. */
  readonly #ended = new Map<EventLog, number>();
  #endedSize = 0;
  readonly #timer: NodeJS.Timeout;

  constructor(options: EventLogsOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.#expire(Date.now()), Math.min(1000, options.keepEndedMs)).unref();
  }

  get(run_id: string): EventLog | undefined {
    return this.#logs.get(run_id);
  }

  /** The run's log; made when there is none. */
  open(options: OpenOptions): EventLog {
    const existing = this.#logs.get(options.run_id);
    if (existing !== undefined) return existing;
    const { shelf, onError, tailLimit } = this.#options;
    const log = new EventLog({ ...options, shelf, onError, tailLimit });
    this.#logs.set(options.run_id, log);
    return log;
  }

  /** Ends the log and starts its time in memory. */
  end(log: EventLog, output: string | null): void {
    log.end(output);
    this.#ended.set(log, Date.now());
    this.#endedSize += weight(log);
    this.#trim(Date.now());
  }

  /** Drops a log that nobody will write to any more (an unclaimed run was deleted, or handed to another process). */
  drop(run_id: string): void {
    const log = this.#logs.get(run_id);
    if (log === undefined) return;
    log.end(null);
    this.#forget(log);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /** A log that has just ended stays: whoever created the run may be about to ask for it. So does one that is being read. */
  #trim(now: number): void {
    for (const [log, endedAt] of this.#ended) {
      if (this.#endedSize <= this.#options.endedLimit || endedAt + JUST_ENDED_MS > now) return;
      if (log.readers === 0) this.#forget(log);
    }
  }

  #expire(now: number): void {
    this.#trim(now);
    for (const [log, endedAt] of this.#ended) {
      if (endedAt + this.#options.keepEndedMs > now) return;
      if (log.readers === 0) this.#forget(log);
    }
  }

  #forget(log: EventLog): void {
    if (this.#ended.delete(log)) this.#endedSize -= weight(log);
    if (this.#logs.get(log.run_id) === log) this.#logs.delete(log.run_id);
    this.#options.onForget(log);
  }
}

const weight = (log: EventLog): number => log.size + (log.output?.length ?? 0) + 500;
