// A chat. Repeats the last message; `configurable.tokens` makes it say that many words instead, one each `configurable.delay_ms`.
import { END, MessagesAnnotation, START, StateGraph } from "@langchain/langgraph";
import { ScriptedModel } from "./scripted-model.mjs";

async function answer({ messages }, config) {
  const { tokens, delay_ms } = config.configurable ?? {};
  const script = () => ({ text: tokens ? words(tokens) : `You said: ${messages.at(-1).text}` });
  return { messages: [await new ScriptedModel({ script, delayMs: delay_ms }).invoke(messages, config)] };
}

const words = (count) => Array.from({ length: count }, (_, index) => `word${index}`).join(" ");

export const graph = new StateGraph(MessagesAnnotation)
  .addNode("answer", answer)
  .addEdge(START, "answer")
  .addEdge("answer", END)
  .compile();
