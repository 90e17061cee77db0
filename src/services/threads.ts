/** Threads: where runs leave their state. */
import { v7 as uuid7 } from "uuid";
import { isCurrent, shownBy, storeWrites } from "../engine/state-update.ts";
import { isoTime } from "../engine/wire.ts";
import { conflict, notFound } from "../errors.ts";
import type { Json, StateChange } from "../executor/protocol.ts";
import type { CheckpointConfig } from "../schemas/common.ts";
import type { ThreadStateSearch, ThreadStateUpdate, ThreadStateUpdateResponse } from "../schemas/thread-states.ts";
import type { Thread, ThreadCreate } from "../schemas/threads.ts";
import type { Storage, ThreadRecord, Tx } from "../storage/storage.ts";
import * as threads from "../storage/tables/threads.ts";
import type { ThreadsService } from "./contract.ts";
import { newThread } from "./runs.ts";
import type { ThreadStates } from "./thread-states.ts";

export interface ThreadsOptions {
  readonly storage: Storage;
  readonly states: ThreadStates;
}

export class Threads implements ThreadsService {
  readonly #options: ThreadsOptions;

  constructor(options: ThreadsOptions) {
    this.#options = options;
  }

  async create(request: ThreadCreate): Promise<Thread> {
    const thread_id = request.thread_id ?? uuid7();
    const seed = await this.#seed(thread_id, request);
    const empty = newThread(thread_id, "idle", request.metadata ?? {}, Date.now());
    const record = seed === undefined ? empty : { ...empty, ...shownBy(seed.snapshot) };
    return this.#options.storage.write(async (tx) => {
      if (await threads.insert(tx, record)) {
        if (seed !== undefined) await storeSeed(tx, thread_id, seed);
        return toWire(record);
      }
      const existing = await threads.find(tx, thread_id);
      if (existing !== undefined && request.if_exists === "do_nothing") return toWire(existing);
      throw conflict(`Thread ${thread_id} already exists`);
    });
  }

  /** The state a new thread begins with; nothing when the thread is there already, for it is not begun again. */
  async #seed(thread_id: string, { supersteps, metadata }: ThreadCreate): Promise<StateChange | undefined> {
    if (supersteps == null || supersteps.length === 0) return undefined;
    const existing = await this.#options.storage.read((db) => threads.find(db, thread_id));
    return existing === undefined ? this.#options.states.seed(thread_id, metadata ?? {}, supersteps) : undefined;
  }

  async get(thread_id: string): Promise<Thread> {
    return toWire(await this.#find(thread_id));
  }

  state(
    thread_id: string,
    checkpoint: CheckpointConfig,
    subgraphs: boolean,
    select: readonly string[] | null = null,
  ): Promise<Json> {
    return this.#options.states.state(thread_id, checkpoint, subgraphs, select ?? []);
  }

  history(thread_id: string, search: ThreadStateSearch): Promise<Json> {
    return this.#options.states.history(thread_id, search);
  }

  updateState(thread_id: string, request: ThreadStateUpdate): Promise<ThreadStateUpdateResponse> {
    return this.#options.states.update(thread_id, request);
  }

  async #find(thread_id: string): Promise<ThreadRecord> {
    const record = await this.#options.storage.read((db) => threads.find(db, thread_id));
    if (record === undefined) throw notFound(`Thread ${thread_id} not found`);
    return record;
  }
}

/** A thread of this id may have come and gone while the seed was worked out. */
async function storeSeed(tx: Tx, thread_id: string, seed: StateChange): Promise<void> {
  if (!(await isCurrent(tx, thread_id, seed))) throw conflict(`Thread ${thread_id} already has a state`);
  await storeWrites(tx, seed.writes);
}

function toWire(record: ThreadRecord): Thread {
  return {
    thread_id: record.thread_id,
    created_at: isoTime(record.created_at),
    updated_at: isoTime(record.updated_at),
    state_updated_at: isoTime(record.state_updated_at),
    metadata: record.metadata,
    config: record.config,
    status: record.status,
    values: record.values === null ? null : JSON.parse(record.values),
    interrupts: JSON.parse(record.interrupts),
  };
}
