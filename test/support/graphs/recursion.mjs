// Goes round for ever: only the recursion limit ends it.
import { Annotation, START, StateGraph } from "@langchain/langgraph";

const State = Annotation.Root({ rounds: Annotation({ reducer: (all, more) => all + more, default: () => 0 }) });

export const graph = new StateGraph(State)
  .addNode("round", () => ({ rounds: 1 }))
  .addEdge(START, "round")
  .addConditionalEdges("round", () => "round", ["round"])
  .compile();
