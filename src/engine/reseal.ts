/** Brings data that is plain, or under an old key, under the key of now: a little at a time, behind everyone's back. */
import type { Logger } from "../observability/logger.ts";
import type { Cipher } from "../storage/cipher.ts";
import type { Storage } from "../storage/storage.ts";
import * as encryption from "../storage/tables/encryption.ts";

const ROWS_PER_STEP = 20;
const ROUND_MS = 500;

/**
 * Rounds of work; each returns soon. After the last one, old keys are no longer needed, and the log says so. Any number of
 * processes may do it at once: each looks at all there is, which is more work and never wrong, until one is through.
 */
export function resealer(storage: Storage, cipher: Cipher, logger: Logger): () => Promise<void> {
  let place: encryption.Place | undefined = encryption.START;

  const step = (from: encryption.Place): Promise<encryption.Place | undefined> =>
    storage.write((tx) => encryption.resealSome(tx, from, ROWS_PER_STEP), { durable: false });

  return async () => {
    if (place !== undefined && (await isDone(storage, cipher))) place = undefined;
    const end = performance.now() + ROUND_MS;
    while (place !== undefined && performance.now() < end) {
      place = await step(place);
      if (place !== undefined) continue;
      await storage.write((tx) => encryption.finish(tx, cipher.keyId, storage.now()));
      logger.info({ key_id: cipher.keyId }, "all data is encrypted under LANGGRAPH_AES_KEY; older keys can go");
    }
  };
}

async function isDone(storage: Storage, cipher: Cipher): Promise<boolean> {
  const keys = await storage.read((db) => encryption.keys(db));
  return keys.length === 1 && keys[0]?.key_id === cipher.keyId && keys[0].sealed_all_at !== null;
}
