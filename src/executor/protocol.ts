/**
 * The door of an executor thread: every message that passes between the main thread and
 * the threads where user graphs run. Nothing else is shared between the two sides.
 *
 * Values of user graphs cross as JSON text, made once in the executor; the main thread
 * stores and sends that text and never parses it (`Json`).
 */
import type { ErrorBody } from "../errors.ts";
import type { AuthUser } from "../schemas/auth.ts";
import type { GraphTypes } from "../schemas/graphs.ts";
import type { Command, Durability, RunKwargs } from "../schemas/runs.ts";

/** JSON text. A name, not a new type: it says "already serialised, do not parse". */
export type Json = string;

/* ------------------------------------------------------------------ start-up */

export interface GraphSpec {
  readonly graph_id: string;
  /** Absolute path of the module. */
  readonly file: string;
  /** Name of the export, `default` when the configuration names none. */
  readonly export_name: string;
  readonly description: string | null;
}

/** What makes vectors of texts, and of which texts; from `store.index` of `langgraph.json`. */
export interface StoreIndexSpec {
  /** `embed` as the project wrote it, for messages. */
  readonly embed: string;
  readonly source:
    | { readonly kind: "module"; readonly file: string; readonly export_name: string }
    | { readonly kind: "provider"; readonly provider: string; readonly model: string };
  readonly dims: number;
  /** Paths of the texts in an item's value; `$` is the whole value. */
  readonly fields: readonly string[];
}

/** `workerData` of an executor thread. */
export interface ExecutorSettings {
  readonly graphs: readonly GraphSpec[];
  /** Null or absent: the store has no index. */
  readonly store_index?: StoreIndexSpec | null;
  /** Folder of `langgraph.json`; its tsconfig's path aliases apply. */
  readonly project_dir: string;
  /** The server's own URL, for the loopback client of the SDK. Empty until the server listens. */
  readonly server_url: string;
  /** What that client sends instead of a user's credentials; absent where nobody has to log in. */
  readonly server_key?: string;
  /**
   * Shared memory, one number: the turn of the last run or question that was begun. The main thread takes back what waits
   * unread in a thread that does not answer by raising it; what finds its turn passed does not begin. Absent: all begin.
   */
  readonly turns?: Int32Array;
}

/* ---------------------------------------------------------- main → executor */

/** One attempt of one run. */
export interface RunJob {
  readonly run_id: string;
  readonly thread_id: string;
  readonly assistant_id: string;
  readonly graph_id: string;
  /** The attempt's fencing token. All that is said for a run names it: the attempt before may still be on the same thread. */
  readonly fence: number;
  /** 1 for the first attempt. */
  readonly attempt: number;
  /** True when an earlier attempt may have left checkpoints of this run: resume from the last one, do not apply the input again. */
  readonly resume: boolean;
  readonly kwargs: RunKwargs;
  /**
   * The thread's latest root checkpoint, read ahead; null when it has none. Only its id where the executor thread should
   * have it from the thread's last run. Absent: the executor asks.
   */
  readonly latest?: StoredCheckpoint | { readonly known: string } | null;
  /**
   * Of a run that is still being written: shared memory, one number. 0: it is not decided, and nothing of the graph may run yet.
   * 1: it is written. 2: it never will be, and nothing of the graph may run at all.
   */
  readonly written?: Int32Array;
  /** Somebody wants to hear of its nodes. */
  readonly traced?: true;
  /** Metadata of the assistant, then the run's, merged (run wins). */
  readonly metadata: Readonly<Record<string, unknown>>;
  /** Who made the run; absent where nobody has to log in. */
  readonly user?: AuthUser;
}

/** A question that user code answers. */
export type Question = GraphQuestion | EmbedQuestion;

/** The vectors that store operations of a client need. Answer: `EmbedAnswer`. */
export interface EmbedQuestion {
  readonly ask: "embed";
  readonly operations: readonly StoreOperation[];
}

/** For each operation its vectors by path, that of a search's query under the empty path; base64 of 32-bit floats. */
export type EmbedAnswer = readonly (readonly (readonly [path: string, vector: string])[])[];

