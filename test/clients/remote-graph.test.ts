/** RemoteGraph: this server's graphs as a node or a graph of somebody else's program. */
import { Annotation, Command, isGraphInterrupt, MemorySaver, START, StateGraph } from "@langchain/langgraph";
import { RemoteGraph } from "@langchain/langgraph/remote";
import { describe, expect, test } from "vitest";
import { type Any, useServer } from "../runs/support.ts";
import { eventually } from "../support/server.ts";

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

test("an interrupt before or after a node, and on from there", async () => {
  const config = await onThread();
  const graph = remote("plain");
  const stopped = graph.invoke({ value: 1 }, { ...config, interruptBefore: ["second"] });
  await expect(stopped).rejects.toSatisfy(isGraphInterrupt);
  expect((await graph.getState(config)).next).toEqual(["second"]);
  expect(await graph.invoke(null, config)).toMatchObject({ value: 4 });
});

test("several questions at once are answered by their ids", async () => {
  const config = await onThread();
  const graph = remote("hitl2");
  await expect(graph.invoke({}, config)).rejects.toThrow("Go on?");
  // RemoteGraph throws when the questions come by; the run that asks them is about to end.
  const asked = await eventually(async () => {
    const { tasks } = await graph.getState(config);
    const interrupts = tasks.flatMap((task) => task.interrupts as Any[]);
    return interrupts.length > 0 ? interrupts : undefined;
  });
  expect(asked.map(({ value }) => value.ask)).toEqual(["left", "right"]);
  const resume = Object.fromEntries(asked.map(({ interrupt_id, value }) => [interrupt_id, `to ${value.ask}`]));
  const answers = { left: "to left", right: "to right" };
  expect(await graph.invoke(new Command({ resume }), config)).toMatchObject({ answers, done: "left+right" });
});

test("updateState changes the state and says where it is; the graph goes on from it", async () => {
  const config = await onThread();
  const graph = remote("plain");
  await graph.invoke({ value: 1 }, config);
  const changed = await graph.updateState(config, { value: 50, steps: ["told"] }, "first");
  expect(changed.configurable).toMatchObject({ ...config.configurable, checkpoint_ns: "" });
  const state = await graph.getState(config);
  expect([state.next, state.values.value]).toEqual([["second"], 50]);
  expect(state.config.configurable).toEqual(changed.configurable);
  expect(await graph.invoke(null, config)).toMatchObject({ value: 100 });
  // The address it gave is good for the state of that moment.
  expect((await graph.getState(changed)).values).toEqual(state.values);
});

test("getStateHistory: all, some, before one", async () => {
  const config = await onThread();
  const graph = remote("plain");
  await graph.invoke({ value: 1 }, config);
  const read = (options?: Any): Promise<Any[]> => all(Promise.resolve(graph.getStateHistory(config, options)));
  const states = await read();
  expect(states.map(({ next }) => next)).toEqual([[], ["second"], ["first"], ["__start__"]]);
  expect(await read({ limit: 2 })).toEqual(states.slice(0, 2));
  expect(await read({ before: states[1].config })).toEqual(states.slice(2));
  expect(await read({ filter: { source: "input" } })).toEqual(states.slice(3));
});

test("an earlier state begins a branch", async () => {
  const config = await onThread();
  const graph = remote("plain");
  await graph.invoke({ value: 1 }, config);
  const { parentConfig } = await graph.getState(config);
  const forked = await graph.updateState(parentConfig as Any, { value: 9 }, "first");
  const { values, next } = await graph.getState(forked);
  expect([values.value, next]).toEqual([9, ["second"]]);
});

test("getGraph", async () => {
  const drawn = await remote("plain").getGraphAsync();
  expect(Object.keys(drawn.nodes)).toEqual(expect.arrayContaining(["first", "second"]));
  expect(drawn.drawMermaid()).toContain("first --> second");
  const deep = await remote("nested").getGraphAsync({ xray: true });
  expect(Object.keys(deep.nodes)).toContain("middle:inner");
});

test("getSubgraphs", async () => {
  const read = async (namespace?: string, recurse?: boolean): Promise<string[]> => {
    const found = await all(Promise.resolve(remote("nested").getSubgraphsAsync(namespace, recurse)));
    return found.map(([name]) => name);
  };
  expect(await read()).toEqual(["middle"]);
  expect(await read(undefined, true)).toEqual(["middle", "middle|inner"]);
  expect(await read("middle|inner", true)).toEqual(["middle|inner"]);
});

