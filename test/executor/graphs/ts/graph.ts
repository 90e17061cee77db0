import { Annotation, START, StateGraph } from "@langchain/langgraph";
// @ts-expect-error -- the alias is this folder's tsconfig's business
import { word } from "@lib/word";

// @ts-expect-error -- not erasable syntax: tsx must really compile this file
enum Mood {
  Good = "good",
}
const State = Annotation.Root({ foo: Annotation<string>() });
export const typed = new StateGraph(State)
  .addNode("one", () => ({ foo: `${word}:${Mood.Good}` }))
  .addEdge(START, "one")
  .compile();
export default typed;
