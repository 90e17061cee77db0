// The agent as a subgraph of a subgraph: team → desk → agent.
import { MessagesAnnotation, START, StateGraph } from "@langchain/langgraph";
import { graph as agent } from "./agent.mjs";

const desk = new StateGraph(MessagesAnnotation).addNode("agent", agent).addEdge(START, "agent").compile();

export const graph = new StateGraph(MessagesAnnotation).addNode("desk", desk).addEdge(START, "desk").compile();
