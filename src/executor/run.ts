/** One attempt of one run, start to end: graph → events → outcome. */
import type { Command, Send } from "../schemas/runs.ts";
import { bind } from "./bind.ts";
import { createFlow, type Flow } from "./flow.ts";
import type { KeptThreads } from "./kept-threads.ts";
import type { GraphConfig, GraphLike, InterruptLike, LangGraph, RunControlLike, StateLike } from "./langgraph.ts";
import type { ProjectGraph } from "./load.ts";
import { createModes, type Modes } from "./modes.ts";
import { nodeSteps } from "./node-steps.ts";
import { type ExecutorPort, isFenced } from "./port.ts";
import type { CancelAction, Outcome, RunJob, Snapshot, WholeSnapshot, WireEvent } from "./protocol.ts";
import { createProtocolRun, createStateTexts, type ProtocolRun } from "./protocol-run.ts";
import { EXCLUDED_METADATA, makeSaver, type SaverRun, type SkeinSaver } from "./saver.ts";
import { stateJson, toJson } from "./serialize.ts";
import { listsInParts, saidOutput, shownValues } from "./shown.ts";
import { makeStore } from "./store.ts";
import { thrownBody } from "./thrown.ts";

/** How long a cancelled graph may take to wind down before it is abandoned. */
const WIND_DOWN_MS = 1000;

/** In place of an input: there is nothing to do. */
const VOID = Symbol("void");

/** As `RunJob.written` has it. */
const WRITTEN = 1;

export interface RunningRun {
  readonly run_id: string;
  /** Never rejects. */
  readonly finished: Promise<Outcome>;
  cancel(action: CancelAction): void;
  drain(): void;
  taken(bytes: number): void;
}

export function startRun(project: ProjectGraph, job: RunJob, port: ExecutorPort, kept: KeptThreads): RunningRun {
  const flow = createFlow();
  const abort = new AbortController();
  const stop: Stop = { signal: abort.signal, action: undefined };
  const control = project.langgraph.RunControl === undefined ? undefined : new project.langgraph.RunControl();
  const cancel = (action: CancelAction): void => {
    // A rollback asked for after an interrupt still wins: it is the stronger wish.
    if (stop.action !== "rollback") stop.action = action;
    abort.abort(abortReason(action));
  };
  const { written: flag } = job;
  const written = flag && ((): Promise<void> | undefined => whenWritten(flag, abort.signal, () => cancel("rollback")));
  const attempt = new Attempt(project, job, port, kept, flow, stop, control, written, (error) => abort.abort(error));
  return {
    run_id: job.run_id,
    finished: attempt.run(),
    cancel,
    drain: () => control?.requestDrain("shutdown"),
    taken: (bytes) => flow.taken(bytes),
  };
}

interface Stop {
  readonly signal: AbortSignal;
  action: CancelAction | undefined;
}

/**
 * Undefined when the run is written. Else resolves when it is; rejects when the run is aborted before, as it is by `cancel` when it
 * will never be written.
 */
function whenWritten(flag: Int32Array, signal: AbortSignal, cancel: () => void): Promise<void> | undefined {
  if (Atomics.load(flag, 0) === WRITTEN) return undefined;
  return new Promise((resolve, reject) => {
    const aborted = (): void => reject(signal.reason as Error);
    if (signal.aborted) aborted();
    signal.addEventListener("abort", aborted, { once: true });
    void Promise.resolve(Atomics.waitAsync(flag, 0, 0).value).then(() => {
      if (Atomics.load(flag, 0) === WRITTEN) resolve();
      else cancel();
    });
  });
}

function abortReason(action: CancelAction): Error {
  const reason = new Error(`The run was cancelled (${action}).`);
  reason.name = "AbortError";
  return reason;
}

class Attempt {
  readonly #project: ProjectGraph;
  readonly #job: RunJob;
  readonly #port: ExecutorPort;
  readonly #flow: Flow;
  readonly #stop: Stop;
  readonly #control: RunControlLike | undefined;
  /** What to wait for before anything of the graph may run. */
  readonly #written: SaverRun["written"];
  readonly #saver: SkeinSaver;
  readonly #modes: Modes;
  /** Of a run with events of streaming v2. */
  readonly #protocol: ProtocolRun | undefined;
  #graph: GraphLike | undefined;

