/**
 * Asks the checks. `examine` asks one of all there is, for `skein doctor`; `Reconciler` is what a server does by itself: a
 * stretch of each table in each round, so that a round costs milliseconds however large the database is, and the whole of
 * it is seen again and again.
 */
import type { Logger } from "../observability/logger.ts";
import type { Storage, Tx } from "../storage/storage.ts";
import { EVERYTHING, endOfStretch, type Found, type Key } from "../storage/tables/upkeep.ts";
import { CHECKS, type Check, type Facts } from "./checks.ts";

type Read = <T>(work: (db: Tx) => Promise<T>) => Promise<T>;

/** Rows of a table in one look. */
const STRETCH = 2000;

/** All that a check finds, a stretch at a time. */
export async function* examine(read: Read, check: Check, facts: Facts): AsyncGenerator<readonly Found[], void> {
  let after: Key | null = null;
  do {
    const look = await read((db) => lookOn(db, check, after, STRETCH, facts));
    yield look.found;
    after = look.end;
  } while (after !== null);
}

interface Look {
  readonly found: readonly Found[];
  /** Where the next look begins; null at the end. */
  readonly end: Key | null;
}

async function lookOn(db: Tx, check: Check, after: Key | null, stretch: number, facts: Facts): Promise<Look> {
  if (check.walk === null) return { found: await check.find(db, EVERYTHING, facts), end: null };
  const end = await endOfStretch(db, check.walk, after, stretch);
  return { found: await check.find(db, { after, upTo: end }, facts), end };
}

/** Checks that this database can fail. */
export const checksOf = (dialect: Storage["dialect"]): readonly Check[] =>
  CHECKS.filter((check) => check.dialect === undefined || check.dialect === dialect);

/** Mends what was found, in a transaction of its own. Undefined: it was so no longer, or nothing can be done. */
export async function mend(storage: Storage, check: Check, found: Found, facts: Facts): Promise<string | undefined> {
  const { mend: how } = check;
  return how === undefined ? undefined : storage.write((tx) => how(tx, found, facts));
}

export interface ReconcilerOptions {
  readonly storage: Storage;
  readonly logger: Logger;
  readonly facts: () => Facts;
  /** Rows of each table in one round. */
  readonly stretch?: number;
  /** Called when something was mended that others may wait for. */
  readonly onMended: () => void;
}

/** Small enough that no request feels it. */
const ROUND = 500;

export class Reconciler {
  readonly #options: ReconcilerOptions;
  readonly #checks: readonly Check[];
  /** Where each check goes on. */
  readonly #places = new Map<Check, Key | null>();

  constructor(options: ReconcilerOptions) {
    this.#options = options;
    this.#checks = checksOf(options.storage.dialect).filter(({ by }) => by === "reconciler");
  }

  /** One round. What one check meets keeps no other from its turn; the first error is thrown at the end. */
  async round(): Promise<void> {
    const failures: unknown[] = [];
    for (const check of this.#checks) {
      try {
        await this.#ask(check);
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }

  async #ask(check: Check): Promise<void> {
    const { storage, logger, facts, stretch = ROUND, onMended } = this.#options;
    const now = facts();
    const after = this.#places.get(check) ?? null;
    const { found, end } = await storage.read((db) => lookOn(db, check, after, stretch, now));
    this.#places.set(check, end);
    for (const each of found) {
      const done = await mend(storage, check, each, now);
      if (done === undefined) continue;
      logger.warn({ check: check.name, ...each, done }, `mended: ${check.says}`);
      onMended();
    }
  }
}
