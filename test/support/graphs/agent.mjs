// An agent with two tools: it calls both for every message ("add 2 and 3" and "shout"), then answers with their results. With
// `configurable.delay_ms` it takes that long for each token.
import { tool } from "@langchain/core/tools";
import { MessagesAnnotation, START, StateGraph } from "@langchain/langgraph";
import { ToolNode, toolsCondition } from "@langchain/langgraph/prebuilt";
import { z } from "zod";
import { ScriptedModel } from "./scripted-model.mjs";

const add = tool(({ a, b }) => String(a + b), {
  name: "add",
  description: "Adds two numbers.",
  schema: z.object({ a: z.number(), b: z.number() }),
});
const shout = tool(({ text }) => text.toUpperCase(), {
  name: "shout",
  description: "Says it loudly.",
  schema: z.object({ text: z.string() }),
});

function script(messages) {
  const asked = messages.findLastIndex((message) => message.getType() === "human");
  const results = messages.slice(asked + 1).filter((message) => message.getType() === "tool");
  if (results.length > 0) return { text: `Results: ${results.map(({ text }) => text).join(", ")}` };
  const args = { a: 2, b: 3 };
  return {
    text: "Let me see.",
    toolCalls: [
      { name: "add", args },
      { name: "shout", args: { text: messages[asked]?.text ?? "" } },
    ],
  };
}

function answer({ messages }, { configurable }) {
  return new ScriptedModel({ script, delayMs: configurable?.delay_ms }).bindTools([add, shout]).invoke(messages);
}

export const graph = new StateGraph(MessagesAnnotation)
  .addNode("agent", async (state, config) => ({ messages: [await answer(state, config)] }))
  .addNode("tools", new ToolNode([add, shout]))
  .addEdge(START, "agent")
  .addConditionalEdges("agent", toolsCondition)
  .addEdge("tools", "agent")
  .compile();
