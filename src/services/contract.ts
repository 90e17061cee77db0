/**
 * What HTTP (and later MCP, A2A and streaming v2) may ask of the product. Services hold the rules;
 * they know neither HTTP nor SQL text.
 */
import type { CancelAction, Json } from "../executor/protocol.ts";
import type { RequestFacts } from "../observability/request.ts";
import type {
  Assistant,
  AssistantCreate,
  AssistantFilter,
  AssistantPatch,
  AssistantSearch,
  AssistantVersionsSearch,
} from "../schemas/assistants.ts";
import type { CheckpointConfig } from "../schemas/common.ts";
import type { Cron, CronCreate, CronFilter, CronPatch, CronSearch, ThreadCronCreate } from "../schemas/crons.ts";
import type { EventStreamRequest, ProtocolCommand, ProtocolResponse } from "../schemas/protocol.ts";
import type {
  PushConfig,
  Run,
  RunCreateStateful,
  RunCreateStateless,
  RunField,
  RunsCancel,
  StreamMode,
  TaskOfRun,
  ThreadStreamMode,
} from "../schemas/runs.ts";
import type { StoreDelete, StoreListNamespaces, StorePut, StoreSearch } from "../schemas/store.ts";
import type { ThreadStateSearch, ThreadStateUpdate, ThreadStateUpdateResponse } from "../schemas/thread-states.ts";
import type { Thread, ThreadCreate, ThreadFilter, ThreadPatch, ThreadPrune, ThreadSearch } from "../schemas/threads.ts";
import type { RunEvent, StreamEvent } from "../streaming/events.ts";
import type { ThreadPosition } from "../streaming/follow-thread.ts";
import type { ProtocolFrame } from "../streaming/protocol/frames.ts";
import type { UiBundle, UiFile } from "../ui/bundles.ts";
import type { Repeatable } from "./idempotency.ts";

export interface AssistantsService {
  create(request: AssistantCreate): Promise<Assistant>;
  /** Each patch makes a new version, which becomes the active one. */
  patch(id: string, request: AssistantPatch): Promise<Assistant>;
  /** Newest first. */
  versions(id: string, request: AssistantVersionsSearch): Promise<{ items: readonly Assistant[]; total: number }>;
  setLatest(id: string, version: number): Promise<Assistant>;
  /**
   * Deletes all versions and stops the assistant's runs; its threads go too when asked for. A default assistant starts anew.
   * Returns the deleted one's id.
   */
  delete(id: string, delete_threads: boolean): Promise<string>;
  get(id: string): Promise<Assistant>;
  search(request: AssistantSearch): Promise<{ items: readonly Partial<Assistant>[]; total: number }>;
  count(filter: AssistantFilter): Promise<number>;
  graph(id: string, xray: boolean | number): Promise<Json>;
  subgraphs(id: string, namespace: string | null, recurse: boolean): Promise<Json>;
  schemas(id: string): Promise<Json>;
}

export interface ThreadsService {
  create(request: ThreadCreate): Promise<Thread>;
  get(thread_id: string, include: readonly "ttl"[]): Promise<Thread>;
  update(thread_id: string, request: ThreadPatch): Promise<Thread>;
  /** Stops the runs in flight; thread, runs, checkpoints and events are gone when it resolves. */
  delete(thread_id: string): Promise<void>;
  search(request: ThreadSearch): Promise<{ items: readonly Partial<Thread>[]; total: number }>;
  count(filter: ThreadFilter): Promise<number>;
  /** A new thread with the history of this one. */
  copy(thread_id: string): Promise<Thread>;
  /** How many threads were there to be pruned. */
  prune(request: ThreadPrune): Promise<number>;
  /** ThreadState as JSON text. */
  state(
    thread_id: string,
    checkpoint: CheckpointConfig,
    subgraphs: boolean,
    select?: readonly string[] | null,
  ): Promise<Json>;
  /** ThreadStates as the JSON text of an array, newest first. */
  history(thread_id: string, search: ThreadStateSearch): Promise<Json>;
  /** A new checkpoint. Conflict while runs are in flight on the thread. */
  updateState(thread_id: string, request: ThreadStateUpdate): Promise<ThreadStateUpdateResponse>;
}

/** How a caller follows a run. */
export interface FollowOptions {
  /** Index of the last event the reader has; -1 from the start. */
  readonly after: number;
  /** Only events of these modes (and `metadata`, `error`); null for all. */
  readonly modes: readonly StreamMode[] | null;
  readonly signal: AbortSignal;
}

