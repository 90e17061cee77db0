/** Questions about graphs and states, answered by the project's own LangGraph. */
import type { Command } from "../schemas/runs.ts";
import { pickState } from "../schemas/state-select.ts";
import { bind } from "./bind.ts";
import { createDraft } from "./draft.ts";
import type { GraphConfig, GraphLike, LangGraph, StateLike, TaskLike } from "./langgraph.ts";
import type { ProjectGraph } from "./load.ts";
import { checkpointOf } from "./modes.ts";
import type { StoragePort } from "./port.ts";
import type {
  CheckpointRef,
  GraphQuestion,
  Json,
  RunnableSettings,
  StateChange,
  StateUpdate,
  UpdateQuestion,
} from "./protocol.ts";
import { commandOf, outputOf, pendingTasks, snapshotOf } from "./run.ts";
import { makeSaver } from "./saver.ts";
import { isUntyped, schemasOf, subgraphsOf } from "./schemas.ts";
import { stateJson, toJson } from "./serialize.ts";
import { makeStore } from "./store.ts";
import { thrownBody } from "./thrown.ts";

export class UnknownGraph extends Error {
  constructor(graph_id: string) {
    super(`Graph "${graph_id}" is not loaded.`);
    this.name = "UnknownGraph";
  }
}

/** The graph does not take a state update; the message says why, in LangGraph's words or the graph's own. */
export class UpdateRefused extends Error {
  override readonly name = "UpdateRefused";
}

export async function answer(
  question: GraphQuestion | UpdateQuestion,
  graphs: ReadonlyMap<string, ProjectGraph>,
  port: StoragePort,
): Promise<Json | StateChange> {
  const project = graphs.get(question.graph_id);
  if (project === undefined) throw new UnknownGraph(question.graph_id);
  const graph = await project.open(settingsConfig(question.config));
  switch (question.ask) {
    case "graph":
      return toJson((await graph.getGraphAsync({ ...settingsConfig(question.config), xray: question.xray })).toJSON());
    case "schemas": {
      const schemas = await schemasOf(graph, project.langgraph, question.types?.graph);
      return toJson({ graph_id: question.graph_id, ...schemas });
    }
    case "untyped":
      return toJson(await isUntyped(graph, project.langgraph));
    case "subgraphs":
      return toJson(await subgraphsOf(graph, project.langgraph, question));
    case "state": {
      const state = await stateAt(graph, project, port, question.thread_id, question.checkpoint, question.subgraphs);
      return shownJson(pickState(threadState(state), question.select));
    }
    case "history":
      return `[${(await historyOf(graph, project, port, question)).join()}]`;
    case "update":
      return updateOf(graph, project, port, question);
    case "output": {
      const state = await stateAt(graph, project, port, question.thread_id, question.checkpoint, false);
      return toJson(outputOf(graph, state.values));
    }
    default:
      return question satisfies never;
  }
}

function settingsConfig({ configurable, context, tags, recursion_limit }: RunnableSettings): GraphConfig {
  return {
    configurable: { ...context, ...configurable },
    ...(context === undefined ? {} : { context }),
    ...(tags === undefined ? {} : { tags }),
    ...(recursion_limit === undefined ? {} : { recursionLimit: recursion_limit }),
  };
}

/* ---------------------------------------------------------------------------------- state */

async function stateAt(
  graph: GraphLike,
  project: ProjectGraph,
  port: StoragePort,
  thread_id: string,
  checkpoint: CheckpointRef,
  subgraphs: boolean,
): Promise<StateLike> {
  const bound = bind(
    graph,
    project.langgraph,
    makeSaver(project.langgraph, port, null, { readOnly: true }),
    makeStore(project, port),
  );
  return bound.getState({ configurable: addressOf(thread_id, checkpoint) }, { subgraphs });
}

function addressOf(
  thread_id: string,
  { checkpoint_ns, checkpoint_id, checkpoint_map }: CheckpointRef,
): Record<string, unknown> {
  return {
    thread_id,
    checkpoint_ns: checkpoint_ns ?? "",
    ...(checkpoint_id === undefined ? {} : { checkpoint_id }),
    ...(checkpoint_map === undefined ? {} : { checkpoint_map }),
  };
}

async function historyOf(
  graph: GraphLike,
  project: ProjectGraph,
  port: StoragePort,
  { thread_id, checkpoint, limit, before, filter, select }: Extract<GraphQuestion, { ask: "history" }>,
): Promise<Json[]> {
  const bound = bind(
    graph,
    project.langgraph,
    makeSaver(project.langgraph, port, null, { readOnly: true }),
    makeStore(project, port),
  );
  const options = {
    limit,
    ...(before === undefined ? {} : { before: { configurable: { checkpoint_id: before } } }),
    ...(filter === undefined ? {} : { filter }),
  };
  const states: Json[] = [];
  for await (const state of bound.getStateHistory({ configurable: addressOf(thread_id, checkpoint) }, options)) {
    states.push(shownJson(pickState(threadState(state), select)));
  }
  return states;
}

