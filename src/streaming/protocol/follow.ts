/**
 * A thread's events of streaming v2: those of its runs that are still kept, then live, until the reader leaves or the thread is
 * deleted. Numbers only grow. What a reader should have had and cannot have any more is told as a gap, never passed over.
 */
import { SkeinError } from "../../errors.ts";
import { isProtocolEvent, parseProtocolName } from "../../schemas/protocol-events.ts";
import type { EventLogs } from "../event-logs.ts";
import type { RunEvent } from "../events.ts";
import { follow } from "../follow.ts";
import { type OpenLine, openLine, placeOf } from "../follow-thread.ts";
import type { RunLog } from "../run-log.ts";
import { remembering } from "./filter.ts";
import {
  eventId,
  type Gap,
  gapFrame,
  indexAfter,
  type ProtocolFrame,
  ROOT_LIFECYCLE,
  rootEnd,
  rootEventId,
  seqOf,
} from "./frames.ts";
import { fromModes, wantsPlain } from "./from-modes.ts";
import { type Opening, type RootState, snapshotFrames } from "./snapshot.ts";

/** A run, as its row has it. */
export interface RunFacts {
  readonly graph_id: string;
  /** Its log has events of streaming v2. */
  readonly isProtocol: boolean;
  /** How it ended, as members of the root's last lifecycle event; null while it is in flight. */
  readonly end: { readonly at: number; readonly data: Readonly<Record<string, unknown>> } | null;
}

export interface FollowProtocolOptions {
  readonly logs: EventLogs;
  readonly thread_id: string;
  /** By name, as events have it in logs. */
  readonly wants: (name: string) => boolean;
  /** Only events with a greater number, and those of which it has several frames; null: all that is kept. */
  readonly since: number | null;
  /** Up to this number, which is of an event that is there: nothing is waited for. Left out: live. */
  readonly through?: number;
  readonly signal: AbortSignal;
  /** Ids of runs whose events are stored or can be had elsewhere, in order. */
  readonly stored: () => Promise<readonly string[]>;
  /** The log of such a run; undefined when it has gone since. */
  readonly open: (run_id: string) => Promise<RunLog | undefined>;
  /** Undefined: there is no such run (any more). */
  readonly facts: (run_id: string) => Promise<RunFacts | undefined>;
  /** Looks at the thread; then says what is missing when the events of these runs can be had. */
  readonly opening: () => Promise<(kept: ReadonlySet<string>) => Opening | null>;
  /** The state the thread has been left in; null: none. */
  readonly state: () => Promise<RootState | null>;
  /** Told of each gap. */
  readonly onGap?: (gap: Gap) => void;
}

export async function* followProtocol(options: FollowProtocolOptions): AsyncGenerator<readonly ProtocolFrame[], void> {
  const { logs, thread_id, since, through = Number.POSITIVE_INFINITY, signal } = options;
  // Before the line is opened: a run that comes to be meanwhile is in the line, and must not be taken for one that is missing.
  const missing = await options.opening();
  const line = await openLine({
    logs,
    thread_id,
    signal,
    // A log that a run still writes may have the next event, wherever it began.
    wanted: (log) => since === null || !log.ended || seqOf(placeOf(log), log.next) > since,
    stored: options.stored,
    open: options.open,
    kind: "protocol",
  });
  const reader = new Reader(options);
  try {
    const opening = missing(line.runs);
    const first = opening === null ? [] : await reader.opening(opening);
    if (first.length > 0) yield first;
    for await (const log of reader.inTime(line)) {
      if (placeOf(log) > through) return;
      if (opening !== null && placeOf(log) <= opening.resumes_at) continue;
      yield* reader.run(log);
      if (reader.position >= through) return;
    }
    // What is stored can still be had by whoever comes again.
    if (reader.isTooSlow) yield [reader.gap({ resumes_at: 0, reason: "slow" })];
  } finally {
    line.stop();
  }
}

/** Facts of a run as each of its readers needs them: what it is, at its beginning, and how it ended. */
const begun = new WeakMap<RunLog, Promise<RunFacts | undefined>>();
const over = new WeakMap<RunLog, Promise<RunFacts | undefined>>();

function once(
  known: WeakMap<RunLog, Promise<RunFacts | undefined>>,
  log: RunLog,
  ask: FollowProtocolOptions["facts"],
): Promise<RunFacts | undefined> {
  const before = known.get(log);
  if (before !== undefined) return before;
  const asked = ask(log.run_id);
  known.set(log, asked);
  // Who comes later asks again.
  asked.catch(() => known.delete(log));
  return asked;
}

/** A log that has lost its run ended like this: rolled back, or deleted. */
const GONE = { event: "interrupted" };

const methodOf = remembering((name: string) => parseProtocolName(name).method);

class Reader {
  readonly #options: FollowProtocolOptions;
  readonly #through: number;
  readonly #wantsPlain: (name: string) => boolean;
  /** The number up to which everything has been seen or sent. */
  position: number;
  isTooSlow = false;

  constructor(options: FollowProtocolOptions) {
    this.#options = options;
    this.#through = options.through ?? Number.POSITIVE_INFINITY;
    this.#wantsPlain = wantsPlain(options.wants);
    this.position = options.since ?? -1;
  }

