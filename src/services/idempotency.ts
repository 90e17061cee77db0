/** Requests that come again: the same key and the same request get the same runs, whoever of two comes first. */
import { createHash } from "node:crypto";
import { conflict } from "../errors.ts";
import type { Run } from "../schemas/runs.ts";
import type { Storage, Tx } from "../storage/storage.ts";
import * as keys from "../storage/tables/idempotency-keys.ts";

/** How long a key is remembered, milliseconds. */
export const KEPT_MS = 24 * 60 * 60 * 1000;

/** A client's name for its request. */
export interface Repeatable {
  readonly key: string;
  /** Method and path: the same body sent elsewhere is another request. */
  readonly operation: string;
  /** Who sent it: keys of others are other keys. Absent where nobody has to log in. */
  readonly owner?: string;
}

/** The runs this request has made before; undefined when it is new, and its key is now taken. Conflict when another request has it. */
export async function madeBefore(
  tx: Tx,
  { key, operation, owner }: Repeatable,
  body: unknown,
  now: number,
): Promise<readonly Run[] | undefined> {
  const request = { key: storedKey({ key, owner }), fingerprint: fingerprint(operation, body), created_at: now };
  const earlier = await keys.take(tx, request, now - KEPT_MS);
  if (earlier === undefined) return undefined;
  if (earlier.fingerprint === request.fingerprint) return JSON.parse(earlier.runs) as Run[];
  throw conflict(`Idempotency-Key: "${key}" was used for another request (another body, operation or thread)`);
}

/** Remembers the runs that the request with this key has made. */
export function rememberMade(tx: Tx, repeatable: Repeatable, runs: readonly Run[]): Promise<void> {
  return keys.answer(tx, storedKey(repeatable), JSON.stringify(runs));
}

/** Forgets keys that are too old to count. */
export async function sweepKeys(storage: Storage): Promise<void> {
  await storage.write((tx) => keys.sweep(tx, storage.now() - KEPT_MS), { durable: false });
}

/** Longer than any key of a client, so that none of these means another's. */
function storedKey({ key, owner }: { readonly key: string; readonly owner?: string | undefined }): string {
  return owner === undefined ? key : `${createHash("sha256").update(owner).digest("hex").padEnd(256, "=")}${key}`;
}

function fingerprint(operation: string, body: unknown): string {
  return createHash("sha256")
    .update(`${operation}\n${JSON.stringify(body, sortedKeys)}`)
    .digest("hex");
}

/** The same members in another order are the same request. */
function sortedKeys(_key: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}
