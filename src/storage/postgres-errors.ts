/** What an error of PostgreSQL, or of the way to it, means for a work that met it. */
import { invalid, SkeinError, unavailable } from "../errors.ts";

/** SQLSTATE of the server, or the code of a socket's error; empty when it has none. */
export function codeOf(thrown: unknown): string {
  if (!(thrown instanceof Error) || !("code" in thrown)) return "";
  return typeof thrown.code === "string" ? thrown.code : "";
}

/** Another try may do: the transaction lost against another one, or the server, or the way to it, was away for a moment. */
const PASSING = new Set([
  "40001", // serialization_failure
  "40P01", // deadlock_detected
  "53300", // too_many_connections
  "57P01", // admin_shutdown
  "57P02", // crash_shutdown
  "57P03", // cannot_connect_now
  "25P02", // in_failed_sql_transaction: what failed before it was passed over
  "25P03", // idle_in_transaction_session_timeout: this process was frozen
  "0A000", // a plan of before a migration
  "ECONNREFUSED",
  "ECONNRESET",
  "ENOENT",
  "EPIPE",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "EAI_AGAIN",
  "ENOTFOUND",
]);

/** What node-postgres says, without a code, when a connection ends. */
const LOST =
  /^(?:Connection terminated|Client has encountered a connection error|Client was closed|Query read timeout|timeout expired)/;

/** The pool had no connection to give in time. */
const EXHAUSTED = /^timeout exceeded when trying to connect/;

/** The last line of defence against two claims at once: the other one was first. */
const CLAIMED_TWICE = "runs_one_running";

/** Whether the work may be done again, given that it was not committed. */
export function isPassing(thrown: unknown): boolean {
  if (thrown instanceof SkeinError) return false;
  const code = codeOf(thrown);
  if (PASSING.has(code) || code.startsWith("08")) return true;
  if (code === "23505") return (thrown as { constraint?: string }).constraint === CLAIMED_TWICE;
  return isLost(thrown);
}

/** Whether the connection is gone with this error. */
export function isLost(thrown: unknown): boolean {
  if (!(thrown instanceof Error)) return false;
  const code = codeOf(thrown);
  return (
    LOST.test(thrown.message) ||
    code.startsWith("57P") ||
    code.startsWith("08") ||
    /^E[A-Z]+$/.test(code) ||
    code === "25P03"
  );
}

/** The error as callers know it; others stay what they are. */
export function asSkeinError(thrown: unknown): unknown {
  if (!(thrown instanceof Error) || thrown instanceof SkeinError) return thrown;
  const code = codeOf(thrown);
  // Text that PostgreSQL cannot hold.
  if (code === "22021" || code === "22P05") return invalid("", "text with the character U+0000 cannot be stored here");
  if (code === "57014" || code === "55P03") return away("a query took too long", thrown);
  if (EXHAUSTED.test(thrown.message)) return away("no connection was free in time", thrown);
  return isPassing(thrown) ? away("it does not answer", thrown) : thrown;
}

const away = (why: string, cause: Error): SkeinError =>
  new SkeinError(unavailable("").kind, `the database is not available: ${why}`, { cause });
