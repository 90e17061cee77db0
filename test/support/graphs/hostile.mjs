// Nodes that harm the thread they run in. With `once` (a path) in the input each does it only the first time:
// it writes the file first, and behaves when the file is there, so that a retry can be seen to succeed.
import { existsSync, writeFileSync } from "node:fs";
import { Annotation, END, START, StateGraph } from "@langchain/langgraph";

const State = Annotation.Root({ ms: Annotation(), once: Annotation(), survived: Annotation() });

const hostile = (harm) =>
  new StateGraph(State)
    .addNode("before", () => ({ survived: false }))
    .addNode("harm", async (state, config) => {
      if (firstTime(state.once)) await harm(state, config);
      return { survived: true };
    })
    .addEdge(START, "before")
    .addEdge("before", "harm")
    .addEdge("harm", END)
    .compile();

function firstTime(once) {
  if (!once) return true;
  if (existsSync(once)) return false;
  writeFileSync(once, "");
  return true;
}

const never = () => new Promise(() => {});

/** Keeps the thread's CPU for `ms` (1000): no timer, message or abort reaches it meanwhile. */
export const block = hostile(({ ms = 1000 }) => {
  const end = performance.now() + ms;
  while (performance.now() < end);
});

export const exit = hostile(() => {
  process.exit(7);
});

/** Throws outside of any promise or try of the run. */
export const thrower = hostile(() => {
  setTimeout(() => {
    throw new Error("thrown from a timer");
  });
  return never();
});

/** Fills the heap until the thread dies. */
export const heap = hostile(() => {
  const kept = [];
  for (;;) kept.push(Array.from({ length: 100_000 }, (_, index) => ({ index })));
});
