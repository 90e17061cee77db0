/**
 * LangGraph's checkpointer, kept by the main thread. One saver serves one run (or one question).
 *
 * A checkpoint travels as its JSON with small channel values inside; larger values go to blobs, once per new value, and
 * later checkpoints only name them. What a value became is remembered per checkpoint, so a value that did not change is
 * never serialised again, and of a list that has grown only what is new (lists.ts).
 *
 * The newest root checkpoint of the run also stays here as LangGraph gave it, so asking for the state when the run ends
 * costs no storage call.
 */
import type { RunnableConfig } from "@langchain/core/runnables";
import type {
  BaseCheckpointSaver,
  ChannelVersions,
  Checkpoint,
  CheckpointListOptions,
  CheckpointMetadata,
  CheckpointPendingWrite,
  CheckpointTuple,
  PendingWrite,
} from "@langchain/langgraph-checkpoint";
import type { Durability } from "../schemas/runs.ts";
import type { KeptThread, KeptThreads } from "./kept-threads.ts";
import type { LangGraph } from "./langgraph.ts";
import {
  appendedItems,
  hasItems,
  listAsLoaded,
  listAsStored,
  noteReturned,
  type StoredList,
  sizeOfList,
} from "./lists.ts";
import type { StoragePort } from "./port.ts";
import type {
  AttemptName,
  BlobRef,
  ChannelBlob,
  CheckpointQuery,
  CheckpointRow,
  RunJob,
  Serialized,
  StoredCheckpoint,
  WriteRow,
} from "./protocol.ts";
import { revive, SharedValues } from "./revive.ts";
import { toJson } from "./serialize.ts";
import { createWriteQueue, type WriteCall, type WriteQueue } from "./write-queue.ts";

export interface SaverRun extends AttemptName {
  readonly thread_id: string;
  readonly durability: Durability;
  /** The thread goes when the run ends. */
  readonly temporary: boolean;
  /** The thread's latest root checkpoint when the run was dispatched, or its id; null when it had none, undefined to ask storage. */
  readonly latest: RunJob["latest"];
  /**
   * Undefined when the run itself is written, else resolves when it is; LangGraph, which asks for the state before it runs anything,
   * is kept waiting.
   */
  readonly written?: (() => Promise<void> | undefined) | undefined;
  /** Called once, when a write was refused. */
  onFailure?(error: Error): void;
}

export interface SkeinSaver extends BaseCheckpointSaver {
  /** Sends all writes so far; what is posted afterwards comes after them. */
  flush(): void;
  /** Drops the writes that were not sent yet: the thread goes with the run. */
  discard(): void;
  /** Later writes vanish: what an abandoned node still sends must not reach a thread that has moved on. */
  close(): void;
  /**
   * Leaves the state for the thread's next run, where it has a form that lasts. `inParts`: the lists of it that the
   * thread's values are to hold in parts.
   */
  keep(inParts: ReadonlySet<string>): void;
  /** How a value of the newest state may be told in parts; undefined when it is no long list, or not as it was stored. */
  longList(member: string, value: readonly unknown[]): LongList | undefined;
}

/** A list that is stored in parts; `known` of its items the thread's values had in parts when the run began. */
export interface LongList {
  readonly version: string;
  readonly known: number;
}

/** Lists from about this size on are worth parts of their own in the thread's values, characters. */
const LONG_LIST = 16 * 1024;
/** Channel values whose JSON is at most this long stay inside the checkpoint. */
const INLINE_LIMIT = 256;
/** Least time between two lots of checkpoint writes of an `async` run, milliseconds. */
const GATHER_MS = 10;
/** The same where the checkpoints go with the run: they only serve its retry. */
const GATHER_TEMPORARY_MS = 50;
/** Checkpoints whose stored forms are remembered; runs with many subgraphs touch several at once. */
const REMEMBERED = 64;

/** Writes that belong to fixed slots below zero and replace each other (LangGraph's WRITES_IDX_MAP). */
const SPECIAL_WRITES: ReadonlyMap<string, number> = new Map([
  ["__error__", -1],
  ["__scheduled__", -2],
  ["__interrupt__", -3],
  ["__resume__", -4],
]);

