/** Threads: where runs leave their state. */
import { v7 as uuid7 } from "uuid";
import { isCurrent, shownBy, storeWrites } from "../engine/state-update.ts";
import { type RemovedRuns, removeThread } from "../engine/thread-removal.ts";
import { cutHistory } from "../engine/thread-ttl.ts";
import { isoTime } from "../engine/wire.ts";
import { conflict, notFound } from "../errors.ts";
import type { Json, StateChange } from "../executor/protocol.ts";
import type { CheckpointConfig } from "../schemas/common.ts";
import type { ThreadStateSearch, ThreadStateUpdate, ThreadStateUpdateResponse } from "../schemas/thread-states.ts";
import {
  THREAD_FIELDS,
  type Thread,
  type ThreadCreate,
  type ThreadFilter,
  type ThreadPatch,
  type ThreadPrune,
  type ThreadSearch,
  type TtlStrategy,
} from "../schemas/threads.ts";
import { keysIn } from "../storage/filter.ts";
import { lockThread, lockThreads } from "../storage/locks.ts";
import type { Storage, ThreadRecord, ThreadTtl, Tx } from "../storage/storage.ts";
import * as checkpoints from "../storage/tables/checkpoints.ts";
import * as runs from "../storage/tables/runs.ts";
import * as threadSearch from "../storage/tables/thread-search.ts";
import * as threadValues from "../storage/tables/thread-values.ts";
import * as threads from "../storage/tables/threads.ts";
import type { Admit, Visible } from "./access.ts";
import type { ThreadsService } from "./contract.ts";
import { valueAt } from "./extract.ts";
import { newThread } from "./runs.ts";
import type { ThreadStates } from "./thread-states.ts";
import { askedTtl, defaultTtl, type TtlDefaults } from "./thread-ttl.ts";

export interface ThreadsOptions {
  readonly storage: Storage;
  readonly states: ThreadStates;
  readonly ttl: TtlDefaults;
  /** Threads were removed, and these runs with them. */
  readonly onRemoved: (runs: RemovedRuns) => void;
}

type VisibleThread = (tx: Tx, thread_id: string) => Promise<boolean>;
const ALL: VisibleThread = async () => true;

/** Threads that one write removes. */
const REMOVED_AT_ONCE = 20;

export class Threads implements ThreadsService {
  readonly #options: ThreadsOptions;
  readonly #totals = new threadSearch.KnownTotals();

  constructor(options: ThreadsOptions) {
    this.#options = options;
  }

