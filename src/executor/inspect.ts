/** Questions about graphs and states, answered by the project's own LangGraph. */
import { bind } from "./bind.ts";
import type { GraphConfig, GraphLike, StateLike, TaskLike } from "./langgraph.ts";
import type { ProjectGraph } from "./load.ts";
import { checkpointOf } from "./modes.ts";
import type { StoragePort } from "./port.ts";
import type { CheckpointRef, GraphQuestion, Json, RunnableSettings } from "./protocol.ts";
import { outputOf } from "./run.ts";
import { makeSaver } from "./saver.ts";
import { isUntyped, schemasOf, subgraphsOf } from "./schemas.ts";
import { toJson } from "./serialize.ts";
import { makeStore } from "./store.ts";

export class UnknownGraph extends Error {
  constructor(graph_id: string) {
    super(`Graph "${graph_id}" is not loaded.`);
    this.name = "UnknownGraph";
  }
}

export async function answer(
  question: GraphQuestion,
  graphs: ReadonlyMap<string, ProjectGraph>,
  port: StoragePort,
): Promise<Json> {
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
      return toJson(threadState(state));
    }
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
  { checkpoint_ns, checkpoint_id, checkpoint_map }: CheckpointRef,
  subgraphs: boolean,
): Promise<StateLike> {
  const bound = bind(graph, makeSaver(project.langgraph, port, null), makeStore(project, port));
  const configurable = {
    thread_id,
    checkpoint_ns: checkpoint_ns ?? "",
    ...(checkpoint_id === undefined ? {} : { checkpoint_id }),
    ...(checkpoint_map === undefined ? {} : { checkpoint_map }),
  };
  return bound.getState({ configurable }, { subgraphs });
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
    interrupts: state.tasks.flatMap((task) => task.interrupts),
    checkpoint_id: checkpoint?.checkpoint_id ?? null,
    parent_checkpoint_id: parent?.checkpoint_id ?? null,
  };
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
