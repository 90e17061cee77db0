/** Threads: where runs leave their state. */
import { v7 as uuid7 } from "uuid";
import { isoTime } from "../engine/wire.ts";
import { conflict, notFound } from "../errors.ts";
import type { CheckpointRef, Json, Question } from "../executor/protocol.ts";
import type { CheckpointConfig } from "../schemas/common.ts";
import type { Thread, ThreadCreate } from "../schemas/threads.ts";
import type { Storage, ThreadRecord } from "../storage/storage.ts";
import * as threads from "../storage/tables/threads.ts";
import { requireCheckpoint } from "./checkpoints.ts";
import type { ThreadsService } from "./contract.ts";
import { newThread } from "./runs.ts";

export interface ThreadsOptions {
  readonly storage: Storage;
  readonly ask: (question: Question) => Promise<Json>;
}

/** The state of a thread that no graph has run on. */
const NO_STATE: Json = JSON.stringify({
  values: {},
  next: [],
  tasks: [],
  metadata: {},
  checkpoint: null,
  created_at: null,
  parent_checkpoint: null,
  interrupts: [],
  checkpoint_id: null,
  parent_checkpoint_id: null,
});

export class Threads implements ThreadsService {
  readonly #options: ThreadsOptions;

  constructor(options: ThreadsOptions) {
    this.#options = options;
  }

  async create(request: ThreadCreate): Promise<Thread> {
    const thread_id = request.thread_id ?? uuid7();
    const record = newThread(thread_id, "idle", request.metadata ?? {}, Date.now());
    return this.#options.storage.write(async (tx) => {
      if (await threads.insert(tx, record)) return toWire(record);
      const existing = await threads.find(tx, thread_id);
      if (existing !== undefined && request.if_exists === "do_nothing") return toWire(existing);
      throw conflict(`Thread ${thread_id} already exists`);
    });
  }

  async get(thread_id: string): Promise<Thread> {
    return toWire(await this.#find(thread_id));
  }

  async state(thread_id: string, checkpoint: CheckpointConfig, subgraphs: boolean): Promise<Json> {
    const { metadata } = await this.#find(thread_id);
    await this.#options.storage.read((db) => requireCheckpoint(db, thread_id, checkpoint));
    if (typeof metadata.graph_id !== "string") return NO_STATE;
    const config = { configurable: {} };
    const { graph_id } = metadata;
    return this.#options.ask({ ask: "state", graph_id, config, thread_id, checkpoint: refOf(checkpoint), subgraphs });
  }

  async #find(thread_id: string): Promise<ThreadRecord> {
    const record = await this.#options.storage.read((db) => threads.find(db, thread_id));
    if (record === undefined) throw notFound(`Thread ${thread_id} not found`);
    return record;
  }
}

function refOf({ checkpoint_id, checkpoint_ns, checkpoint_map }: CheckpointConfig): CheckpointRef {
  return {
    ...(checkpoint_id == null ? {} : { checkpoint_id }),
    ...(checkpoint_ns == null ? {} : { checkpoint_ns }),
    ...(checkpoint_map == null ? {} : { checkpoint_map }),
  };
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