/** A question about a graph or a thread's state, answered by the project's own LangGraph. */
export type GraphQuestion =
  | {
      readonly ask: "graph";
      readonly graph_id: string;
      readonly config: RunnableSettings;
      readonly xray: boolean | number;
    }
  | {
      readonly ask: "schemas";
      readonly graph_id: string;
      readonly config: RunnableSettings;
      /** What the graph's TypeScript types tell, for what has no schema at run time. */
      readonly types: GraphTypes | null;
    }
  /** Whether the graph or a subgraph of it has values without a schema at run time: `true` or `false`. */
  | { readonly ask: "untyped"; readonly graph_id: string; readonly config: RunnableSettings }
  | {
      readonly ask: "subgraphs";
      readonly graph_id: string;
      readonly config: RunnableSettings;
      readonly namespace: string | null;
      readonly recurse: boolean;
      readonly types: GraphTypes | null;
    }
  | {
      readonly ask: "state";
      readonly graph_id: string;
      readonly config: RunnableSettings;
      readonly thread_id: string;
      readonly checkpoint: CheckpointRef;
      readonly subgraphs: boolean;
      /** Fields of the state; absent for all. */
      readonly select?: readonly string[];
    }
  /** States from a checkpoint back in time, newest first, as one JSON array. */
  | {
      readonly ask: "history";
      readonly graph_id: string;
      readonly config: RunnableSettings;
      readonly thread_id: string;
      readonly checkpoint: CheckpointRef;
      readonly limit: number;
      /** Only states older than this checkpoint. */
      readonly before?: string;
      /** Exact match on top-level metadata keys. */
      readonly filter?: Readonly<Record<string, unknown>>;
      readonly select?: readonly string[];
    }
  /** The output-schema values of a checkpoint: what `join` answers long after the run. */
  | {
      readonly ask: "output";
      readonly graph_id: string;
      readonly config: RunnableSettings;
      readonly thread_id: string;
      readonly checkpoint: CheckpointRef;
    };

/** What would an update of a thread's state write? Nothing is stored: the main thread does that with the answer. */
export interface UpdateQuestion {
  readonly ask: "update";
  readonly graph_id: string;
  readonly config: RunnableSettings;
  readonly thread_id: string;
  readonly checkpoint: CheckpointRef;
  /** Applied in order, each the updates of one superstep. */
  readonly supersteps: readonly (readonly StateUpdate[])[];
  /** Goes into the metadata of each checkpoint, under LangGraph's own. */
  readonly metadata: Readonly<Record<string, unknown>>;
}

/** One update of a state, as if a node had just given it. */
export interface StateUpdate {
  readonly values: unknown;
  readonly command: Command | null;
  /** Null: LangGraph infers the node. */
  readonly as_node: string | null;
}

/** A state update as its graph worked it out: rows to be written in one transaction, or not at all. */
export interface StateChange {
  readonly writes: readonly DraftWrite[];
  /** The latest checkpoints it was worked out from: where one of them is another by now, the outcome is out of date. */
  readonly seen: readonly SeenLatest[];
  /** The checkpoint it makes. */
  readonly checkpoint: CheckpointKey & { readonly checkpoint_map: Readonly<Record<string, unknown>> | null };
  /** The thread's state afterwards. */
  readonly snapshot: WholeSnapshot;
}

export interface SeenLatest {
  readonly checkpoint_ns: string;
  /** Null: there was none. */
  readonly checkpoint_id: string | null;
}

/** A write that waits for its transaction. It belongs to no run. */
export type DraftWrite =
  | { readonly op: "put_checkpoint"; readonly row: CheckpointRow; readonly blobs: readonly ChannelBlob[] }
  | {
      readonly op: "put_writes";
      readonly key: CheckpointKey;
      readonly writes: readonly WriteRow[];
      readonly keep_existing: boolean;
    };

/** What a question is answered with. */
export type AnswerTo<Q extends Question | UpdateQuestion> = Q extends UpdateQuestion ? StateChange : Json;

