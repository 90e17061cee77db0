/**
 * A graph bound to one run: a shallow copy with our checkpointer and store in place of whatever was compiled in. The
 * loaded graph is shared by all runs and never changes. Subgraphs need no copy: LangGraph lends them the root's
 * checkpointer before it looks at their own, and `checkpointer: false` keeps its meaning.
 */
import type { BaseCheckpointSaver, BaseStore } from "@langchain/langgraph-checkpoint";
import type { GraphLike, LangGraph } from "./langgraph.ts";
import { quickChannels } from "./messages.ts";

export function bind(
  graph: GraphLike,
  langgraph: LangGraph,
  checkpointer: BaseCheckpointSaver,
  store: BaseStore,
): GraphLike {
  const copy = Object.create(Object.getPrototypeOf(graph) as object) as GraphLike;
  return Object.assign(copy, graph, { channels: quickChannels(graph.channels, langgraph), checkpointer, store });
}
