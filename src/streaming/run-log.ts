/** The events of one run as whoever follows it reads them: held by this process, or by another. */
import { type SkeinError, unavailable } from "../errors.ts";
import type { Json, Members } from "../executor/protocol.ts";
import type { RunEvent } from "./events.ts";

/** What `wait` answers; where it is values of the thread, which may be long, only which, and at what checkpoint. */
export type RunOutput = Json | { readonly members: Members; readonly checkpoint_id: string };

export interface RunLog {
  readonly run_id: string;
  readonly thread_id: string;
  /** Orders the logs of a thread by when their runs began; undefined before. */
  readonly place: number | undefined;
  /** No more events follow those that `read` gives now. */
  readonly ended: boolean;
  /** What `wait` answers; null when the run left none, or the log does not know. */
  readonly output: RunOutput | null;
  /** It ended without a word from whoever held the run: events, and the output, may be missing. */
  readonly isCut: boolean;
  /** It ended, and events that nobody kept may be missing before its end. */
  readonly lacksEvents: boolean;
  /** Index the next event will get, or a smaller one where that is not known. */
  readonly next: number;
  /** Characters held in memory. */
  readonly size: number;
  /** Events after an index, oldest first: some of them. Empty when there are none now. */
  read(after: number): Promise<readonly RunEvent[]>;
  /** Calls `hint` whenever the log grows or ends, until the returned function is called. */
  subscribe(hint: () => void): () => void;
}

/** What is left of a run that is gone, and of whose events there may be readers: where it stood, and how far it went. */
export const erasedLog = (which: Pick<RunLog, "run_id" | "thread_id" | "place" | "next">): RunLog => ({
  ...which,
  ended: true,
  output: null,
  isCut: false,
  lacksEvents: false,
  size: 0,
  read: () => Promise.resolve([]),
  subscribe: () => () => undefined,
});

/**
 * Index of the first event of an attempt whose earlier ones are held by another process: numbers only grow, whoever wrote
 * them, and nobody has to be asked where the last attempt got to. A resumable log knows: it goes on behind what is stored.
 */
export const firstOfAttempt = (fence: number): number => (fence - 1) * 2 ** 32;

/** Whether events may be missing between a reader's last event and this one. */
export const isGap = (after: number, first: number): boolean => first > after + 1 && first % 2 ** 32 !== 0;

/** Of two pages that may both begin later than was asked for: the one that begins first. */
export const earlierOf = <E extends { readonly id: number }>(a: readonly E[], b: readonly E[]): readonly E[] =>
  a[0] === undefined || (b[0] !== undefined && b[0].id < a[0].id) ? b : a;

/** The first of the events, up to where some are missing: they may be elsewhere. */
export function untilGap<E extends { readonly id: number }>(events: readonly E[]): readonly E[] {
  const gap = events.findIndex(({ id }, at) => at > 0 && id !== (events[at - 1]?.id ?? id) + 1);
  return gap === -1 ? events : events.slice(0, gap);
}

/** What readers are told of a log that lacks events, once they have read what there is. */
export const lackingEvents = ({ run_id }: RunLog): SkeinError =>
  unavailable(`run ${run_id} has ended; events of it were lost on the way here`);
