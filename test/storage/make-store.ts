import { Store, type StoreOptions } from "../../src/engine/store.ts";
import type { Storage } from "../../src/storage/storage.ts";

/** The store over a storage: items stay, nothing is embedded, unless told otherwise. */
export const makeStore = (storage: Storage, options: Partial<Omit<StoreOptions, "storage">> = {}): Store =>
  new Store({ storage, ttl: { defaultMinutes: null, refreshOnRead: true }, embedder: null, ...options });
