/**
 * The other side of every ratio, a process of its own: the same graphs, called as a program without a server calls them,
 * with LangGraph's `MemorySaver`. Does one load at a time for run.mjs, over IPC, and is idle in between.
 */
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { MemorySaver } from "@langchain/langgraph";
import { loads } from "./loads.mjs";

const PROJECT = new URL("./graphs/", import.meta.url);
const graphs = await loadGraphs();

process.on("message", async (message) => {
  if (message.type !== "load") return;
  try {
    const value = await loads[message.load][message.phase](inProcessTarget());
    process.send({ type: "done", value });
  } catch (error) {
    process.send({ type: "failed", message: error.stack });
  }
});
// Never outlive run.mjs.
process.on("disconnect", () => process.exit());
process.send({ type: "ready" });

async function loadGraphs() {
  const { graphs: paths } = JSON.parse(readFileSync(new URL("langgraph.json", PROJECT), "utf8"));
  const load = async ([name, path]) => {
    const [file, exported] = path.split(":");
    return [name, (await import(new URL(file, PROJECT)))[exported]];
  };
  return Object.fromEntries(await Promise.all(Object.entries(paths).map(load)));
}

/** A new saver for each load: MemorySaver forgets nothing, and its heap would slow the loads that come late. */
function inProcessTarget() {
  const checkpointer = new MemorySaver();
  for (const graph of Object.values(graphs)) graph.checkpointer = checkpointer;
  const ownThread = () => ({ configurable: { thread_id: randomUUID() } });

  return {
    async stream(name, input, { mode }) {
      const started = performance.now();
      let firstMs;
      let events = 0;
      for await (const _ of await graphs[name].stream(input, { ...ownThread(), streamMode: [mode] })) {
        firstMs ??= performance.now() - started;
        events++;
      }
      return { ms: performance.now() - started, firstMs, events };
    },

    invoke: (name, input, { durability = "async", recursionLimit = 25 } = {}) =>
      graphs[name].invoke(input, { ...ownThread(), durability, recursionLimit }),
  };
}
