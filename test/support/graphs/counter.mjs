// Counts to `steps`, one superstep each, and appends each number to `file`: a number that is in the file twice
// is a node that ran twice. `delay_ms` slows it down. More than 24 steps need a higher recursion limit.
import { appendFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { Annotation, END, START, StateGraph } from "@langchain/langgraph";

const State = Annotation.Root({
  steps: Annotation(),
  file: Annotation(),
  delay_ms: Annotation(),
  count: Annotation({ reducer: (_, now) => now, default: () => 0 }),
});

async function tick({ file, delay_ms, count: before }, config) {
  if (delay_ms) await delay(delay_ms, undefined, { signal: config.signal });
  if (file) appendFileSync(file, `${before + 1}\n`);
  return { count: before + 1 };
}

export const graph = new StateGraph(State)
  .addNode("tick", tick)
  .addEdge(START, "tick")
  .addConditionalEdges("tick", ({ steps, count }) => (count < (steps ?? 3) ? "tick" : END), ["tick", END])
  .compile();