/** Bookkeeping that is no metadata of a checkpoint: LangGraph's EXCLUDED_METADATA_KEYS, and what only says who asked. */
export const EXCLUDED_METADATA: ReadonlySet<string> = new Set([
  "thread_id",
  "checkpoint_id",
  "checkpoint_ns",
  "checkpoint_map",
  "langgraph_step",
  "langgraph_node",
  "langgraph_triggers",
  "langgraph_path",
  "langgraph_checkpoint_ns",
  "langgraph_request_id",
]);

/** How one channel value was stored: inside the checkpoint's JSON, as a blob of this version, or as a list in parts. */
export type StoredForm =
  | { readonly version: string; readonly inline: string }
  | { readonly version: string; readonly blob: string }
  /** `forked`: a fork has the list from its parent, and others may have gone on with it. */
  | { readonly version: string; readonly list: StoredList; readonly forked?: true };

/** The forms of one checkpoint's values. */
interface StoredForms {
  readonly byChannel: Map<string, StoredForm>;
  /**
   * Its lists may be added to: nothing stands behind their ends. True of a thread's latest checkpoint, until another is
   * put on it. A fork stores its lists anew, when it changes them.
   */
  isTip: boolean;
}

export interface SaverOptions {
  /** States in which earlier runs have left their threads. */
  readonly kept?: KeptThreads;
  /** Goes into the metadata of each checkpoint, under the checkpoint's own. */
  readonly metadata?: Readonly<Record<string, unknown>>;
  /** States are only shown: their values may be shared with other states. */
  readonly readOnly?: boolean;
}

type SaverClass = new (port: StoragePort, run: SaverRun | null, options: SaverOptions) => SkeinSaver;
const savers = new WeakMap<LangGraph, SaverClass>();

export function makeSaver(
  langgraph: LangGraph,
  port: StoragePort,
  run: SaverRun | null,
  options: SaverOptions = {},
): SkeinSaver {
  let Saver = savers.get(langgraph);
  if (Saver === undefined) {
    Saver = saverClass(langgraph);
    savers.set(langgraph, Saver);
  }
  return new Saver(port, run, options);
}

/** The newest root checkpoint of the run, as LangGraph gave it. */
interface Memory {
  tuple: CheckpointTuple | undefined;
}

interface RememberedWrite {
  readonly task_path: string;
  readonly idx: number;
  readonly write: CheckpointPendingWrite;
}

const TASKS = "__pregel_tasks";
/** Task of the writes that came with a command instead of a node (LangGraph's NULL_TASK_ID). */
const NULL_TASK = "00000000-0000-0000-0000-000000000000";

