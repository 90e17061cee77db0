/** The store, as a user may use it: handlers say which namespace a request really means. */
import type { AuthEvent } from "../../auth/handlers.ts";
import type { Json } from "../../executor/protocol.ts";
import type { StoreDelete, StoreListNamespaces, StorePut, StoreSearch } from "../../schemas/store.ts";
import type { StoreService } from "../contract.ts";
import type { Access, Members } from "./access.ts";

type Namespace = string[];

export class GuardedStore implements StoreService {
  readonly #inner: StoreService;
  readonly #access: Access;

  constructor(inner: StoreService, access: Access) {
    this.#inner = inner;
    this.#access = access;
  }

  async put(request: StorePut): Promise<void> {
    const { namespace, key, value, index, ttl } = request;
    const meant = await this.#ask("store:put", namespace, { key, value, index, ttl });
    await this.#inner.put({ ...request, namespace: meant });
  }

  async get(namespace: readonly string[], key: string, refresh_ttl: boolean | undefined): Promise<Json> {
    return this.#inner.get(await this.#ask("store:get", namespace, { key }), key, refresh_ttl);
  }

  async delete(request: StoreDelete): Promise<void> {
    const meant = await this.#ask("store:delete", request.namespace ?? [], { key: request.key });
    await this.#inner.delete({ ...request, namespace: meant });
  }

  async search(request: StoreSearch): Promise<Json> {
    const { namespace_prefix, filter, limit, offset, query } = request;
    const meant = await this.#ask("store:search", namespace_prefix ?? [], { filter, limit, offset, query });
    return this.#inner.search({ ...request, namespace_prefix: meant });
  }

  async namespaces(request: StoreListNamespaces): Promise<readonly (readonly string[])[]> {
    const { prefix, suffix, max_depth, limit, offset } = request;
    const event = "store:list_namespaces";
    const meant = await this.#ask(event, prefix ?? [], { suffix, max_depth, limit, offset });
    // Here it would stand for any label, and a user of that name for all users.
    if (wildcards(meant) > wildcards(prefix ?? [])) {
      throw new Error(
        `after the handler of auth for ${event} value.namespace has a label "*" that the request had not`,
      );
    }
    return this.#inner.namespaces({ ...request, prefix: meant });
  }

  /** The namespace as handlers left it. */
  async #ask(event: AuthEvent, namespace: readonly string[], fixed: Members): Promise<Namespace> {
    const { value } = await this.#access.ask(event, { fixed, open: { namespace: [...namespace] } });
    const { namespace: meant } = value;
    if (isNamespace(meant)) return meant;
    throw new Error(`after the handler of auth for ${event} value.namespace is no list of texts that are not empty`);
  }
}

const wildcards = (namespace: readonly string[]): number => namespace.filter((label) => label === "*").length;

const isNamespace = (value: unknown): value is Namespace =>
  Array.isArray(value) && value.every((label) => typeof label === "string" && label !== "");
