/**
 * Brings the write-ahead log to the disk without holding up the event loop: SQLite commits into the log without
 * waiting (`synchronous=NORMAL`), then the log is synced on a thread of libuv's pool. A sync covers every commit
 * made before it began, so commits that arrive while one runs share the next.
 *
 * A file that grows takes its file system along at each sync (its journal, on ext4): measured, twice to ten times the time.
 * So space is made in the log ahead: zeros behind its end, which SQLite writes over as it does over what an earlier round of
 * the log has left there.
 *
 * The file is opened once and closed after the database: closing any descriptor of a file drops the locks that
 * SQLite holds on it in this process. SQLite keeps the file for as long as a connection is open.
 */
import fs from "node:fs";

/** Room for some hundred short runs. */
const SPACE = Buffer.alloc(4 * 1024 * 1024);

export class LogSync {
  readonly #fd: number;
  readonly #onError: (error: unknown) => void;
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;
  #extending: Promise<void> | undefined;
  /** How long the log was when space had been made in it; another length means that it is used up, or the log was emptied. */
  #extended = 0;

  /** `log` must exist: open the database and write to it first. `onError` hears when there is no space to be had. */
  constructor(log: string, onError: (error: unknown) => void) {
    // To append: whoever else writes to the log at this moment, zeros never land on what is there.
    this.#fd = fs.openSync(log, "a");
    this.#onError = onError;
    this.#makeSpace();
  }

  /** Resolves when all that was committed before this call is on the disk. */
  flushed(): Promise<void> {
    if (this.#running === undefined) return this.#start();
    this.#next ??= this.#running.then(
      () => this.#start(),
      () => this.#start(),
    );
    return this.#next;
  }

  async idle(): Promise<void> {
    await Promise.allSettled([this.#running, this.#next]);
    await this.#extending;
  }

  close(): void {
    fs.closeSync(this.#fd);
  }

  #start(): Promise<void> {
    this.#next = undefined;
    const synced = new Promise<void>((resolve, reject) => {
      // Waking a thread of the pool takes its time: what a commit lets go, such as a run, goes first.
      process.nextTick(() =>
        fs.fdatasync(this.#fd, (error) => {
          if (this.#running === synced) this.#running = undefined;
          if (error === null) resolve();
          else reject(error);
          this.#makeSpace();
        }),
      );
    });
    this.#running = synced;
    return synced;
  }

  /** Behind the back of those who wait for a sync: they have theirs. */
  #makeSpace(): void {
    if (this.#extending !== undefined || this.#length() === this.#extended) return;
    this.#extending = new Promise<void>((resolve) => {
      const done = (error: unknown): void => {
        this.#extended = this.#length();
        this.#extending = undefined;
        // A full disk is for the next commit to find out: this only makes it quick.
        if (error !== null) this.#onError(error);
        resolve();
      };
      fs.write(this.#fd, SPACE, (error) => (error === null ? fs.fdatasync(this.#fd, done) : done(error)));
    });
  }

  #length(): number {
    return fs.fstatSync(this.#fd).size;
  }
}
