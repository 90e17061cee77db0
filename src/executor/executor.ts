/** The executor behind its port: graphs by id, runs in flight, and what each message does. */
import { errorBody } from "../errors.ts";
import { answer, UnknownGraph, UpdateRefused } from "./inspect.ts";
import { KeptThreads } from "./kept-threads.ts";
import { loadFailure, loadGraph, type ProjectGraph } from "./load.ts";
import { setServerUrl } from "./loopback.ts";
import { createPort, type ExecutorPort } from "./port.ts";
import type {
  CancelAction,
  ExecutorSettings,
  FromExecutor,
  GraphSpec,
  Question,
  RunJob,
  ToExecutor,
  UpdateQuestion,
} from "./protocol.ts";
import { type RunningRun, startRun } from "./run.ts";
import { embedded, loadStoreIndex, type StoreIndex } from "./store-index.ts";
import { thrownBody } from "./thrown.ts";

export interface Executor {
  receive(message: ToExecutor): void;
  /** Settles when every graph is loaded or has failed to. */
  readonly loaded: Promise<void>;
}

/** Runs and questions begun in one turn of the event loop. */
const BEGIN_PER_TURN = 8;

type Send = (batch: readonly FromExecutor[]) => void;

export function createExecutor(settings: ExecutorSettings, send: Send): Executor {
  const port = createPort(send);
  const graphs = new Map<string, ProjectGraph>();
  const runs = new Map<string, RunningRun>();
  /** Runs that have come and not begun, and the cancel that has come for each meanwhile. */
  const early = new Map<string, { cancel: CancelAction | undefined }>();
  const kept = new KeptThreads();
  const begin = paced(BEGIN_PER_TURN);
  let draining = false;
  let index: StoreIndex | null = null;
  setServerUrl(settings.server_url, settings.server_key);
  const loaded = loadAll(settings, graphs, port, send).then((loadedIndex) => {
    index = loadedIndex;
  });

  const run = async (job: RunJob, waiting: { readonly cancel: CancelAction | undefined }): Promise<void> => {
    await loaded;
    const { run_id, fence } = job;
    if (early.get(run_id) === waiting) early.delete(run_id);
    const project = graphs.get(job.graph_id);
    if (project === undefined) {
      const message = `Graph "${job.graph_id}" is not loaded.`;
      const outcome = { kind: "error", error: { error: "GraphNotFound", message }, snapshot: null } as const;
      port.post({ type: "finished", run_id, fence, outcome });
      return;
    }
    const running = startRun(project, job, port, kept);
    runs.set(run_id, running);
    if (draining) running.drain();
    if (waiting.cancel !== undefined) running.cancel(waiting.cancel);
    const outcome = await running.finished;
    if (runs.get(run_id) === running) runs.delete(run_id);
    const finished = { type: "finished", run_id, fence, outcome } as const;
    if (runs.size === 0) port.postLast(finished);
    else port.post(finished);
  };

  const cancel = (run_id: string, action: CancelAction): void => {
    const waiting = early.get(run_id);
    if (waiting !== undefined) waiting.cancel = action;
    else runs.get(run_id)?.cancel(action);
  };

  const take = ({ job, turn }: Extract<ToExecutor, { type: "run" }>): void => {
    const waiting: { cancel: CancelAction | undefined } = { cancel: undefined };
    early.set(job.run_id, waiting);
    begin(() => {
      if (takeTurn(settings.turns, turn)) void run(job, waiting);
      else if (early.get(job.run_id) === waiting) early.delete(job.run_id);
    });
  };

  const ask = async (id: number, question: Question | UpdateQuestion): Promise<void> => {
    await loaded;
    try {
      const value = question.ask === "embed" ? await embedded(index, question) : await answer(question, graphs, port);
      port.post({ type: "answer", id, ok: true, value });
    } catch (thrown) {
      port.post({ type: "answer", id, ok: false, error: thrownBody(thrown), why: whyNot(thrown) });
    }
  };

  return {
    loaded,
    receive(message) {
      switch (message.type) {
        case "run":
          take(message);
          return;
        case "cancel":
          cancel(message.run_id, message.action);
          return;
        case "drain":
          draining = true;
          for (const running of runs.values()) running.drain();
          return;
        case "ask":
          begin(() => {
            if (takeTurn(settings.turns, message.turn)) void ask(message.id, message.question);
          });
          return;
        case "storage_reply":
          port.reply(message.id, message);
          return;
        case "events_taken":
          runs.get(message.run_id)?.taken(message.bytes);
          return;
        case "listening":
          setServerUrl(message.server_url, settings.server_key);
          return;
        case "flush_traces":
          void flushTraces(graphs.values()).then(() => port.post({ type: "traces_flushed" }));
          return;
        case "ping":
          port.post({ type: "pong", id: message.id });
          return;
        default:
          message satisfies never;
      }
    },
  };
}

