/**
 * LangGraph's long-term store, kept by the main thread. Operations of one turn of the event loop travel in one call, and
 * the calls of a run follow one another, so that a later write of an item never loses to an earlier one.
 */
import { toUSVString } from "node:util";
import type { BaseStore, Item, Operation, SearchItem } from "@langchain/langgraph-checkpoint";
import { MAX_TTL_MINUTES } from "../schemas/limits.ts";
import type { LangGraph, StoreWrapperClass } from "./langgraph.ts";
import type { StoragePort } from "./port.ts";
import type { StoreItem, StoreOperation } from "./protocol.ts";
import { toJson } from "./serialize.ts";
import type { StoreIndex } from "./store-index.ts";

/** What `BaseStore` has no words for. Source: LangGraph's stores in Python. */
interface PutOptions {
  /** Minutes to live; null for ever. Absent: the configured default. */
  readonly ttl?: number | null;
}
interface ReadOptions {
  /** Start the time to live again? Absent: as the configuration says. */
  readonly refreshTtl?: boolean;
}
type AnyOperation = Operation & PutOptions & ReadOptions;
type SearchOptions = NonNullable<Parameters<BaseStore["search"]>[1]> & ReadOptions;

type StoreClass = new (port: StoragePort, index: StoreIndex | null) => BaseStore;

const stores = new WeakMap<LangGraph, StoreClass>();

export function makeStore(
  { langgraph, index }: { readonly langgraph: LangGraph; readonly index: StoreIndex | null },
  port: StoragePort,
): BaseStore {
  let StoreClass = stores.get(langgraph);
  if (StoreClass === undefined) {
    StoreClass = storeClass(langgraph);
    if (langgraph.AsyncBatchedStore !== undefined) unwrap(langgraph.AsyncBatchedStore, StoreClass);
    stores.set(langgraph, StoreClass);
  }
  return new StoreClass(port, index);
}

/** One `batch` of a caller: it succeeds or fails on its own. */
interface Entry {
  readonly operations: readonly StoreOperation[];
  readonly resolve: (answers: readonly unknown[]) => void;
  readonly reject: (error: unknown) => void;
}

