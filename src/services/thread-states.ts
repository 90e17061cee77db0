/** States of threads: read at any checkpoint, walked back in time, changed by hand. */
import { applyChange, type RestingThread, restingThread } from "../engine/state-update.ts";
import { conflict, invalid, notFound, SkeinError } from "../errors.ts";
import type { CheckpointRef, Json, Question, StateChange, UpdateQuestion } from "../executor/protocol.ts";
import type { CheckpointConfig } from "../schemas/common.ts";
import { pickState } from "../schemas/state-select.ts";
import type {
  Superstep,
  ThreadStateSearch,
  ThreadStateUpdate,
  ThreadStateUpdateResponse,
} from "../schemas/thread-states.ts";
import { lockThread } from "../storage/locks.ts";
import type { Storage, Tx } from "../storage/storage.ts";
import * as assistants from "../storage/tables/assistants.ts";
import * as threads from "../storage/tables/threads.ts";
import type { Admit } from "./access.ts";
import { assistantIdOf, type ConfiguredGraph, graphOf } from "./assistants.ts";
import { requireCheckpoint } from "./checkpoints.ts";

export interface ThreadStatesOptions {
  readonly storage: Storage;
  readonly ask: (question: Question) => Promise<Json>;
  /** Has the graph work out what an update writes. */
  readonly workOut: (question: UpdateQuestion) => Promise<StateChange>;
}

/** The state of a thread that no graph has run on. */
const NO_STATE = {
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
};

type Metadata = Readonly<Record<string, unknown>>;

export class ThreadStates {
  readonly #options: ThreadStatesOptions;
  /** Updates of a thread wait for each other: two at once would work out their change from the same state. */
  readonly #turns = new Map<string, Promise<unknown>>();

  constructor(options: ThreadStatesOptions) {
    this.#options = options;
  }

  async state(
    thread_id: string,
    checkpoint: CheckpointConfig,
    subgraphs: boolean,
    select: readonly string[],
  ): Promise<Json> {
    const ref = refOf(thread_id, checkpoint, "checkpoint");
    const reader = await this.#reader(thread_id, ref);
    if (reader === undefined) return JSON.stringify(pickState(NO_STATE, select));
    return this.#options.ask({ ask: "state", ...reader, thread_id, checkpoint: ref, subgraphs, select });
  }

  async history(thread_id: string, search: ThreadStateSearch): Promise<Json> {
    const ref = refOf(thread_id, search.checkpoint ?? {}, "checkpoint");
    const reader = await this.#reader(thread_id, ref);
    const filter = metadataFilter(thread_id, search.metadata ?? {});
    if (reader === undefined || filter === undefined) return "[]";
    return this.#options.ask({
      ask: "history",
      ...reader,
      thread_id,
      checkpoint: ref,
      limit: search.limit ?? 1,
      ...(search.before == null ? {} : { before: search.before }),
      ...(Object.keys(filter).length === 0 ? {} : { filter }),
      ...(search.select == null ? {} : { select: search.select }),
    });
  }

  update(thread_id: string, request: ThreadStateUpdate, admit?: Admit): Promise<ThreadStateUpdateResponse> {
    return this.#inTurn(thread_id, () => this.#update(thread_id, request, admit));
  }

  /** What a thread that is about to be made begins with. */
  async seed(thread_id: string, metadata: Metadata, supersteps: readonly Superstep[]): Promise<StateChange> {
    if (typeof metadata.graph_id !== "string") {
      throw invalid("metadata.graph_id", "field required (the graph whose nodes `supersteps` names)");
    }
    const reader = await this.#options.storage.read((db) => readerOf(db, metadata));
    try {
      return await this.#options.workOut({
        ask: "update",
        ...(reader as ConfiguredGraph),
        thread_id,
        checkpoint: {},
        supersteps: supersteps.map(({ updates }) =>
          updates.map(({ values, command, as_node }) => ({
            values: values ?? null,
            command: command ?? null,
            as_node,
          })),
        ),
        metadata: stampOf(metadata),
      });
    } catch (thrown) {
      throw seedError(thrown);
    }
  }

  async #update(
    thread_id: string,
    request: ThreadStateUpdate,
    admit: Admit | undefined,
  ): Promise<ThreadStateUpdateResponse> {
    const ref = baseOf(thread_id, request);
    const question = { supersteps: [[updateOf(request)]], thread_id, checkpoint: ref, ask: "update" } as const;
    for (let tries = 0; tries < MAX_TRIES; tries += 1) {
      const { found, reader } = await this.#resting(thread_id, ref);
      const change = await this.#options.workOut({ ...question, ...reader, metadata: stampOf(found.metadata) });
      const { storage } = this.#options;
      const stored = await storage.write(async (tx) => {
        lockThread(tx, thread_id);
        await admit?.(tx);
        return applyChange(tx, thread_id, found, change, storage.now());
      });
      if (stored) return shapesOf(change);
    }
    throw conflict(`Thread ${thread_id} keeps changing while its state is updated`);
  }

  #resting(thread_id: string, ref: CheckpointRef): Promise<{ found: RestingThread; reader: ConfiguredGraph }> {
    return this.#options.storage.read(async (db) => {
      const found = await restingThread(db, thread_id);
      await requireCheckpoint(db, thread_id, ref);
      const reader = await readerOf(db, found.metadata);
      if (reader === undefined) {
        throw invalid("", `Thread ${thread_id} has no graph: set graph_id in its metadata, or run a graph on it first`);
      }
      return { found, reader };
    });
  }

  /** The reader of a thread and checkpoint that must exist; undefined when no graph has run on the thread. */
  #reader(thread_id: string, ref: CheckpointRef): Promise<ConfiguredGraph | undefined> {
    return this.#options.storage.read(async (db) => {
      const thread = await threads.findBare(db, thread_id);
      if (thread === undefined) throw notFound(`Thread ${thread_id} not found`, "thread");
      await requireCheckpoint(db, thread_id, ref);
      return readerOf(db, thread.metadata);
    });
  }

  async #inTurn<T>(thread_id: string, work: () => Promise<T>): Promise<T> {
    const before = this.#turns.get(thread_id);
    // However the one before ended, it is over.
    const mine = before === undefined ? work() : before.then(work, work);
    this.#turns.set(thread_id, mine);
    try {
      return await mine;
    } finally {
      if (this.#turns.get(thread_id) === mine) this.#turns.delete(thread_id);
    }
  }
}