/** Never rejects: a service that is away gets nothing. */
async function flushTraces(graphs: Iterable<ProjectGraph>): Promise<void> {
  const copies = new Set([...graphs].map(({ langgraph }) => langgraph));
  await Promise.allSettled([...copies].map((copy) => copy.flushTraces()));
}

function whyNot(thrown: unknown): "unknown_graph" | "refused" | "failed" {
  if (thrown instanceof UnknownGraph) return "unknown_graph";
  return thrown instanceof UpdateRefused ? "refused" : "failed";
}

/** Carries out so many per turn of the event loop: a burst must not keep the thread from answering meanwhile. */
function paced(perTurn: number): (work: () => void) => void {
  const waiting: (() => void)[] = [];
  let room = perTurn;
  let scheduled = false;
  const nextTurn = (): void => {
    scheduled = false;
    room = perTurn;
    while (room > 0 && waiting.length > 0) {
      room -= 1;
      waiting.shift()?.();
    }
    schedule();
  };
  const schedule = (): void => {
    if (scheduled || room === perTurn) return;
    scheduled = true;
    setImmediate(nextTurn);
  };
  return (work) => {
    if (room > 0 && waiting.length === 0) {
      room -= 1;
      work();
    } else waiting.push(work);
    schedule();
  };
}

/** False when the main thread has taken the run or question back. Work begins in the order of its turns. */
function takeTurn(turns: Int32Array | undefined, turn: number | undefined): boolean {
  if (turns === undefined || turn === undefined) return true;
  const last = Atomics.load(turns, 0);
  // Only the main thread writes too, and it only raises: a failed exchange means that this turn is over.
  return last < turn && Atomics.compareExchange(turns, 0, last, turn) === last;
}

async function loadAll(
  settings: ExecutorSettings,
  graphs: Map<string, ProjectGraph>,
  port: ExecutorPort,
  send: Send,
): Promise<StoreIndex | null> {
  const index = await loadIndexOrTell(settings, port);
  if (index === undefined) return null;
  let loading: GraphSpec | undefined;
  // A module may end the thread while it loads; the message still gets out.
  const onExit = (code: number): void => {
    const why = new Error(`its module called process.exit(${code})`);
    if (loading !== undefined) send([loadFailure(loading, why)]);
  };
  process.once("exit", onExit);
  for (const spec of settings.graphs) {
    loading = spec;
    try {
      graphs.set(spec.graph_id, await loadGraph(spec, settings.project_dir, index));
    } catch (thrown) {
      port.post(loadFailure(spec, thrown));
    }
  }
  process.off("exit", onExit);
  const ready = [...graphs].map(([graph_id, { langgraph }]) => ({ graph_id, langgraph_version: langgraph.version }));
  port.post({ type: "ready", graphs: ready });
  return index;
}

/** Null: the store has no index. Undefined: it cannot be had, and the server has been told. */
async function loadIndexOrTell(settings: ExecutorSettings, port: ExecutorPort): Promise<StoreIndex | null | undefined> {
  const spec = settings.store_index ?? null;
  if (spec === null) return null;
  try {
    return await loadStoreIndex(spec, settings.project_dir);
  } catch (thrown) {
    port.post({ type: "index_failed", embed: spec.embed, error: errorBody(thrown) });
    return undefined;
  }
}
