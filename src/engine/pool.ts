/**
 * The executor threads of this process, and which of them a run goes to.
 *
 * The runs of a conversation thread go to the same executor thread while it lives and answers: user code
 * keeps caches in module state. A thread that stops answering (a node that blocks the CPU) gets no new
 * work; when none answers, a spare thread is started, and retired when the others are back.
 *
 * When an executor thread dies, each of its runs is a suspect: it is retried alone on a thread, so that
 * the guilty one cannot take the innocent along a second time.
 */
import { SkeinError } from "../errors.ts";
import type {
  AnswerTo,
  ExecutorSettings,
  GraphSpec,
  LoadedGraph,
  Question,
  RunJob,
  UpdateQuestion,
} from "../executor/protocol.ts";
import {
  ExecutorThread,
  type ExecutorThreadOptions,
  type RunListener,
  type ThreadEnd,
  Withdrawn,
} from "./executor-thread.ts";
import type { AttemptEnd } from "./lifecycle.ts";

export interface PoolOptions {
  readonly size: number;
  /** Threads at most, spares included. */
  readonly limit: number;
  readonly settings: ExecutorSettings;
  readonly thread: Omit<ExecutorThreadOptions, "settings" | "onExit" | "entry">;
  /** A thread silent for longer gets no new work, milliseconds. */
  readonly silentMs: number;
  /** A spare thread that idles longer is stopped, milliseconds. */
  readonly spareIdleMs: number;
  /** How long a question may take, its wait for a thread included, milliseconds. */
  readonly questionMs: number;
  /** Threads may have traces to send when they are stopped. */
  readonly tracesToLangsmith?: boolean;
  readonly onDeath: (reason: string) => void;
}

const ENTRY = new URL("../executor/main.js", import.meta.url);
/** A tracing service that is away must not keep the server from stopping. */
const FLUSH_MS = 3000;
const RESTART_PAUSE_MS = 1000;
/** Conversation threads whose executor thread is remembered. */
const AFFINITY_LIMIT = 50_000;

export class ExecutorPool {
  readonly #options: PoolOptions;
  #settings: ExecutorSettings;
  /** Threads of the current code. */
  #threads: ExecutorThread[] = [];
  /** Threads of older code, finishing their runs. */
  readonly #draining = new Set<ExecutorThread>();
  readonly #home = new Map<string, ExecutorThread>();
  readonly #exclusive = new Map<ExecutorThread, string>();
  readonly #idleSince = new Map<ExecutorThread, number>();
  /** Runs and questions that wait for a thread to answer or to start. */
  readonly #waiting = new Set<() => void>();
  #pulse: NodeJS.Timeout | undefined;
  /** No new runs; questions are still answered. */
  #stopping = false;
  #closed = false;

  constructor(options: PoolOptions) {
    this.#options = options;
    this.#settings = options.settings;
  }

