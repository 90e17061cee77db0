/** A tool-using agent. Try: "What is the weather in Lisbon?" or "What is (3 + 4) * 12?" */

import { createAgent } from "langchain";
import { chatModel } from "@/model.ts";
import { calculator, clock, weather } from "../lib/tools.ts";
import { lastHumanText, type Script, type ScriptedToolCall, toolResults } from "../scripted-model.ts";

const script: Script = (messages, tools) => {
  const results = toolResults(messages);
  if (results.length > 0)
    return { text: answerFrom(results.map(({ name, text }) => ({ name: name ?? "tool", text }))) };
  const toolCalls = callsFor(lastHumanText(messages)).filter(({ name }) => tools.includes(name));
  if (toolCalls.length > 0) return { text: "Let me look that up.", toolCalls };
  return {
    text: "I can tell you the weather in a city, work out a sum, or tell the time. What would you like to know?",
  };
};

function callsFor(question: string): ScriptedToolCall[] {
  const calls: ScriptedToolCall[] = [];
  const city = /weather\s+(?:is\s+it\s+)?in\s+(\p{L}+)/iu.exec(question)?.[1];
  if (city !== undefined) calls.push({ name: "weather", args: { city } });
  const expression = /[\d(][\d\s.()+*/-]*[-+*/][\d\s.()+*/-]*[\d)]/.exec(question)?.[0];
  if (expression !== undefined) calls.push({ name: "calculator", args: { expression } });
  if (/\btime\b/i.test(question)) calls.push({ name: "clock", args: { timeZone: "UTC" } });
  return calls;
}

const SENTENCES: Readonly<Record<string, (text: string) => string>> = {
  weather: (text) => `The weather there: ${text}.`,
  calculator: (text) => `The result is ${text}.`,
  clock: (text) => `It is ${text} UTC.`,
};

const answerFrom = (results: readonly { name: string; text: string }[]): string =>
  results.map(({ name, text }) => SENTENCES[name]?.(text) ?? text).join(" ");

export const graph = createAgent({
  model: await chatModel(script),
  tools: [weather, calculator, clock],
  systemPrompt: "You are a helpful assistant. Use your tools; do not guess.",
});