  constructor(
    project: ProjectGraph,
    job: RunJob,
    port: ExecutorPort,
    kept: KeptThreads,
    flow: Flow,
    stop: Stop,
    control: RunControlLike | undefined,
    written: SaverRun["written"],
    fail: (error: Error) => void,
  ) {
    this.#written = written;
    this.#project = project;
    this.#job = job;
    this.#port = port;
    this.#flow = flow;
    this.#stop = stop;
    this.#control = control;
    const run: SaverRun = {
      run_id: job.run_id,
      fence: job.fence,
      thread_id: job.thread_id,
      durability: job.kwargs.durability,
      temporary: job.kwargs.temporary,
      // A run that starts somewhere else than at the latest checkpoint asks for the one it names.
      latest: job.latest,
      ...(written === undefined ? {} : { written }),
      // Refused: another attempt has the run, or the database is in trouble. What this one still does is in vain.
      onFailure: fail,
    };
    const metadata = checkpointMetadata(job, project.langgraph);
    this.#saver = makeSaver(project.langgraph, port, run, { kept, metadata });
    const { stream_mode, subgraphs, protocol } = job.kwargs;
    const emit = (event: WireEvent): void => this.#emit(event);
    const texts = createStateTexts();
    // Who reads a native run in modes gets its events of streaming v2 in their shape.
    this.#modes = createModes(
      protocol === "native" ? [] : stream_mode,
      subgraphs,
      emit,
      protocol === undefined ? stateJson : texts.json,
    );
    this.#protocol =
      protocol === undefined
        ? undefined
        : createProtocolRun({ stream_mode, subgraphs, protocol }, project.langgraph, this.#modes, emit, texts);
  }

  async run(): Promise<Outcome> {
    const outcome = await this.#outcome();
    this.#protocol?.end(outcome);
    // The main thread stores these before it settles the run; a refused write shows there.
    if (this.#job.kwargs.temporary && outcome.kind !== "drained") this.#saver.discard();
    else this.#saver.flush();
    this.#saver.close();
    if (outcome.kind === "success" && !this.#job.kwargs.temporary) {
      this.#saver.keep(listsInParts(outcome.snapshot.values));
    }
    return outcome;
  }

  async #outcome(): Promise<Outcome> {
    try {
      await this.#drive();
      return await this.#succeeded();
    } catch (thrown) {
      return await this.#failed(thrown);
    }
  }

