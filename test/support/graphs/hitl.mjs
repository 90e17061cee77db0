// `graph` asks one person; `parallel` asks two at once, in two nodes of one superstep.
import { Annotation, END, interrupt, START, StateGraph } from "@langchain/langgraph";

const State = Annotation.Root({
  question: Annotation(),
  answers: Annotation({ reducer: (all, more) => ({ ...all, ...more }), default: () => ({}) }),
  done: Annotation(),
});

const ask =
  (name) =>
  ({ question }) => ({ answers: { [name]: interrupt({ ask: name, question: question ?? "Go on?" }) } });

const finish = ({ answers }) => ({ done: Object.keys(answers).sort().join("+") });

export const graph = new StateGraph(State)
  .addNode("prepare", () => ({ done: null }))
  .addNode("ask", ask("person"))
  .addNode("finish", finish)
  .addEdge(START, "prepare")
  .addEdge("prepare", "ask")
  .addEdge("ask", "finish")
  .addEdge("finish", END)
  .compile();

export const parallel = new StateGraph(State)
  .addNode("left", ask("left"))
  .addNode("right", ask("right"))
  .addNode("finish", finish)
  .addEdge(START, "left")
  .addEdge(START, "right")
  .addEdge(["left", "right"], "finish")
  .addEdge("finish", END)
  .compile();
