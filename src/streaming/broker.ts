/**
 * What the processes of one server tell each other. The database is the truth and the broker may forget: if every message
 * were lost, runs would still all run, later, and every stream would still end. So nothing here is awaited on the way of a
 * run, and nothing here rejects.
 *
 * One process alone has nobody to tell: `inProcess` does nothing.
 */
import type { CancelAction } from "../executor/protocol.ts";
import type { EventLog, EventShelf } from "./event-log.ts";
import type { RunEvent } from "./events.ts";
import type { RunLog } from "./run-log.ts";

/** Said to all other processes. */
export type Signal =
  /** Whoever holds the run stops it. The intent is on the run's row. */
  | { readonly kind: "cancel"; readonly run_id: string; readonly action: CancelAction }
  /** These runs have ended without anybody having held them. */
  | { readonly kind: "over"; readonly run_ids: readonly string[] }
  /** These runs are deleted: whoever holds one stops it. */
  | { readonly kind: "gone"; readonly run_ids: readonly string[] }
  /** Whoever held this run, which has ended, shows its log again: others have not found its end. */
  | { readonly kind: "show"; readonly run_id: string }
  /** Crons were made or changed. */
  | { readonly kind: "crons" };

/** A process that takes runs. */
export interface Worker {
  /** Slots that are free. */
  free(): number;
  /** Resolves when a slot is free. */
  whenFree(): Promise<void>;
  /** Claims up to so many runs that are ready. */
  claim(runs: number): Promise<void>;
}

/** `none`: processes that share a database, and look into it now and then. */
export type BrokerState = "in_process" | "none" | "connected" | "unreachable";

/** A run that has begun, and where its log stands on its thread. */
export interface Begun {
  readonly run_id: string;
  readonly thread_id: string;
  readonly place: number;
  readonly resumable: boolean;
}

/** What the logs of other processes need of this one. */
export interface RelayOptions {
  /** For what is in the database. */
  readonly shelf: Pick<EventShelf, "load">;
  /** Those of the runs that are pending or running. */
  readonly inFlight: (run_ids: readonly string[]) => Promise<ReadonlySet<string>>;
  /** The clock that all processes share, epoch milliseconds. */
  readonly now: () => number;
  /** Runs of the thread that began at a place or later; null: those running now. */
  readonly begun: (thread_id: string, from: number | null) => Promise<readonly Begun[]>;
  /** Characters of a log's newest events kept in memory. */
  readonly tailLimit: number;
  /** How long an ended log can be had, milliseconds. */
  readonly keepEndedMs: number;
  readonly onError: (error: unknown) => void;
}

/** What is heard of a thread. */
export type ThreadNews = { readonly kind: "began"; readonly begun: Begun } | { readonly kind: "gone" };

/** A log that some other process writes, or none yet. */
export interface LogElsewhere extends RunLog {
  /** The run is held here now: its log is read instead. */
  adopt(log: EventLog): void;
  /** It is not any more. */
  release(log: EventLog): void;
  /** No more events follow. */
  end(): void;
}

export interface WhichRun {
  readonly run_id: string;
  readonly thread_id: string;
  readonly resumable: boolean;
  readonly place: number | undefined;
}

/** Shows logs held here to other processes, and theirs here. */
export interface Relay {
  /** Shows the log to others from now on, under the attempt's fencing token, until it ends or is handed over. */
  publish(log: EventLog, fence: number): void;
  /** Shows an ended log once more, should others have lost it. */
  show(log: EventLog): void;
  /** Resolves when others can see what is in the log now, or after a while. */
  shown(run_id: string): Promise<void>;
  /** The log is to leave no trace. */
  erase(run_ids: readonly string[]): void;
  /** The log of a run that is followed here and held elsewhere, if there is one. */
  find(run_id: string): LogElsewhere | undefined;
  /** The log of a run that is not held here; `which` says what the database knows of it. */
  open(which: WhichRun): LogElsewhere;
  /** As `open`, but asks first where the log stands. */
  look(which: WhichRun): Promise<LogElsewhere>;
  /** Events after an index that other processes wrote: some of them. */
  earlier(run_id: string, after: number): Promise<readonly RunEvent[]>;
  /** Looks at what is followed here now, rather than in its time. */
  check(): void;
  /** What is known elsewhere of a run that the database does not have (any more). */
  recall(run_id: string): Promise<WhichRun | undefined>;
  /** Hears of runs that begin on the thread; `ready` resolves when nothing more will be missed. */
  listen(thread_id: string, hear: (news: ThreadNews) => void): { readonly ready: Promise<void>; stop(): void };
  /** Logs of the thread's runs that can be had, from a place on; null: of those running. In order. */
  line(thread_id: string, from: number | null): Promise<readonly Begun[]>;
  /** The thread is gone. */
  gone(thread_id: string): void;
  close(): Promise<void>;
}

export interface Broker {
  readonly state: BrokerState;
  /** So many runs are ready, for whoever has a free slot. A hint. */
  wake(runs: number): void;
  /** Takes its share of the hints, until the returned function is called. */
  work(worker: Worker): () => void;
  /** Tells all other processes. */
  tell(signal: Signal): void;
  /** Hears what other processes tell. */
  hear(listener: (signal: Signal) => void): void;
  /** Null: nobody else holds runs. */
  relay(options: RelayOptions): Relay | null;
  /** Shows what has ended, for a moment, and lets go. */
  close(): Promise<void>;
}

const nothing = (): void => undefined;

/** The broker of a process that is alone. */
export const inProcess: Broker = {
  state: "in_process",
  wake: nothing,
  work: () => nothing,
  tell: nothing,
  hear: nothing,
  relay: () => null,
  close: () => Promise.resolve(),
};
