/**
 * The event logs this process holds: of runs in flight, and for a while of runs that ended, so that a
 * client whose connection dropped at the end finds the rest. With a relay, logs of runs that other processes hold are read
 * here too, and ours there.
 */
import type { Begun, Relay, ThreadNews, WhichRun } from "./broker.ts";
import { EventLog, type EventShelf } from "./event-log.ts";
import { seqOf } from "./protocol/frames.ts";
import type { RunLog, RunOutput } from "./run-log.ts";
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
  /** Null: no other process holds runs. */
  readonly relay: Relay | null;
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

export interface UnheldRun {
  readonly run_id: string;
  readonly thread_id: string;
  readonly fence: number;
}

/** How a run began, as far as others must agree on it. */
export interface Beginning {
  /** The attempt's fencing token. */
  readonly fence: number;
  /** By the clock that all processes share, epoch milliseconds. */
  readonly started_at: number | null;
}

/** What a watcher of a thread reads: events of stream modes, or of streaming v2. */
export type WatcherKind = "modes" | "protocol";

/** The logs of one thread whose runs have begun, in that order, and who wants to hear of the next. */
interface Line {
  readonly logs: RunLog[];
  readonly watches: Set<ThreadWatch>;
  /** Those of the watches that want events of streaming v2. */
  readonly protocol: Set<ThreadWatch>;
  /** Hears of runs that begin elsewhere, while somebody watches. */
  hearing: { readonly ready: Promise<void>; stop(): void } | undefined;
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

  /** Whether other processes may hold runs. */
  get isShared(): boolean {
    return this.#options.relay !== null;
  }

  /** The run's log where this process knows one: its own, or another's that is followed here. */
  get(run_id: string): RunLog | undefined {
    return this.#logs.get(run_id) ?? this.#options.relay?.find(run_id);
  }

  /** The log that this process writes, if it does. */
  own(run_id: string): EventLog | undefined {
    return this.#logs.get(run_id);
  }

  /** The run's log, to be written here; made when there is none. */
  open(options: OpenOptions): EventLog {
    const existing = this.#logs.get(options.run_id);
    if (existing !== undefined) return existing;
    const { shelf, onError, tailLimit, relay } = this.#options;
    const { run_id } = options;
    const earlier =
      relay === null || options.resumable || options.first === 0
        ? undefined
        : async (after: number) => (await relay.earlier(run_id, after)).filter(({ id }) => id < options.first);
    const log = new EventLog({ ...options, shelf, onError, tailLimit, earlier });
    this.#logs.set(run_id, log);
    relay?.find(run_id)?.adopt(log);
    return log;
  }

  /** The log of a run that is pending, or that another process holds. To be called with a relay. */
  async elsewhere(which: WhichRun): Promise<RunLog> {
    const { relay } = this.#options;
    if (relay === null) throw new Error(`no other process can hold run ${which.run_id}`);
    const log = await relay.look(which);
    // It may have come to be held here meanwhile.
    return this.#logs.get(which.run_id) ?? log;
  }

  /** What other processes know of a run that the database does not have. */
  recall(run_id: string): Promise<WhichRun | undefined> {
    return this.#options.relay?.recall(run_id) ?? Promise.resolve(undefined);
  }

  /** The run has begun to write: its log takes its place in its thread's line. An attempt after the first changes nothing. */
  begin(log: EventLog, { fence, started_at }: Beginning): void {
    const line = this.#line(log.thread_id);
    const known = line.logs.find(({ run_id }) => run_id === log.run_id);
    log.place ??= known?.place ?? this.#nextPlace(line, started_at);
    if (known === undefined) join(line, log);
    this.#options.relay?.publish(log, fence);
  }

  /** Resolves when other processes can see what is in the log now, or after a while. */
  async shown({ run_id }: EventLog): Promise<void> {
    await this.#options.relay?.shown(run_id);
  }

