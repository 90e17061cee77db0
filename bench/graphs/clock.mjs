// Says when it runs, and with `events` says so again and again, by the machine's monotonic clock: all processes share it.
import { setTimeout as delay } from "node:timers/promises";
import { Annotation, END, START, StateGraph } from "@langchain/langgraph";

const GAP_MS = 5;
const State = Annotation.Root({ events: Annotation(), at: Annotation() });
const now = () => Number(process.hrtime.bigint()) / 1e6;

async function tell({ events = 0 }, config) {
  const at = now();
  for (let index = 0; index < events; index++) {
    config.writer({ at: now() });
    await delay(GAP_MS);
  }
  return { at };
}

export const graph = new StateGraph(State).addNode("tell", tell).addEdge(START, "tell").addEdge("tell", END).compile();
