// An agent that hands its work to another by a tool named `task`, as deep agents do; the other has a tool of its own.
import { tool } from "@langchain/core/tools";
import { MessagesAnnotation, START, StateGraph } from "@langchain/langgraph";
import { ToolNode, toolsCondition } from "@langchain/langgraph/prebuilt";
import { z } from "zod";
import { ScriptedModel } from "../../support/graphs/scripted-model.mjs";

function agent(tools, script) {
  const model = new ScriptedModel({ script }).bindTools(tools);
  return new StateGraph(MessagesAnnotation)
    .addNode("agent", async ({ messages }) => ({ messages: [await model.invoke(messages)] }))
    .addNode("tools", new ToolNode(tools))
    .addEdge(START, "agent")
    .addConditionalEdges("agent", toolsCondition)
    .addEdge("tools", "agent")
    .compile();
}

const resultsIn = (messages) => messages.filter((message) => message.getType() === "tool").map(({ text }) => text);

const search = tool(({ query }) => `all about ${query}`, {
  name: "search",
  description: "Looks something up.",
  schema: z.object({ query: z.string() }),
});
const researcher = agent([search], (messages) => {
  const found = resultsIn(messages);
  if (found.length > 0) return { text: `I found ${found[0]}` };
  return { toolCalls: [{ name: "search", args: { query: messages.at(-1).text } }] };
});

const task = tool(
  async ({ description }, config) => {
    const { messages } = await researcher.invoke({ messages: [{ role: "user", content: description }] }, config);
    return messages.at(-1).text;
  },
  {
    name: "task",
    description: "Hands work to another agent.",
    schema: z.object({ description: z.string(), subagent_type: z.string() }),
  },
);

export const graph = agent([task], (messages) => {
  const done = resultsIn(messages);
  if (done.length > 0) return { text: `They say: ${done[0]}` };
  return { toolCalls: [{ name: "task", args: { description: messages.at(-1).text, subagent_type: "researcher" } }] };
});
