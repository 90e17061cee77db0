/** The logs of one thread, as one watcher takes them: one run after the other. */
import { unavailable } from "../errors.ts";
import { Bell } from "./follow.ts";
import type { RunLog } from "./run-log.ts";

/** Runs, and characters of ended ones, that may wait for a watcher; who is further behind is sent away. */
const MOST_RUNS = 1000;
const MOST_CHARACTERS = 16 * 1024 * 1024;

const keep = (): void => undefined;

interface Waiting {
  readonly log: RunLog;
  /** Lets the log leave memory. */
  readonly release: () => void;
  /** It has come while the watcher was there; those before are no more than memory holds anyway. */
  readonly isNew: boolean;
}

export class ThreadWatch {
  readonly #waiting: Waiting[] = [];
  readonly #signal: AbortSignal;
  readonly #bell = new Bell();
  readonly #onStop: () => void;
  #taken: Waiting | undefined;
  #closed = false;
  #isTooSlow = false;

  constructor(logs: readonly RunLog[], signal: AbortSignal, onStop: () => void) {
    this.#signal = signal;
    this.#onStop = onStop;
    for (const log of logs) this.#hold(log, false);
    signal.addEventListener("abort", this.#bell.ring);
  }

  /** Ids of the runs that wait to be taken. */
  get runs(): readonly string[] {
    return this.#waiting.map(({ log }) => log.run_id);
  }

  push(log: RunLog): void {
    if (this.#isTooSlow) return;
    this.#hold(log, true);
    if (this.#isBehind()) this.#giveUp();
    this.#bell.ring();
  }

  /** No more runs follow. */
  close(): void {
    this.#closed = true;
    this.#bell.ring();
  }

  /** The next log that is there, in order; undefined when there is none now. It stays in memory until the next is taken. */
  take(): RunLog | undefined {
    this.#taken?.release();
    if (this.#isTooSlow) throw unavailable("this reader is too slow: runs it has not seen are no longer kept");
    this.#taken = this.#waiting.shift();
    return this.#taken?.log;
  }

  /** As `take`, but waits for it; undefined when none will come. */
  async next(): Promise<RunLog | undefined> {
    for (;;) {
      const log = this.take();
      if (log !== undefined) return log;
      if (this.#closed || this.#signal.aborted) return undefined;
      await this.#bell.rung();
    }
  }

  stop(): void {
    this.#signal.removeEventListener("abort", this.#bell.ring);
    this.#taken?.release();
    this.#drop();
    this.#onStop();
  }

  #hold(log: RunLog, isNew: boolean): void {
    // A log with a reader stays in memory.
    const before = this.#waiting.findLastIndex((waiting) => (waiting.log.place ?? 0) <= (log.place ?? 0));
    this.#waiting.splice(before + 1, 0, { log, release: log.subscribe(keep), isNew });
  }

  #isBehind(): boolean {
    const came = this.#waiting.filter(({ isNew }) => isNew);
    return (
      came.length > MOST_RUNS || came.reduce((sum, { log }) => sum + (log.ended ? log.size : 0), 0) > MOST_CHARACTERS
    );
  }

  #giveUp(): void {
    this.#isTooSlow = true;
    this.#drop();
  }

  #drop(): void {
    for (const { release } of this.#waiting.splice(0)) release();
  }
}
