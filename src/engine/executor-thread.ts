/**
 * One executor thread, seen from the main thread: posts work, hands back what comes out, and says why
 * when the thread dies. Knows no database; it is told what to do with storage calls.
 */
import { inspect } from "node:util";
import { Worker } from "node:worker_threads";
import { type ErrorBody, errorBody, SkeinError } from "../errors.ts";
import type {
  AnswerTo,
  AttemptName,
  Batch,
  CancelAction,
  ExecutorSettings,
  FromExecutor,
  Json,
  LoadedGraph,
  NodeStep,
  Question,
  RunJob,
  StateChange,
  StorageCall,
  ToExecutor,
  UpdateQuestion,
  WireEvent,
} from "../executor/protocol.ts";
import type { AttemptEnd } from "./lifecycle.ts";

/** Well below what an executor lets be under way before it pauses (executor/flow.ts). */
const ACKNOWLEDGE_BYTES = 256 * 1024;

/** The lease under which a run writes. Shared by all writes of an attempt, its end included. */
export interface RunHold {
  readonly fence: number;
  /** Set when a write failed: what comes after it must not be stored as if it had not. */
  failure: ErrorBody | undefined;
  /** Set when that was because the database did not answer in time. */
  away?: ErrorBody;
  /** The run may have checkpoints or writes in storage. */
  hasStored: boolean;
  /** The writes on their way to a database that does not keep their order. Never rejects. */
  writing?: Promise<unknown>;
}

/** What an attempt tells while it runs. */
export interface RunListener {
  readonly hold: RunHold;
  /** Undefined, or a promise for room: until then the run gets no more credit, and others are not held up. Must not reject. */
  onEvents(events: readonly WireEvent[]): Promise<void> | undefined;
  /** Of a run that is traced. */
  onNode?(step: NodeStep): void;
}

/** `withdrawn`: the thread has not begun the run, and will not. */
export type ThreadEnd = AttemptEnd | { readonly kind: "withdrawn" };

/** What rejects a question that the thread has not begun, and will not. */
export class Withdrawn extends Error {
  override readonly name = "Withdrawn";
}

export interface StorageRequest {
  readonly call: StorageCall;
  /** The hold of the run's attempt on this thread; undefined when it has none (any more). */
  readonly hold: RunHold | undefined;
}

/** Answers a batch of storage calls in order; a failed one is an error in its place. */
export type StorageHandler = (
  requests: readonly StorageRequest[],
) => Promise<
  readonly ({ readonly ok: true; readonly value: unknown } | { readonly ok: false; readonly error: ErrorBody })[]
>;

export interface ExecutorThreadOptions {
  readonly entry: URL;
  readonly settings: ExecutorSettings;
  readonly env: NodeJS.ProcessEnv;
  readonly heapMb: number;
  readonly execArgv: readonly string[];
  readonly onStorage: StorageHandler;
  /** Called once, when the thread is gone. */
  readonly onExit: (thread: ExecutorThread) => void;
}

/** A graph that did not load: the server says which and does not start. */
export class GraphLoadError extends Error {
  constructor(graph_id: string, file: string, cause: ErrorBody, stack: string) {
    super(`graph "${graph_id}" (${file}) failed to load: ${cause.error}: ${cause.message}`);
    this.name = "GraphLoadError";
    this.stack = stack;
  }
}

/** The store's index cannot be had: the server says why and does not start. */
export class IndexLoadError extends Error {
  constructor(embed: string, cause: ErrorBody) {
    super(`store.index.embed "${embed}" failed to load: ${cause.error}: ${cause.message}`);
    this.name = "IndexLoadError";
  }
}

interface PendingCall extends StorageRequest {
  readonly id: number;
}

interface RunningRun {
  readonly listener: RunListener;
  /** Bytes of events taken and not yet acknowledged. */
  taken: number;
  readonly turn: number;
  readonly finish: (end: ThreadEnd) => void;
}

