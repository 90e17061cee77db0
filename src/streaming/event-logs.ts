/**
 * The event logs this process holds: of runs in flight, and for a while of runs that ended, so that a
 * client whose connection dropped at the end finds the rest.
 */
import { EventLog, type EventShelf, type RunOutput } from "./event-log.ts";
import { ThreadWatch } from "./thread-watch.ts";

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
  /** As it was stored, when the run began before. */
  readonly place?: number | undefined;
}

/** The logs of one thread whose runs have begun, in that order, and who wants to hear of the next. */
interface Line {
  readonly logs: EventLog[];
  readonly watches: Set<ThreadWatch>;
}

export class EventLogs {
  readonly #options: EventLogsOptions;
  readonly #logs = new Map<string, EventLog>();
  /** Ended logs, oldest first, with the time they ended. */
  readonly #ended = new Map<EventLog, number>();
  #endedSize = 0;
  readonly #lines = new Map<string, Line>();
  #newestPlace = 0;
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

  /** The run has begun to write: its log takes its place in its thread's line. An attempt after the first changes nothing. */
  begin(log: EventLog): void {
    const line = this.#line(log.thread_id);
    if (line.logs.includes(log)) return;
    log.place ??= this.#nextPlace();
    line.logs.push(log);
    for (const watch of line.watches) watch.push(log);
  }

  /**
   * Hears of every run of the thread that begins from now on, until the signal fires. It starts with those in memory that
   * `wants` picks; each is kept until it has been taken.
   */
  watch(thread_id: string, wants: (log: EventLog) => boolean, signal: AbortSignal): ThreadWatch {
    const line = this.#line(thread_id);
    const watch = new ThreadWatch(line.logs.filter(wants), signal, () => {
      line.watches.delete(watch);
      this.#tidy(thread_id, line);
    });
    line.watches.add(watch);
    return watch;
  }

  /** The thread is gone: whoever watches it reads what there is, and is done. */
  closeThread(thread_id: string): void {
    for (const watch of this.#lines.get(thread_id)?.watches ?? []) watch.close();
  }

  /** Threads whose logs are in memory, or that are watched. */
  get threads(): number {
    return this.#lines.size;
  }

  /** Ends the log of a run that is to leave no trace: who follows it sees its end, who comes later finds no part of it. */
  erase(log: EventLog): void {
    this.end(log, null);
    this.#leaveLine(log);
  }

  /** Ends the log and starts its time in memory. */
  end(log: EventLog, output: RunOutput | null): void {
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
    this.#leaveLine(log);
    this.#options.onForget(log);
  }

  /** Microseconds, so that places never run ahead of the clock: after a restart they must go on growing. */
  #nextPlace(): number {
    this.#newestPlace = Math.max(Date.now() * 1000, this.#newestPlace + 1);
    return this.#newestPlace;
  }

  #line(thread_id: string): Line {
    let line = this.#lines.get(thread_id);
    if (line === undefined) {
      line = { logs: [], watches: new Set() };
      this.#lines.set(thread_id, line);
    }
    return line;
  }

  #leaveLine(log: EventLog): void {
    const line = this.#lines.get(log.thread_id);
    const at = line?.logs.indexOf(log) ?? -1;
    if (line === undefined || at === -1) return;
    line.logs.splice(at, 1);
    this.#tidy(log.thread_id, line);
  }

  #tidy(thread_id: string, line: Line): void {
    const isIdle = line.logs.length === 0 && line.watches.size === 0;
    if (isIdle && this.#lines.get(thread_id) === line) this.#lines.delete(thread_id);
  }
}

const weight = ({ size, output }: EventLog): number => size + (typeof output === "string" ? output.length : 0) + 500;
