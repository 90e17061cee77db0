const { Annotation, START, StateGraph, entrypoint, interrupt } = require("@langchain/langgraph");

const State = Annotation.Root({ foo: Annotation() });
exports.common = new StateGraph(State)
  .addNode("one", () => ({ foo: JSON.stringify(interrupt("q")) }))
  .addEdge(START, "one")
  .compile();
exports.functional = entrypoint("functional", async (input) => `hello ${input}`);