function storeClass({ BaseStore: Base }: LangGraph): StoreClass {
  class SkeinStore extends Base {
    readonly #port: StoragePort;
    readonly #index: StoreIndex | null;
    /** Entries of this turn. */
    #entries: Entry[] = [];
    #done: Promise<void> = Promise.resolve();

    constructor(port: StoragePort, index: StoreIndex | null) {
      super();
      this.#port = port;
      this.#index = index;
    }

    /** Keeps stringifiers out of the port when a config is logged. */
    toJSON(): string {
      return "[SkeinStore]";
    }

    override async batch<Op extends Operation[]>(operations: Op): Promise<never> {
      const wanted = operations.map(toOperation);
      const answers = await new Promise<readonly unknown[]>((resolve, reject) => {
        this.#enqueue({ operations: wanted, resolve, reject });
      });
      return operations.map((operation, i) => toAnswer(operation, answers[i])) as never;
    }

    override put(
      namespace: string[],
      key: string,
      value: Record<string, unknown>,
      index?: false | string[],
      options: PutOptions = {},
    ): Promise<void> {
      return super.put.call(this.#adding(options), namespace, key, value, index);
    }

    override get(namespace: string[], key: string, options: ReadOptions = {}): Promise<Item | null> {
      return super.get.call(this.#adding(options), namespace, key);
    }

    override search(prefix: string[], options: SearchOptions = {}): Promise<SearchItem[]> {
      return super.search.call(this.#adding(options), prefix, options);
    }

    /** This store for one of LangGraph's methods, which check their arguments and call `batch` with what they know. */
    #adding({ ttl, refreshTtl }: PutOptions & ReadOptions): BaseStore {
      const batch = (operations: Operation[]): Promise<never> =>
        this.batch(operations.map((operation) => ({ ...operation, ttl, refreshTtl })));
      return Object.create(this, { batch: { value: batch } }) as BaseStore;
    }

    #enqueue(entry: Entry): void {
      if (this.#entries.push(entry) > 1) return;
      setImmediate(() => {
        const entries = this.#entries;
        this.#entries = [];
        this.#done = this.#done.then(() => this.#carryOut(entries));
      });
    }

    async #carryOut(entries: readonly Entry[]): Promise<void> {
      const ready = await Promise.all(entries.map((entry) => this.#embedded(entry)));
      await this.#send(ready.filter((entry) => entry !== undefined));
    }

    /** Undefined when the embedder fails: then nothing of the entry is carried out. */
    async #embedded(entry: Entry): Promise<Entry | undefined> {
      const index = this.#index;
      if (index === null) return entry;
      try {
        return { ...entry, operations: await Promise.all(entry.operations.map((operation) => index.embed(operation))) };
      } catch (thrown) {
        entry.reject(thrown);
        return undefined;
      }
    }

    async #send(entries: readonly Entry[]): Promise<void> {
      const operations = entries.flatMap((entry) => entry.operations);
      try {
        const answers = operations.length === 0 ? [] : await this.#port.call({ op: "store", operations });
        let next = 0;
        for (const { operations, resolve } of entries) {
          resolve(answers.slice(next, next + operations.length));
          next += operations.length;
        }
      } catch (thrown) {
        const [only] = entries;
        if (entries.length === 1) only?.reject(thrown);
        // One of them is to blame. Carried out in order once more, those before it end as they did.
        else for (const entry of entries) await this.#send([entry]);
      }
    }
  }
  return SkeinStore;
}

const METHODS = ["batch", "get", "search", "put", "delete", "listNamespaces"] as const;

/**
 * Lets the wrapper that LangGraph puts around a graph's store pass our store's methods through. By itself it gathers
 * operations too, by a timer that wakes a thousand times a second for as long as the run takes, and it loses `index`,
 * `batch` and `listNamespaces`.
 */
function unwrap({ prototype }: StoreWrapperClass, StoreClass: StoreClass): void {
  type Method = (this: { readonly store?: unknown; running: boolean }, ...args: unknown[]) => unknown;
  const wrapper = prototype as unknown as Record<string, Method>;
  type Ours = Record<(typeof METHODS)[number], (...args: never[]) => unknown>;
  const ours = (store: unknown): store is Ours => store instanceof StoreClass;
  const start = wrapper.start;
  for (const name of METHODS) {
    const own = wrapper[name];
    wrapper[name] = function (...args) {
      return ours(this.store) ? this.store[name](...(args as never[])) : own?.apply(this, args);
    };
  }
  wrapper.start = function (...args) {
    if (!ours(this.store)) return start?.apply(this, args);
    this.running = true;
    return undefined;
  };
  const stop = wrapper.stop;
  wrapper.stop = function (...args) {
    if (!ours(this.store)) return stop?.apply(this, args);
    this.running = false;
    // A run that failed drops what is still unread of its stream right after this: the reader gets a turn first.
    return new Promise<void>((resolve) => setImmediate(resolve));
  };
}

/* ------------------------------------------------------------------- LangGraph ↔ protocol */

function toOperation(operation: AnyOperation): StoreOperation {
  if ("namespacePrefix" in operation) {
    return {
      op: "search",
      prefix: operation.namespacePrefix.map(cleanText),
      filter: operation.filter === undefined ? null : (JSON.parse(toJson(operation.filter)) as Record<string, unknown>),
      limit: count(operation.limit ?? 10),
      offset: count(operation.offset ?? 0),
      query: operation.query ?? null,
      refresh_ttl: operation.refreshTtl,
    };
  }
  if ("value" in operation) return toPut(operation);
  if ("key" in operation) return { op: "get", ...place(operation), refresh_ttl: operation.refreshTtl };
  return {
    op: "list_namespaces",
    conditions: (operation.matchConditions ?? []).map(({ matchType, path }) => ({
      match: matchType,
      path: path.map(cleanText),
    })),
    max_depth: operation.maxDepth ?? null,
    limit: count(operation.limit ?? 100),
    offset: count(operation.offset ?? 0),
  };
}

const count = (wanted: number): number => Math.max(0, Math.trunc(wanted));

function toPut(operation: Extract<Operation, { value: unknown }> & PutOptions): StoreOperation {
  const { value, index, ttl } = operation;
  if (ttl !== undefined && ttl !== null && !(ttl > 0 && ttl <= MAX_TTL_MINUTES)) {
    throw new RangeError(`ttl: a number of minutes above 0 and at most ${MAX_TTL_MINUTES}, not ${ttl}`);
  }
  return { op: "put", ...place(operation), value: value === null ? null : toJson(value), index, ttl };
}

const place = ({ namespace, key }: { readonly namespace: readonly string[]; readonly key: string }) => ({
  namespace: namespace.map(cleanText),
  key: cleanText(key),
});

/** As clients' text is cleaned, so that both name the same item. */
const cleanText = (text: string): string => toUSVString(text).replaceAll("\0", "\ufffd");

function toAnswer(operation: Operation, answer: unknown): unknown {
  if ("namespacePrefix" in operation) return (answer as readonly StoreItem[]).map(toItem);
  if ("value" in operation) return undefined;
  if ("key" in operation) return answer === null ? null : toItem(answer as StoreItem);
  return answer;
}

function toItem({ score, ...item }: StoreItem): SearchItem {
  return {
    namespace: [...item.namespace],
    key: item.key,
    value: JSON.parse(item.value) as Record<string, unknown>,
    createdAt: new Date(item.created_at),
    updatedAt: new Date(item.updated_at),
    ...(score === undefined ? {} : { score }),
  };
}
