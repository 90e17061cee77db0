// Returns what the node saw of its run: config, context, metadata.
import { Annotation, END, START, StateGraph } from "@langchain/langgraph";
import { z } from "zod";

const State = Annotation.Root({ input: Annotation(), seen: Annotation() });
const Context = z.looseObject({ tone: z.string().optional() });

/** Without LangGraph's own entries, which hold functions. */
const publicOnly = (entries = {}) =>
  Object.fromEntries(Object.entries(entries).filter(([key]) => !key.startsWith("__pregel")));

const look = ({ input }, config) => ({
  seen: {
    input: input ?? null,
    configurable: publicOnly(config.configurable),
    context: config.context ?? null,
    metadata: config.metadata ?? {},
    tags: config.tags ?? [],
    recursion_limit: config.recursionLimit ?? null,
  },
});

export const graph = new StateGraph(State, Context)
  .addNode("look", look)
  .addEdge(START, "look")
  .addEdge("look", END)
  .compile();
