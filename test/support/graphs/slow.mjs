// Three steps that take as long as the test wants. Input, all optional:
//   delay_ms   each step waits this long
//   gate       each step waits until the file `${gate}.${step}` exists (step is 1, 2 or 3)
//   log        each step appends "start N", then "end N" or "aborted N", to this file
//   stubborn   true: do not listen to the abort signal
import { appendFileSync, existsSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { Annotation, END, START, StateGraph } from "@langchain/langgraph";

const State = Annotation.Root({
  delay_ms: Annotation(),
  gate: Annotation(),
  log: Annotation(),
  stubborn: Annotation(),
  steps: Annotation({ reducer: (all, more) => all.concat(more), default: () => [] }),
});

const step =
  (number) =>
  async ({ delay_ms, gate, log, stubborn }, config) => {
    const say = (what) => log && appendFileSync(log, `${what} ${number}\n`);
    const signal = stubborn ? undefined : config.signal;
    say("start");
    try {
      if (delay_ms) await delay(delay_ms, undefined, { signal });
      while (gate && !existsSync(`${gate}.${number}`)) await delay(10, undefined, { signal });
    } catch (error) {
      say("aborted");
      throw error;
    }
    say("end");
    return { steps: [number] };
  };

export const graph = new StateGraph(State)
  .addNode("one", step(1))
  .addNode("two", step(2))
  .addNode("three", step(3))
  .addEdge(START, "one")
  .addEdge("one", "two")
  .addEdge("two", "three")
  .addEdge("three", END)
  .compile();
