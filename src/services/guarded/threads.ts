/** Threads, as a user may use them. */
import { v7 as uuid7 } from "uuid";
import { conflict } from "../../errors.ts";
import type { Json } from "../../executor/protocol.ts";
import type { CheckpointConfig } from "../../schemas/common.ts";
import type { ThreadStateSearch, ThreadStateUpdate, ThreadStateUpdateResponse } from "../../schemas/thread-states.ts";
import {
  type Thread,
  ThreadCreate,
  type ThreadFilter,
  ThreadPatch,
  type ThreadPrune,
  ThreadSearch,
} from "../../schemas/threads.ts";
import type { MetadataFilter } from "../../storage/filter.ts";
import * as visible from "../../storage/tables/visible.ts";
import type { ThreadsService } from "../contract.ts";
import type { Threads } from "../threads.ts";
import { type Access, addedTo, admitting, changed, given, markOf, openMetadata } from "./access.ts";

export class GuardedThreads implements ThreadsService {
  readonly #inner: Threads;
  readonly #access: Access;

  constructor(inner: Threads, access: Access) {
    this.#inner = inner;
    this.#access = access;
  }

  async create(request: ThreadCreate): Promise<Thread> {
    const event = "threads:create";
    const thread_id = request.thread_id ?? uuid7();
    const { if_exists, metadata, ttl, supersteps } = request;
    const { value, filter } = await this.#access.ask(event, {
      fixed: { thread_id, ...given({ if_exists, ttl }) },
      open: openMetadata(metadata),
    });
    if (supersteps != null && supersteps.length > 0) await this.#requireGraph(metadata ?? {});
    const taken = conflict(`Thread ${thread_id} already exists`);
    const admit = filter === null ? undefined : admitting(visible.thread, thread_id, filter, taken);
    const asked = changed(ThreadCreate, request, value, event);
    return this.#inner.create({ ...asked, metadata: { ...asked.metadata, ...markOf(this.#access) } }, admit);
  }

  /** The assistant whose nodes the seed of a thread names. */
  async #requireGraph({ assistant_id, graph_id }: Readonly<Record<string, unknown>>): Promise<void> {
    const named = assistant_id ?? graph_id;
    if (typeof named === "string") await this.#access.assistant("assistants:read", named);
  }

  async get(thread_id: string, include: readonly "ttl"[]): Promise<Thread> {
    await this.#access.thread("threads:read", thread_id);
    return this.#inner.get(thread_id, include);
  }

  async update(thread_id: string, request: ThreadPatch): Promise<Thread> {
    const event = "threads:update";
    const open = openMetadata(request.metadata);
    const { value, admit } = await this.#access.thread(event, thread_id, given({ ttl: request.ttl }), open);
    return this.#inner.update(thread_id, changed(ThreadPatch, request, { metadata: value.metadata }, event), admit);
  }

  async delete(thread_id: string): Promise<void> {
    const { admit } = await this.#access.thread("threads:delete", thread_id);
    await this.#inner.delete(thread_id, admit);
  }

  async search(request: ThreadSearch): ReturnType<ThreadsService["search"]> {
    const { ids, status, values, limit, offset } = request;
    const { value, filter } = await this.#access.ask("threads:search", {
      fixed: given({ ids, status, values, limit, offset }),
      open: openMetadata(request.metadata),
    });
    return this.#inner.search(changed(ThreadSearch, request, value, "threads:search"), filter);
  }

  async count(request: ThreadFilter): Promise<number> {
    const { status, values } = request;
    const { value, filter } = await this.#access.ask("threads:search", {
      fixed: given({ status, values }),
      open: openMetadata(request.metadata),
    });
    return this.#inner.count(changed(ThreadSearch, request, value, "threads:search"), filter);
  }

  /** The source must be the user's to read, and the copy the user's to make. */
  async copy(thread_id: string): Promise<Thread> {
    const { admit } = await this.#access.thread("threads:read", thread_id);
    const { metadata } = await this.#inner.get(thread_id, []);
    const asked = { fixed: { thread_id: null, copy_of: thread_id }, open: openMetadata(metadata) };
    const { value } = await this.#access.ask("threads:create", asked);
    const added = addedTo(metadata, value.metadata);
    return this.#inner.copy(thread_id, { ...added, ...markOf(this.#access) }, admit);
  }

  /** Each thread is asked about by itself; those that are not the user's to delete are as if they were not there. */
  async prune(request: ThreadPrune): Promise<number> {
    const { strategy } = request;
    const filters = new Map<string, MetadataFilter | null>();
    for (const thread_id of request.thread_ids) {
      const { filter } = await this.#access.ask("threads:delete", { fixed: { thread_id, ...given({ strategy }) } });
      filters.set(thread_id, filter);
    }
    return this.#inner.prune(request, async (tx, thread_id) => {
      const filter = filters.get(thread_id) ?? null;
      return filter === null || visible.thread(tx, thread_id, filter);
    });
  }

  async state(
    thread_id: string,
    checkpoint: CheckpointConfig,
    subgraphs: boolean,
    select?: readonly string[] | null,
  ): Promise<Json> {
    await this.#access.thread("threads:read", thread_id);
    return this.#inner.state(thread_id, checkpoint, subgraphs, select);
  }

  async history(thread_id: string, search: ThreadStateSearch): Promise<Json> {
    await this.#access.thread("threads:read", thread_id);
    return this.#inner.history(thread_id, search);
  }

  async updateState(thread_id: string, request: ThreadStateUpdate): Promise<ThreadStateUpdateResponse> {
    const { admit } = await this.#access.thread("threads:update", thread_id);
    return this.#inner.updateState(thread_id, request, admit);
  }
}