  /** The run is not held here any more and has not ended: whoever holds it next writes on, and readers go on there. */
  handOver(log: EventLog): void {
    const { relay } = this.#options;
    if (relay === null) return;
    const { run_id, thread_id, resumable, place } = log;
    if (this.#logs.get(run_id) === log) this.#logs.delete(run_id);
    const next = relay.open({ run_id, thread_id, resumable, place });
    next.release(log);
    log.handOver(next);
    // Those who watch the thread go on with it; who comes later finds it where it is.
    if (this.#lines.get(thread_id)?.watches.size === 0) this.#leaveLine(log);
    relay.check();
  }

  /**
   * Hears of every run of the thread that begins from now on, until the signal fires. It starts with those in memory that
   * `wants` picks; each is kept until it has been taken.
   */
  watch(
    thread_id: string,
    wants: (log: RunLog) => boolean,
    signal: AbortSignal,
    kind: WatcherKind = "modes",
  ): ThreadWatch {
    const line = this.#line(thread_id);
    const watch = new ThreadWatch(line.logs.filter(wants), signal, () => {
      line.watches.delete(watch);
      line.protocol.delete(watch);
      this.#tidy(thread_id, line);
    });
    line.watches.add(watch);
    if (kind === "protocol") line.protocol.add(watch);
    line.hearing ??= this.#options.relay?.listen(thread_id, (news) => this.#heard(thread_id, news));
    return watch;
  }

  /** Whether somebody here watches the thread's events of streaming v2. */
  isWatchedByProtocol(thread_id: string): boolean {
    return (this.#lines.get(thread_id)?.protocol.size ?? 0) > 0;
  }

  /** Number (`seqOf`) of the newest event of the thread that can have been seen, as far as logs here tell. */
  appliedThrough(thread_id: string): number | undefined {
    const log = this.#lines.get(thread_id)?.logs.at(-1);
    if (log?.place === undefined) return undefined;
    // The end of a run has the index behind its last event.
    return seqOf(log.place, log.ended ? log.next : Math.max(log.next - 1, 0));
  }

  /** A run has ended that never began: whoever watches its thread sees that. `place`: as it was stored. */
  endUnheld({ run_id, thread_id, fence }: UnheldRun, place: number): void {
    const log = this.open({ run_id, thread_id, resumable: true, first: 0, place });
    // Who waits for it may have opened it before.
    log.place ??= place;
    this.begin(log, { fence, started_at: null });
    this.end(log, null);
  }

  /** Resolves when a watcher of the thread misses no run that begins, wherever. */
  async hearing(thread_id: string): Promise<void> {
    await this.#lines.get(thread_id)?.hearing?.ready;
  }

  /** Runs of the thread whose logs other processes have, from a place on; null: of those running. In order. */
  async line(thread_id: string, from: number | null): Promise<readonly Begun[]> {
    return (await this.#options.relay?.line(thread_id, from)) ?? [];
  }

  /** The thread is gone: whoever watches it reads what there is, and is done. */
  closeThread(thread_id: string): void {
    this.#closeHere(thread_id);
    this.#options.relay?.gone(thread_id);
  }

  /** Threads whose logs are in memory, or that are watched. */
  get threads(): number {
    return this.#lines.size;
  }

  /** Ends the log of a run that is to leave no trace: who follows it sees its end, who comes later finds no part of it. */
  erase(log: EventLog): void {
    this.end(log, null);
    this.#leaveLine(log);
    this.#options.relay?.erase([log.run_id]);
  }

  /** Ends the log and starts its time in memory. */
  end(log: EventLog, output: RunOutput | null): void {
    log.end(output);
    this.#passed(log);
    this.#ended.set(log, Date.now());
    this.#endedSize += weight(log);
    this.#trim(Date.now());
  }

  /** Drops the log of a run that is gone. Other processes are told by whoever knows that it is. */
  drop(run_id: string): void {
    const { relay } = this.#options;
    relay?.erase([run_id]);
    relay?.find(run_id)?.end();
    const log = this.#logs.get(run_id);
    if (log === undefined) return;
    log.end(null);
    this.#passed(log);
    this.#forget(log);
  }

  /** The run has ended without having been held, wherever that was decided. */
  over(run_id: string): void {
    this.#options.relay?.find(run_id)?.end();
    const log = this.#logs.get(run_id);
    if (log !== undefined && !log.ended) this.end(log, null);
  }

  /** Others have not found the end of a run: shows it again, if it ended here. */
  show(run_id: string): void {
    const log = this.#logs.get(run_id);
    if (log?.ended === true) this.#options.relay?.show(log);
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

  /**
   * Microseconds, so that places never run ahead of the clock: after a restart they must go on growing. With other
   * processes it is the clock they share: a run begins when the one before it on the thread has ended, by that clock.
   */
  #nextPlace({ logs }: Line, started_at: number | null): number {
    const last = logs.at(-1);
    const behind = last === undefined ? 0 : endOf(last) + 1;
    if (this.isShared && started_at !== null) return Math.max(started_at * 1000, behind);
    this.#newestPlace = Math.max(Date.now() * 1000, this.#newestPlace + 1, behind);
    return this.#newestPlace;
  }

  /** The log leaves, or takes no more: runs that begin from now on stand behind all its numbers. */
  #passed(log: RunLog): void {
    if (log.place !== undefined) this.#newestPlace = Math.max(this.#newestPlace, endOf(log));
  }

  #heard(thread_id: string, news: ThreadNews): void {
    if (news.kind === "gone") this.#closeHere(thread_id);
    else this.#beganElsewhere(news.begun);
  }

  #beganElsewhere(begun: Begun): void {
    const { relay } = this.#options;
    const line = this.#line(begun.thread_id);
    const isKnown = line.logs.some(({ run_id }) => run_id === begun.run_id);
    if (isKnown || relay === null || this.#logs.has(begun.run_id)) return;
    join(line, relay.open(begun));
  }

  #closeHere(thread_id: string): void {
    for (const watch of this.#lines.get(thread_id)?.watches ?? []) watch.close();
  }

  #line(thread_id: string): Line {
    let line = this.#lines.get(thread_id);
    if (line === undefined) {
      line = { logs: [], watches: new Set(), protocol: new Set(), hearing: undefined };
      this.#lines.set(thread_id, line);
    }
    return line;
  }

  #leaveLine(log: RunLog): void {
    const line = this.#lines.get(log.thread_id);
    // After a retry elsewhere and back, what stands there is the log of an earlier attempt.
    const at = line?.logs.findIndex(({ run_id }) => run_id === log.run_id) ?? -1;
    if (line === undefined || at === -1) return;
    line.logs.splice(at, 1);
    this.#tidy(log.thread_id, line);
  }

  #tidy(thread_id: string, line: Line): void {
    if (line.watches.size === 0 && line.hearing !== undefined) {
      line.hearing.stop();
      line.hearing = undefined;
      // Others' logs are in the line only for those who watch it.
      const own = line.logs.filter(({ run_id }) => this.#logs.has(run_id));
      line.logs.splice(0, line.logs.length, ...own);
    }
    const isIdle = line.logs.length === 0 && line.watches.size === 0;
    if (isIdle && this.#lines.get(thread_id) === line) this.#lines.delete(thread_id);
  }
}

/** Runs of a thread begin one after the other, but news of them may be late. */
function join(line: Line, log: RunLog): void {
  const before = line.logs.findLastIndex(({ place = 0 }) => place <= (log.place ?? 0));
  line.logs.splice(before + 1, 0, log);
  for (const watch of line.watches) watch.push(log);
}

/**
 * The last number that has to do with the log: the run's end has the one behind its last event, and two more are for what a reader
 * is told who has seen that and to whom what followed is lost (`protocol/snapshot.ts`).
 */
const endOf = ({ place = 0, next }: RunLog): number => seqOf(place, next) + 3;

const weight = ({ size, output }: EventLog): number => size + (typeof output === "string" ? output.length : 0) + 500;
