/** Graph sources for projects of these tests. */

/** Emits `count` custom events of `size` characters, yielding to the loop between them; writes its time to `log`. */
export const TALKER = `
  import { appendFileSync } from "node:fs";
  import { setImmediate as turn } from "node:timers/promises";
  import { Annotation, START, StateGraph } from "@langchain/langgraph";
  const State = Annotation.Root({ count: Annotation(), size: Annotation(), log: Annotation(), ms: Annotation() });
  async function talk({ count, size, log }, { writer }) {
    const text = "x".repeat(size);
    const started = performance.now();
    for (let i = 0; i < count; i++) {
      writer({ i, text });
      await turn();
    }
    const ms = performance.now() - started;
    if (log) appendFileSync(log, ms + "\\n");
    return { ms };
  }
  export const graph = new StateGraph(State).addNode("talk", talk).addEdge(START, "talk").compile();`;