/** How a caller follows a thread. */
export interface FollowThreadOptions {
  /** What the reader has; null: it begins with the run in flight, or the next. */
  readonly after: ThreadPosition | null;
  readonly modes: readonly ThreadStreamMode[];
  readonly signal: AbortSignal;
}

/** Which runs of a thread to list, and what of them. */
export interface RunsPage {
  readonly limit: number;
  readonly offset: number;
  readonly status: Run["status"] | null;
  readonly select: readonly RunField[] | null;
}

/** A run that a command of streaming v2 makes. */
export interface CommandOrigin {
  readonly door: "command";
  /** What was asked for, as the client wrote it: a repeat is told by it. */
  readonly asked: unknown;
  /** The input is the answer where the thread waits for one. */
  readonly inputMayResume?: boolean;
  /** Interrupts that must wait on the thread when the run is made. Not found: others do. Conflict: none does. */
  readonly mustWait?: readonly string[];
}

/** A message of A2A. */
export interface MessageOrigin {
  readonly door: "message";
  readonly task: TaskOfRun;
  /** The run whose question it answers; null when it begins a task. Conflict: nothing waits for the answer any more. */
  readonly answers: string | null;
}

/** The door by which a run came, where it says more than the request. */
export type RunOrigin = CommandOrigin | MessageOrigin;

/** The request that runs come from. With `repeatable`, the same request again gets the same runs. */
export interface RunRequest extends RequestFacts {
  readonly repeatable?: Repeatable | undefined;
}

export interface RunsService {
  /** The only way a run comes to be. Stateful when `thread_id` is given. */
  create(thread_id: string, request: RunCreateStateful, from: RunRequest, origin?: RunOrigin): Promise<Run>;
  createStateless(request: RunCreateStateless, from: RunRequest): Promise<Run>;
  /** All or none. */
  createBatch(requests: readonly RunCreateStateless[], from: RunRequest): Promise<readonly Run[]>;
  /** `thread_id` null: by run id alone (stateless paths). 404 when unknown. */
  get(thread_id: string | null, run_id: string): Promise<Run>;
  list(thread_id: string, page: RunsPage): Promise<readonly Partial<Run>[]>;
  /** Deletes the run and its checkpoints; one in flight is stopped first. Resolves when it is gone. */
  delete(thread_id: string, run_id: string): Promise<void>;
  /** Checks that the run (or its kept log) exists, then follows it to its end; the run is settled before the iterable ends. */
  follow(thread_id: string | null, run_id: string, options: FollowOptions): Promise<AsyncIterable<readonly RunEvent[]>>;
  /** The run's final output as JSON text: values, with `__interrupt__` or `{"__error__": …}`. Resolves after the run is settled. */
  wait(thread_id: string | null, run_id: string, signal: AbortSignal): Promise<Json>;
  /** Durable intent; with `wait`, resolves when the run has ended. Conflict when it has already ended. */
  cancel(thread_id: string, run_id: string, action: CancelAction, wait: boolean): Promise<void>;
  /** As `cancel` without waiting. Named runs: all are found or none is cancelled; those that have ended stay as they are. */
  cancelMany(which: RunsCancel, action: CancelAction): Promise<void>;
  /** Checks that the thread exists, then follows its runs until the signal fires or the thread is deleted. */
  followThread(thread_id: string, options: FollowThreadOptions): Promise<AsyncIterable<readonly StreamEvent[]>>;
  /** Stops the runs in flight whose metadata has all of these members; none is no error. */
  cancelMarked(mark: Readonly<Record<string, string>>): Promise<void>;
  /** A client left that had asked for the run to stop with it. Never throws: logged. */
  cancelOnDisconnect(run_id: string): void;
}

/** A connection of a client, as a session writes to it. */
export interface ProtocolSocket {
  /** Resolves when the network has taken all of it, or the connection is gone. */
  send(texts: readonly string[]): Promise<void>;
  close(code: number, reason: string): void;
}

export interface ProtocolSession {
  /** A message of the client. */
  receive(text: string): void;
  /** The connection is gone. Runs go on. */
  closed(): void;
}

/** Streaming v2. */
export interface ProtocolService {
  /**
   * The events of a thread's runs, those that are kept and then live, until the signal fires or the thread is deleted. A thread that
   * does not exist yet is waited for. When it resolves, runs that are made on the thread from now on are made to be seen there.
   */
  events(
    thread_id: string,
    ask: EventStreamRequest,
    signal: AbortSignal,
  ): Promise<AsyncIterable<readonly ProtocolFrame[]>>;
  /** What is on the other side of a connection that carries both, events and commands. */
  session(thread_id: string, socket: ProtocolSocket, from: RequestFacts): ProtocolSession;
  /** Never rejects: what goes wrong is an answer too. */
  command(thread_id: string, command: ProtocolCommand, from: RunRequest): Promise<ProtocolResponse>;
}

