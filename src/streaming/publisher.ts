/**
 * Shows the logs of this process to others. It reads each log as any follower does: what waits for Redis is the log itself,
 * which is bounded, and the slower Redis is, the larger are the chunks. Nobody waits for it. When Redis falls behind what is
 * in memory, the rest is left out: it is in the database, where readers elsewhere look for what Redis does not have.
 *
 * Redis may forget: it was restarted, flushed, or kept too little. Then the log is shown again from the oldest event that
 * can be had.
 */
import type { EventLog } from "./event-log.ts";
import type { RunEvent } from "./events.ts";
import { Bell } from "./follow.ts";
import type { Appended, Chunk, Streams } from "./redis-streams.ts";

export interface PublisherOptions {
  readonly streams: Streams;
  readonly onError: (error: unknown) => void;
  /** How long an ended log is kept, by Redis and by us while Redis is away, milliseconds. */
  readonly keepEndedMs: number;
}

/** Redis drops the log of a process that has died after this; a live one says so in time. */
const LIVE_MS = 600_000;
const TOUCH_MS = 5000;
/** Between two looks at a log that Redis still had and that has not grown. One that grows finds out by itself. */
const LONGEST_TOUCH_MS = 30_000;
const CHUNK_EVENTS = 256;
const CHUNK_CHARACTERS = 64 * 1024;
const LONGEST_PAUSE_MS = 1000;

interface Publication {
  readonly log: EventLog;
  readonly fence: number;
  readonly bell: Bell;
  /** Index of the last event that Redis has. */
  after: number;
  /** Redis does not know the log, as far as we know. */
  isNew: boolean;
  busy: boolean;
  stopped: boolean;
  /** When Redis is asked for it next, and how long after that, milliseconds. */
  touchAt: number;
  touchPause: number;
}

export class Publisher {
  readonly #options: PublisherOptions;
  readonly #live = new Map<string, Publication>();
  /** Fencing tokens under which logs were shown. */
  readonly #fences = new WeakMap<EventLog, number>();
  readonly #timer: NodeJS.Timeout;
  #closed = false;

  constructor(options: PublisherOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.#touchDue(Date.now()), TOUCH_MS).unref();
  }

  /** Logs that are being shown. */
  get size(): number {
    return this.#live.size;
  }

  /** Shows the log until it ends, is handed over, or a later attempt writes. */
  publish(log: EventLog, fence: number): void {
    this.stop(log.run_id);
    this.#fences.set(log, fence);
    const fresh = { isNew: true, busy: false, stopped: false, touchAt: 0, touchPause: TOUCH_MS };
    const publication: Publication = { log, fence, bell: new Bell(), after: log.first - 1, ...fresh };
    this.#live.set(log.run_id, publication);
    void this.#follow(publication);
  }