test("getState of subgraphs", async () => {
  const config = await onThread();
  await expect(remote("nested").invoke({ ask: true }, config)).rejects.toThrow("go on?");
  const state = await remote("nested").getState(config, { subgraphs: true });
  expect(state.tasks[0]?.state).toMatchObject({ next: ["inner"] });
});

describe("as a node of another graph", () => {
  const State = Annotation.Root({
    question: Annotation<string>(),
    value: Annotation<number>(),
    steps: Annotation<Any>(),
    trail: Annotation<Any>(),
    messages: Annotation<Any>(),
  });
  const around = (graphId: string) =>
    new StateGraph(State)
      .addNode("remote", remote(graphId))
      .addNode("after", () => ({ question: "done" }))
      .addEdge(START, "remote")
      .addEdge("remote", "after")
      .compile({ checkpointer: new MemorySaver() });

  test("invoke, with its result in the state around it", async () => {
    const config = await onThread();
    const graph = around("plain");
    expect(await graph.invoke({ value: 1 }, config)).toMatchObject({ value: 4, question: "done" });
    // Both keep their states under one thread id, each on its side.
    expect((await graph.getState(config)).values).toMatchObject({ value: 4, question: "done" });
    expect((await remote("plain").getState(config)).values).toMatchObject({ value: 4 });
  });

  test("stream with subgraphs: namespaces go on from the node's", async () => {
    const options = { ...(await onThread()), streamMode: "updates" as const, subgraphs: true };
    const parts = await all(around("nested").stream({}, options));
    const names = parts.map(([namespace, data]) => [
      namespace.map((segment: string) => segment.split(":")[0]),
      ...Object.keys(data),
    ]);
    expect(names).toContainEqual([["remote", "middle", "inner"], "deep"]);
    expect(names).toContainEqual([["remote", "middle"], "before"]);
    expect(names).toContainEqual([["remote"], "outer"]);
    expect(names.slice(-2)).toEqual([
      [[], "remote"],
      [[], "after"],
    ]);
  });

  test("several modes at once, and tokens", async () => {
    const input = { messages: [{ role: "user", content: "hi you" }] };
    const options = { ...(await onThread()), streamMode: ["messages", "values"] as const, subgraphs: true };
    const parts: Any[] = await all(around("chat").stream(input, options as Any));
    const tokens = parts.filter(([, mode]) => mode === "messages").map(([, , [message]]) => message.content);
    expect(tokens.join("")).toContain("You said: hi you");
    expect(parts.at(-1)[2]).toMatchObject({ question: "done" });
  });

  test("its interrupts are interrupts of the graph around it", async () => {
    const config = await onThread();
    const graph = around("hitl");
    const updates = await all(graph.stream({ question: "Sure?" }, { ...config, streamMode: "updates" }));
    expect(updates).toEqual([
      { __interrupt__: [expect.objectContaining({ value: { ask: "person", question: "Sure?" } })] },
    ]);
    const state = await graph.getState(config);
    expect(state.next).toEqual(["remote"]);
    expect(state.tasks[0]?.interrupts[0]?.value).toMatchObject({ question: "Sure?" });
    // The answer goes to the graph that asked; the one around it is told the result.
    const answered = await remote("hitl").invoke(new Command({ resume: "yes" }), config);
    expect(answered).toMatchObject({ answers: { person: "yes" } });
    await graph.updateState(config, { question: "answered" }, "remote");
    expect(await graph.invoke(null, config)).toMatchObject({ question: "done" });
  });

  test("its errors are errors of the graph around it", async () => {
    await expect(around("error").invoke({}, await onThread())).rejects.toThrow(/kaboom/);
  });
});

test("streamEvents v3: a command answers, updates and goes on", async () => {
  const config = await onThread();
  const graph = remote("hitl");
  await expect(graph.invoke({ question: "Sure?" }, config)).rejects.toThrow("Sure?");
  const command = new Command({ resume: "yes", update: { question: "Changed" } });
  const run = (await graph.streamEvents(command, { ...config, version: "v3" } as Any)) as Any;
  for await (const _ of run);
  expect((await graph.getState(config)).values).toMatchObject({ question: "Changed", answers: { person: "yes" } });
});

test("streamEvents v3: the events of the run", async () => {
  const run = await remote("plain").streamEvents({ value: 1 }, { version: "v3" } as Any);
  const seen: Any[] = [];
  for await (const event of run as AsyncIterable<Any>) seen.push(event);
  const values = seen.filter(({ method, params }) => method === "values" && params.namespace.length === 0);
  expect(values.at(-1)?.params.data).toEqual({ value: 4, steps: ["first", "second"] });
});
