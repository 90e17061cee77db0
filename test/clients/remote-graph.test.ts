/** RemoteGraph: this server's graphs as a node or a graph of somebody else's program. */
import { Annotation, Command, MemorySaver, START, StateGraph } from "@langchain/langgraph";
import { RemoteGraph } from "@langchain/langgraph/remote";
import { expect, test } from "vitest";
import { type Any, useServer } from "../runs/support.ts";

const api = useServer();
const remote = (graphId: string): RemoteGraph => new RemoteGraph({ graphId, url: api.url });
const onThread = async (): Promise<{ configurable: { thread_id: string } }> => ({
  configurable: { thread_id: await api.thread() },
});

async function all(stream: Promise<AsyncIterable<Any>>): Promise<Any[]> {
  const items: Any[] = [];
  for await (const item of await stream) items.push(item);
  return items;
}

test("invoke, with and without a thread", async () => {
  expect(await remote("plain").invoke({ value: 1 })).toEqual({ value: 4, steps: ["first", "second"] });
  const config = await onThread();
  await remote("plain").invoke({ value: 1 }, config);
  expect(await remote("plain").invoke({ value: 1 }, config)).toMatchObject({ steps: { length: 4 } });
});

test("config, context and metadata arrive", async () => {
  const config = { tags: ["t"], recursionLimit: 9, configurable: { colour: "red" }, metadata: { who: "me" } };
  const { seen } = (await remote("echo").invoke({ input: 1 }, config)) as Any;
  expect(seen).toMatchObject({ tags: ["t"], recursion_limit: 9, configurable: { colour: "red" } });
});

test("stream: one mode, several, and subgraphs", async () => {
  const updates = await all(remote("plain").stream({ value: 1 }, { streamMode: "updates" }));
  expect(updates).toEqual([{ first: { value: 2, steps: ["first"] } }, { second: { value: 4, steps: ["second"] } }]);
  const several = await all(remote("plain").stream({ value: 1 }, { streamMode: ["updates", "custom"] }));
  expect(several.map(([mode]) => mode).sort()).toEqual(["custom", "custom", "updates", "updates"]);
  const nested = await all(remote("nested").stream({}, { streamMode: "updates", subgraphs: true }));
  const depths = new Set(nested.map(([namespace]) => namespace.length));
  expect(depths).toEqual(new Set([0, 1, 2]));
});

test("streams tokens", async () => {
  const input = { messages: [{ role: "user", content: "hi you" }] };
  const chunks = await all(remote("chat").stream(input, { streamMode: "messages" }));
  expect(chunks.map(([message]) => message.content).join("")).toContain("You said: hi you");
});

test("an error is thrown", async () => {
  await expect(remote("error").invoke({})).rejects.toThrow(/kaboom/);
});

test("getState, an interrupt and its answer", async () => {
  const config = await onThread();
  const graph = remote("hitl");
  // This client throws interrupts, for the graph around it.
  await expect(graph.invoke({ question: "Sure?" }, config)).rejects.toThrow("Sure?");
  const state = await graph.getState(config);
  expect(state.next).toEqual(["ask"]);
  expect(state.tasks[0]?.interrupts[0]?.value).toEqual({ ask: "person", question: "Sure?" });
  expect(await graph.invoke(new Command({ resume: "yes" }), config)).toMatchObject({ answers: { person: "yes" } });
  const after = await graph.getState(config);
  expect([after.next, after.values]).toEqual([[], expect.objectContaining({ done: "person" })]);
});

test("getGraph", async () => {
  const drawn = await remote("plain").getGraphAsync();
  expect(Object.keys(drawn.nodes)).toEqual(expect.arrayContaining(["first", "second"]));
});

test("getState of subgraphs", async () => {
  const config = await onThread();
  await expect(remote("nested").invoke({ ask: true }, config)).rejects.toThrow("go on?");
  const state = await remote("nested").getState(config, { subgraphs: true });
  expect(state.tasks[0]?.state).toMatchObject({ next: ["inner"] });
});

test("as a node of a local graph: its result and its interrupts come through", async () => {
  const State = Annotation.Root({
    question: Annotation<string>(),
    value: Annotation<number>(),
    steps: Annotation<Any>(),
  });
  const around = (graphId: string) =>
    new StateGraph(State)
      .addNode("remote", remote(graphId))
      .addEdge(START, "remote")
      .compile({ checkpointer: new MemorySaver() });
  expect(await around("plain").invoke({ value: 1 }, await onThread())).toMatchObject({ value: 4 });
  const updates = await all(
    around("hitl").stream({ question: "Sure?" }, { ...(await onThread()), streamMode: "updates" }),
  );
  expect(JSON.stringify(updates)).toContain('"__interrupt__"');
});