  /** Starts the threads; resolves with the graphs they loaded. Rejects with GraphLoadError when one does not load. */
  async start(): Promise<readonly LoadedGraph[]> {
    const threads = Array.from({ length: this.#options.size }, () => this.#spawn());
    try {
      const [graphs] = await Promise.all(threads.map((thread) => thread.ready));
      this.#pulse = setInterval(() => this.#beat(Date.now()), this.#options.silentMs / 4).unref();
      return graphs ?? [];
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  get size(): number {
    return this.#threads.length + this.#draining.size;
  }

  get running(): number {
    return [...this.#threads, ...this.#draining].reduce((sum, thread) => sum + thread.running, 0);
  }

  /**
   * Runs one attempt on the thread that fits; `alone` keeps others off that thread until it ends. `placed` is told the
   * thread, and says whether the run is still wanted.
   */
  async run(
    job: RunJob,
    listener: RunListener,
    alone: boolean,
    placed: (thread: ExecutorThread) => boolean,
  ): Promise<AttemptEnd> {
    for (;;) {
      const thread = await this.#place(job.thread_id, alone ? job.run_id : undefined);
      if (thread === undefined) return { kind: "drained" };
      const end = await this.#runOn(thread, job, listener, placed);
      if (end.kind !== "withdrawn") return end;
    }
  }

  async #runOn(
    thread: ExecutorThread,
    job: RunJob,
    listener: RunListener,
    placed: (thread: ExecutorThread) => boolean,
  ): Promise<ThreadEnd> {
    try {
      return placed(thread) ? await thread.run(job, listener) : { kind: "drained" };
    } finally {
      if (this.#exclusive.get(thread) === job.run_id) this.#exclusive.delete(thread);
      this.#stopRetired(thread);
      this.#wakeWaiting();
    }
  }

  /** Asks about a graph or a state. Rejects with `unavailable` when no thread has answered within the time limit. */
  async ask<Q extends Question | UpdateQuestion>(question: Q): Promise<AnswerTo<Q>> {
    const limit = new AbortController();
    const timer = setTimeout(() => {
      limit.abort(tooLate(question, this.#options.questionMs));
      this.#wakeWaiting();
    }, this.#options.questionMs);
    try {
      return await this.#ask(question, limit.signal);
    } finally {
      clearTimeout(timer);
    }
  }

  async #ask<Q extends Question | UpdateQuestion>(question: Q, limit: AbortSignal): Promise<AnswerTo<Q>> {
    for (;;) {
      const thread = await this.#place(undefined, undefined, limit);
      limit.throwIfAborted();
      if (thread === undefined) throw new SkeinError("unavailable", "the server is shutting down");
      try {
        return await thread.ask(question, limit);
      } catch (error) {
        // It was not begun; another thread answers it.
        if (!(error instanceof Withdrawn)) throw error;
      } finally {
        if (limit.aborted) this.#stopBlocked(thread);
        this.#stopRetired(thread);
      }
    }
  }

  /** A thread that no run is on and that does not answer is held by a question: nothing else would ever free it. */
  #stopBlocked(thread: ExecutorThread): void {
    if (thread.running === 0 && this.#isSilent(thread, Date.now())) void thread.terminate();
  }

  /** Tells the threads where the server listens, for the loopback client inside nodes. */
  listening(server_url: string): void {
    this.#settings = { ...this.#settings, server_url };
    for (const thread of this.#threads) thread.listening(server_url);
  }

  /**
   * Replaces the code: new threads load it, then take all new runs; the old ones finish theirs.
   * Rejects, and keeps the old code, when a graph does not load.
   */
  async reload(graphs: readonly GraphSpec[]): Promise<readonly LoadedGraph[]> {
    const settings = { ...this.#settings, graphs };
    const fresh = Array.from({ length: this.#options.size }, () => this.#make(settings));
    try {
      const [loaded] = await Promise.all(fresh.map((thread) => thread.ready));
      const old = this.#threads;
      this.#settings = settings;
      this.#threads = fresh;
      for (const thread of old) this.#retire(thread);
      this.#wakeWaiting();
      return loaded ?? [];
    } catch (error) {
      await Promise.all(fresh.map((thread) => thread.terminate()));
      throw error;
    }
  }

  /** Every run stops at its next superstep boundary, and none starts any more. */
  drain(): void {
    this.#stopping = true;
    this.#wakeWaiting();
    for (const thread of [...this.#threads, ...this.#draining]) thread.drain();
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#pulse);
    this.#wakeWaiting();
    await Promise.all([...this.#threads, ...this.#draining].map((thread) => this.#end(thread)));
  }

  async #end(thread: ExecutorThread): Promise<void> {
    if (this.#options.tracesToLangsmith === true) await thread.flushTraces(FLUSH_MS);
    await thread.terminate();
  }

  #make(settings: ExecutorSettings): ExecutorThread {
    return new ExecutorThread({
      ...this.#options.thread,
      entry: ENTRY,
      settings,
      onExit: (thread) => this.#onExit(thread),
    });
  }

  #spawn(): ExecutorThread {
    const thread = this.#make(this.#settings);
    this.#threads.push(thread);
    thread.ready.then(
      () => this.#wakeWaiting(),
      () => undefined,
    );
    return thread;
  }

  /** Waits until a thread may take the work: a run of this conversation thread, or a question. Undefined when none will. */
  async #place(
    thread_id: string | undefined,
    alone: string | undefined,
    limit?: AbortSignal,
  ): Promise<ExecutorThread | undefined> {
    while (!this.#closed && !(this.#stopping && thread_id !== undefined) && limit?.aborted !== true) {
      const thread = this.#choose(thread_id, alone !== undefined);
      if (thread !== undefined) {
        if (alone !== undefined) this.#exclusive.set(thread, alone);
        if (thread_id !== undefined) this.#remember(thread_id, thread);
        return thread;
      }
      if (this.#threads.length < this.#options.limit && this.#threads.every((t) => t.isReady)) this.#spawn();
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
    return undefined;
  }

  #choose(thread_id: string | undefined, alone: boolean): ExecutorThread | undefined {
    const home = thread_id === undefined ? undefined : this.#home.get(thread_id);
    if (home !== undefined && this.#accepts(home, alone)) return home;
    let best: ExecutorThread | undefined;
    for (const thread of this.#threads) {
      if (this.#accepts(thread, alone) && (best === undefined || thread.load < best.load)) best = thread;
    }
    return best;
  }

  #accepts(thread: ExecutorThread, alone: boolean): boolean {
    if (!thread.isReady || this.#exclusive.has(thread) || !this.#threads.includes(thread)) return false;
    if (this.#isSilent(thread, Date.now())) return false;
    return !alone || (thread.running === 0 && this.#shared() > 1);
  }

  #isSilent(thread: ExecutorThread, now: number): boolean {
    return thread.silentFor(now) >= this.#options.silentMs;
  }

  /** Threads that take any run. Runs that must be alone, however many and long, leave one for the others. */
  #shared(): number {
    return this.#threads.filter((thread) => thread.isReady && !this.#exclusive.has(thread)).length;
  }

  #remember(thread_id: string, thread: ExecutorThread): void {
    this.#home.delete(thread_id);
    this.#home.set(thread_id, thread);
    if (this.#home.size <= AFFINITY_LIMIT) return;
    for (const oldest of this.#home.keys()) {
      this.#home.delete(oldest);
      return;
    }
  }

  #wakeWaiting(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const wake of waiting) wake();
  }

  /** The pulse: who answers, whose work goes elsewhere, who may take work again, which spare may go. */
  #beat(now: number): void {
    for (const thread of this.#threads) {
      if (this.#isSilent(thread, now)) thread.withdraw();
      thread.ping(now);
    }
    this.#stopIdleSpare(now);
    if (this.#waiting.size > 0) this.#wakeWaiting();
  }

  #stopIdleSpare(now: number): void {
    for (const thread of this.#threads) {
      if (!thread.isReady || thread.load > 0 || this.#exclusive.has(thread)) this.#idleSince.delete(thread);
      else if (!this.#idleSince.has(thread)) this.#idleSince.set(thread, now);
    }
    if (this.#threads.length <= this.#options.size) return;
    const spare = this.#threads.findLast((t) => now - (this.#idleSince.get(t) ?? now) > this.#options.spareIdleMs);
    if (spare === undefined) return;
    this.#threads = this.#threads.filter((thread) => thread !== spare);
    this.#retire(spare);
  }

  /** Lets a thread finish its runs, then stops it. */
  #retire(thread: ExecutorThread): void {
    this.#draining.add(thread);
    this.#idleSince.delete(thread);
    this.#stopRetired(thread);
  }

  #stopRetired(thread: ExecutorThread): void {
    if (this.#draining.has(thread) && thread.load === 0) void this.#end(thread);
  }

  #onExit(thread: ExecutorThread): void {
    const wasDraining = this.#draining.delete(thread);
    const index = this.#threads.indexOf(thread);
    this.#exclusive.delete(thread);
    this.#idleSince.delete(thread);
    if (index !== -1) this.#threads.splice(index, 1);
    if (this.#closed || wasDraining || index === -1) return;
    this.#options.onDeath(thread.deathReason);
    if (!thread.wasReady) {
      // It could not even load its graphs: do not start the next one in a tight loop.
      setTimeout(() => this.#wakeWaiting(), RESTART_PAUSE_MS).unref();
      return;
    }
    if (this.#threads.length < this.#options.size) this.#spawn();
    this.#wakeWaiting();
  }
}

function tooLate(question: Question | UpdateQuestion, ms: number): SkeinError {
  const who = "graph_id" in question ? `graph "${question.graph_id}"` : "the embedder of the store";
  return new SkeinError("unavailable", `${who} did not answer within ${ms / 1000} s`);
}
