// The smallest graph with a superstep boundary in it: what is measured is the run, not the nodes.
import { Annotation, END, START, StateGraph } from "@langchain/langgraph";

const State = Annotation.Root({
  value: Annotation(),
  steps: Annotation({ reducer: (all, more) => all.concat(more), default: () => [] }),
});

export const graph = new StateGraph(State)
  .addNode("first", ({ value }) => ({ value: value + 1, steps: ["first"] }))
  .addNode("second", ({ value }) => ({ value: value * 2, steps: ["second"] }))
  .addEdge(START, "first")
  .addEdge("first", "second")
  .addEdge("second", END)
  .compile();
