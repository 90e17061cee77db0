import { Annotation, Command, END, interrupt, MessagesAnnotation, Send, START, StateGraph } from "@langchain/langgraph";
import { chat, toolAgent } from "./models.mjs";

const State = Annotation.Root({
  foo: Annotation(),
  log: Annotation({ reducer: (a, b) => a.concat(b), default: () => [] }),
});

export const plain = new StateGraph(State)
  .addNode("one", (_state, config) => {
    config.writer?.({ progress: 1 });
    return { log: ["one"] };
  })
  .addNode("two", () => ({ foo: "done", log: ["two"] }))
  .addEdge(START, "one")
  .addEdge("one", "two")
  .addEdge("two", END)
  .compile();

export const builder = new StateGraph(State).addNode("one", () => ({ log: ["one"] })).addEdge(START, "one");

const inner = new StateGraph(State)
  .addNode("inner_node", () => ({ log: ["inner"] }))
  .addEdge(START, "inner_node")
  .compile();
const middle = new StateGraph(State).addNode("inner", inner).addEdge(START, "inner").compile();
export const sub = new StateGraph(State)
  .addNode("middle", middle)
  .addNode("after", () => ({ foo: "done" }))
  .addEdge(START, "middle")
  .addEdge("middle", "after")
  .compile();

export const hitl = new StateGraph(State)
  .addNode("ask", () => ({ foo: JSON.stringify(interrupt({ question: "Approve?" })), log: ["ask"] }))
  .addNode("finish", () => ({ log: ["finish"] }))
  .addEdge(START, "ask")
  .addEdge("ask", "finish")
  .compile();

export const hitl2 = new StateGraph(State)
  .addNode("a", () => ({ log: [`a:${JSON.stringify(interrupt({ q: "a" }))}`] }))
  .addNode("b", () => ({ log: [`b:${JSON.stringify(interrupt({ q: "b" }))}`] }))
  .addEdge(START, "a")
  .addEdge(START, "b")
  .compile();

const asking = new StateGraph(State)
  .addNode("ask", () => ({ foo: JSON.stringify(interrupt({ question: "Nested?" })), log: ["nested"] }))
  .addEdge(START, "ask")
  .compile({ checkpointer: undefined });
export const hitlsub = new StateGraph(State).addNode("child", asking).addEdge(START, "child").compile();

export const err = new StateGraph(State)
  .addNode("ok", () => ({ log: ["ok"] }))
  .addNode("boom", () => {
    throw new TypeError("kaboom");
  })
  .addEdge(START, "ok")
  .addEdge("ok", "boom")
  .compile();

export const throwsText = new StateGraph(State)
  .addNode("boom", () => {
    throw "just text";
  })
  .addEdge(START, "boom")
  .compile();

/** Ignores its AbortSignal; rejects long after it was left. */
export const stubborn = new StateGraph(State)
  .addNode("first", () => ({ log: ["first"] }))
  .addNode("hang", () => new Promise((_, reject) => setTimeout(() => reject(new Error("late")), 1500)))
  .addEdge(START, "first")
  .addEdge("first", "hang")
  .compile();

export const slow = new StateGraph(State)
  .addNode("one", async () => {
    await globalThis.__gate?.();
    return { log: ["one"] };
  })
  .addNode("two", () => ({ foo: "done", log: ["two"] }))
  .addEdge(START, "one")
  .addEdge("one", "two")
  .compile();

/** Counts its calls by node, so a test sees which nodes ran again. */
export const calls = { one: 0, two: 0, fail: 0 };
export const crashy = new StateGraph(State)
  .addNode("one", () => {
    calls.one += 1;
    return { log: ["one"] };
  })
  .addNode("two", async () => {
    calls.two += 1;
    await globalThis.__gate?.();
    return { log: ["two"] };
  })
  .addEdge(START, "one")
  .addEdge("one", "two")
  .compile();

export const loop = new StateGraph(State)
  .addNode("again", () => ({ log: ["x"] }))
  .addEdge(START, "again")
  .addConditionalEdges("again", () => "again")
  .compile();

export const circular = new StateGraph(State)
  .addNode("one", () => {
    const self = {};
    self.self = self;
    return { foo: self };
  })
  .addEdge(START, "one")
  .compile();

export const configured = new StateGraph(State)
  .addNode("one", (_state, config) => ({
    foo: { configurable: config.configurable.tone, context: config.context?.tone, tags: config.tags },
  }))
  .addEdge(START, "one")
  .compile();

export const remembers = new StateGraph(State)
  .addNode("one", async (_state, { store }) => {
    await store.put(["a"], "k", { v: 1 });
    const item = await store.get(["a"], "k");
    const found = await store.search(["a"]);
    return { foo: { item: item.value, found: found.length } };
  })
  .addEdge(START, "one")
  .compile();

export const fan = new StateGraph(State)
  .addNode("work", (input) => ({ log: [`work:${input.n ?? "?"}`] }))
  .addNode("start", () => new Command({ goto: [new Send("work", { n: 1 }), new Send("work", { n: 2 })] }), {
    ends: ["work"],
  })
  .addEdge(START, "start")
  .compile();

export const output = new StateGraph({
  state: State,
  input: Annotation.Root({ foo: Annotation() }),
  output: Annotation.Root({ foo: Annotation() }),
})
  .addNode("one", () => ({ foo: "out", log: ["hidden"] }))
  .addEdge(START, "one")
  .compile();

export const big = new StateGraph(State)
  .addNode("one", () => ({ foo: "x".repeat(1000), log: ["one"] }))
  .addNode("two", () => ({ log: ["two"] }))
  .addEdge(START, "one")
  .addEdge("one", "two")
  .compile();

/** Its reducer changes the value it is given; `wait` waits for a person beside `write`. */
export const mutates = new StateGraph(
  Annotation.Root({
    log: Annotation({
      reducer: (all, more) => {
        all.push(...more);
        return all;
      },
      default: () => [],
    }),
  }),
)
  .addNode("first", () => ({ log: ["x".repeat(500)] }))
  .addNode("write", () => ({ log: ["write"] }))
  .addNode("wait", () => ({ log: [interrupt("Go on?")] }))
  .addEdge(START, "first")
  .addEdge("first", "write")
  .addEdge("first", "wait")
  .compile();

export { chat, MessagesAnnotation, toolAgent };
export const notAGraph = { hello: "world" };
export const factory = (config) => (config.configurable.which === "hitl" ? hitl : builder);
export const later = Promise.resolve(plain);
