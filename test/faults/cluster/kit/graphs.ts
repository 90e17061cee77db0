/**
 * The graphs of a cluster. `work` has three nodes; its input says what each does, and each execution leaves its lines in
 * `log`, so that a test counts executions exactly, whoever did them:
 *
 *     <id> <node> start <pid> <time>      <id> <node> end <pid> <time>      (or `aborted`)
 */
import { project, type TempDir } from "../../../support/project.ts";

/** What a node of `work` is told to do, in this order. */
export interface Orders {
  /** Wait until this file exists. */
  readonly gate?: string;
  /** Hold the CPU so long, milliseconds. */
  readonly block?: number;
  /** Sleep so long, milliseconds. */
  readonly sleep?: number;
  /** kill -9 for the process it runs in. */
  readonly poison?: boolean;
  /** Send so many custom events, `{ i }` each, one per turn of the event loop or per `every` milliseconds. */
  readonly events?: number;
  readonly every?: number;
}

export interface WorkInput {
  readonly id: string;
  readonly log: string;
  readonly one?: Orders;
  readonly two?: Orders;
  readonly three?: Orders;
}

const WORK = `
  import { appendFileSync, existsSync } from "node:fs";
  import { setImmediate as turn, setTimeout as delay } from "node:timers/promises";
  import { Annotation, END, START, StateGraph } from "@langchain/langgraph";
  const State = Annotation.Root({
    id: Annotation(), log: Annotation(), one: Annotation(), two: Annotation(), three: Annotation(),
    steps: Annotation({ reducer: (all, more) => all.concat(more), default: () => [] }),
  });
  const step = (name) => async (state, config) => {
    const orders = state[name] ?? {};
    const signal = config.signal;
    const say = (what) => appendFileSync(state.log, [state.id, name, what, process.pid, Date.now()].join(" ") + "\\n");
    say("start");
    try {
      while (orders.gate && !existsSync(orders.gate)) await delay(5, undefined, { signal });
      if (orders.block) for (const end = Date.now() + orders.block; Date.now() < end; );
      if (orders.sleep) await delay(orders.sleep, undefined, { signal });
      if (orders.poison) process.kill(process.pid, "SIGKILL");
      for (let i = 0; i < (orders.events ?? 0); i++) {
        config.writer({ i });
        await (orders.every ? delay(orders.every, undefined, { signal }) : turn());
      }
    } catch (error) {
      say("aborted");
      throw error;
    }
    say("end");
    return { steps: [state.id + " " + name] };
  };
  export const graph = new StateGraph(State)
    .addNode("do_one", step("one")).addNode("do_two", step("two")).addNode("do_three", step("three"))
    .addEdge(START, "do_one").addEdge("do_one", "do_two").addEdge("do_two", "do_three").addEdge("do_three", END)
    .compile();`;

/** One node, no waiting: as little as a run can be. Leaves its line as a node of \`work\` does. */
const TICK = `
  import { appendFileSync } from "node:fs";
  import { Annotation, START, StateGraph } from "@langchain/langgraph";
  const State = Annotation.Root({
    id: Annotation(), log: Annotation(),
    steps: Annotation({ reducer: (all, more) => all.concat(more), default: () => [] }),
  });
  const tick = ({ id, log }) => {
    if (log) appendFileSync(log, [id, "tick", "start", process.pid, Date.now()].join(" ") + "\\n");
    return { steps: [id + " tick"] };
  };
  export const graph = new StateGraph(State).addNode("do_tick", tick).addEdge(START, "do_tick").compile();`;

/** Asks a question, and asks again when it was answered: each answer is kept and leaves a line. */
const ASK = `
  import { appendFileSync } from "node:fs";
  import { Annotation, START, StateGraph, interrupt } from "@langchain/langgraph";
  const State = Annotation.Root({
    id: Annotation(), log: Annotation(),
    answers: Annotation({ reducer: (all, more) => all.concat(more), default: () => [] }),
  });
  const ask = ({ id, log, answers }) => {
    const answer = interrupt("question " + answers.length);
    appendFileSync(log, [id, "answer-" + answers.length, answer, process.pid, Date.now()].join(" ") + "\\n");
    return { answers: [answer] };
  };
  export const graph = new StateGraph(State)
    .addNode("ask", ask).addEdge(START, "ask").addEdge("ask", "ask").compile();`;

/** A project with the graphs above. */
export const clusterProject = async (config: Readonly<Record<string, unknown>> = {}): Promise<TempDir> =>
  project({ "work.mjs": WORK, "tick.mjs": TICK, "ask.mjs": ASK }, config);