  /** The line's logs; it ends, and says so, where the reader has fallen too far behind. */
  async *inTime(line: OpenLine): AsyncGenerator<RunLog, void> {
    try {
      yield* line.logs(this.#options.through === undefined);
    } catch (error) {
      if (!isLost(error)) throw error;
      this.isTooSlow = true;
    }
  }

  async opening({ resumes_at, isGap }: Opening): Promise<readonly ProtocolFrame[]> {
    const gap = isGap ? [this.gap({ resumes_at, reason: "expired" })] : [];
    return [...gap, ...(await this.#snapshot(resumes_at))];
  }

  /** Tells of a gap behind what has been sent. */
  gap({ resumes_at, reason }: Omit<Gap, "after">): ProtocolFrame {
    const after = Math.max(this.position, 0);
    const gap = { after, resumes_at: Math.max(resumes_at, after + 2), reason };
    this.#options.onGap?.(gap);
    return gapFrame(gap, Date.now());
  }

  async #snapshot(seq: number): Promise<readonly ProtocolFrame[]> {
    const state = await this.#options.state();
    return state === null ? [] : snapshotFrames(state, seq).filter(({ name }) => this.#options.wants(name));
  }

  /** All of a run's log, and how the run ended. */
  async *run(log: RunLog): AsyncGenerator<readonly ProtocolFrame[], void> {
    const facts = await once(log.ended ? over : begun, log, this.#options.facts);
    const place = placeOf(log);
    const isErased = log.ended && facts === undefined;
    if (!isErased) {
      // The row may be gone; then only what says of itself what it is is shown.
      const isPlain = facts?.isProtocol === false;
      const after = isPlain ? -1 : indexAfter(place, this.position);
      yield* this.#events(log, after, isPlain ? (facts?.graph_id ?? "") : null);
      if (this.#options.signal.aborted || this.position >= this.#through) return;
    }
    const index = endIndex(log);
    // Nothing of it is kept: that it ended is no news.
    if (index <= 0 && !isErased && facts?.isProtocol !== true) return;
    const last = await once(over, log, this.#options.facts);
    if (last !== undefined && last.end === null) return;
    const { at, data } = last?.end ?? { at: Math.floor(place / 1000), data: GONE };
    const graph_name = last?.graph_id ?? facts?.graph_id ?? "";
    yield* this.#fresh([rootEnd({ run_id: log.run_id, place, index, graph_name, at, data })]);
  }

  async *#events(log: RunLog, from: number, plain: string | null): AsyncGenerator<readonly ProtocolFrame[], void> {
    const place = placeOf(log);
    const { signal, through } = this.#options;
    const wants = this.#logFilter(plain !== null);
    let after = from;
    for (let mayRetry = true; ; mayRetry = false) {
      try {
        for await (const events of follow(log, { after, signal, wants: through === undefined ? wants : () => true })) {
          const wanted = through === undefined ? events : events.filter(({ event }) => wants(event));
          yield* this.#fresh(wanted.flatMap((event) => this.#frames(event, log, plain)));
          after = events.at(-1)?.id ?? after;
          this.position = Math.max(this.position, seqOf(place, after));
          if (this.position >= this.#through) return;
        }
        if (log.lacksEvents) yield [this.gap({ resumes_at: seqOf(place, endIndex(log)), reason: "expired" })];
        return;
      } catch (error) {
        if (!isLost(error) || !mayRetry) throw error;
        after = Math.max(log.next - 1, after);
        const resumes_at = seqOf(place, after + 1);
        yield [this.gap({ resumes_at, reason: "expired" })];
      }
    }
  }

  /** Which events of a log are read at all. */
  #logFilter(isPlain: boolean): (name: string) => boolean {
    const { wants } = this.#options;
    if (isPlain) return this.#wantsPlain;
    return (name) => isProtocolEvent(name) && wants(name);
  }

  #frames(event: RunEvent, { run_id, place = 0 }: RunLog, plain: string | null): readonly ProtocolFrame[] {
    if (plain !== null) return fromModes(event, { run_id, place, graph_name: plain });
    const { id, event: name, data } = event;
    const event_id = name === ROOT_LIFECYCLE ? rootEventId(run_id, place, id) : eventId(place, id);
    return [{ seq: seqOf(place, id), event_id, method: methodOf(name), name, params: data }];
  }

  /** Those frames that the reader has not had and wants. */
  *#fresh(frames: readonly ProtocolFrame[]): Generator<readonly ProtocolFrame[], void> {
    const { wants, since } = this.#options;
    const from = this.position;
    const isNew = ({ seq, isPart }: ProtocolFrame): boolean => seq > from || (isPart === true && seq === since);
    const fresh = frames.filter((frame) => isNew(frame) && frame.seq <= this.#through && wants(frame.name));
    const last = frames.at(-1);
    if (last !== undefined) this.position = Math.max(this.position, Math.min(last.seq, this.#through));
    if (fresh.length > 0) yield fresh;
  }
}

/** The root's end is behind the last event, and behind what says that others are lost. */
const endIndex = ({ next, lacksEvents }: RunLog): number => (lacksEvents ? next + 1 : next);

const isLost = (error: unknown): boolean => error instanceof SkeinError && error.kind === "unavailable";