  /** Shows a log again that has been shown to its end. */
  show(log: EventLog): void {
    const fence = this.#fences.get(log);
    if (fence !== undefined && log.ended && !this.#live.has(log.run_id)) this.publish(log, fence);
  }

  /** Resolves when Redis has what is in the log now, or the time is over. */
  async shown(run_id: string, patienceMs: number): Promise<void> {
    const end = Date.now() + patienceMs;
    const isBehind = ({ log, after, isNew }: Publication): boolean => isNew || after + 1 < log.next;
    for (;;) {
      const publication = this.#live.get(run_id);
      if (publication === undefined || !isBehind(publication) || Date.now() > end) return;
      await pause(5);
    }
  }

  /** Shows no more of it. */
  stop(run_id: string): void {
    const publication = this.#live.get(run_id);
    if (publication === undefined) return;
    publication.stopped = true;
    publication.bell.ring();
    this.#live.delete(run_id);
  }

  /** Asks Redis whether it still has what is shown: to be called when it is back. */
  check(): void {
    for (const publication of this.#live.values()) void this.#touch(publication);
  }

  /** The same now and then, should Redis have forgotten without having been away; less often of what is idle. */
  #touchDue(now: number): void {
    for (const publication of this.#live.values()) {
      if (publication.touchAt > now) continue;
      publication.touchAt = now + publication.touchPause;
      publication.touchPause = Math.min(2 * publication.touchPause, LONGEST_TOUCH_MS);
      void this.#touch(publication);
    }
  }

  /** Resolves when what has ended, or was handed over, is shown, or the time is over. */
  async close(patienceMs: number): Promise<void> {
    clearInterval(this.#timer);
    const end = Date.now() + patienceMs;
    const isLeaving = (): boolean => [...this.#live.values()].some(({ log }) => log.ended || log.hasMoved);
    while (isLeaving() && Date.now() < end) await pause(10);
    this.#closed = true;
    for (const run_id of [...this.#live.keys()]) this.stop(run_id);
  }

  async #follow(publication: Publication): Promise<void> {
    const { log, bell } = publication;
    log.onChange(bell.ring);
    try {
      for (let failures = 0; !publication.stopped; ) {
        const outcome = await this.#step(publication);
        if (outcome === "done") return;
        failures = outcome === "failed" ? failures + 1 : 0;
        if (outcome === "failed" && this.#isLate(log)) return;
        if (outcome === "failed") await pause(Math.min(50 * 2 ** failures, LONGEST_PAUSE_MS));
        if (outcome === "idle") await bell.rung();
      }
    } finally {
      log.onChange(undefined);
      if (this.#live.get(log.run_id) === publication) this.#live.delete(log.run_id);
    }
  }

  async #step(publication: Publication): Promise<"idle" | "more" | "failed" | "done"> {
    const { log } = publication;
    const isOver = log.ended && !log.hasMoved;
    try {
      publication.busy = true;
      publication.after = Math.max(publication.after, log.oldest - 1);
      const events = chunkOf(await log.own(publication.after));
      if (log.hasMoved && events.length === 0) return "done";
      const isLast = isOver && (events[events.length - 1]?.id ?? publication.after) + 1 >= log.next;
      if (events.length === 0 && !isLast && !publication.isNew) return "idle";
      const appended = await this.#options.streams.append(this.#chunk(publication, events, isLast));
      return this.#took(publication, events, isLast, appended);
    } catch (error) {
      if (!this.#closed) this.#options.onError(error);
      return "failed";
    } finally {
      publication.busy = false;
    }
  }

  #took(publication: Publication, events: readonly RunEvent[], isLast: boolean, appended: Appended): "more" | "done" {
    if (appended === "stale") return "done";
    if (appended === "lost") this.#again(publication);
    else {
      publication.isNew = false;
      publication.after = events[events.length - 1]?.id ?? publication.after;
      publication.touchPause = TOUCH_MS;
      if (isLast) return "done";
    }
    return "more";
  }

  #chunk({ log, fence, after, isNew }: Publication, events: readonly RunEvent[], isLast: boolean): Chunk {
    const { run_id, thread_id, place = 0, resumable } = log;
    const last = events[events.length - 1]?.id ?? after;
    return {
      run_id,
      thread_id,
      place,
      resumable,
      fence,
      events,
      next: last + 1,
      isFirst: isNew,
      end: isLast ? { output: log.output } : null,
      ttlMs: isLast ? this.#options.keepEndedMs : LIVE_MS,
    };
  }

  #again(publication: Publication): void {
    publication.isNew = true;
    publication.after = publication.log.oldest - 1;
    publication.bell.ring();
  }

  async #touch(publication: Publication): Promise<void> {
    if (publication.busy || publication.isNew) return;
    try {
      const known = await this.#options.streams.touch(publication.log.run_id, LIVE_MS);
      if (!known && !publication.busy && !publication.stopped) this.#again(publication);
    } catch {
      // Redis is away: its coming back asks again.
    }
  }

  /** The log has ended and its time is over: nobody elsewhere will get it. */
  #isLate(log: EventLog): boolean {
    return log.endedAt !== undefined && log.endedAt + this.#options.keepEndedMs < Date.now();
  }
}

/** The first of the events, as many as make a chunk. */
function chunkOf(events: readonly RunEvent[]): readonly RunEvent[] {
  let characters = 0;
  const end = events.findIndex(({ data }, index) => {
    characters += data.length;
    return index >= CHUNK_EVENTS || (index > 0 && characters > CHUNK_CHARACTERS);
  });
  return end === -1 ? events : events.slice(0, end);
}

const pause = (ms: number): Promise<void> =>
  new Promise((resolve) => {
    setTimeout(resolve, ms).unref();
  });
