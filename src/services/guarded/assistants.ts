/** Assistants, as a user may use them. */
import { v7 as uuid7 } from "uuid";
import { conflict } from "../../errors.ts";
import type { Json } from "../../executor/protocol.ts";
import {
  type Assistant,
  AssistantCreate,
  type AssistantFilter,
  AssistantPatch,
  AssistantSearch,
  type AssistantVersionsSearch,
} from "../../schemas/assistants.ts";
import * as visible from "../../storage/tables/visible.ts";
import type { Assistants } from "../assistants.ts";
import type { AssistantsService } from "../contract.ts";
import { type Access, admitting, changed, given, openMetadata } from "./access.ts";

export class GuardedAssistants implements AssistantsService {
  readonly #inner: Assistants;
  readonly #access: Access;

  constructor(inner: Assistants, access: Access) {
    this.#inner = inner;
    this.#access = access;
  }

  async create(request: AssistantCreate): Promise<Assistant> {
    const event = "assistants:create";
    const assistant_id = request.assistant_id ?? uuid7();
    const { graph_id, if_exists, metadata, config, context, name, description } = request;
    const { value, filter } = await this.#access.ask(event, {
      fixed: { assistant_id, graph_id, if_exists },
      open: { ...given({ config, context, name, description }), ...openMetadata(metadata) },
    });
    const taken = conflict(`Assistant ${assistant_id} already exists`);
    const admit = filter === null ? undefined : admitting(visible.assistant, assistant_id, filter, taken);
    return this.#inner.create(changed(AssistantCreate, request, value, event), admit);
  }

  async patch(id: string, request: AssistantPatch): Promise<Assistant> {
    const event = "assistants:update";
    const { graph_id, metadata, config, context, name, description } = request;
    const open = { ...given({ config, context, name, description }), ...openMetadata(metadata) };
    const { value, admit } = await this.#access.assistant(event, id, given({ graph_id }), open);
    return this.#inner.patch(id, changed(AssistantPatch, request, value, event), admit);
  }

  async versions(id: string, request: AssistantVersionsSearch): ReturnType<AssistantsService["versions"]> {
    await this.#access.assistant("assistants:read", id);
    return this.#inner.versions(id, request);
  }

  async setLatest(id: string, version: number): Promise<Assistant> {
    const { admit } = await this.#access.assistant("assistants:update", id, { version });
    return this.#inner.setLatest(id, version, admit);
  }

  /** Of the assistant's threads, those go that the user may delete. */
  async delete(id: string, delete_threads: boolean): Promise<string> {
    const { admit } = await this.#access.assistant("assistants:delete", id, { delete_threads });
    if (!delete_threads) return this.#inner.delete(id, false, admit);
    const { filter } = await this.#access.ask("threads:delete", { fixed: { thread_id: null } });
    return this.#inner.delete(id, true, admit, filter);
  }

  async get(id: string): Promise<Assistant> {
    await this.#access.assistant("assistants:read", id);
    return this.#inner.get(id);
  }

  async search(request: AssistantSearch): ReturnType<AssistantsService["search"]> {
    const { graph_id, name, metadata, limit, offset } = request;
    const { value, filter } = await this.#access.ask("assistants:search", {
      fixed: given({ graph_id, name, limit, offset }),
      open: openMetadata(metadata),
    });
    return this.#inner.search(changed(AssistantSearch, request, value, "assistants:search"), filter);
  }

  async count(request: AssistantFilter): Promise<number> {
    const { graph_id, name, metadata } = request;
    const { value, filter } = await this.#access.ask("assistants:search", {
      fixed: given({ graph_id, name }),
      open: openMetadata(metadata),
    });
    return this.#inner.count(changed(AssistantSearch, request, value, "assistants:search"), filter);
  }

  async graph(id: string, xray: boolean | number): Promise<Json> {
    await this.#access.assistant("assistants:read", id);
    return this.#inner.graph(id, xray);
  }

  async subgraphs(id: string, namespace: string | null, recurse: boolean): Promise<Json> {
    await this.#access.assistant("assistants:read", id);
    return this.#inner.subgraphs(id, namespace, recurse);
  }

  async schemas(id: string): Promise<Json> {
    await this.#access.assistant("assistants:read", id);
    return this.#inner.schemas(id);
  }
}
