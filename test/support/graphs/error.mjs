// The first node works, the second throws.
import { Annotation, END, START, StateGraph } from "@langchain/langgraph";

const State = Annotation.Root({ value: Annotation() });

function fail() {
  throw new TypeError("kaboom");
}

export const graph = new StateGraph(State)
  .addNode("works", () => ({ value: "before the error" }))
  .addNode("fails", fail)
  .addEdge(START, "works")
  .addEdge("works", "fails")
  .addEdge("fails", END)
  .compile();
