// Counts to `steps`, one superstep and so one checkpoint each.
import { Annotation, END, START, StateGraph } from "@langchain/langgraph";

const State = Annotation.Root({
  steps: Annotation(),
  count: Annotation({ reducer: (_, now) => now, default: () => 0 }),
});

export const graph = new StateGraph(State)
  .addNode("tick", ({ count }) => ({ count: count + 1 }))
  .addEdge(START, "tick")
  .addConditionalEdges("tick", ({ steps, count }) => (count < steps ? "tick" : END), ["tick", END])
  .compile();
