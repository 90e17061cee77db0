/**
 * Storage as it would be after writes that are not made yet. A saver over a draft reads its own writes beside what is
 * stored, as the newest; the main thread later stores them all at once, provided that what the draft read as latest still is.
 */
import type { StoragePort } from "./port.ts";
import type {
  ChannelBlob,
  CheckpointKey,
  CheckpointQuery,
  CheckpointRow,
  DraftWrite,
  SeenLatest,
  StorageCall,
  StorageReply,
  StoredCheckpoint,
  WriteRow,
} from "./protocol.ts";

export interface Draft extends StoragePort {
  /** In the order they were made. */
  readonly writes: readonly DraftWrite[];
  /** What storage had as the latest checkpoint of each namespace that was asked for it. */
  readonly seen: readonly SeenLatest[];
  /** Set when storage itself failed: what the graph then said is not its own word. */
  readonly failure: Error | undefined;
}

export function createDraft(port: StoragePort): Draft {
  return new DraftPort(port);
}

class DraftPort implements Draft {
  readonly writes: DraftWrite[] = [];
  failure: Error | undefined;
  readonly #port: StoragePort;
  readonly #seen = new Map<string, string | null>();
  readonly #rows = new Map<string, CheckpointRow>();
  /** All values read or written so far, by version and place: a new checkpoint names values of older ones. */
  readonly #blobs = new Map<string, Map<number, ChannelBlob>>();

  constructor(port: StoragePort) {
    this.#port = port;
  }

  get seen(): readonly SeenLatest[] {
    return [...this.#seen].map(([checkpoint_ns, checkpoint_id]) => ({ checkpoint_ns, checkpoint_id }));
  }

  async call<C extends StorageCall>(call: C): Promise<StorageReply[C["op"]]> {
    return (await this.#answer(call)) as StorageReply[C["op"]];
  }

  #answer(call: StorageCall): Promise<unknown> | null {
    switch (call.op) {
      case "put_checkpoint":
        return this.#putCheckpoint(call.row, call.blobs);
      case "put_writes":
        this.writes.push({ op: "put_writes", key: call.key, writes: call.writes, keep_existing: call.keep_existing });
        return null;
      case "get_checkpoint":
        return this.#get(call.query);
      case "list_checkpoints":
        return this.#list(call.query);
      case "store":
        return this.#ask(call);
      case "delete_thread_checkpoints":
        throw new Error("A state update cannot delete a thread's checkpoints.");
      default:
        return call satisfies never;
    }
  }

  async #ask<C extends StorageCall>(call: C): Promise<StorageReply[C["op"]]> {
    try {
      return await this.#port.call(call);
    } catch (thrown) {
      this.failure ??= thrown as Error;
      throw thrown;
    }
  }

