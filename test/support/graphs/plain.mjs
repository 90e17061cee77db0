// Two nodes, each adding to a list; the first also writes two custom events.
import { Annotation, END, START, StateGraph } from "@langchain/langgraph";

const State = Annotation.Root({
  value: Annotation(),
  steps: Annotation({ reducer: (all, more) => all.concat(more), default: () => [] }),
});

function first({ value }, config) {
  config.writer?.({ progress: 1 });
  config.writer?.({ progress: 2 });
  return { value: (value ?? 0) + 1, steps: ["first"] };
}

export const graph = new StateGraph(State)
  .addNode("first", first)
  .addNode("second", ({ value }) => ({ value: value * 2, steps: ["second"] }))
  .addEdge(START, "first")
  .addEdge("first", "second")
  .addEdge("second", END)
  .compile();