  #emit(event: WireEvent): void {
    this.#flow.sent(this.#port.event(this.#job, event));
  }

  /* --------------------------------------------------------------------------- the drive */

  async #drive(): Promise<void> {
    const { kwargs } = this.#job;
    this.#stop.signal.throwIfAborted();
    const config = runConfig(this.#job, this.#project.langgraph, this.#stop.signal, this.#control);
    if (this.#project.isFactory) await this.#written?.();
    const opened = await this.#project.open(factoryConfig(config));
    const graph = bind(opened, this.#project.langgraph, this.#saver, makeStore(this.#project, this.#port));
    this.#graph = graph;
    const input = (await this.#goesOn()) ? this.#rest(config) : await this.#begin(graph, config);
    if (input === VOID) return;
    const asked = this.#protocol?.asks() ?? {
      streamMode: this.#modes.requested,
      subgraphs: kwargs.subgraphs,
      // LangGraph gives its light checkpoint frames only to callers that name a protocol version.
      ...(this.#modes.envelopes ? { version: "v2" } : {}),
    };
    const callbacks = await this.#callbacks();
    const options: GraphConfig = { ...config, ...asked, ...(callbacks.length === 0 ? {} : { callbacks }) };
    if (kwargs.stream_mode.includes("events")) await this.#driveEvents(graph, input, options);
    else await this.#driveChunks(graph, await graph.stream(input, options), kwargs.subgraphs);
  }

  /** Who else hears of what the graph does. LangChain adds its tracer by itself where the run asks for no other. */
  async #callbacks(): Promise<object[]> {
    const tracer = await this.#langsmithTracer();
    const { run_id, fence, traced } = this.#job;
    if (traced !== true) return tracer;
    return [...tracer, nodeSteps((step) => this.#port.gather({ type: "node", run_id, fence, step }))];
  }

  async #langsmithTracer(): Promise<object[]> {
    const { langsmith } = this.#job.kwargs;
    if (langsmith === undefined || (langsmith.own === undefined && langsmith.example_id === undefined)) return [];
    const { project: projectName, example_id: exampleId } = langsmith;
    const where = { projectName, ...(exampleId === undefined ? {} : { exampleId }) };
    return [await this.#project.langgraph.langsmithTracer(where)];
  }

  async #driveChunks(graph: GraphLike, stream: AsyncIterable<unknown>, subgraphs: boolean): Promise<void> {
    const transformed = this.#protocol?.transformed(graph, stream);
    if (transformed === undefined) await this.#read(stream, (chunk) => this.#chunk(chunk, subgraphs));
    else await this.#read(transformed, (event) => this.#protocol?.event(event));
  }

  #chunk(chunk: unknown, subgraphs: boolean): void {
    if (this.#protocol !== undefined) this.#protocol.chunk(chunk);
    else if (subgraphs) {
      const [namespace, mode, payload] = chunk as [readonly string[], string, unknown];
      this.#modes.chunk(namespace, mode, payload);
    } else {
      const [mode, payload] = chunk as [string, unknown];
      this.#modes.chunk(null, mode, payload);
    }
  }

  /** Mode `events`: LangChain's event stream drives the graph, and the other modes are read off its root's chunks. */
  async #driveEvents(graph: GraphLike, input: unknown, options: GraphConfig): Promise<void> {
    const { run_id, kwargs } = this.#job;
    await this.#read(graph.streamEvents(input, { ...options, version: "v2" }), (event) => {
      if (event.tags?.includes("langsmith:hidden") === true) return;
      if (event.event === "on_chain_stream" && event.run_id === run_id) this.#chunk(event.data.chunk, kwargs.subgraphs);
      else this.#modes.event(event);
    });
  }

  /** Reads to the end. A cancelled graph gets a moment to wind down (and save); one that ignores it is left behind. */
  async #read<T>(stream: AsyncIterable<T>, take: (item: T) => void): Promise<void> {
    const iterator = stream[Symbol.asyncIterator]();
    const gone = abandonment(this.#stop.signal);
    try {
      // One race for the whole stream: one for each token would cost as much as sending it.
      await Promise.race([this.#readAll(iterator, take), gone.promise]);
    } catch (thrown) {
      // What the abandoned graph still does is nobody's error.
      void Promise.resolve(iterator.return?.()).catch(() => undefined);
      throw thrown;
    } finally {
      gone.dispose();
    }
  }

  async #readAll<T>(iterator: AsyncIterator<T>, take: (item: T) => void): Promise<void> {
    for (;;) {
      const room = this.#flow.room();
      if (room !== undefined) await room;
      const step = await iterator.next();
      if (step.done === true) return;
      if (!this.#stop.signal.aborted) take(step.value);
    }
  }

  /* --------------------------------------------------------------------------- the input */

  /** Whether an earlier attempt of the run has left a checkpoint. */
  async #goesOn(): Promise<boolean> {
    const { thread_id, run_id, resume } = this.#job;
    if (!resume) return false;
    const tuple = await this.#saver.getTuple({ configurable: { thread_id, checkpoint_ns: "" } });
    return (tuple?.metadata as { run_id?: unknown } | undefined)?.run_id === run_id;
  }

  /** The run goes on from its last checkpoint, wherever it was told to start. */
  #rest(config: GraphConfig): null {
    delete config.configurable?.checkpoint_id;
    delete config.configurable?.checkpoint_map;
    return null;
  }

  async #begin(graph: GraphLike, config: GraphConfig): Promise<unknown> {
    await this.#requireCheckpoint(config);
    if (await this.#isVoid(graph, config)) return VOID;
    const { command, input } = this.#job.kwargs;
    if (command === null) return input ?? null;
    const checkpoint_id = config.configurable?.checkpoint_id;
    return commandOf(command, this.#project.langgraph, () => this.#pendingInterrupts(graph, checkpoint_id));
  }

  /**
   * A resume whose interrupts have been answered meanwhile changes nothing: it must not answer the next question, nor run
   * the node again. Strictly, it fails.
   */
  async #isVoid(graph: GraphLike, config: GraphConfig): Promise<boolean> {
    const { resume, kwargs } = this.#job;
    const { answers, strict_resume, stream_mode } = kwargs;
    if (answers === undefined) return false;
    const state = await this.#state(graph, config.configurable?.checkpoint_id);
    // An earlier attempt of this run may have answered: what it did is not undone.
    const tasks = resume ? state.tasks : pendingTasks(state);
    const waiting = new Set(tasks.flatMap(({ interrupts }) => interrupts.map(({ id }) => id)));
    const gone = answers.filter((id) => !waiting.has(id));
    if (strict_resume === true && gone.length > 0) throw new UnknownInterrupt(gone);
    if (gone.length < answers.length) return false;
    const values = outputOf(graph, state.values);
    if (stream_mode.includes("values")) this.#modes.chunk(null, "values", values);
    this.#protocol?.values(values);
    return true;
  }

  /**
   * It was there when the run was made. Where it went with a run that was rolled back since, LangGraph would begin with nothing,
   * and what it writes would be the thread's state.
   */
  async #requireCheckpoint({ configurable }: GraphConfig): Promise<void> {
    const { checkpoint_id, checkpoint_ns = "" } = configurable ?? {};
    if (checkpoint_id == null) return;
    const { thread_id } = this.#job;
    const tuple = await this.#saver.getTuple({ configurable: { thread_id, checkpoint_ns, checkpoint_id } });
    if (tuple === undefined) throw new CheckpointGone(checkpoint_id);
  }

  async #pendingInterrupts(graph: GraphLike, checkpoint_id: unknown): Promise<readonly InterruptLike[]> {
    return pendingTasks(await this.#state(graph, checkpoint_id)).flatMap(({ interrupts }) => interrupts);
  }

  /* ------------------------------------------------------------------------- the outcome */

  async #succeeded(): Promise<Outcome> {
    // The graph may come to its end just as the cancel arrives; who cancelled has been told it is cancelled.
    if (this.#stop.signal.aborted) return this.#cancelled();
    const graph = this.#graph as GraphLike;
    const last = this.#modes.lastValues();
    const { temporary, webhook } = this.#job.kwargs;
    if (temporary && webhook === null && last !== undefined && !this.#modes.interrupted()) {
      // The thread goes with the run and nobody is told its state: what the graph gave last is all there is to say.
      return { kind: "success", snapshot: NO_STATE, output: stateJson(outputOf(graph, last)) };
    }
    const state = await this.#state(graph);
    const snapshot = this.#left(state);
    const values = outputOf(graph, last ?? state.values);
    if (!snapshot.interrupted) {
      return { kind: "success", snapshot, output: saidOutput(values, state.values, snapshot.values) };
    }
    const interrupts = pendingTasks(state).flatMap((task) => task.interrupts);
    const shown = typeof values === "object" && values !== null && !Array.isArray(values) ? values : {};
    return { kind: "interrupted", snapshot, output: stateJson({ ...shown, __interrupt__: interrupts }) };
  }

  async #failed(thrown: unknown): Promise<Outcome> {
    const { reason } = this.#stop.signal;
    if (isFenced(thrown) || isFenced(reason)) return { kind: "cancelled", snapshot: null };
    if (this.#stop.signal.aborted && this.#stop.action === undefined) {
      return { kind: "error", error: thrownBody(reason), snapshot: null };
    }
    if (this.#stop.signal.aborted) return this.#cancelled();
    if ((thrown as { name?: unknown } | null)?.name === "GraphDrained") return { kind: "drained" };
    const error = thrownBody(thrown);
    const untouched = error.error === UNKNOWN_INTERRUPT;
    return { kind: "error", error, snapshot: await this.#snapshot(), untouched };
  }

  async #cancelled(): Promise<Outcome> {
    this.#saver.close();
    // What a rollback leaves is what the thread shows already.
    const snapshot = this.#stop.action === "rollback" ? null : await this.#snapshot();
    return { kind: "cancelled", snapshot };
  }

  /** The state that is left, as far as it can be had: a run that failed must still report that it failed. */
  async #snapshot(): Promise<Snapshot | null> {
    try {
      if (this.#graph === undefined) {
        const opened = await this.#project.open({ configurable: {} });
        this.#graph = bind(opened, this.#project.langgraph, this.#saver, makeStore(this.#project, this.#port));
      }
      return this.#left(await this.#state(this.#graph));
    } catch {
      return null;
    }
  }

  /** A thread that goes with its run has no values that could grow; a webhook tells all of them. */
  #left(state: StateLike): Snapshot {
    const { temporary, webhook } = this.#job.kwargs;
    if (temporary || checkpointIdOf(state) === null) return snapshotOf(state);
    return { ...bareSnapshot(state), values: shownValues(state.values, this.#saver, { anew: webhook !== null }) };
  }

  /** At this checkpoint; without one, the latest. */
  #state(graph: GraphLike, checkpoint_id?: unknown): Promise<StateLike> {
    const at = checkpoint_id === undefined ? {} : { checkpoint_id };
    return graph.getState({ configurable: { thread_id: this.#job.thread_id, checkpoint_ns: "", ...at } });
  }
}

class CheckpointGone extends Error {
  override readonly name = "CheckpointGoneError";

  constructor(checkpoint_id: unknown) {
    super(
      `Checkpoint ${checkpoint_id}, from which the run was to go on, went with the run that made it before this one began.`,
    );
  }
}

/** LangGraph's name for it, so that clients need to know one. */
const UNKNOWN_INTERRUPT = "UnknownInterruptError";

class UnknownInterrupt extends Error {
  constructor(ids: readonly string[]) {
    super(`Unknown or already answered interrupt: ${ids.join(", ")}`);
    this.name = UNKNOWN_INTERRUPT;
  }
}

/** A promise that rejects some time after the signal: the graph had its chance to end by itself. */
function abandonment(signal: AbortSignal): { promise: Promise<never>; dispose(): void } {
  let timer: NodeJS.Timeout | undefined;
  let onAbort = (): void => undefined;
  const promise = new Promise<never>((_, reject) => {
    onAbort = () => {
      timer = setTimeout(() => reject(signal.reason as Error), WIND_DOWN_MS);
    };
  });
  promise.catch(() => undefined);
  if (signal.aborted) onAbort();
  else signal.addEventListener("abort", onAbort, { once: true });
  return {
    promise,
    dispose() {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
    },
  };
}

/* ------------------------------------------------------------------------------ the config */

function systemMetadata(job: RunJob, { version }: LangGraph): Record<string, unknown> {
  return {
    ...job.kwargs.config.metadata,
    ...job.metadata,
    graph_id: job.graph_id,
    assistant_id: job.assistant_id,
    run_attempt: job.attempt,
    langgraph_version: version,
    langgraph_plan: "developer",
    langgraph_host: "self-hosted",
    thread_id: job.thread_id,
    run_id: job.run_id,
  };
}

/** What each checkpoint of the run says about it. */
function checkpointMetadata(job: RunJob, langgraph: LangGraph): Record<string, unknown> {
  const all = {
    graph_id: "",
    assistant_id: "",
    ls_integration: "langgraph",
    ...tellingConfigurables(job.kwargs.config.configurable),
    ...systemMetadata(job, langgraph),
  };
  return Object.fromEntries(Object.entries(all).filter(([key]) => !EXCLUDED_METADATA.has(key)));
}

/** Words that make a configurable a secret, in LangGraph's traces as in ours. */
const SECRET = /key|token|secret|password|auth/i;

/** Configurables that say how a run was set up. Where it began is told by the checkpoint itself. */
function tellingConfigurables(configurable: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const telling = Object.entries(configurable).filter(
    ([key, value]) =>
      ["string", "number", "boolean"].includes(typeof value) && !/^(__|checkpoint_)/.test(key) && !SECRET.test(key),
  );
  return Object.fromEntries(telling);
}

export function runConfig(
  job: RunJob,
  langgraph: LangGraph,
  signal: AbortSignal,
  control: RunControlLike | undefined,
): GraphConfig {
  const { config, context, durability, interrupt_before, interrupt_after, strict_resume } = job.kwargs;
  return {
    configurable: {
      // Nodes of both generations find their settings: `config.configurable.x` and `runtime.context.x`.
      ...context,
      // A checkpoint sent back as clients got it has nulls where LangGraph expects nothing.
      ...Object.fromEntries(Object.entries(config.configurable).filter(([key, value]) => isGiven(key, value))),
      thread_id: job.thread_id,
      run_id: job.run_id,
      graph_id: job.graph_id,
      assistant_id: job.assistant_id,
      ...(job.user === undefined ? {} : { langgraph_auth_user: job.user }),
      // LangGraph's own check; an earlier attempt may have passed it.
      ...(strict_resume === true && !job.resume ? { __pregel_strict_resume: true } : {}),
    },
    metadata: systemMetadata(job, langgraph),
    tags: [...(config.tags ?? [])],
    runId: job.run_id,
    signal,
    durability,
    ...(config.recursion_limit === undefined ? {} : { recursionLimit: config.recursion_limit }),
    ...(context === null ? {} : { context }),
    ...(interrupt_before === null ? {} : { interruptBefore: interrupt_before }),
    ...(interrupt_after === null ? {} : { interruptAfter: interrupt_after }),
    ...(control === undefined ? {} : { control }),
  };
}

const isGiven = (key: string, value: unknown): boolean => value !== null || !key.startsWith("checkpoint_");

/** What a factory sees of the run: its settings, not its machinery. */
function factoryConfig({ configurable, metadata, context, tags, recursionLimit, signal }: GraphConfig): GraphConfig {
  return {
    configurable: { ...configurable },
    metadata: { ...metadata },
    ...(context === undefined ? {} : { context }),
    ...(tags === undefined ? {} : { tags }),
    ...(recursionLimit === undefined ? {} : { recursionLimit }),
    ...(signal === undefined ? {} : { signal }),
  };
}

/* ----------------------------------------------------------------------------- the command */

/**
 * A client's command as a `Command` of the project's own LangGraph. A key counts when it was given, null included;
 * only, Python's RemoteGraph writes every key, so a null `resume` beside an update or a goto means none.
 */
export async function commandOf(
  command: Command,
  langgraph: LangGraph,
  pending: () => Promise<readonly InterruptLike[]>,
): Promise<unknown> {
  const fields: Record<string, unknown> = {};
  if (command.update !== undefined && command.update !== null) fields.update = command.update;
  const goto = gotoOf(command.goto, langgraph);
  if (goto.length > 0) fields.goto = goto;
  if (typeof command.graph === "string") fields.graph = command.graph;
  if (command.resume === null && Object.keys(fields).length === 0) {
    // LangGraph takes a bare null for "no answer"; by the interrupt's id it is an answer like any other.
    const [first] = await pending();
    if (first?.id === undefined) return null;
    fields.resume = { [first.id]: null };
  } else if (command.resume !== undefined && command.resume !== null) {
    fields.resume = command.resume;
  }
  return new langgraph.Command(fields);
}

function gotoOf(goto: Command["goto"], { Send: SendClass }: LangGraph): unknown[] {
  if (goto === undefined || goto === null) return [];
  return (Array.isArray(goto) ? goto : [goto]).map((target: string | Send) =>
    typeof target === "string" ? target : new SendClass(target.node, target.input),
  );
}

/* ------------------------------------------------------------------------------- the state */

const NO_STATE: Snapshot = { values: null, interrupts: "{}", interrupted: false, checkpoint_id: null };

/** Tasks that still have to run or be answered: those without a result of their own. */
export function pendingTasks(state: StateLike): StateLike["tasks"] {
  return state.tasks.filter((task) => task.result === undefined || task.error !== undefined);
}

const checkpointIdOf = (state: StateLike): string | null =>
  (state.config.configurable?.checkpoint_id as string | undefined) ?? null;

export function snapshotOf(state: StateLike): WholeSnapshot {
  return { ...bareSnapshot(state), values: checkpointIdOf(state) === null ? null : stateJson(state.values) };
}

function bareSnapshot(state: StateLike): Omit<Snapshot, "values"> {
  const pending = pendingTasks(state);
  return {
    interrupts: toJson(Object.fromEntries(pending.map((task) => [task.id, task.interrupts]))),
    interrupted: state.next.length > 0 || pending.some((task) => task.interrupts.length > 0),
    checkpoint_id: checkpointIdOf(state),
  };
}

/** Of all values, those of the graph's output schema. */
export function outputOf(graph: GraphLike, values: unknown): unknown {
  const { outputChannels: keys, streamChannelsAsIs: streamed } = graph;
  if (typeof streamed === "string") return values;
  if (typeof values !== "object" || values === null) return values;
  const record = values as Record<string, unknown>;
  if (typeof keys === "string") return record[keys] ?? null;
  return Object.fromEntries(Object.entries(record).filter(([key]) => keys.includes(key)));
}