function saverClass(langgraph: LangGraph): SaverClass {
  const { BaseCheckpointSaver: Base, compareWrites } = langgraph;
  const ordered = (writes: readonly WriteRow[]): WriteRow[] =>
    [...writes].sort((a, b) => compareWrites([a.task_path, a.task_id, a.idx], [b.task_path, b.task_id, b.idx]));

  const shared = new SharedValues();

  class Saver extends Base implements SkeinSaver {
    readonly #port: StoragePort;
    readonly #run: SaverRun | null;
    readonly #attempt: AttemptName;
    readonly #kept: KeptThreads | undefined;
    readonly #metadata: Readonly<Record<string, unknown>>;
    readonly #readOnly: boolean;
    readonly #forms = new Map<string, StoredForms>();
    /** What nodes have returned since the namespace's last checkpoint, by namespace. */
    readonly #returned = new Map<string, Set<unknown>>();
    /** Parts of lists that checkpoints of one answer share, revived once. */
    readonly #revived = new WeakMap<ChannelBlob, unknown>();
    readonly #writes = new Map<string, Map<string, RememberedWrite>>();
    #memory: Memory | undefined;
    /** Lists as the thread's values held them in parts when the run began. */
    #shown: ReadonlyMap<string, StoredList> = new Map();
    #closed = false;
    readonly #queue: WriteQueue;

    constructor(port: StoragePort, run: SaverRun | null, { kept, metadata = {}, readOnly = false }: SaverOptions) {
      super();
      this.#port = port;
      this.#run = run;
      this.#attempt = { run_id: run?.run_id ?? "", fence: run?.fence ?? 0 };
      this.#kept = kept;
      this.#metadata = metadata;
      this.#readOnly = readOnly;
      const gatherMs = run === null || run.durability === "sync" ? 0 : run.temporary ? GATHER_TEMPORARY_MS : GATHER_MS;
      this.#queue = createWriteQueue(port, { gatherMs, onFailure: (error) => run?.onFailure?.(error) });
    }

    flush(): void {
      this.#queue.flush();
    }

    discard(): void {
      this.#queue.discard();
    }

    close(): void {
      this.#closed = true;
    }

    keep(inParts: ReadonlySet<string>): void {
      const tuple = this.#memory?.tuple;
      if (this.#run === null || tuple === undefined || (tuple.pendingWrites?.length ?? 0) > 0) return;
      const { id } = tuple.checkpoint;
      const forms = this.#forms.get(formsKey("", id))?.byChannel;
      if (forms === undefined || this.#writes.has(id) || [...forms.values()].some((form) => "blob" in form)) return;
      this.#kept?.keep(this.#run.thread_id, { langgraph, tuple, forms, inParts });
    }

    longList(member: string, value: readonly unknown[]): LongList | undefined {
      const id = this.#memory?.tuple?.checkpoint.id;
      const form = id === undefined ? undefined : this.#forms.get(formsKey("", id))?.byChannel.get(member);
      if (form === undefined || !("list" in form) || !hasItems(form.list, value)) return undefined;
      const { list: version, length } = form.list;
      const before = this.#shown.get(member);
      if (before?.list === version && before.length <= length) return { version, known: before.length };
      return sizeOfList(form.list, LONG_LIST) < LONG_LIST ? undefined : { version, known: 0 };
    }

    /* ------------------------------------------------------------------------ reading */

    async getTuple(config: RunnableConfig): Promise<CheckpointTuple | undefined> {
      const { thread_id, checkpoint_ns, checkpoint_id } = keyOf(config);
      if (thread_id === undefined) return undefined;
      await this.#run?.written?.();
      const isRoot = this.#run !== null && checkpoint_ns === "" && thread_id === this.#run.thread_id;
      const held = isRoot && checkpoint_id === undefined ? this.#memory : undefined;
      if (held !== undefined) return this.#recall(held.tuple);

      const known = isRoot && checkpoint_id === undefined ? await this.#known(thread_id) : undefined;
      const stored = known ?? (await this.#stored({ thread_id, checkpoint_ns, checkpoint_id }, isRoot));
      if (stored === null || "config" in stored) return stored ?? undefined;
      return this.#tuple(stored, checkpoint_id === undefined);
    }

    /** The latest checkpoint as the thread's last run left it here, with values of its own: only lists keep their items. */
    async #known(thread_id: string): Promise<CheckpointTuple | undefined> {
      const latest = this.#run?.latest;
      if (latest == null || !("known" in latest) || this.#writes.has(latest.known)) return undefined;
      const kept = this.#kept?.find(thread_id, latest.known, langgraph);
      const tuple = this.#recall(kept?.tuple);
      if (kept === undefined || tuple === undefined) return undefined;
      const channel_values: Record<string, unknown> = {};
      for (const [channel, form] of kept.forms) {
        if ("list" in form) channel_values[channel] = [...form.list.items];
        else if ("inline" in form) channel_values[channel] = await this.#load(["json", form.inline]);
      }
      this.#remember(formsKey("", latest.known), { byChannel: new Map(kept.forms), isTip: true });
      this.#shown = shownLists(kept);
      return { ...tuple, checkpoint: { ...tuple.checkpoint, channel_values } };
    }

    async #stored({ thread_id, checkpoint_ns, checkpoint_id }: Key, isRoot: boolean): Promise<StoredCheckpoint | null> {
      const latest = this.#run?.latest;
      // It came with the job: true until the run has added to it.
      if (isRoot && checkpoint_id === undefined && latest !== undefined) {
        if (latest === null) return null;
        if (!("known" in latest) && !this.#writes.has(latest.checkpoint_id)) return latest;
      }
      // What this very run has just written must be there to be read.
      await this.#queue.settled();
      const query: CheckpointQuery = {
        checkpoint_ns,
        ...(thread_id === undefined ? {} : { thread_id }),
        ...(checkpoint_id === undefined ? {} : { checkpoint_id }),
      };
      return this.#port.call({ op: "get_checkpoint", query });
    }

    override async *list(config: RunnableConfig, options?: CheckpointListOptions): AsyncGenerator<CheckpointTuple> {
      const { thread_id, checkpoint_id } = keyOf(config);
      const checkpoint_ns = config.configurable?.checkpoint_ns as string | undefined;
      const before = options?.before?.configurable?.checkpoint_id as string | undefined;
      const query: CheckpointQuery = {
        ...(thread_id === undefined ? {} : { thread_id }),
        ...(checkpoint_ns === undefined ? {} : { checkpoint_ns }),
        ...(checkpoint_id === undefined ? {} : { checkpoint_id }),
        ...(before === undefined ? {} : { before }),
        ...(options?.limit === undefined ? {} : { limit: options.limit }),
        ...(options?.filter === undefined ? {} : { filter: options.filter }),
      };
      await this.#queue.settled();
      for (const stored of await this.#port.call({ op: "list_checkpoints", query })) {
        yield this.#tuple(stored, false);
      }
    }

    async #tuple(stored: StoredCheckpoint, isTip: boolean): Promise<CheckpointTuple> {
      const share = this.#readOnly && !addsWrites(stored, isTip);
      const checkpoint = (await this.#load(stored.checkpoint)) as Checkpoint;
      const forms = new Map<string, StoredForm>();
      // Values as JSON text, not as the revived objects: the text is what the next checkpoint can reuse.
      for (const [channel, inline] of Object.entries(inlineValues(stored.checkpoint))) {
        forms.set(channel, { version: String(checkpoint.channel_versions[channel]), inline });
      }
      for (const [channel, [blob, length, forked]] of Object.entries(stored.blob_versions)) {
        const parts = stored.blobs.filter((part) => part.channel === channel);
        const values = await Promise.all(parts.map((part) => this.#revive(part, share)));
        const version = String(checkpoint.channel_versions[channel]);
        const value = length === 0 ? values[0] : (values as unknown[][]).flat(1);
        checkpoint.channel_values[channel] = value;
        if (this.#readOnly) continue;
        if (length === 0) forms.set(channel, { version, blob });
        else forms.set(channel, listForm(version, listAsLoaded(blob, value as readonly unknown[]), forked));
      }
      this.#remember(formsKey(stored.checkpoint_ns, stored.checkpoint_id), { byChannel: forms, isTip });
      if (checkpoint.v < 4) await this.#migrateSends(stored, checkpoint);

      const pendingWrites: CheckpointPendingWrite[] = [];
      for (const { task_id, channel, value } of ordered(stored.writes)) {
        pendingWrites.push([task_id, channel, await this.#load(value)]);
      }
      return tupleOf(
        stored,
        checkpoint,
        JSON.parse(stored.metadata) as CheckpointMetadata,
        stored.parent_checkpoint_id ?? undefined,
        pendingWrites,
      );
    }

    /** Checkpoints of old LangGraph versions have their Sends among the parent's writes; newer ones look in a channel. */
    async #migrateSends(stored: StoredCheckpoint, checkpoint: Checkpoint): Promise<void> {
      const { thread_id, checkpoint_ns, parent_checkpoint_id } = stored;
      if (parent_checkpoint_id === null) return;
      const query = { thread_id, checkpoint_ns, checkpoint_id: parent_checkpoint_id };
      const parent = await this.#port.call({ op: "get_checkpoint", query });
      const sends = ordered(parent?.writes ?? []).filter(({ channel }) => channel === TASKS);
      checkpoint.channel_values[TASKS] = await Promise.all(sends.map(({ value }) => this.#load(value)));
      const versions = Object.values(checkpoint.channel_versions).map(Number);
      checkpoint.channel_versions[TASKS] = versions.length > 0 ? Math.max(...versions) : this.getNextVersion(undefined);
    }

    /** LangGraph changes the checkpoint it gets, so each asker gets maps of its own. */
    #recall(tuple: CheckpointTuple | undefined): CheckpointTuple | undefined {
      if (tuple === undefined) return undefined;
      const writes = this.#writes.get(tuple.checkpoint.id);
      const remembered = writes === undefined ? [] : [...writes.values()];
      remembered.sort((a, b) => compareWrites([a.task_path, a.write[0], a.idx], [b.task_path, b.write[0], b.idx]));
      return {
        ...tuple,
        checkpoint: {
          ...tuple.checkpoint,
          channel_values: { ...tuple.checkpoint.channel_values },
          channel_versions: { ...tuple.checkpoint.channel_versions },
          versions_seen: copySeen(tuple.checkpoint.versions_seen),
        },
        pendingWrites: [...(tuple.pendingWrites ?? []), ...remembered.map(({ write }) => write)],
      };
    }

    /* ------------------------------------------------------------------------ writing */

    async put(
      config: RunnableConfig,
      checkpoint: Checkpoint,
      metadata: CheckpointMetadata,
      newVersions: ChannelVersions,
    ): Promise<RunnableConfig> {
      const { thread_id, checkpoint_ns, checkpoint_id: parent } = keyOf(config);
      if (thread_id === undefined)
        throw new Error('A checkpoint needs a "thread_id" in the "configurable" of its config.');
      const saved = {
        configurable: { thread_id, checkpoint_ns, checkpoint_id: checkpoint.id },
      } satisfies RunnableConfig;
      if (this.#closed) return saved;

      const parentForms = await this.#formsOf(thread_id, checkpoint_ns, parent);
      const mayAppend = parentForms.isTip;
      parentForms.isTip = false;
      const returned = this.#returned.get(checkpoint_ns) ?? new Set();
      this.#returned.delete(checkpoint_ns);
      const forms = new Map<string, StoredForm>();
      const blobs: ChannelBlob[] = [];
      for (const [channel, value] of Object.entries(checkpoint.channel_values)) {
        const versioned = Object.hasOwn(checkpoint.channel_versions, channel);
        const version = String(checkpoint.channel_versions[channel]);
        if (versioned && !Object.hasOwn(newVersions, channel)) {
          // Nothing new: it stands where the parent has it, and a value the parent does not have is not to be stored.
          const known = parentForms.byChannel.get(channel);
          if (known !== undefined) forms.set(channel, mayAppend ? known : asForked(known));
          continue;
        }
        const before = mayAppend ? parentForms.byChannel.get(channel) : undefined;
        if (before !== undefined && "list" in before && before.forked === undefined && Array.isArray(value)) {
          const added = appendedItems(before.list, value, returned);
          const part = added === undefined ? undefined : (plainJson(added) ?? (await this.#dump(added)));
          if (added !== undefined && part?.[0] === "json") {
            const { list, length } = before.list;
            if (added.length > 0) blobs.push({ channel, version: list, first: length, value: part });
            forms.set(channel, { version, list: listAsStored(list, value, before.list) });
            continue;
          }
        }
        const serialized = plainJson(value) ?? (await this.#dump(value));
        const inline = inlineText(serialized);
        if (inline !== undefined) {
          forms.set(channel, { version, inline });
        } else {
          const blob = `${version}@${checkpoint.id}`;
          const isList = serialized[0] === "json" && Array.isArray(value) && value.length > 0;
          forms.set(channel, isList ? { version, list: listAsStored(blob, value) } : { version, blob });
          blobs.push({ channel, version: blob, first: 0, value: serialized });
        }
      }
      this.#remember(formsKey(checkpoint_ns, checkpoint.id), { byChannel: forms, isTip: true });

      const full = { ...this.#metadata, ...metadata };
      const row: CheckpointRow = {
        thread_id,
        checkpoint_ns,
        checkpoint_id: checkpoint.id,
        parent_checkpoint_id: parent ?? null,
        checkpoint: ["json", checkpointJson(checkpoint, forms)],
        metadata: toJson(full),
        blob_versions: blobVersions(forms),
      };
      if (this.#run !== null && checkpoint_ns === "" && thread_id === this.#run.thread_id) {
        this.#memory = { tuple: tupleOf(row, checkpoint, full as CheckpointMetadata, parent, []) };
        // Writes of older checkpoints are history; those of this one may have come before it.
        for (const id of this.#writes.keys()) if (id !== checkpoint.id) this.#writes.delete(id);
      }
      await this.#write({
        op: "put_checkpoint",
        ...this.#attempt,
        row,
        blobs,
        durability: this.#run?.durability ?? "sync",
      });
      return saved;
    }

    async putWrites(config: RunnableConfig, writes: PendingWrite[], task_id: string, task_path = ""): Promise<void> {
      const { thread_id, checkpoint_ns, checkpoint_id } = keyOf(config);
      if (thread_id === undefined || checkpoint_id === undefined) {
        const missing = thread_id === undefined ? "thread_id" : "checkpoint_id";
        throw new Error(`Writes of a task need a "${missing}" in the "configurable" of their config.`);
      }
      if (this.#closed) return;
      const returned = this.#returned.get(checkpoint_ns) ?? new Set();
      this.#returned.set(checkpoint_ns, returned);
      const replacing: WriteRow[] = [];
      const keeping: WriteRow[] = [];
      for (let i = 0; i < writes.length; i += 1) {
        const [channel, value] = writes[i] as PendingWrite;
        noteReturned(value, returned);
        const idx = SPECIAL_WRITES.get(channel) ?? i;
        if (checkpoint_ns === "") this.#rememberWrite(checkpoint_id, task_path, idx, [task_id, channel, value]);
        const dumped = plainJson(value) ?? (await this.#dump(value));
        const row: WriteRow = { task_id, task_path, idx, channel, value: dumped };
        (idx < 0 ? replacing : keeping).push(row);
      }
      const key = { thread_id, checkpoint_ns, checkpoint_id };
      const send = (rows: WriteRow[], keep_existing: boolean): Promise<void> =>
        this.#write({ op: "put_writes", ...this.#attempt, key, writes: rows, keep_existing });
      await Promise.all([
        ...(replacing.length > 0 ? [send(replacing, false)] : []),
        ...(keeping.length > 0 ? [send(keeping, true)] : []),
      ]);
    }

    async deleteThread(thread_id: string): Promise<void> {
      await this.#port.call({ op: "delete_thread_checkpoints", ...this.#attempt, thread_id });
    }

    /* ------------------------------------------------------------------------ helpers */

    /**
     * Unless the run is to wait for each step to be stored, LangGraph is told "done" at once and the queue keeps the
     * order; the run flushes it before it reports its end, and the main thread stores before it settles.
     */
    async #write(call: WriteCall): Promise<void> {
      const stored = this.#queue.add(call);
      if (this.#run === null || this.#run.durability === "sync") await stored;
    }

    /** How the parent's values were stored; read again when that was too long ago to be remembered. */
    async #formsOf(thread_id: string, checkpoint_ns: string, parent: string | undefined): Promise<StoredForms> {
      if (parent === undefined) return nothingStored();
      const key = formsKey(checkpoint_ns, parent);
      const known = this.#forms.get(key);
      if (known !== undefined) return known;
      const query = { thread_id, checkpoint_ns, checkpoint_id: parent };
      const stored = await this.#port.call({ op: "get_checkpoint", query });
      if (stored !== null) await this.#tuple(stored, false);
      return this.#forms.get(key) ?? nothingStored();
    }

    #remember(key: string, forms: StoredForms): void {
      this.#forms.set(key, forms);
      if (this.#forms.size <= REMEMBERED) return;
      for (const oldest of this.#forms.keys()) {
        this.#forms.delete(oldest);
        return;
      }
    }

    #rememberWrite(checkpoint_id: string, task_path: string, idx: number, write: CheckpointPendingWrite): void {
      if (this.#run === null) return;
      let writes = this.#writes.get(checkpoint_id);
      if (writes === undefined) {
        writes = new Map();
        this.#writes.set(checkpoint_id, writes);
      }
      const key = `${write[0]}:${idx}`;
      if (idx >= 0 && writes.has(key)) return;
      writes.set(key, { task_path, idx, write });
    }

    async #dump(value: unknown): Promise<Serialized> {
      return this.serde.dumpsTyped(value);
    }

    async #revive(part: ChannelBlob, share: boolean): Promise<unknown> {
      if (share) return shared.revive(this.serde, part.value);
      if (!this.#revived.has(part)) this.#revived.set(part, await this.#load(part.value));
      return this.#revived.get(part);
    }

    async #load(stored: Serialized): Promise<unknown> {
      return revive(this.serde, stored);
    }
  }
  return Saver;
}

interface Key {
  readonly thread_id: string | undefined;
  readonly checkpoint_ns: string;
  readonly checkpoint_id: string | undefined;
}

function keyOf({ configurable }: RunnableConfig): Key {
  const checkpoint_id = (configurable?.checkpoint_id ?? configurable?.thread_ts) as string | undefined;
  return {
    thread_id: configurable?.thread_id as string | undefined,
    checkpoint_ns: (configurable?.checkpoint_ns as string | undefined) ?? "",
    checkpoint_id: checkpoint_id === "" ? undefined : (checkpoint_id ?? undefined),
  };
}

function tupleOf(
  { thread_id, checkpoint_ns, checkpoint_id }: { thread_id: string; checkpoint_ns: string; checkpoint_id: string },
  checkpoint: Checkpoint,
  metadata: CheckpointMetadata,
  parent: string | undefined,
  pendingWrites: CheckpointPendingWrite[],
): CheckpointTuple {
  return {
    config: { configurable: { thread_id, checkpoint_ns, checkpoint_id } },
    checkpoint,
    metadata,
    ...(parent === undefined
      ? {}
      : { parentConfig: { configurable: { thread_id, checkpoint_ns, checkpoint_id: parent } } }),
    pendingWrites,
  };
}

/**
 * True when LangGraph adds pending writes to the values it shows: those of tasks to a latest state, those of a command to
 * any. Reducers do that, and they are user code: they need values of their own.
 */
const addsWrites = ({ writes }: StoredCheckpoint, isLatest: boolean): boolean =>
  isLatest ? writes.length > 0 : writes.some(({ task_id }) => task_id === NULL_TASK);

function shownLists({ forms, inParts }: KeptThread): ReadonlyMap<string, StoredList> {
  const lists = new Map<string, StoredList>();
  for (const member of inParts) {
    const form = forms.get(member);
    if (form !== undefined && "list" in form) lists.set(member, form.list);
  }
  return lists;
}

const nothingStored = (): StoredForms => ({ byChannel: new Map(), isTip: false });

const formsKey = (checkpoint_ns: string, checkpoint_id: string): string => `${checkpoint_id}|${checkpoint_ns}`;

/** What the serde has nothing to add to, as it would say it; most writes are that. */
function plainJson(value: unknown): Serialized | undefined {
  const isPlain = Array.isArray(value) ? value.length <= PLAIN_ITEMS && value.every(isPrimitive) : isPrimitive(value);
  return isPlain ? ["json", JSON.stringify(value)] : undefined;
}

/** Items of a list that are worth a look each. */
const PLAIN_ITEMS = 32;

const isPrimitive = (value: unknown): boolean =>
  value === null || typeof value === "string" || typeof value === "boolean" || Number.isFinite(value);

function inlineText([type, data]: Serialized): string | undefined {
  if (type !== "json" || data.length > INLINE_LIMIT) return undefined;
  return typeof data === "string" ? data : Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("utf8");
}

/** The checkpoint's JSON, put together from the texts its values already have. */
function checkpointJson(checkpoint: Checkpoint, forms: ReadonlyMap<string, StoredForm>): string {
  const values: string[] = [];
  for (const [channel, form] of forms) if ("inline" in form) values.push(`${JSON.stringify(channel)}:${form.inline}`);
  const { channel_values: _, ...rest } = checkpoint;
  return `${JSON.stringify(rest).slice(0, -1)},"channel_values":{${values.join(",")}}}`;
}

/** The inline values of a stored checkpoint, each as its JSON text. */
function inlineValues([, data]: Serialized): Record<string, string> {
  const text = typeof data === "string" ? data : Buffer.from(data).toString("utf8");
  const { channel_values } = JSON.parse(text) as { channel_values?: Record<string, unknown> };
  return Object.fromEntries(
    Object.entries(channel_values ?? {}).map(([channel, value]) => [channel, JSON.stringify(value)]),
  );
}

function blobVersions(forms: ReadonlyMap<string, StoredForm>): Record<string, BlobRef> {
  const versions: Record<string, BlobRef> = {};
  for (const [channel, form] of forms) {
    if ("blob" in form) versions[channel] = [form.blob, 0];
    else if ("list" in form) versions[channel] = refOf(form.list, form.forked);
  }
  return versions;
}

const listForm = (version: string, list: StoredList, forked: true | undefined): StoredForm =>
  forked === undefined ? { version, list } : { version, list, forked };

const asForked = (form: StoredForm): StoredForm => ("list" in form ? { ...form, forked: true } : form);

const refOf = ({ list, length }: StoredList, forked: true | undefined): BlobRef =>
  forked === undefined ? [list, length] : [list, length, forked];

function copySeen(seen: Checkpoint["versions_seen"]): Checkpoint["versions_seen"] {
  return Object.fromEntries(Object.entries(seen).map(([node, versions]) => [node, { ...versions }]));
}
