/**
 * Random bytes from a pool. LangChain draws an id for each runnable it calls, some twenty in a run of two nodes, and each
 * draw of 16 bytes goes to the system's generator: measured, 6 % of such a run, and 4 % of what the main thread does for one. The pool asks that generator for
 * thousands of bytes at once, hands each byte out once, and forgets it (Node's own `randomUUID` does the same).
 */
import { randomFillSync, webcrypto } from "node:crypto";

const POOL_BYTES = 16 * 1024;
/** Larger wishes go to the generator itself: they are rare, and often keys. */
const LARGEST = 16;

/** Makes `crypto.getRandomValues` of this thread draw small amounts from a pool. */
export function poolRandomValues(): void {
  const direct = webcrypto.getRandomValues.bind(webcrypto);
  const pool = new Uint8Array(POOL_BYTES);
  let next = POOL_BYTES;
  const pooled: typeof direct = (array) => {
    if (!(array instanceof Uint8Array) || array.byteLength > LARGEST) return direct(array);
    if (next + array.byteLength > POOL_BYTES) {
      randomFillSync(pool);
      next = 0;
    }
    const end = next + array.byteLength;
    array.set(pool.subarray(next, end));
    pool.fill(0, next, end);
    next = end;
    return array;
  };
  Object.defineProperty(globalThis.crypto, "getRandomValues", { value: pooled, configurable: true, writable: true });
}