interface OpenQuestion {
  readonly turn: number;
  readonly resolve: (value: Json | StateChange) => void;
  readonly reject: (error: Error) => void;
}

export class ExecutorThread {
  readonly ready: Promise<readonly LoadedGraph[]>;
  readonly #worker: Worker;
  readonly #options: ExecutorThreadOptions;
  readonly #runs = new Map<string, RunningRun>();
  readonly #questions = new Map<number, OpenQuestion>();
  readonly #outbox: ToExecutor[] = [];
  /** Shared with the thread; see `ExecutorSettings.turns`. */
  readonly #turns = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
  #lastTurn = 0;
  #nextId = 1;
  #isReady = false;
  #dead: string | undefined;
  #cause: string | undefined;
  #onFlushed: () => void = () => undefined;
  /** Id and time of the ping that waits for its pong. */
  #ping: { readonly id: number; readonly at: number } | undefined;

  constructor(options: ExecutorThreadOptions) {
    this.#options = options;
    this.#worker = new Worker(options.entry, {
      workerData: { ...options.settings, turns: this.#turns },
      env: options.env,
      execArgv: [...options.execArgv],
      resourceLimits: { maxOldGenerationSizeMb: options.heapMb },
    });
    this.ready = new Promise((resolve, reject) => this.#watch(resolve, reject));
    // A thread may die before anyone waits for `ready`.
    this.ready.catch(() => undefined);
  }

  get alive(): boolean {
    return this.#dead === undefined;
  }

  get isReady(): boolean {
    return this.#isReady && this.alive;
  }

  /** True when the thread had loaded its graphs, even if it has died since. */
  get wasReady(): boolean {
    return this.#isReady;
  }

  get deathReason(): string {
    return this.#dead ?? "";
  }

  /** Runs and questions now on the thread. */
  get load(): number {
    return this.#runs.size + this.#questions.size;
  }

  get running(): number {
    return this.#runs.size;
  }

  /** Milliseconds for which the thread has not answered a ping; 0 when it answers. */
  silentFor(now: number): number {
    return this.#ping === undefined ? 0 : now - this.#ping.at;
  }