/** How a task stands, whose newest run this is. */
export type TaskState = "submitted" | "working" | "input-required" | "completed" | "failed" | "canceled";

/** A run, and those that answered its questions: what A2A calls a task. */
export interface TaskView {
  /** The id of its first run. */
  readonly task_id: string;
  /** Its newest run. */
  readonly run: Run;
  readonly state: TaskState;
  /** The client's id of the message that made the newest run; null when it was made otherwise. */
  readonly message_id: string | null;
  /** The questions it waits with, as `__interrupt__` shows them; none unless its state is `input-required`. */
  readonly questions: readonly { readonly id?: string; readonly value?: unknown }[];
  readonly push: readonly PushConfig[];
}

/** Which tasks of an assistant to list. */
export interface TaskPage {
  readonly thread_id: string | null;
  readonly state: TaskState | null;
  /** ISO time: only those that changed since. */
  readonly updated_since: string | null;
  /** Place of the last task of the page before. */
  readonly before: TaskPlace | null;
  readonly limit: number;
}

/** Where a task stands in the list: when its newest run changed, and that run's place among all. */
export interface TaskPlace {
  readonly updated_at: number;
  readonly seq: number;
}

export interface TasksService {
  /** Not found when there is no such run of the assistant; the id of any of its runs names the task. */
  get(assistant_id: string, run_id: string): Promise<TaskView>;
  /** Those that changed last first. `next`: where the next page starts, null when there is none. `total` knows no pages. */
  list(
    assistant_id: string,
    page: TaskPage,
  ): Promise<{ readonly tasks: readonly TaskView[]; readonly next: TaskPlace | null; readonly total: number }>;
  /** Gives up a task: its run is stopped, or its question withdrawn. Conflict when it has ended. */
  cancel(assistant_id: string, run_id: string): Promise<void>;
  /** Whether anybody can be told of tasks at all: `http.disable_webhooks` forbids it. */
  readonly canPush: boolean;
  /** Throws `invalid`, naming the field, when the URL may not be called. */
  checkPush(url: string, field: string): void;
  /** Replaces the one of the same id; its URL has been checked. Conflict when the run was not made as a task; invalid when there are too many. */
  setPush(assistant_id: string, run_id: string, config: PushConfig): Promise<void>;
  /** No error when there is none. */
  deletePush(assistant_id: string, run_id: string, config_id: string): Promise<void>;
}

export interface CronsService {
  create(request: CronCreate): Promise<Cron>;
  createOnThread(thread_id: string, request: ThreadCronCreate): Promise<Cron>;
  get(cron_id: string): Promise<Cron>;
  patch(cron_id: string, change: CronPatch): Promise<Cron>;
  delete(cron_id: string): Promise<void>;
  search(request: CronSearch): Promise<{ items: readonly Partial<Cron>[]; total: number }>;
  count(filter: CronFilter): Promise<number>;
}

export interface StoreService {
  put(request: StorePut): Promise<void>;
  /** The item as JSON text; `null` when there is none. `refresh_ttl` undefined: as configured. */
  get(namespace: readonly string[], key: string, refresh_ttl: boolean | undefined): Promise<Json>;
  delete(request: StoreDelete): Promise<void>;
  /** A list of items as JSON text. */
  search(request: StoreSearch): Promise<Json>;
  namespaces(request: StoreListNamespaces): Promise<readonly (readonly string[])[]>;
}

export interface UiService {
  /** The bundle of an assistant, of a graph, or of a name that the configuration made up. 404 when there is none. */
  find(id: string): Promise<UiBundle>;
  /** 404 when there is none. */
  file(namespace: string, name: string): UiFile;
}

export interface SystemService {
  /** Throws when the database does not answer. */
  checkDatabase(): Promise<void>;
  /** How other processes are heard of; empty where there are none. */
  broker(): { readonly broker?: "none" | "connected" | "unreachable" };
  info(): Readonly<Record<string, unknown>>;
  /** Prometheus text. */
  metricsText(): Promise<string>;
  metricsJson(): Promise<Readonly<Record<string, unknown>>>;
}

/** Where the doors of other protocols write down what they may not tell their callers. */
export interface CallerLogger {
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export interface Services {
  readonly assistants: AssistantsService;
  readonly threads: ThreadsService;
  readonly runs: RunsService;
  readonly protocol: ProtocolService;
  readonly tasks: TasksService;
  readonly crons: CronsService;
  readonly store: StoreService;
  readonly system: SystemService;
  readonly ui: UiService;
}