/** What an assistant or run adds to a graph's own config. */
export interface RunnableSettings {
  readonly configurable: Readonly<Record<string, unknown>>;
  readonly context?: Readonly<Record<string, unknown>>;
  readonly tags?: readonly string[];
  readonly recursion_limit?: number;
}

/** Which attempt of which run. */
export type AttemptName = Pick<RunJob, "run_id" | "fence">;

export interface CheckpointRef {
  readonly checkpoint_ns?: string;
  readonly checkpoint_id?: string;
  readonly checkpoint_map?: Readonly<Record<string, unknown>>;
}

export type CancelAction = "interrupt" | "rollback";

export type ToExecutor =
  | { readonly type: "run"; readonly job: RunJob; readonly turn?: number }
  /** Stop a run by its AbortSignal. */
  | { readonly type: "cancel"; readonly run_id: string; readonly action: CancelAction }
  /** Stop every run at its next superstep boundary and report it `drained`. */
  | { readonly type: "drain" }
  | { readonly type: "ask"; readonly id: number; readonly question: Question | UpdateQuestion; readonly turn?: number }
  | { readonly type: "storage_reply"; readonly id: number; readonly ok: true; readonly value: unknown }
  | { readonly type: "storage_reply"; readonly id: number; readonly ok: false; readonly error: ErrorBody }
  /** The main thread has taken this many bytes of events of a run off the port. */
  | { readonly type: "events_taken"; readonly run_id: string; readonly bytes: number }
  | { readonly type: "listening"; readonly server_url: string }
  /** Nothing more will be run: what still waits to be sent to a tracing service goes now. */
  | { readonly type: "flush_traces" }
  | { readonly type: "ping"; readonly id: number };

/* ---------------------------------------------------------- executor → main */

/** One wire event of a run: its SSE name (`values`, `messages|ns:…`) and its data as JSON text. */
export interface WireEvent {
  readonly event: string;
  readonly data: Json;
}

/** Values whose long lists are said apart: of a list that has grown since the thread's values were stored, only what is new. */
export interface GrownValues {
  /** All other values, as an object. */
  readonly rest: Json;
  readonly lists: readonly GrownList[];
}

/** A list's version and length say its items: where the thread's values have `from` items of this version, these follow. */
export interface GrownList {
  /** Name of the value. */
  readonly member: string;
  /** The version the list began with (executor/lists.ts). */
  readonly version: string;
  /** Items that are left out; 0 for none. */
  readonly from: number;
  /** Items of the whole list. */
  readonly length: number;
  /** JSON texts of the others, joined by commas; empty when there are none. */
  readonly items: Json;
}

/** A state of a thread. */
export interface Snapshot {
  /** All channel values, as `GET /threads/{id}` shows them; null when there is no checkpoint. */
  readonly values: Json | GrownValues | null;
  /** Task id → interrupts, as `GET /threads/{id}` shows them. */
  readonly interrupts: Json;
  /** True when the thread waits at a static or dynamic interrupt. */
  readonly interrupted: boolean;
  readonly checkpoint_id: string | null;
}

export interface WholeSnapshot extends Snapshot {
  readonly values: Json | null;
}

/** Names of the snapshot's values that are the output; null for all. */
export type Members = readonly string[] | null;

/**
 * How an attempt ended. `output` is what `wait` answers: values of the output schema, with `__interrupt__` when
 * interrupted. What the snapshot says already is not said again.
 */
export type Outcome =
  | { readonly kind: "success"; readonly snapshot: Snapshot; readonly output: Json | Members }
  | { readonly kind: "interrupted"; readonly snapshot: Snapshot; readonly output: Json }
  /** A node's own error (not retried). */
  | {
      readonly kind: "error";
      readonly error: ErrorBody;
      readonly snapshot: Snapshot | null;
      /** The run was refused before it began: the thread is as it was. */
      readonly untouched?: boolean;
    }
  /** Stopped by `cancel`. A `rollback` has no snapshot: the thread still shows the state before the run. */
  | { readonly kind: "cancelled"; readonly snapshot: Snapshot | null }
  /** Stopped at a superstep boundary because the thread drains; the checkpoint is saved. */
  | { readonly kind: "drained" };

