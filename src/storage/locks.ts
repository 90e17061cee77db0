/**
 * Locks for databases that several processes share. On PostgreSQL transactions run side by side, each statement on what is
 * committed by then (READ COMMITTED): whoever decides something by what it reads has to keep others from deciding the same
 * thing meanwhile. A lock has a name rather than a row, so it covers threads that do not exist yet, and lasts as long as its
 * transaction. It rides with the transaction's next statement: no round trip of its own.
 *
 * SQLite has one writer, whose transactions are serial: there a lock is nothing at all.
 *
 * Who takes several takes them in this order, or two could wait for each other: idempotency key, assistant, threads by id, rows.
 * Where the order cannot be kept PostgreSQL ends one of the two, and the storage does its work again.
 */
import { PostgresAdapter } from "kysely";
import type { Tx } from "./storage.ts";

/** Sends a statement ahead of the transaction's next one. */
export type SendAhead = (text: string, values: readonly unknown[]) => void;

const senders = new WeakMap<Tx, SendAhead>();

/** Makes locks work in the transactions of this handle. */
export function locksBy(tx: Tx, send: SendAhead): void {
  senders.set(tx, send);
}

/** Whether other processes may use the database. */
export const isShared = (db: Tx): boolean => db.getExecutor().adapter instanceof PostgresAdapter;

const EXCLUSIVE = "select pg_advisory_xact_lock(hashtextextended($1, 0))";
const SHARED = "select pg_advisory_xact_lock_shared(hashtextextended($1, 0))";
/** The statements that take locks. */
export const LOCKS: ReadonlySet<string> = new Set([EXCLUSIVE, SHARED]);

/** To be taken first in every transaction that decides something about a thread, its runs or its state. */
export function lockThread(tx: Tx, thread_id: string): void {
  senders.get(tx)?.(EXCLUSIVE, [`skein thread ${thread_id}`]);
}

/** As `lockThread` for several threads, in an order that is everybody's. */
export function lockThreads(tx: Tx, thread_ids: readonly string[]): void {
  if (!senders.has(tx)) return;
  for (const thread_id of [...new Set(thread_ids)].sort()) lockThread(tx, thread_id);
}

/** For changes of an assistant: its versions follow one another, and no run of it comes in between. */
export function lockAssistant(tx: Tx, assistant_id: string): void {
  senders.get(tx)?.(EXCLUSIVE, [`skein assistant ${assistant_id}`]);
}

/** For runs of an assistant, which do not get in each other's way. */
export function shareAssistant(tx: Tx, assistant_id: string): void {
  senders.get(tx)?.(SHARED, [`skein assistant ${assistant_id}`]);
}

/** For what processes do when they start. */
export function lockStart(tx: Tx): void {
  senders.get(tx)?.(EXCLUSIVE, ["skein start"]);
}
