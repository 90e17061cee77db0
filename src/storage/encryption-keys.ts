/** Which keys the data is sealed under, at the start. */
import { StorageRefused } from "./refused.ts";
import type { Sealing } from "./sealing.ts";
import type { Tx } from "./storage.ts";
import * as encryption from "./tables/encryption.ts";

interface Keyed {
  write<T>(work: (tx: Tx) => Promise<T>): Promise<T>;
}

/** Data sealed under a key that is not given would come out as gibberish later: better no start. */
export async function agreeOnKeys(location: string, storage: Keyed, sealing: Sealing | null): Promise<void> {
  await storage.write((tx) => agreeOnKeysIn(tx, location, sealing));
}

/** The same on a connection, or in a transaction. */
export async function agreeOnKeysIn(tx: Tx, location: string, sealing: Sealing | null): Promise<void> {
  const recorded = await refuseUnknownKeys(tx, location, sealing);
  if (sealing === null) return;
  const { cipher, jsonKeys } = sealing;
  const current = recorded.find(({ key_id }) => key_id === cipher.keyId);
  if (current?.json_keys === JSON.stringify(jsonKeys)) return;
  await encryption.begin(tx, cipher.keyId, jsonKeys, Date.now());
}

/** The keys that data may be sealed under. Throws when one of them is not given; writes nothing. */
export async function refuseUnknownKeys(
  db: Tx,
  location: string,
  sealing: Sealing | null,
): Promise<readonly encryption.EncryptionKey[]> {
  const recorded = await encryption.keys(db);
  const missing = recorded.filter(({ key_id }) => sealing?.cipher.knows(key_id) !== true);
  if (missing.length > 0) throw keyMissing(location, missing[0]?.key_id ?? "", sealing);
  return recorded;
}

function keyMissing(location: string, key_id: string, sealing: Sealing | null): StorageRefused {
  const remedy =
    sealing === null
      ? "Set LANGGRAPH_AES_KEY to the key it was encrypted with."
      : "Neither LANGGRAPH_AES_KEY nor LANGGRAPH_AES_KEYS_OLD is that key: add it to LANGGRAPH_AES_KEYS_OLD.";
  return new StorageRefused(
    `The database ${location} holds data encrypted under the key with the id ${key_id}. ${remedy}`,
  );
}
