// Waits `ms`, as a run that waits for a model or a tool does: it holds a stream and needs no CPU.
import { setTimeout as delay } from "node:timers/promises";
import { Annotation, END, START, StateGraph } from "@langchain/langgraph";

const State = Annotation.Root({ ms: Annotation(), done: Annotation() });

async function hold({ ms }, config) {
  await delay(ms, undefined, { signal: config.signal });
  return { done: true };
}

export const graph = new StateGraph(State).addNode("hold", hold).addEdge(START, "hold").addEdge("hold", END).compile();