/** A node, a call of a model or a call of a tool begins, or has ended. Times are epoch milliseconds. */
export type NodeStep =
  | {
      readonly step: "begin";
      readonly id: string;
      /** What is around it: the node of a subgraph's node or of a call, the tool that calls a model; null at the root. */
      readonly parent: string | null;
      readonly at: number;
      readonly of: StepOf;
    }
  | {
      readonly step: "end";
      readonly id: string;
      readonly at: number;
      /** Tokens of a model's call, where its package tells them. */
      readonly usage?: { readonly input: number; readonly output: number };
      /** Null: it did not fail. */
      readonly error: ErrorBody | null;
      /** What it threw to leave off without failing: a question, or a command to the graph around it. */
      readonly left?: string;
    };

export type StepOf =
  /** `namespace`: of the graph it is in; empty at the root. */
  | { readonly kind: "node"; readonly name: string; readonly superstep: number; readonly namespace: string }
  | { readonly kind: "model" | "tool"; readonly name: string };

export interface LoadedGraph {
  readonly graph_id: string;
  /** Version of `@langchain/langgraph` the graph resolves. */
  readonly langgraph_version: string;
}

export type FromExecutor =
  | { readonly type: "ready"; readonly graphs: readonly LoadedGraph[] }
  | {
      readonly type: "load_failed";
      readonly graph_id: string;
      readonly file: string;
      readonly error: ErrorBody;
      readonly stack: string;
    }
  /** The store's index cannot be had: the server does not start. */
  | { readonly type: "index_failed"; readonly embed: string; readonly error: ErrorBody }
  | ({ readonly type: "events"; readonly events: readonly WireEvent[]; readonly bytes: number } & AttemptName)
  | ({ readonly type: "node"; readonly step: NodeStep } & AttemptName)
  | ({ readonly type: "finished"; readonly outcome: Outcome } & AttemptName)
  | { readonly type: "answer"; readonly id: number; readonly ok: true; readonly value: Json | StateChange }
  | {
      readonly type: "answer";
      readonly id: number;
      readonly ok: false;
      readonly error: ErrorBody;
      /** `refused`: the graph does not take what it was given. */
      readonly why: "unknown_graph" | "refused" | "failed";
    }
  | { readonly type: "storage"; readonly id: number; readonly call: StorageCall }
  | { readonly type: "traces_flushed" }
  | { readonly type: "pong"; readonly id: number };

/** Messages are posted in arrays: one array for all that is ready in one turn of the event loop. */
export type Batch<T> = readonly T[];

/* ------------------------------------------- what the saver and store ask of storage */

/** Serialised value: the serde's type tag and its bytes (or text). */
export type Serialized = readonly [type: string, data: Uint8Array | string];

export interface CheckpointKey {
  readonly thread_id: string;
  readonly checkpoint_ns: string;
  readonly checkpoint_id: string;
}

/**
 * A new value of one channel, stored once for this version; or a part of a list, whose version is that of the list's
 * beginning (executor/lists.ts).
 */
export interface ChannelBlob {
  readonly channel: string;
  /**
   * LangGraph's channel version and the checkpoint that first held the value (`7@1f1e…`): two forks of one
   * checkpoint count the same versions for different values, so the number alone would name two blobs.
   */
  readonly version: string;
  /** Of a part of a list: the place of its first item. Else 0. */
  readonly first: number;
  readonly value: Serialized;
}

/**
 * Where a checkpoint finds a value: its version, and of a list how many of its items; 0 for what is no list. `forked`: the
 * list may go on behind these items for other checkpoints.
 */
export type BlobRef = readonly [version: string, length: number, forked?: true];

export interface CheckpointRow extends CheckpointKey {
  readonly parent_checkpoint_id: string | null;
  /** The checkpoint without the channel values that are in blobs (small ones stay inline). */
  readonly checkpoint: Serialized;
  /** Metadata as JSON text; searchable. */
  readonly metadata: Json;
  /** Channels of this checkpoint whose values are in blobs, and where. */
  readonly blob_versions: Readonly<Record<string, BlobRef>>;
}

