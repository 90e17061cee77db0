/**
 * The runs of a thread one after the other: those whose events are still kept, then each as it begins, until the reader
 * leaves or the thread is deleted. No gap, no repeat.
 *
 * An event's id is the place of its run on the thread and its index in the run. After a run's own events come up to two
 * more, which say that it has ended and what it left; they have the next two indexes, whether they are sent or not.
 */
import { errorBody } from "../errors.ts";
import type { EventLogs, WatcherKind } from "./event-logs.ts";
import type { StreamEvent } from "./events.ts";
import type { ThreadFilter } from "./modes.ts";
import { followModes } from "./protocol/as-modes.ts";
import { lackingEvents, type RunLog } from "./run-log.ts";

/** A position on a thread: after this event. */
export interface ThreadPosition {
  readonly place: number;
  readonly index: number;
}

/** Before everything. */
export const BEGINNING: ThreadPosition = { place: 0, index: -1 };

/** Reads an id; `undefined` when it is none. */
export function parsePosition(id: string): ThreadPosition | undefined {
  const [, place, index] = /^(\d{1,16})-(\d{1,15})$/.exec(id) ?? [];
  return place === undefined || index === undefined ? undefined : { place: Number(place), index: Number(index) };
}

export interface FollowThreadOptions {
  readonly logs: EventLogs;
  readonly thread_id: string;
  /** What the reader has; null: it begins with the run that is in flight, or the next. */
  readonly after: ThreadPosition | null;
  readonly filter: ThreadFilter;
  readonly signal: AbortSignal;
  /** Ids of runs from a place on whose events are stored or can be had elsewhere, in order; null: of those running elsewhere. */
  readonly stored: (place: number | null) => Promise<readonly string[]>;
  /** The log of such a run; undefined when it has gone since. */
  readonly open: (run_id: string) => Promise<RunLog | undefined>;
  /** The state the run left, as JSON text; null when there is none. */
  readonly stateAfter: (run_id: string) => Promise<string | null>;
  /** Whether a run has events of streaming v2 instead of those of modes. */
  readonly isNative: (run_id: string) => Promise<boolean>;
}

export async function* followThread(options: FollowThreadOptions): AsyncGenerator<readonly StreamEvent[], void> {
  const { logs, thread_id, after, signal } = options;
  const line = await openLine({
    logs,
    thread_id,
    signal,
    wanted: (log) => (after === null ? !log.ended : placeOf(log) >= after.place),
    stored: () => options.stored(after === null ? null : after.place),
    open: options.open,
  });
  try {
    for await (const log of line.logs()) yield* runOf(log, after?.place === placeOf(log) ? after.index : -1, options);
  } finally {
    line.stop();
  }
}

export interface LineOptions extends Pick<FollowThreadOptions, "logs" | "thread_id" | "signal" | "open"> {
  /** Which of the logs in memory belong to it; those of runs that begin from now on all do. */
  readonly wanted: (log: RunLog) => boolean;
  /** Ids of runs whose events are stored or can be had elsewhere, in order. */
  readonly stored: () => Promise<readonly string[]>;
  readonly kind?: WatcherKind;
}

/** The logs of a thread in the order in which their runs began. */
export interface OpenLine {
  /** Runs whose events can be had now. */
  readonly runs: ReadonlySet<string>;
  /** Each log once. It waits for those that come, until the signal fires or the thread is deleted; if not `isLive`, for none. */
  logs(isLive?: boolean): AsyncGenerator<RunLog, void>;
  stop(): void;
}

/** Opens the line at what is there now; to be stopped. */
export async function openLine(options: LineOptions): Promise<OpenLine> {
  const { logs, thread_id, signal, wanted, open, kind } = options;
  // Watched before storage is read: a run that begins between the two must not be missed.
  const watch = logs.watch(thread_id, wanted, signal, kind);
  try {
    await logs.hearing(thread_id);
    const inMemory = new Set(watch.runs);
    const older = (await options.stored()).filter((run_id) => !inMemory.has(run_id));
    return {
      runs: new Set([...inMemory, ...older]),
      async *logs(isLive = true) {
        let done = -1;
        for await (const log of inOrder(older, open, watch, isLive)) {
          if (placeOf(log) <= done) continue;
          if (signal.aborted) return;
          done = placeOf(log);
          yield log;
        }
      },
      stop: () => watch.stop(),
    };
  } catch (error) {
    watch.stop();
    throw error;
  }
}

/** Stored logs and those of the watch as one sequence. */
async function* inOrder(
  stored: readonly string[],
  open: (run_id: string) => Promise<RunLog | undefined>,
  watch: { next(): Promise<RunLog | undefined>; take(): RunLog | undefined },
  isLive: boolean,
): AsyncGenerator<RunLog, void> {
  const next = async (): Promise<RunLog | undefined> => (isLive ? watch.next() : watch.take());
  let ahead: RunLog | undefined;
  for (const run_id of stored) {
    const log = await open(run_id);
    if (log === undefined) continue;
    for (ahead ??= watch.take(); ahead !== undefined && placeOf(ahead) < placeOf(log); ahead = watch.take())
      yield ahead;
    yield log;
  }
  for (ahead ??= await next(); ahead !== undefined; ahead = await next()) yield ahead;
}

async function* runOf(
  log: RunLog,
  after: number,
  { filter, signal, stateAfter, isNative }: FollowThreadOptions,
): AsyncGenerator<readonly StreamEvent[], void> {
  const place = placeOf(log);
  const numbered = (event: Omit<StreamEvent, "id">, index: number): StreamEvent => ({
    id: `${place}-${index}`,
    event: event.event,
    data: event.data,
  });
  for await (const events of followModes(log, { after, signal, wants: filter.runEvents, isNative })) {
    yield events.map((event) => numbered(event, event.id));
  }
  if (signal.aborted) return;
  if (log.lacksEvents && filter.runEvents("error")) {
    const data = JSON.stringify(errorBody(lackingEvents(log)));
    yield [numbered({ event: "error", data }, Math.max(log.next - 1, 0))];
  }
  if (filter.ends && after < log.next) {
    const data = JSON.stringify({ status: "run_done", run_id: log.run_id });
    yield [numbered({ event: "metadata", data }, log.next)];
  }
  if (filter.states && after < log.next + 1) {
    const data = await stateAfter(log.run_id);
    if (data !== null) yield [numbered({ event: "state_update", data }, log.next + 1)];
  }
}

export const placeOf = (log: RunLog): number => log.place ?? 0;
