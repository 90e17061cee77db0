/**
 * Brings the write-ahead log to the disk without holding up the event loop: SQLite commits into the log without
 * waiting (`synchronous=NORMAL`), then the log is synced on a thread of libuv's pool. A sync covers every commit
 * made before it began, so commits that arrive while one runs share the next.
 *
 * The file is opened once and closed after the database: closing any descriptor of a file drops the locks that
 * SQLite holds on it in this process. SQLite keeps the file for as long as a connection is open.
 */
import fs from "node:fs";

export class LogSync {
  readonly #fd: number;
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  /** `log` must exist: open the database and write to it first. */
  constructor(log: string) {
    this.#fd = fs.openSync(log, "r+");
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
  }

  close(): void {
    fs.closeSync(this.#fd);
  }

  #start(): Promise<void> {
    this.#next = undefined;
    const synced = new Promise<void>((resolve, reject) => {
      fs.fdatasync(this.#fd, (error) => {
        if (this.#running === synced) this.#running = undefined;
        if (error === null) resolve();
        else reject(error);
      });
    });
    this.#running = synced;
    return synced;
  }
}