/** One pending write of a task. */
export interface WriteRow {
  readonly task_id: string;
  readonly task_path: string;
  readonly idx: number;
  readonly channel: string;
  readonly value: Serialized;
}

export interface StoredCheckpoint extends CheckpointRow {
  /** The parts of a list in order. Checkpoints of one answer share theirs by reference. */
  readonly blobs: readonly ChannelBlob[];
  readonly writes: readonly WriteRow[];
}

export interface CheckpointQuery {
  readonly thread_id?: string;
  readonly checkpoint_ns?: string;
  readonly checkpoint_id?: string;
  readonly before?: string;
  readonly limit?: number;
  /** Exact match on top-level metadata keys. */
  readonly filter?: Readonly<Record<string, unknown>>;
}

/** One vector of an item: of the text at this path of its value. */
export interface StoreVector {
  readonly path: string;
  readonly vector: Float32Array;
}

export type StoreOperation =
  | {
      readonly op: "get";
      readonly namespace: readonly string[];
      readonly key: string;
      /** Absent: as the configuration says. */
      readonly refresh_ttl?: boolean | undefined;
    }
  | {
      readonly op: "put";
      readonly namespace: readonly string[];
      readonly key: string;
      /** Null deletes the item. */
      readonly value: Json | null;
      /** Paths of the texts to embed; false for none. Absent or null: the fields of the index. */
      readonly index?: readonly string[] | false | null | undefined;
      /** Minutes to live; null for ever. Absent: the configured default. */
      readonly ttl?: number | null | undefined;
      /** Made of `value` and `index` before the operation is carried out. */
      readonly vectors?: readonly StoreVector[] | undefined;
    }
  | {
      readonly op: "search";
      readonly prefix: readonly string[];
      readonly filter: Readonly<Record<string, unknown>> | null;
      readonly limit: number;
      readonly offset: number;
      readonly query?: string | null | undefined;
      /** Made of `query` where the store has an index; items then come by likeness to it. */
      readonly vector?: Float32Array | undefined;
      readonly refresh_ttl?: boolean | undefined;
    }
  | {
      readonly op: "list_namespaces";
      readonly conditions: readonly { readonly match: "prefix" | "suffix"; readonly path: readonly string[] }[];
      readonly max_depth: number | null;
      readonly limit: number;
      readonly offset: number;
    };

export interface StoreItem {
  readonly namespace: readonly string[];
  readonly key: string;
  readonly value: Json;
  readonly created_at: string;
  readonly updated_at: string;
  /** Likeness to the query, at most 1; only in answers to a search by vector. */
  readonly score?: number;
}

/**
 * Calls of an executor to the main thread's storage. Writes name the attempt they belong to; the main thread
 * drops the write when its token is stale (reply: an error named `FencedError`). Calls are carried out in the order they
 * were posted, and those of a run before its `finished`.
 * `run_id: null` is a read outside a run.
 */
export type StorageCall =
  | ({
      readonly op: "put_checkpoint";
      readonly row: CheckpointRow;
      readonly blobs: readonly ChannelBlob[];
      readonly durability: Durability;
    } & AttemptName)
  | ({
      readonly op: "put_writes";
      readonly key: CheckpointKey;
      readonly writes: readonly WriteRow[];
      /** True when an existing write of the same task and index must stay as it is. */
      readonly keep_existing: boolean;
    } & AttemptName)
  | { readonly op: "get_checkpoint"; readonly query: CheckpointQuery }
  | { readonly op: "list_checkpoints"; readonly query: CheckpointQuery }
  | ({ readonly op: "delete_thread_checkpoints"; readonly thread_id: string } & AttemptName)
  | { readonly op: "store"; readonly operations: readonly StoreOperation[] };

/** What each call answers. */
export interface StorageReply {
  readonly put_checkpoint: null;
  readonly put_writes: null;
  readonly get_checkpoint: StoredCheckpoint | null;
  readonly list_checkpoints: readonly StoredCheckpoint[];
  readonly delete_thread_checkpoints: null;
  /** One answer per operation: item or null, null, items, namespaces. */
  readonly store: readonly (StoreItem | null | readonly StoreItem[] | readonly (readonly string[])[])[];
}
