/** The long-term store as graphs and clients share it: what their operations do, and how long items live. */
import type { StorageReply, StoreItem, StoreOperation } from "../executor/protocol.ts";
import type { Storage } from "../storage/storage.ts";
import * as items from "../storage/tables/store.ts";
import { isoTime } from "./wire.ts";

export interface StoreOptions {
  readonly storage: Storage;
  readonly ttl: {
    /** Minutes to live of items that are put without a time of their own; null for ever. */
    readonly defaultMinutes: number | null;
    /** Whether a read starts the time again, where the reader does not say. */
    readonly refreshOnRead: boolean;
  };
  /** Names what makes the vectors; null when the store has no index. */
  readonly embedder: string | null;
}

type Write = Extract<StoreOperation, { op: "put" }>;
type Read = Exclude<StoreOperation, Write>;
type Answer = StorageReply["store"][number];

interface ReadAnswer {
  readonly answer: Answer;
  /** Items whose time to live starts again. */
  readonly refresh: readonly items.ItemKey[];
}

/** Items removed in one transaction: others have their turn in between. */
const SWEEP_BATCH = 500;

export class Store {
  readonly #options: StoreOptions;

  constructor(options: StoreOptions) {
    this.#options = options;
  }

  get hasIndex(): boolean {
    return this.#options.embedder !== null;
  }

  /** Carries out operations in order, one answer each; neighbouring writes share a transaction. */
  async run(operations: readonly StoreOperation[], now = this.#options.storage.now()): Promise<StorageReply["store"]> {
    const answers: Answer[] = [];
    for (const group of grouped(operations)) {
      answers.push(
        ...(group.writes ? await this.#write(group.operations, now) : await this.#read(group.operations, now)),
      );
    }
    return answers;
  }

  /** Removes what is over. Readers do not see it in any case. */
  async sweep(now = this.#options.storage.now()): Promise<void> {
    const { storage } = this.#options;
    for (;;) {
      const removed = await storage.write((tx) => items.sweep(tx, now, SWEEP_BATCH), { durable: false });
      if (removed < SWEEP_BATCH) return;
    }
  }

  async #write(operations: readonly Write[], now: number): Promise<Answer[]> {
    const { storage, ttl, embedder } = this.#options;
    await storage.write(async (tx) => {
      for (const operation of operations) {
        const { value, vectors = [] } = operation;
        const minutes = operation.ttl === undefined ? ttl.defaultMinutes : operation.ttl;
        if (value === null) await items.remove(tx, operation);
        else await items.put(tx, { ...operation, value, ttl: minutes, vectors, embedder: embedder ?? "" }, now);
      }
    });
    return operations.map(() => null);
  }

  async #read(operations: readonly Read[], now: number): Promise<Answer[]> {
    const { storage } = this.#options;
    const reads: ReadAnswer[] = [];
    for (const operation of operations) reads.push(await this.#readOne(operation, now));
    const refresh = reads.flatMap((read) => read.refresh);
    if (refresh.length > 0) await storage.write((tx) => items.refresh(tx, refresh, now), { durable: false });
    return reads.map((read) => read.answer);
  }

  async #readOne(operation: Read, now: number): Promise<ReadAnswer> {
    const { storage } = this.#options;
    switch (operation.op) {
      case "get": {
        const item = await storage.read((db) => items.get(db, operation, now));
        if (item === undefined) return { answer: null, refresh: [] };
        return { answer: toWire({ item, score: null }), refresh: this.#refreshing(operation, [item]) };
      }
      case "search": {
        const hits = await this.#search(operation, now);
        const found = hits.map(({ item }) => item);
        return { answer: hits.map(toWire), refresh: this.#refreshing(operation, found) };
      }
      case "list_namespaces":
        return { answer: await storage.read((db) => items.listNamespaces(db, operation, now)), refresh: [] };
      default:
        return operation satisfies never;
    }
  }

  #search(operation: Extract<Read, { op: "search" }>, now: number): Promise<items.Hit[]> {
    const { storage, embedder } = this.#options;
    const { vector } = operation;
    if (vector === undefined || embedder === null) return storage.read((db) => items.search(db, operation, now));
    return storage.read((db) => items.searchNear(db, { ...operation, vector }, embedder, now));
  }

  #refreshing({ refresh_ttl }: Extract<Read, { op: "get" | "search" }>, found: readonly items.ItemRecord[]) {
    return (refresh_ttl ?? this.#options.ttl.refreshOnRead) ? found.filter(({ ttl }) => ttl !== null) : [];
  }
}

type Group =
  | { readonly writes: true; readonly operations: Write[] }
  | { readonly writes: false; readonly operations: Read[] };

/** Neighbours of a kind together. */
function grouped(operations: readonly StoreOperation[]): readonly Group[] {
  const groups: Group[] = [];
  for (const operation of operations) {
    const last = groups.at(-1);
    if (operation.op === "put") {
      if (last?.writes === true) last.operations.push(operation);
      else groups.push({ writes: true, operations: [operation] });
    } else if (last?.writes === false) last.operations.push(operation);
    else groups.push({ writes: false, operations: [operation] });
  }
  return groups;
}

const toWire = ({ item, score }: items.Hit): StoreItem => ({
  namespace: item.namespace,
  key: item.key,
  value: item.value,
  created_at: isoTime(item.created_at),
  updated_at: isoTime(item.updated_at),
  ...(score === null ? {} : { score }),
});
