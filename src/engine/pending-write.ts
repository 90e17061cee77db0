/**
 * Whether a run that was sent ahead to its executor thread has come to be. The thread sees it in shared memory the moment the
 * transaction commits: a message would find it only after what else the event loops on both sides have to do.
 */

/** As `RunJob.written` has it. */
const WRITTEN = 1;
const NEVER_WRITTEN = 2;

export class PendingWrite {
  /** For the executor thread; see `RunJob.written`. */
  readonly flag = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
  /** Resolves with true when the run is written, with false when it never will be. */
  readonly settled: Promise<boolean>;
  #resolve!: (written: boolean) => void;

  constructor() {
    this.settled = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  /** The first word counts. */
  settle(written: boolean): void {
    if (Atomics.compareExchange(this.flag, 0, 0, written ? WRITTEN : NEVER_WRITTEN) !== 0) return;
    Atomics.notify(this.flag, 0);
    this.#resolve(written);
  }
}