  /** `admit`: of one that has the id already. */
  async create(request: ThreadCreate, admit?: Admit): Promise<Thread> {
    const thread_id = request.thread_id ?? uuid7();
    const seed = await this.#seed(thread_id, request);
    const now = this.#options.storage.now();
    const ttl = request.ttl == null ? this.#defaultTtl(now) : askedTtl(request.ttl, this.#options.ttl, now);
    const empty = newThread(thread_id, "idle", request.metadata ?? {}, now, { ttl });
    const record = seed === undefined ? empty : { ...empty, ...shownBy(seed.snapshot) };
    return this.#options.storage.write(async (tx) => {
      lockThread(tx, thread_id);
      if (await threads.insert(tx, record)) {
        if (seed !== undefined) await storeSeed(tx, thread_id, seed);
        return toWire(record);
      }
      await admit?.(tx);
      const existing = await threads.find(tx, thread_id);
      if (existing !== undefined && request.if_exists === "do_nothing") return toWire(existing);
      throw conflict(`Thread ${thread_id} already exists`);
    });
  }

  /** The state a new thread begins with; nothing when the thread is there already, for it is not begun again. */
  async #seed(thread_id: string, { supersteps, metadata }: ThreadCreate): Promise<StateChange | undefined> {
    if (supersteps == null || supersteps.length === 0) return undefined;
    const existing = await this.#options.storage.read((db) => threads.findBare(db, thread_id));
    return existing === undefined ? this.#options.states.seed(thread_id, metadata ?? {}, supersteps) : undefined;
  }

  async get(thread_id: string, include: readonly "ttl"[]): Promise<Thread> {
    const record = await this.#find(thread_id);
    return include.includes("ttl") ? { ...toWire(record), ttl: ttlToWire(record.ttl) } : toWire(record);
  }

  async update(thread_id: string, { metadata, ttl }: ThreadPatch, admit?: Admit): Promise<Thread> {
    const now = this.#options.storage.now();
    const change = ttl == null ? {} : { ttl: askedTtl(ttl, this.#options.ttl, now) };
    return this.#options.storage.write(async (tx) => {
      lockThread(tx, thread_id);
      await admit?.(tx);
      const record = await threads.find(tx, thread_id);
      if (record === undefined) throw unknownThread(thread_id);
      const merged = { ...record.metadata, ...metadata };
      await threads.touch(tx, thread_id, { ...change, metadata: merged, updated_at: now });
      return toWire({ ...record, metadata: merged, updated_at: now });
    });
  }

  async delete(thread_id: string, admit?: Admit): Promise<void> {
    const removed = await this.#options.storage.write(async (tx) => {
      lockThread(tx, thread_id);
      await admit?.(tx);
      return removeThread(tx, thread_id);
    });
    if (removed === undefined) throw unknownThread(thread_id);
    this.#options.onRemoved(removed);
  }

  async search(
    request: ThreadSearch,
    visible: Visible = null,
  ): Promise<{ items: readonly Partial<Thread>[]; total: number }> {
    const fields = request.select ?? THREAD_FIELDS;
    const paths = Object.entries(request.extract ?? {});
    const values = fields.includes("values") || paths.some(([, path]) => path.startsWith("values"));
    this.#checkSearch(request, visible);
    const options = { values, totals: this.#totals };
    const { items, total } = await this.#options.storage.read((db) =>
      threadSearch.search(db, { ...request, visible }, options),
    );
    return { items: items.map((record) => view(toWire(record), fields, paths)), total };
  }

  async count(filter: ThreadFilter, visible: Visible = null): Promise<number> {
    this.#checkSearch(filter, visible);
    return this.#options.storage.read((db) => threadSearch.count(db, { ...filter, visible }, this.#totals));
  }

  #checkSearch({ metadata, values }: ThreadFilter, visible: Visible): void {
    const looked = visible === null ? [] : keysIn(visible).map((key) => [key, true]);
    this.#options.storage.checkSearch({ metadata: { ...metadata, ...Object.fromEntries(looked) }, values });
  }

  /** `changed`: members of the copy's metadata that are not as the source has them. */
  async copy(thread_id: string, changed: Readonly<Record<string, unknown>> = {}, admit?: Admit): Promise<Thread> {
    const now = this.#options.storage.now();
    const copy_id = uuid7();
    return this.#options.storage.write(async (tx) => {
      lockThread(tx, thread_id);
      await admit?.(tx);
      const source = await threads.findBare(tx, thread_id);
      if (source === undefined) throw unknownThread(thread_id);
      const { metadata, config, interrupts } = source;
      const copy = newThread(copy_id, restingStatus(source), { ...metadata, ...changed }, now, {
        ttl: this.#defaultTtl(now),
      });
      await threads.insert(tx, { ...copy, config, interrupts });
      await threadValues.copy(tx, thread_id, copy_id);
      await checkpoints.copyThread(tx, thread_id, copy_id);
      const made = await threads.find(tx, copy_id);
      if (made === undefined) throw new Error("the copy of a thread is missing");
      return toWire(made);
    });
  }

  /** `visible`: which of them there are for the caller, as the transaction finds them. */
  async prune({ thread_ids, strategy }: ThreadPrune, visible: VisibleThread = ALL): Promise<number> {
    const ids = [...new Set(thread_ids)];
    const prune: Readonly<Record<TtlStrategy, () => Promise<number>>> = {
      delete: () => this.#removeAll(ids, visible),
      keep_latest: () => this.#cutAll(ids, visible),
    };
    return prune[strategy ?? "delete"]();
  }

  async #removeAll(thread_ids: readonly string[], visible: VisibleThread): Promise<number> {
    let pruned = 0;
    for (let start = 0; start < thread_ids.length; start += REMOVED_AT_ONCE) {
      const removed = await this.#options.storage.write(async (tx) => {
        const gone: (RemovedRuns | undefined)[] = [];
        const ids = thread_ids.slice(start, start + REMOVED_AT_ONCE);
        lockThreads(tx, ids);
        for (const id of ids) if (await visible(tx, id)) gone.push(await removeThread(tx, id));
        return gone.filter((each) => each !== undefined);
      });
      removed.forEach(this.#options.onRemoved);
      pruned += removed.length;
    }
    return pruned;
  }

  async #cutAll(thread_ids: readonly string[], visible: VisibleThread): Promise<number> {
    let pruned = 0;
    for (const thread_id of thread_ids) {
      let result = await this.#cut(thread_id, visible);
      while (result === "more") result = await this.#cut(thread_id, visible);
      if (result === "done") pruned += 1;
    }
    return pruned;
  }

  /** A thread with runs in flight stays as it is: they may have begun at any of its checkpoints. */
  #cut(thread_id: string, visible: VisibleThread): Promise<"done" | "more" | "skipped"> {
    return this.#options.storage.write(async (tx) => {
      lockThread(tx, thread_id);
      if (!(await visible(tx, thread_id))) return "skipped";
      if ((await threads.findBare(tx, thread_id)) === undefined) return "skipped";
      if ((await runs.inFlight(tx, thread_id)).length > 0) return "skipped";
      return (await cutHistory(tx, thread_id)) ? "done" : "more";
    });
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

  updateState(thread_id: string, request: ThreadStateUpdate, admit?: Admit): Promise<ThreadStateUpdateResponse> {
    return this.#options.states.update(thread_id, request, admit);
  }

  async #find(thread_id: string): Promise<ThreadRecord> {
    const record = await this.#options.storage.read((db) => threads.find(db, thread_id));
    if (record === undefined) throw unknownThread(thread_id);
    return record;
  }

  #defaultTtl(now: number): ThreadTtl | null {
    return defaultTtl(this.#options.ttl, now);
  }
}

const unknownThread = (thread_id: string) => notFound(`Thread ${thread_id} not found`);

/** A copy has no runs: it is as its source would be without them. */
function restingStatus({ status, interrupts }: threads.BareThread): ThreadRecord["status"] {
  if (status !== "busy") return status;
  const waits = Object.values(JSON.parse(interrupts) as Record<string, readonly unknown[]>).some((list) => list.length);
  return waits ? "interrupted" : "idle";
}

function view(
  thread: Thread,
  fields: readonly (typeof THREAD_FIELDS)[number][],
  paths: readonly (readonly [alias: string, path: string])[],
): Partial<Thread> {
  const selected: Partial<Thread> = Object.fromEntries(fields.map((field) => [field, thread[field]]));
  if (paths.length === 0) return selected;
  return { ...selected, extracted: Object.fromEntries(paths.map(([alias, path]) => [alias, valueAt(thread, path)])) };
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

const ttlToWire = (ttl: ThreadTtl | null): Thread["ttl"] =>
  ttl && {
    strategy: ttl.strategy,
    ttl_minutes: ttl.minutes,
    expires_at: ttl.expires_at === null ? null : isoTime(ttl.expires_at),
  };
