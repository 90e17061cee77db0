/** LangGraph's long-term store, kept by the main thread. Operations of one batch travel in one call. */
import type { BaseStore, Item, Operation, SearchItem } from "@langchain/langgraph-checkpoint";
import type { LangGraph } from "./langgraph.ts";
import type { StoragePort } from "./port.ts";
import type { StoreItem, StoreOperation } from "./protocol.ts";
import { toJson } from "./serialize.ts";

const stores = new WeakMap<LangGraph, new (port: StoragePort) => BaseStore>();

export function makeStore(langgraph: LangGraph, port: StoragePort): BaseStore {
  let StoreClass = stores.get(langgraph);
  if (StoreClass === undefined) {
    StoreClass = storeClass(langgraph);
    stores.set(langgraph, StoreClass);
  }
  return new StoreClass(port);
}

function storeClass({ BaseStore: Base }: LangGraph): new (port: StoragePort) => BaseStore {
  class SkeinStore extends Base {
    readonly #port: StoragePort;

    constructor(port: StoragePort) {
      super();
      this.#port = port;
    }

    /** Keeps stringifiers out of the port when a config is logged. */
    toJSON(): string {
      return "[SkeinStore]";
    }

    override async batch<Op extends Operation[]>(operations: Op): Promise<never> {
      const answers = await this.#port.call({ op: "store", operations: operations.map(toOperation) });
      return operations.map((operation, i) => toAnswer(operation, answers[i])) as never;
    }
  }
  return SkeinStore;
}

function toOperation(operation: Operation): StoreOperation {
  if ("namespacePrefix" in operation) {
    if (operation.query !== undefined && operation.query !== null) {
      throw new Error("Semantic search needs a vector index, and this store has none: search without `query`.");
    }
    return {
      op: "search",
      prefix: operation.namespacePrefix,
      filter: operation.filter ?? null,
      limit: operation.limit ?? 10,
      offset: operation.offset ?? 0,
    };
  }
  if ("value" in operation) {
    const value = operation.value === null ? null : toJson(operation.value);
    return { op: "put", namespace: operation.namespace, key: operation.key, value };
  }
  if ("key" in operation) return { op: "get", namespace: operation.namespace, key: operation.key };
  return {
    op: "list_namespaces",
    conditions: (operation.matchConditions ?? []).map(({ matchType, path }) => ({ match: matchType, path })),
    max_depth: operation.maxDepth ?? null,
    limit: operation.limit,
    offset: operation.offset,
  };
}

function toAnswer(operation: Operation, answer: unknown): unknown {
  if ("namespacePrefix" in operation) return (answer as readonly StoreItem[]).map(toItem) satisfies SearchItem[];
  if ("value" in operation) return undefined;
  if ("key" in operation) return answer === null ? null : toItem(answer as StoreItem);
  return answer;
}

function toItem(item: StoreItem): Item {
  return {
    namespace: [...item.namespace],
    key: item.key,
    value: JSON.parse(item.value) as Record<string, unknown>,
    createdAt: new Date(item.created_at),
    updatedAt: new Date(item.updated_at),
  };
}
