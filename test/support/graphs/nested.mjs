// outer → middle (subgraph) → inner (its subgraph); the innermost node writes a custom event, and waits for a
// person when the input says `ask: true`.
import { Annotation, END, interrupt, START, StateGraph } from "@langchain/langgraph";

const State = Annotation.Root({
  ask: Annotation(),
  trail: Annotation({ reducer: (all, more) => [...new Set([...all, ...more])], default: () => [] }),
});

const node = (name) => () => ({ trail: [name] });

function deep({ ask }, config) {
  config.writer?.({ from: "deep" });
  const answer = ask ? interrupt("Deep down: go on?") : "nobody was asked";
  return { trail: ["deep", `answer: ${answer}`] };
}

const inner = new StateGraph(State).addNode("deep", deep).addEdge(START, "deep").addEdge("deep", END).compile();

const middle = new StateGraph(State)
  .addNode("before", node("before"))
  .addNode("inner", inner)
  .addEdge(START, "before")
  .addEdge("before", "inner")
  .addEdge("inner", END)
  .compile();

export const graph = new StateGraph(State)
  .addNode("outer", node("outer"))
  .addNode("middle", middle)
  .addNode("last", node("last"))
  .addEdge(START, "outer")
  .addEdge("outer", "middle")
  .addEdge("middle", "last")
  .addEdge("last", END)
  .compile();