/** Each failed try means that a run came and went meanwhile. */
const MAX_TRIES = 3;

/** Graph and settings of the assistant that a thread's metadata names: a factory builds its graph from them. */
async function readerOf(db: Tx, { graph_id, assistant_id }: Metadata): Promise<ConfiguredGraph | undefined> {
  if (typeof graph_id !== "string") return undefined;
  const named = typeof assistant_id === "string" ? assistant_id : graph_id;
  const assistant = await assistants.find(db, assistantIdOf(named));
  // Some clients know a graph by its assistant's id.
  if (assistant?.graph_id === graph_id || assistant?.assistant_id === graph_id.toLowerCase()) {
    return graphOf(assistant);
  }
  return { graph_id, config: { configurable: {} } };
}

/** What an update's checkpoints say about themselves, beside LangGraph's own. */
function stampOf({ graph_id, assistant_id }: Metadata): Metadata {
  return {
    ...(typeof graph_id === "string" ? { graph_id } : {}),
    ...(typeof assistant_id === "string" ? { assistant_id } : {}),
  };
}

/** The checkpoint a client points to. A map without an id names the id by namespace. */
function refOf(thread_id: string, checkpoint: CheckpointConfig, path: string): CheckpointRef {
  const { checkpoint_ns, checkpoint_map } = checkpoint;
  if (checkpoint.thread_id != null && checkpoint.thread_id.toLowerCase() !== thread_id) {
    throw invalid(`${path}.thread_id`, `${checkpoint.thread_id} is another thread`);
  }
  const mapped = checkpoint_map?.[checkpoint_ns ?? ""];
  const checkpoint_id = checkpoint.checkpoint_id ?? (typeof mapped === "string" ? mapped : undefined);
  return {
    ...(checkpoint_id ? { checkpoint_id } : {}),
    ...(checkpoint_ns == null ? {} : { checkpoint_ns }),
    ...(checkpoint_map == null ? {} : { checkpoint_map }),
  };
}

/** The state an update starts from. The map belongs to the run that made the checkpoint: it must not reach a later one. */
function baseOf(thread_id: string, { checkpoint, checkpoint_id }: ThreadStateUpdate): CheckpointRef {
  const { checkpoint_map: _, ...ref } = refOf(thread_id, checkpoint ?? {}, "checkpoint");
  if (checkpoint_id == null) return ref;
  if (ref.checkpoint_id !== undefined && ref.checkpoint_id !== checkpoint_id) {
    throw invalid("checkpoint_id", "is not the id in checkpoint");
  }
  return { ...ref, checkpoint_id };
}

const updateOf = ({ values, as_node }: ThreadStateUpdate) => ({
  values: values ?? null,
  command: null,
  as_node: as_node ?? null,
});

/** Undefined when nothing can match. The thread's own id is shown in each state's metadata, but stored in none. */
function metadataFilter(thread_id: string, metadata: Metadata): Metadata | undefined {
  const { thread_id: wanted, ...filter } = metadata;
  return wanted === undefined || wanted === thread_id ? filter : undefined;
}

function shapesOf({ checkpoint }: StateChange): ThreadStateUpdateResponse {
  return { checkpoint, checkpoint_id: checkpoint.checkpoint_id, configurable: checkpoint };
}

/** Whatever is wrong with a seed is wrong with the request: there is no thread yet. */
function seedError(thrown: unknown): unknown {
  if (!(thrown instanceof SkeinError)) return thrown;
  if (thrown.kind === "invalid") return invalid("supersteps", thrown.message);
  return thrown.kind === "not_found" ? invalid("metadata.graph_id", thrown.message) : thrown;
}