  #putCheckpoint(row: CheckpointRow, blobs: readonly ChannelBlob[]): null {
    this.writes.push({ op: "put_checkpoint", row, blobs });
    this.#rows.set(keyOf(row), row);
    this.#remember(row, blobs);
    return null;
  }

  async #get(query: CheckpointQuery): Promise<StoredCheckpoint | null> {
    if (query.checkpoint_id !== undefined) {
      const [drafted] = this.#drafted(query);
      return drafted ?? this.#known(await this.#ask({ op: "get_checkpoint", query }));
    }
    const stored = this.#known(await this.#ask({ op: "get_checkpoint", query }));
    const checkpoint_ns = query.checkpoint_ns ?? "";
    if (!this.#seen.has(checkpoint_ns)) this.#seen.set(checkpoint_ns, stored?.checkpoint_id ?? null);
    const [drafted] = this.#drafted({ ...query, checkpoint_ns });
    return drafted ?? stored;
  }

  async #list(query: CheckpointQuery): Promise<readonly StoredCheckpoint[]> {
    const isDraft = [...this.#rows.values()].some(({ checkpoint_id }) => checkpoint_id === query.before);
    const { before: _, ...all_stored } = query;
    const stored = await this.#ask({ op: "list_checkpoints", query: isDraft ? all_stored : query });
    const drafted = isDraft || query.before === undefined ? this.#drafted(query) : [];
    const all = [...drafted, ...stored.map((found) => this.#with(found))];
    return query.limit === undefined ? all : all.slice(0, query.limit);
  }

  #known(stored: StoredCheckpoint | null): StoredCheckpoint | null {
    return stored === null ? null : this.#with(stored);
  }

  /** Remembers the values of a stored checkpoint, and adds the draft's writes to it. */
  #with(stored: StoredCheckpoint): StoredCheckpoint {
    this.#remember(stored, stored.blobs);
    return { ...stored, writes: this.#addedTo(stored, stored.writes) };
  }

  /** Pending writes of a checkpoint with the draft's own. */
  #addedTo(key: CheckpointKey, stored: readonly WriteRow[]): readonly WriteRow[] {
    const wanted = keyOf(key);
    return this.writes.reduce(
      (rows, write) =>
        write.op === "put_writes" && keyOf(write.key) === wanted
          ? merged(rows, write.writes, write.keep_existing)
          : rows,
      stored,
    );
  }

  /** The drafted checkpoints that match, newest first. */
  #drafted(query: CheckpointQuery): StoredCheckpoint[] {
    const newestFirst = [...this.#rows.values()].reverse();
    const end = newestFirst.findIndex(({ checkpoint_id }) => checkpoint_id === query.before);
    return newestFirst
      .slice(end + 1)
      .filter((row) => matches(row, query))
      .map((row) => ({ ...row, blobs: this.#blobsOf(row), writes: this.#addedTo(row, []) }));
  }

  #remember(key: CheckpointKey, blobs: readonly ChannelBlob[]): void {
    for (const blob of blobs) {
      const version = blobKey(key, blob.channel, blob.version);
      const parts = this.#blobs.get(version) ?? new Map<number, ChannelBlob>();
      this.#blobs.set(version, parts.set(blob.first, blob));
    }
  }

  #blobsOf(row: CheckpointRow): ChannelBlob[] {
    return Object.entries(row.blob_versions).flatMap(([channel, [version, length]]) =>
      [...(this.#blobs.get(blobKey(row, channel, version))?.values() ?? [])]
        .filter(({ first }) => first < Math.max(length, 1))
        .sort((a, b) => a.first - b.first),
    );
  }
}

/** As storage would: a write of the same task and index stays, or is replaced. */
function merged(existing: readonly WriteRow[], more: readonly WriteRow[], keep_existing: boolean): WriteRow[] {
  const slots = new Map(existing.map((row) => [slotOf(row), row]));
  for (const row of more) if (!keep_existing || !slots.has(slotOf(row))) slots.set(slotOf(row), row);
  return [...slots.values()];
}

const slotOf = ({ task_id, idx }: WriteRow): string => `${task_id}:${idx}`;
const keyOf = ({ thread_id, checkpoint_ns, checkpoint_id }: CheckpointKey): string =>
  JSON.stringify([thread_id, checkpoint_ns, checkpoint_id]);
const blobKey = ({ thread_id, checkpoint_ns }: CheckpointKey, channel: string, version: string): string =>
  JSON.stringify([thread_id, checkpoint_ns, channel, version]);

function matches(row: CheckpointRow, query: CheckpointQuery): boolean {
  const { thread_id, checkpoint_ns, checkpoint_id, filter } = query;
  if (thread_id !== undefined && row.thread_id !== thread_id) return false;
  if (checkpoint_ns !== undefined && row.checkpoint_ns !== checkpoint_ns) return false;
  if (checkpoint_id !== undefined && row.checkpoint_id !== checkpoint_id) return false;
  if (filter === undefined) return true;
  const metadata = JSON.parse(row.metadata) as Record<string, unknown>;
  return Object.entries(filter).every(([key, value]) => JSON.stringify(metadata[key]) === JSON.stringify(value));
}
