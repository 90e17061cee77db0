// Reducers that go wrong: `loops` never returns when it is given true, `throws` throws.
import { Annotation, END, START, StateGraph } from "@langchain/langgraph";

function loop(_, value) {
  while (value === true);
  return value;
}

function fail() {
  throw new TypeError("this reducer takes nothing");
}

const State = Annotation.Root({
  loops: Annotation({ reducer: loop, default: () => false }),
  throws: Annotation({ reducer: fail, default: () => null }),
});

export const graph = new StateGraph(State)
  .addNode("only", () => ({ loops: false }))
  .addEdge(START, "only")
  .addEdge("only", END)
  .compile();
