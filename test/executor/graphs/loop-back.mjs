import { Annotation, START, StateGraph } from "@langchain/langgraph";
import { Client } from "@langchain/langgraph-sdk";
import { Client as Client19 } from "sdk-1.9";
import { Client as Client20 } from "sdk-2.0";

const State = Annotation.Root({ foo: Annotation() });
export default new StateGraph(State)
  .addNode("one", async () => {
    const found = [];
    for (const Sdk of [Client, Client19, Client20]) found.push((await new Sdk().assistants.search()).length);
    return { foo: found };
  })
  .addEdge(START, "one")
  .compile();