/** A state as `GET /threads/{id}/state` shows it. */
export function threadState(state: StateLike): Record<string, unknown> {
  const checkpoint = state.createdAt === undefined ? null : checkpointOf(state.config);
  const parent = checkpointOf(state.parentConfig);
  return {
    values: state.values ?? {},
    next: state.next,
    tasks: state.tasks.map(threadTask),
    metadata: state.metadata ?? {},
    created_at: state.createdAt ?? null,
    checkpoint,
    parent_checkpoint: parent,
    // Those still to be answered; a task that went on after an answer keeps its own in `tasks`.
    interrupts: pendingTasks(state).flatMap((task) => task.interrupts),
    checkpoint_id: checkpoint?.checkpoint_id ?? null,
    parent_checkpoint_id: parent?.checkpoint_id ?? null,
  };
}

/** A state's text. Its values are put together from what was sent before, where they are long. */
function shownJson(state: Record<string, unknown>): Json {
  if (!("values" in state)) return toJson(state);
  const { values, ...rest } = state;
  const others = toJson(rest).slice(1, -1);
  return `{"values":${stateJson(values)}${others === "" ? "" : `,${others}`}}`;
}

function threadTask(task: TaskLike): Record<string, unknown> {
  const nested = isState(task.state) ? task.state : undefined;
  return {
    id: task.id,
    name: task.name,
    error: errorText(task.error),
    interrupts: task.interrupts,
    path: task.path ?? [],
    checkpoint: nested === undefined ? checkpointOf(task.state as GraphConfig | undefined) : null,
    state: nested === undefined ? null : threadState(nested),
    result: task.result ?? null,
  };
}

const isState = (state: TaskLike["state"]): state is StateLike =>
  state !== undefined && "values" in state && "next" in state;

/** The contract has text here; clients of all generations look for JSON in it, and find `message`. */
function errorText(error: unknown): string | null {
  if (error === undefined || error === null) return null;
  return typeof error === "string" ? error : toJson(error);
}

/* -------------------------------------------------------------------------------- updates */

async function updateOf(
  graph: GraphLike,
  project: ProjectGraph,
  port: StoragePort,
  { thread_id, checkpoint, config, supersteps, metadata }: UpdateQuestion,
): Promise<StateChange> {
  const draft = createDraft(port);
  const bound = bind(
    graph,
    project.langgraph,
    makeSaver(project.langgraph, draft, null, { metadata }),
    makeStore(project, draft),
  );
  const settings = settingsConfig(config);
  const start = { ...settings, configurable: { ...settings.configurable, ...addressOf(thread_id, checkpoint) } };
  try {
    // A fork has to become the newest state as well.
    if (checkpoint.checkpoint_id !== undefined) await draft.call({ op: "get_checkpoint", query: { thread_id } });
    const steps = [];
    for (const updates of supersteps) {
      steps.push({ updates: await Promise.all(updates.map((update) => updateFor(update, graph, project.langgraph))) });
    }
    const made = checkpointOf(await bound.bulkUpdateState(start, steps)) as unknown as StateChange["checkpoint"];
    const state = await bound.getState({ configurable: addressOf(thread_id, {}) });
    return { writes: draft.writes, seen: draft.seen, checkpoint: made, snapshot: snapshotOf(state) };
  } catch (thrown) {
    throw draft.failure ?? (thrown instanceof UpdateRefused ? thrown : new UpdateRefused(wordsOf(thrown)));
  }
}

async function updateFor(
  { values, command, as_node }: StateUpdate,
  graph: GraphLike,
  langgraph: LangGraph,
): Promise<{ values: unknown; asNode?: string }> {
  const asNode = as_node === null ? {} : { asNode: as_node };
  if (command === null) return { values, ...asNode };
  for (const target of targetsOf(command.goto)) {
    // LangGraph would drop it without a word.
    if (target !== "__end__" && !Object.hasOwn(graph.nodes, target)) {
      throw new UpdateRefused(`Node "${target}" does not exist`);
    }
  }
  return { values: await commandOf(command, langgraph, () => Promise.resolve([])), ...asNode };
}

function targetsOf(goto: Command["goto"]): string[] {
  if (goto === undefined || goto === null) return [];
  return [goto].flat().map((target) => (typeof target === "string" ? target : target.node));
}

/** What was thrown in words: LangGraph's own refusals need no name before them. */
function wordsOf(thrown: unknown): string {
  const { error, message } = thrownBody(thrown);
  return (error === "Error" || error === "InvalidUpdateError" ? message : `${error}: ${message}`).trim();
}
