/**
 * Deleted means gone from the disk: pages that are free go back to the file system, what is left in the unused parts of pages
 * is wiped, and the log, where the text of deleted rows still is, is emptied. In small steps, each a write among the
 * writes of others, on a server that is quiet, or after some minutes all the same.
 */
import type { GroupCommit } from "./group-commit.ts";
import type { LibsqlConnection } from "./libsql.ts";
import { scrub } from "./scrub.ts";

/** A step holds the writer for a fraction of a millisecond. */
const PAGES_PER_STEP = 100;
const ROUND_MS = 1000;
const LONGEST_BUSY_MS = 5 * 60_000;

export class Reclaim {
  readonly #connection: LibsqlConnection;
  readonly #commits: GroupCommit;
  /** Where wiping goes on. */
  #page = 1;
  /** Changes of rows by ourselves, and those of others that are dealt with. */
  #own = 0;
  #dealtWith = 0;
  #logHolds = false;
  #lastRound = performance.now();

  /** Of a file that was made without a map of its pages only the log is looked after. */
  constructor(connection: LibsqlConnection, commits: GroupCommit) {
    this.#connection = connection;
    this.#commits = commits;
  }

  /** As much as fits into about a second. Nothing when nothing was written since the last time. */
  async round(signal: AbortSignal): Promise<void> {
    const changes = this.#changes() - this.#own;
    if (changes === this.#dealtWith && !this.#logHolds) return;
    if (!this.#commits.quiet && performance.now() - this.#lastRound < LONGEST_BUSY_MS) return;
    this.#lastRound = performance.now();
    this.#logHolds = true;
    const late = (): boolean => signal.aborted || performance.now() - this.#lastRound > ROUND_MS;
    if (changes !== this.#dealtWith && (await this.#giveBack(late)) && (await this.#wipe(late))) {
      this.#dealtWith = changes;
    }
    if (!signal.aborted && this.#commits.emptyLog()) this.#logHolds = false;
  }

  /** True when no free page is left, or the file cannot shrink. */
  async #giveBack(late: () => boolean): Promise<boolean> {
    if (Number(this.#value("auto_vacuum")) !== 2) return true;
    while (Number(this.#value("freelist_count")) > 0) {
      if (late()) return false;
      await this.#step(() => this.#connection.exec(`PRAGMA incremental_vacuum(${PAGES_PER_STEP})`));
    }
    return true;
  }

  /** True when all pages have been looked at. */
  async #wipe(late: () => boolean): Promise<boolean> {
    if (Number(this.#value("auto_vacuum")) === 0) return true;
    do {
      if (late()) return false;
      await this.#step(() => {
        const before = this.#changes();
        this.#page = scrub(this.#connection, this.#page, PAGES_PER_STEP);
        this.#own += this.#changes() - before;
      });
    } while (this.#page !== 1);
    return true;
  }

  #step(work: () => void): Promise<void> {
    return this.#commits.submit(async () => work(), { durable: false });
  }

  #value(pragma: string): unknown {
    return this.#connection.pragma(pragma)[0]?.[pragma];
  }

  #changes(): number {
    return Number(this.#connection.prepare("select total_changes() as changes").all([])[0]?.changes);
  }
}
