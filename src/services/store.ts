/** The long-term store as clients see it: the same items that graphs keep. */
import { GraphQuestionError } from "../engine/executor-thread.ts";
import type { Store } from "../engine/store.ts";
import { unavailable } from "../errors.ts";
import type { EmbedAnswer, Json, Question, StoreItem, StoreOperation } from "../executor/protocol.ts";
import type { StoreDelete, StoreListNamespaces, StorePut, StoreSearch } from "../schemas/store.ts";
import type { StoreService } from "./contract.ts";

export interface LongTermStoreOptions {
  readonly store: Store;
  readonly ask: (question: Question) => Promise<Json>;
}

const SEARCH_LIMIT = 10;
const NAMESPACES_LIMIT = 100;

export class LongTermStore implements StoreService {
  readonly #options: LongTermStoreOptions;

  constructor(options: LongTermStoreOptions) {
    this.#options = options;
  }

  async put({ namespace, key, value, index, ttl }: StorePut): Promise<void> {
    await this.#run(await this.#embedded({ op: "put", namespace, key, value: JSON.stringify(value), index, ttl }));
  }

  async get(namespace: readonly string[], key: string, refresh_ttl: boolean | undefined): Promise<Json> {
    const item = (await this.#run({ op: "get", namespace, key, refresh_ttl })) as StoreItem | null;
    return item === null ? "null" : itemJson(item);
  }

  async delete({ namespace, key }: StoreDelete): Promise<void> {
    await this.#run({ op: "put", namespace: namespace ?? [], key, value: null });
  }

  async search({ namespace_prefix, filter, limit, offset, query, refresh_ttl }: StoreSearch): Promise<Json> {
    const operation = await this.#embedded({
      op: "search",
      prefix: namespace_prefix ?? [],
      filter: filter ?? null,
      limit: limit ?? SEARCH_LIMIT,
      offset: offset ?? 0,
      query: query ?? null,
      refresh_ttl: refresh_ttl ?? undefined,
    });
    const items = (await this.#run(operation)) as readonly StoreItem[];
    return `[${items.map(itemJson).join(",")}]`;
  }

  async namespaces(request: StoreListNamespaces): Promise<readonly (readonly string[])[]> {
    const { prefix, suffix, max_depth, limit, offset } = request;
    const answer = await this.#run({
      op: "list_namespaces",
      conditions: [
        ...(prefix == null ? [] : [{ match: "prefix" as const, path: prefix }]),
        ...(suffix == null ? [] : [{ match: "suffix" as const, path: suffix }]),
      ],
      max_depth: max_depth ?? null,
      limit: limit ?? NAMESPACES_LIMIT,
      offset: offset ?? 0,
    });
    return answer as readonly (readonly string[])[];
  }

  async #run(operation: StoreOperation): Promise<unknown> {
    const [answer] = await this.#options.store.run([operation]);
    return answer;
  }

  /** Vectors are made where user code runs, and before any transaction. */
  async #embedded(operation: StoreOperation): Promise<StoreOperation> {
    if (!this.#options.store.hasIndex || !needsVectors(operation)) return operation;
    const [vectors = []] = JSON.parse(await this.#ask(operation)) as EmbedAnswer;
    const decoded = vectors.map(([path, base64]) => ({ path, vector: floats(base64) }));
    if (operation.op === "put") return { ...operation, vectors: decoded };
    const [query] = decoded;
    return query === undefined ? operation : ({ ...operation, vector: query.vector } as StoreOperation);
  }

  async #ask(operation: StoreOperation): Promise<Json> {
    try {
      return await this.#options.ask({ ask: "embed", operations: [operation] });
    } catch (error) {
      throw error instanceof GraphQuestionError ? unavailable(error.message) : error;
    }
  }
}

function needsVectors(operation: StoreOperation): boolean {
  if (operation.op === "put") return operation.value !== null && operation.index !== false;
  return operation.op === "search" && typeof operation.query === "string" && operation.query.trim() !== "";
}

function floats(base64: string): Float32Array {
  // A copy, so that it begins where a number may.
  return new Float32Array(Uint8Array.from(Buffer.from(base64, "base64")).buffer);
}

/** The value is JSON text already. */
function itemJson({ value, ...item }: StoreItem): Json {
  return `{"value":${value},${JSON.stringify(item).slice(1)}`;
}
