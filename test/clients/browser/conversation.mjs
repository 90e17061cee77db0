// What the pages talk to. "Ask …" makes it ask a person, "Fail" makes it fail; anything else it repeats, and where
// `configurable.gate` is given it holds after two words until that file exists.
import { existsSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { END, interrupt, MessagesAnnotation, START, StateGraph } from "@langchain/langgraph";
import { ScriptedModel } from "../../support/graphs/scripted-model.mjs";

const HELD_WORD = 2;

async function answer({ messages }, config) {
  const asked = messages.at(-1).text;
  if (asked === "Fail") throw new TypeError("kaboom");
  const text = asked.startsWith("Ask") ? `You answered: ${interrupt({ question: "May I?" })}` : `You said: ${asked}`;
  const { gate } = config.configurable ?? {};
  const before = async (index, signal) => {
    while (gate && index === HELD_WORD && !existsSync(gate)) await delay(10, undefined, { signal });
  };
  return { messages: [await new ScriptedModel({ script: () => ({ text }), before }).invoke(messages, config)] };
}

export const graph = new StateGraph(MessagesAnnotation)
  .addNode("answer", answer)
  .addEdge(START, "answer")
  .addEdge("answer", END)
  .compile();
