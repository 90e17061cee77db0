/** Statements that share a round trip, on databases that are behind a network. */
import { isShared } from "./locks.ts";
import type { Tx } from "./storage.ts";

type Works<T extends readonly unknown[]> = { readonly [K in keyof T]: () => Promise<T[K]> };

/**
 * Does works that need nothing of each other's results, in order. In a transaction on PostgreSQL their first statements go out
 * together; a work of several statements goes on beside the others. Settles when all have, for none may still write when the
 * transaction is over; rejects with the first error.
 */
export async function together<T extends readonly unknown[]>(db: Tx, works: Works<T>): Promise<T> {
  const results: unknown[] = [];
  if (!isShared(db)) {
    for (const work of works) results.push(await work());
  } else {
    for (const result of await Promise.allSettled(works.map((work) => work()))) {
      if (result.status === "rejected") throw result.reason;
      results.push(result.value);
    }
  }
  // One result for each work, in their order.
  return results as unknown as T;
}
