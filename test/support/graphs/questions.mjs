// Asks two questions, one node after the other; with `twice`, the first node asks two itself. Each node appends "node N"
// to `log` whenever it starts, so a node that ran twice shows. An answer is held until the file `gate` exists.
import { appendFileSync, existsSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { Annotation, END, interrupt, START, StateGraph } from "@langchain/langgraph";

const State = Annotation.Root({
  log: Annotation(),
  gate: Annotation(),
  twice: Annotation(),
  answers: Annotation({ reducer: (all, more) => all.concat(more), default: () => [] }),
});

const ask =
  (number) =>
  async ({ log, gate, twice }, { signal }) => {
    if (log) appendFileSync(log, `node ${number}\n`);
    const answers = [interrupt(`question ${number}`)];
    if (twice && number === 1) answers.push(interrupt("question 1b"));
    while (gate && !existsSync(gate)) await delay(10, undefined, { signal });
    return { answers: answers.map((answer) => `${number}: ${answer}`) };
  };

export const graph = new StateGraph(State)
  .addNode("first", ask(1))
  .addNode("second", ask(2))
  .addEdge(START, "first")
  .addEdge("first", "second")
  .addEdge("second", END)
  .compile();
