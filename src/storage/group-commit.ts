/**
 * One writer, many writes, few commits. A commit that must survive a power cut waits for the disk;
 * the work inside it takes microseconds. So all writes that wait share one transaction:
 *
 *   BEGIN IMMEDIATE · SAVEPOINT work 1 RELEASE · SAVEPOINT work 2 ROLLBACK TO · … · COMMIT
 *
 * A work that throws takes back only itself. Nobody hears anything before COMMIT: a promise that settled
 * is a promise about the disk. The disk is waited for aside (`log-sync.ts`), so the event loop and the next
 * batch go on meanwhile. Writes that arrive while a batch runs make up the next one. Works of a batch run one
 * after another, so a work never sees another half done.
 */
import { endOfTick } from "../end-of-tick.ts";
import { unavailable } from "../errors.ts";
import type { LibsqlConnection } from "./libsql.ts";
import type { LogSync } from "./log-sync.ts";
import type { WriteOptions } from "./storage.ts";

/** Keeps one batch from holding the event loop for long. */
const MAX_BATCH = 200;
const IDLE_MS = 500;
/** Where writes come one by one, this far apart, a turn of the event loop would bring the next one no company. */
const APART_MS = 0.5;

interface Job {
  readonly work: () => Promise<unknown>;
  readonly durable: boolean;
  readonly onCommitted: () => void;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/** How a job went; its caller is told after COMMIT. */
interface Verdict {
  readonly committed: () => void;
  readonly tell: () => void;
  /** The disk did not take it after all. */
  readonly refuse: (error: unknown) => void;
}

const nothing = (): void => undefined;

const done = (job: Job, value: unknown): Verdict => ({
  committed: job.onCommitted,
  tell: () => job.resolve(value),
  refuse: job.reject,
});

const failed = (job: Job, error: unknown): Verdict => {
  const tell = (): void => job.reject(error);
  return { committed: nothing, tell, refuse: tell };
};

export class GroupCommit {
  readonly #connection: LibsqlConnection;
  readonly #sync: LogSync;
  readonly #onError: (error: unknown) => void;
  readonly #waiting: Job[] = [];
  #flushing: Promise<void> | null = null;
  #closed = false;
  #lastCommit = 0;
  /** The last batch was one write. */
  #wasAlone = false;
  #checkpointTimer: NodeJS.Timeout | null = null;

  /** The connection must not wait for the disk itself (`synchronous=NORMAL`): `sync` does. */
  constructor(connection: LibsqlConnection, sync: LogSync, onError: (error: unknown) => void) {
    this.#connection = connection;
    this.#sync = sync;
    this.#onError = onError;
  }

  submit<T>(work: () => Promise<T>, { durable = true, onCommitted = nothing }: WriteOptions): Promise<T> {
    if (this.#closed) return Promise.reject(unavailable("the database is closed"));
    return new Promise<T>((resolve, reject) => {
      this.#waiting.push({ work, durable, onCommitted, resolve: resolve as Job["resolve"], reject });
      this.#flushing ??= this.#flushAll();
    });
  }

  /** Takes no more work and waits for what is under way. */
  async drain(): Promise<void> {
    this.#closed = true;
    await this.#flushing;
    await this.#sync.idle();
    if (this.#checkpointTimer !== null) clearTimeout(this.#checkpointTimer);
  }

  /** Nobody writes, and has not for a moment. */
  get quiet(): boolean {
    return this.#flushing === null && performance.now() - this.#lastCommit >= IDLE_MS;
  }

  /** Moves the log into the file and empties it. False when somebody reads the file from outside and needs the log. */
  emptyLog(): boolean {
    if (this.#closed || this.#connection.inTransaction) return false;
    // Who reads would hold up everyone here.
    this.#connection.exec("PRAGMA busy_timeout=0");
    try {
      return this.#connection.pragma("wal_checkpoint(TRUNCATE)")[0]?.busy === 0;
    } finally {
      this.#connection.exec("PRAGMA busy_timeout=5000");
    }
  }

  async #flushAll(): Promise<void> {
    let isAlone = this.#wasAlone && performance.now() - this.#lastCommit >= APART_MS;
    while (this.#waiting.length > 0) {
      await (isAlone ? endOfTick() : nextTurn());
      isAlone = false;
      const batch = this.#waiting.splice(0, MAX_BATCH);
      this.#wasAlone = batch.length === 1;
      this.#tell(batch, await this.#commit(batch));
    }
    this.#flushing = null;
    this.#lastCommit = performance.now();
    this.#checkpointTimer ??= this.#checkpointLater();
  }

  /** Callers hear of their write when it is where they wanted it: committed, or on the disk. */
  #tell(batch: readonly Job[], verdicts: readonly Verdict[]): void {
    const durable: Verdict[] = [];
    verdicts.forEach((verdict, index) => {
      if (batch[index]?.durable === true) durable.push(verdict);
      else verdict.tell();
    });
    if (durable.length === 0) return;
    this.#sync.flushed().then(
      () => {
        for (const verdict of durable) verdict.tell();
      },
      (error: unknown) => {
        for (const verdict of durable) verdict.refuse(error);
      },
    );
  }

  async #commit(batch: readonly Job[]): Promise<Verdict[]> {
    try {
      this.#connection.exec("BEGIN IMMEDIATE");
      const verdicts = await this.#runAll(batch);
      this.#connection.exec("COMMIT");
      for (const { committed } of verdicts) committed();
      return verdicts;
    } catch (error) {
      this.#rollback();
      return batch.map((job) => failed(job, error));
    }
  }

  /** A work that is alone in its transaction needs no savepoint: it is all there is to take back. */
  async #runAll([first, ...rest]: readonly Job[]): Promise<Verdict[]> {
    if (first === undefined) return [];
    if (rest.length === 0) return [done(first, await first.work())];
    const verdicts: Verdict[] = [];
    for (const job of [first, ...rest]) verdicts.push(await this.#inSavepoint(job));
    return verdicts;
  }

  async #inSavepoint(job: Job): Promise<Verdict> {
    this.#connection.exec("SAVEPOINT work");
    try {
      const value = await job.work();
      this.#connection.exec("RELEASE work");
      return done(job, value);
    } catch (error) {
      // On a full disk or an I/O error SQLite itself takes back the whole transaction: nothing is left to save.
      if (!this.#connection.inTransaction) throw error;
      this.#connection.exec("ROLLBACK TO work; RELEASE work");
      return failed(job, error);
    }
  }

  #rollback(): void {
    try {
      if (this.#connection.inTransaction) this.#connection.exec("ROLLBACK");
    } catch (error) {
      this.#onError(error);
    }
  }

  /** Moves the log into the file while nobody waits, so that a busy moment need not. */
  #checkpointLater(): NodeJS.Timeout {
    return setTimeout(() => this.#checkpointIfIdle(), IDLE_MS).unref();
  }

  #checkpointIfIdle(): void {
    this.#checkpointTimer = null;
    if (this.#closed || this.#flushing !== null) return;
    if (performance.now() - this.#lastCommit < IDLE_MS * 0.9) {
      this.#checkpointTimer = this.#checkpointLater();
      return;
    }
    try {
      this.#connection.exec("PRAGMA wal_checkpoint(PASSIVE)");
    } catch (error) {
      this.#onError(error);
    }
  }
}

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
