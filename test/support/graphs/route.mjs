// Send and goto: fans out one `work` per item, gathers, and takes the detour when the input says `extra`.
import { Annotation, Command, END, Send, START, StateGraph } from "@langchain/langgraph";

const State = Annotation.Root({
  items: Annotation(),
  extra: Annotation(),
  results: Annotation({ reducer: (all, more) => all.concat(more), default: () => [] }),
});

const gather = ({ extra }) => new Command({ goto: extra ? "detour" : END, update: { results: ["gathered"] } });

export const graph = new StateGraph(State)
  .addNode("plan", () => ({}))
  .addNode("work", ({ item }) => ({ results: [`worked on ${item}`] }))
  .addNode("gather", gather, { ends: ["detour", END] })
  .addNode("detour", () => ({ results: ["extra"] }))
  .addEdge(START, "plan")
  .addConditionalEdges("plan", ({ items }) => (items ?? []).map((item) => new Send("work", { item })), ["work"])
  .addEdge("work", "gather")
  .addEdge("detour", END)
  .compile();
