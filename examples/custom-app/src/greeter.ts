/** Greets whoever is named, for the tenant whose header came with the request. */
import { END, type LangGraphRunnableConfig, START, StateGraph, StateSchema } from "@langchain/langgraph";
import { z } from "zod";

const State = new StateSchema({ name: z.string().default("you"), greeting: z.string().default("") });

function greet({ name }: typeof State.State, { configurable }: LangGraphRunnableConfig) {
  const tenant: unknown = configurable?.["x-tenant"];
  return { greeting: `Hello ${name}${typeof tenant === "string" ? ` of ${tenant}` : ""}!` };
}

export const graph = new StateGraph(State)
  .addNode("greet", greet)
  .addEdge(START, "greet")
  .addEdge("greet", END)
  .compile();