  /** Asks the thread to show that its event loop turns. */
  ping(now: number): void {
    if (!this.isReady || this.#ping !== undefined) return;
    this.#ping = { id: this.#nextId++, at: now };
    this.#post({ type: "ping", id: this.#ping.id });
  }

  /** Runs one attempt to its end. Never rejects: a dead thread is the end `lost`. */
  run(job: RunJob, listener: RunListener): Promise<ThreadEnd> {
    if (this.#dead !== undefined) return Promise.resolve({ kind: "lost", reason: this.#dead });
    return new Promise((finish) => {
      const turn = ++this.#lastTurn;
      this.#runs.set(job.run_id, { listener, finish, taken: 0, turn });
      this.#post({ type: "run", job, turn });
    });
  }

  cancel(run_id: string, action: CancelAction): void {
    if (this.#runs.has(run_id)) this.#post({ type: "cancel", run_id, action });
  }

  /** Gives up on a run: its end is decided by the caller, what it still says is ignored, and what it still does is in vain. */
  abandon(run_id: string, end: AttemptEnd): void {
    this.cancel(run_id, "rollback");
    this.#finish(run_id, end);
  }

  /** Once `limit` fires, its reason is the answer, and what the thread still says to this question is ignored. */
  ask<Q extends Question | UpdateQuestion>(question: Q, limit: AbortSignal): Promise<AnswerTo<Q>> {
    if (this.#dead !== undefined) return Promise.reject(new SkeinError("unavailable", this.#dead));
    const id = this.#nextId++;
    const giveUp = (): void => {
      this.#questions.get(id)?.reject(limit.reason as Error);
      this.#questions.delete(id);
    };
    const answered = new Promise<AnswerTo<Q>>((resolve, reject) => {
      const turn = ++this.#lastTurn;
      // The executor answers each question as `AnswerTo` says.
      this.#questions.set(id, { resolve: resolve as OpenQuestion["resolve"], reject, turn });
      this.#post({ type: "ask", id, question, turn });
    });
    limit.addEventListener("abort", giveUp, { once: true });
    return answered.finally(() => limit.removeEventListener("abort", giveUp));
  }

  /** Takes back the runs and questions that wait unread in a thread that does not answer. */
  withdraw(): void {
    const last = Atomics.load(this.#turns, 0);
    const runs = [...this.#runs].filter(([, { turn }]) => turn > last);
    const questions = [...this.#questions].filter(([, { turn }]) => turn > last);
    if (runs.length + questions.length === 0) return;
    // The thread may have begun one this very moment: then the next beat looks again.
    if (Atomics.compareExchange(this.#turns, 0, last, this.#lastTurn) !== last) return;
    for (const [run_id] of runs) this.#finish(run_id, { kind: "withdrawn" });
    for (const [id, { reject }] of questions) {
      this.#questions.delete(id);
      reject(new Withdrawn());
    }
  }

  /** Every run stops at its next superstep boundary. */
  drain(): void {
    this.#post({ type: "drain" });
  }

  listening(server_url: string): void {
    this.#post({ type: "listening", server_url });
  }

  /** Lets the thread send what its tracers still have. Resolves when it has, is gone, or has taken too long. */
  flushTraces(limitMs: number): Promise<void> {
    if (!this.isReady) return Promise.resolve();
    return new Promise((resolve) => {
      const late = setTimeout(resolve, limitMs);
      this.#onFlushed = () => {
        clearTimeout(late);
        resolve();
      };
      this.#post({ type: "flush_traces" });
    });
  }

  async terminate(): Promise<void> {
    this.#cause ??= "the executor thread was stopped";
    await this.#worker.terminate();
  }

  /** Posts all messages of one turn of the event loop as one array. */
  #post(message: ToExecutor): void {
    if (this.#outbox.push(message) > 1) return;
    queueMicrotask(() => {
      const batch: Batch<ToExecutor> = this.#outbox.splice(0);
      if (this.alive) this.#worker.postMessage(batch);
    });
  }

  #watch(ready: (graphs: readonly LoadedGraph[]) => void, failed: (error: Error) => void): void {
    this.#worker.on("message", (batch: Batch<FromExecutor>) => this.#receive(batch, ready, failed));
    this.#worker.on("error", (thrown: unknown) => {
      this.#cause ??= describeDeath(thrown);
    });
    this.#worker.on("exit", (code) => {
      this.#die(this.#cause ?? `the executor thread ended: user code called process.exit(${code})`);
      failed(new Error(this.#dead));
    });
  }

  #receive(
    batch: Batch<FromExecutor>,
    ready: (graphs: readonly LoadedGraph[]) => void,
    failed: (error: Error) => void,
  ): void {
    const calls: PendingCall[] = [];
    // Whatever arrives shows that the event loop over there turns; a busy one may be slow to get to the ping.
    if (this.#ping !== undefined) this.#ping = { id: this.#ping.id, at: Date.now() };
    for (const message of batch) {
      switch (message.type) {
        case "ready":
          this.#isReady = true;
          ready(message.graphs);
          break;
        case "load_failed":
          this.#cause = `graph "${message.graph_id}" failed to load`;
          failed(new GraphLoadError(message.graph_id, message.file, message.error, message.stack));
          break;
        case "index_failed":
          this.#cause = `store.index.embed "${message.embed}" failed to load`;
          failed(new IndexLoadError(message.embed, message.error));
          // It will never be ready; a thread that replaces it may be.
          void this.terminate();
          break;
        case "events":
          this.#takeEvents(message);
          break;
        case "node":
          this.#attempt(message)?.listener.onNode?.(message.step);
          break;
        case "finished":
          if (this.#attempt(message) !== undefined) this.#finish(message.run_id, message.outcome);
          break;
        case "answer":
          this.#answer(message);
          break;
        case "storage":
          calls.push({ id: message.id, call: message.call, hold: this.#holdOf(message.call) });
          break;
        case "traces_flushed":
          this.#onFlushed();
          break;
        case "pong":
          if (message.id === this.#ping?.id) this.#ping = undefined;
          break;
        default:
          message satisfies never;
      }
    }
    if (calls.length > 0) void this.#serve(calls);
  }

  async #serve(calls: readonly PendingCall[]): Promise<void> {
    const replies = await this.#options.onStorage(calls).catch((error: unknown) => {
      const failure = { ok: false, error: errorBody(error) } as const;
      return calls.map(() => failure);
    });
    replies.forEach((reply, index) => {
      const id = calls[index]?.id;
      if (id !== undefined) this.#post({ type: "storage_reply", id, ...reply });
    });
  }

  /** What the attempt is here; undefined when it has been given up, though a later one of its run may be on this thread by now. */
  #attempt({ run_id, fence }: AttemptName): RunningRun | undefined {
    const run = this.#runs.get(run_id);
    return run?.listener.hold.fence === fence ? run : undefined;
  }

  #holdOf(call: StorageCall): RunHold | undefined {
    return "run_id" in call ? this.#attempt(call)?.listener.hold : undefined;
  }

  /** Acknowledged in large steps: a message to another thread costs more than most events. */
  #takeEvents({ run_id, fence, events, bytes }: Extract<FromExecutor, { type: "events" }>): void {
    const run = this.#attempt({ run_id, fence });
    if (run === undefined) return;
    const room = run.listener.onEvents(events);
    run.taken += bytes;
    if (run.taken < ACKNOWLEDGE_BYTES) return;
    if (room === undefined) this.#acknowledge(run_id, run);
    else void room.then(() => this.#acknowledge(run_id, run));
  }

  /** What several waited for together is acknowledged by the first. */
  #acknowledge(run_id: string, run: RunningRun): void {
    if (run.taken === 0 || this.#runs.get(run_id) !== run) return;
    this.#post({ type: "events_taken", run_id, bytes: run.taken });
    run.taken = 0;
  }

  #finish(run_id: string, end: ThreadEnd): void {
    const run = this.#runs.get(run_id);
    this.#runs.delete(run_id);
    run?.finish(end);
  }

  #answer(message: Extract<FromExecutor, { type: "answer" }>): void {
    const question = this.#questions.get(message.id);
    this.#questions.delete(message.id);
    if (message.ok) question?.resolve(message.value);
    else question?.reject(questionError(message));
  }

  #die(reason: string): void {
    if (this.#dead !== undefined) return;
    this.#dead = reason;
    this.#onFlushed();
    for (const question of this.#questions.values()) question.reject(new SkeinError("unavailable", reason));
    this.#questions.clear();
    for (const run_id of [...this.#runs.keys()]) this.#finish(run_id, { kind: "lost", reason });
    this.#options.onExit(this);
  }
}

function questionError({ why, error }: Extract<FromExecutor, { type: "answer"; ok: false }>): Error {
  if (why === "unknown_graph") return new SkeinError("not_found", error.message);
  return why === "refused" ? new SkeinError("invalid", error.message) : new GraphQuestionError(error);
}

/** A graph could not answer: its own code threw. */
export class GraphQuestionError extends Error {
  constructor({ error, message }: ErrorBody) {
    super(`${error}: ${message}`);
    this.name = "GraphQuestionError";
  }
}

/** What was thrown crossed from another thread: it need not be an Error any more, nor ever have been one. */
function describeDeath(thrown: unknown): string {
  const error = thrown as Partial<Error & { code: string }> | null | undefined;
  if (error?.code === "ERR_WORKER_OUT_OF_MEMORY")
    return "the executor thread ran out of memory: user code filled its heap";
  if (typeof error?.message !== "string") return `the executor thread died of an uncaught ${inspect(thrown)}`;
  return `the executor thread died of an uncaught ${error.name}: ${error.message}`;
}
