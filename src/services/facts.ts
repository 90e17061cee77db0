/** What the settings mean for the checks of a database: from when on something is wrong, and not only not done yet. */
import type { Project, Settings } from "../config.ts";
import type { Facts } from "../engine/checks.ts";
import { KEPT_MS } from "./idempotency.ts";

/** A worker looks for lost leases several times in this time. */
const LOST_LEASES = 2;
const WAITING_MS = 5 * 60_000;
/** Sweeps come at intervals, and wait for each other. */
const SLACK_MS = 60 * 60_000;

/** `now` in epoch milliseconds, by the clock of the database. */
export function factsOf(
  { threadTtl, store }: Pick<Project, "threadTtl" | "store">,
  settings: Pick<Settings, "leaseMs" | "maxAttempts" | "resumableTtlMs" | "deliveriesTtlMs">,
  {
    now,
    isServed,
    waitingMs = WAITING_MS,
  }: { readonly now: number; readonly isServed: boolean; readonly waitingMs?: number },
): Facts {
  const { sweepMinutes } = store.ttl;
  return {
    now,
    isServed,
    maxAttempts: settings.maxAttempts,
    lostAfterMs: LOST_LEASES * settings.leaseMs,
    waitingMs,
    sweptAfterMs: {
      threads: threadTtl.sweepMs + SLACK_MS,
      items: sweepMinutes === null ? null : sweepMinutes * 60_000 + SLACK_MS,
      logs: settings.resumableTtlMs + SLACK_MS,
      keys: KEPT_MS + SLACK_MS,
      deliveries: settings.deliveriesTtlMs + SLACK_MS,
    },
  };
}
