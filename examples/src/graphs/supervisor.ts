/**
 * A supervisor hands work to two subgraphs. Stream it with `stream_subgraphs: true` to see the events of
 * the researcher and the writer under their own namespaces.
 */
import { AIMessage, type BaseMessage, SystemMessage } from "@langchain/core/messages";
import { Command, END, MessagesValue, START, StateGraph, StateSchema } from "@langchain/langgraph";
import { z } from "zod";
import { chatModel } from "../model.ts";
import { lastHumanText, type Script } from "../scripted-model.ts";

const State = new StateSchema({
  messages: MessagesValue,
  notes: z.string().default(""),
  draft: z.string().default(""),
});
type StateType = typeof State.State;

const research: Script = (messages) => ({
  text:
    `Three facts about ${lastHumanText(messages)}: it is older than most people think, ` +
    "it is easier than it looks, and it rewards patience.",
});
const outline: Script = () => ({ text: "First the surprise, then the reassurance, then the advice." });
const prose: Script = (messages) => ({
  text:
    `${lastHumanText(messages)} has been with us for a long time. Beginners fear it, though they need not. ` +
    "Take it slowly, and it will repay you.",
});

/** Says something in a role and returns only the answer, so that the parent decides what joins the conversation. */
async function say(role: string, script: Script, messages: readonly BaseMessage[]): Promise<AIMessage> {
  const model = await chatModel(script);
  const answer = await model.invoke([new SystemMessage(role), ...messages]);
  return new AIMessage({ id: answer.id, content: answer.text });
}

const researcher = new StateGraph(State)
  .addNode("search", async ({ messages }) => {
    const answer = await say("You are a researcher. Note three facts about the topic.", research, messages);
    return { notes: answer.text };
  })
  .addNode("summarise", ({ notes }) => ({ messages: [new AIMessage({ name: "researcher", content: notes })] }))
  .addEdge(START, "search")
  .addEdge("search", "summarise")
  .addEdge("summarise", END)
  .compile();

const writer = new StateGraph(State)
  .addNode("outline", async ({ messages }) => {
    const answer = await say("You are a writer. Outline a paragraph in one sentence.", outline, messages);
    return { draft: answer.text };
  })
  .addNode("write", async ({ messages, draft }) => {
    const answer = await say(`You are a writer. Follow this outline: ${draft}`, prose, messages);
    return { draft: answer.text, messages: [new AIMessage({ id: answer.id, name: "writer", content: answer.text })] };
  })
  .addEdge(START, "outline")
  .addEdge("outline", "write")
  .addEdge("write", END)
  .compile();

/** The supervisor's decision needs no model: it follows from what is there and what is missing. */
function supervise({ notes, draft }: StateType) {
  if (notes === "") return new Command({ goto: "researcher" });
  if (draft === "") return new Command({ goto: "writer" });
  return new Command({ goto: END, update: { notes: "", draft: "" } });
}

export const graph = new StateGraph(State)
  .addNode("supervisor", supervise, { ends: ["researcher", "writer", END] })
  .addNode("researcher", researcher)
  .addNode("writer", writer)
  .addEdge(START, "supervisor")
  .addEdge("researcher", "supervisor")
  .addEdge("writer", "supervisor")
  .compile();
