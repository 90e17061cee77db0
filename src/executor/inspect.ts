/** Questions about graphs and states, answered by the project's own LangGraph. */
import { bind } from "./bind.ts";
import type { GraphConfig, GraphLike, LangGraph, SchemaModule, StateLike, TaskLike } from "./langgraph.ts";
import type { ProjectGraph } from "./load.ts";
import { checkpointOf } from "./modes.ts";
import type { StoragePort } from "./port.ts";
import type { CheckpointRef, GraphQuestion, Json, RunnableSettings } from "./protocol.ts";
import { outputOf } from "./run.ts";
import { makeSaver } from "./saver.ts";
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
      const { state, input, output, config, context } = await schemasOf(graph, project.langgraph);
      return toJson({
        graph_id: question.graph_id,
        input_schema: input,
        output_schema: output,
        state_schema: state,
        config_schema: config,
        context_schema: context,
      });
    }
    case "subgraphs":
      return toJson(await subgraphsOf(graph, project.langgraph, question.namespace, question.recurse));
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

/* -------------------------------------------------------------------------------- schemas */

interface Schemas {
  readonly state: unknown;
  readonly input: unknown;
  readonly output: unknown;
  readonly config: unknown;
  readonly context: unknown;
}

async function schemasOf(graph: GraphLike, langgraph: LangGraph): Promise<Schemas> {
  const zod = await langgraph.schemas();
  const of = (read: (module: SchemaModule) => unknown): unknown => {
    try {
      return zod === undefined ? undefined : read(zod);
    } catch {
      return undefined;
    }
  };
  const config = of((module) => module.getConfigTypeSchema(graph)) ?? null;
  return {
    state: of((module) => module.getStateTypeSchema(graph)) ?? channelsSchema(graph, graph.streamChannelsAsIs),
    input: of((module) => module.getInputTypeSchema(graph)) ?? channelsSchema(graph, inputKeys(graph)),
    output: of((module) => module.getOutputTypeSchema(graph)) ?? channelsSchema(graph, graph.outputChannels),
    config,
    context: config,
  };
}

/** A graph reads its input from one channel, `__start__`; the keys it takes are known to its builder. */
function inputKeys(graph: GraphLike): string | readonly string[] {
  const { builder } = graph as { builder?: { _inputDefinition?: unknown; _schemaDefinition?: unknown } };
  const definition = builder?._inputDefinition ?? builder?._schemaDefinition;
  if (typeof definition === "object" && definition !== null) {
    const keys = Object.keys(definition).filter((key) => key in graph.channels);
    if (keys.length > 0) return keys;
  }
  return graph.inputChannels === "__start__" ? graph.streamChannelsAsIs : graph.inputChannels;
}

const MESSAGE = {
  type: "object",
  title: "Message",
  properties: {
    type: { type: "string" },
    content: { anyOf: [{ type: "string" }, { type: "array", items: { type: "object" } }] },
    id: { type: "string" },
    name: { type: "string" },
  },
  required: ["content"],
};

/** What can be said of a state that has no schema: its keys, and that messages are messages. */
function channelsSchema(graph: GraphLike, keys: string | readonly string[]): unknown {
  if (typeof keys === "string") return null;
  const visible = keys.filter((key) => !key.startsWith("__") && !key.startsWith("branch:"));
  const properties = Object.fromEntries(visible.map((key) => [key, channelSchema(key, graph.channels[key])]));
  return { $schema: "http://json-schema.org/draft-07/schema#", type: "object", properties };
}

function channelSchema(key: string, channel: unknown): unknown {
  if (key === "messages" || key === "ui")
    return { type: "array", items: key === "messages" ? MESSAGE : { type: "object" } };
  const initial = initialValue(channel);
  if (Array.isArray(initial)) return { type: "array" };
  const type = typeof initial;
  return type === "string" || type === "number" || type === "boolean" ? { type } : {};
}

/** The default of a reducer channel tells its type. */
function initialValue(channel: unknown): unknown {
  const { initialValueFactory } = (channel ?? {}) as { initialValueFactory?: unknown };
  if (typeof initialValueFactory !== "function") return undefined;
  try {
    return initialValueFactory() as unknown;
  } catch {
    return undefined;
  }
}

async function subgraphsOf(
  graph: GraphLike,
  langgraph: LangGraph,
  namespace: string | null,
  recurse: boolean,
): Promise<Record<string, unknown>> {
  const found: Record<string, unknown> = {};
  for await (const [name, subgraph] of graph.getSubgraphsAsync(namespace ?? undefined, recurse)) {
    found[name] = await schemasOf(subgraph, langgraph);
  }
  return found;
}
