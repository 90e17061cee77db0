/** `client.threads.stream` of the JavaScript SDK: what an application does with it, over each transport it has. */
import { Client } from "@langchain/langgraph-sdk";
import { Client as Client19 } from "sdk-1.9";
import { describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { type Any, Gate, useServer, useTempDir } from "../runs/support.ts";
import { eventually } from "../support/server.ts";

const api = useServer();
const temp = useTempDir();
const HELLO = { messages: [{ type: "human", content: "hello you" }] };

// biome-ignore lint/suspicious/noExplicitAny: two generations of one class; what they share is tested, not their types.
type AnyClient = any;

/** Node 20 has no WebSocket of its own. */
const webSocket = { transport: "websocket", webSocketFactory: (url: string) => new WebSocket(url) };

const KINDS: readonly [string, new (options: { apiUrl: string }) => AnyClient, Record<string, unknown>][] = [
  ["SDK 1.15 over SSE", Client, {}],
  ["SDK 1.15 over WebSocket", Client, webSocket],
  ["SDK 1.9.31 over SSE", Client19, {}],
  ["SDK 1.9.31 over WebSocket", Client19, webSocket],
];

async function all<T = Any>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

/** The first item of a stream that goes on. */
async function first<T = Any>(items: AsyncIterable<T>): Promise<T> {
  for await (const item of items) return item;
  throw new Error("nothing came");
}

/** The SDK yields a call when it starts, and again when it ends. */
const onceEach = (calls: readonly Any[]): Any[] => [...new Map(calls.map((call) => [call.callId, call])).values()];

describe.each(KINDS)("%s", (name, Sdk, transport) => {
  const open = (assistantId: string, thread_id?: string): Any => {
    const options = { assistantId, ...transport };
    const { threads } = new Sdk({ apiUrl: api.url });
    return thread_id === undefined ? threads.stream(options) : threads.stream(thread_id, options);
  };
  const asked = async (thread: Any): Promise<Any[]> => {
    await eventually(async () => thread.interrupts.length > 0);
    return thread.interrupts;
  };
  const state = async (thread: Any): Promise<Any> => (await api.get(`/threads/${thread.threadId}/state`)).values;

  test("a new thread: words as they come, values, and the output", async () => {
    const gate = new Gate(temp.dir, name.replaceAll(" ", "-"));
    const thread = open("chat");
    const [messages, values] = [thread.messages, thread.values];
    const { run_id } = await thread.run.start({ input: HELLO, config: { configurable: { gate: gate.input.gate } } });
    expect(run_id).toEqual(expect.any(String));
    const message = await first<Any>(messages);
    expect((await all(message.text)).length).toBeGreaterThan(1);
    expect(await message.text).toBe("You said: hello you");
    const output = await thread.output;
    expect(output.messages.map(({ type }: Any) => type)).toEqual(["human", "ai"]);
    const seen = await all(values);
    expect(seen.at(-1)).toEqual(output);
    expect((await api.get(`/threads/${thread.threadId}/runs`)).map(({ status }: Any) => status)).toEqual(["success"]);
    await thread.close();
  });

  test("tool calls, with what they were given and what they gave", async () => {
    const thread = open("agent");
    const calls = all<Any>(thread.toolCalls);
    await thread.run.start({ input: HELLO });
    await thread.output;
    const found = onceEach(await calls).sort((a, b) => a.name.localeCompare(b.name));
    expect(found.map(({ name, input }) => [name, input])).toEqual([
      ["add", { a: 2, b: 3 }],
      ["shout", { text: "hello you" }],
    ]);
    expect(await Promise.all(found.map(({ output }) => output))).toEqual(["5", "HELLO YOU"]);
    await thread.close();
  });

  test("all messages of an agent, tool calls in them", async () => {
    const thread = open("agent");
    const messages = all<Any>(thread.messages);
    await thread.run.start({ input: HELLO });
    await thread.output;
    const found = await messages;
    const texts = await Promise.all(found.map(({ text }) => text));
    expect(texts.filter((text) => text !== "")).toEqual(["Let me see.", "Results: 5, HELLO YOU"]);
    const calls = await Promise.all(found.map(({ toolCalls }) => toolCalls));
    expect(calls[0].map(({ name, args }: Any) => [name, args])).toEqual([
      ["add", { a: 2, b: 3 }],
      ["shout", { text: "hello you" }],
    ]);
    await thread.close();
  });

  test("subgraphs, and what is in them", async () => {
    const thread = open("team");
    const subgraphs = thread.subgraphs;
    // The SDK looks into a subgraph by subscriptions that end with the run: they must begin before.
    await thread.run.start({ input: HELLO, config: { configurable: { delay_ms: 50 } } });
    const desk = await first<Any>(subgraphs);
    const [output, inner] = [desk.output, desk.subgraphs];
    expect([desk.name, desk.namespace.length]).toEqual(["desk", 1]);
    const agent = await first<Any>(inner);
    expect([agent.name, agent.namespace.length]).toEqual(["agent", 2]);
    expect((await output).messages).toHaveLength(5);
    expect((await thread.output).messages).toHaveLength(5);
    await thread.close();
  });

  test("custom events", async () => {
    const thread = open("plain");
    const custom = await thread.subscribe("custom");
    await thread.run.start({ input: { value: 1 } });
    expect(await thread.output).toEqual({ value: 4, steps: ["first", "second"] });
    expect((await first<Any>(custom)).params.data).toEqual({ payload: { progress: 1 } });
    await thread.close();
  });

  test("a question is answered; the next run goes on in the same stream", async () => {
    const thread = open("hitl");
    await thread.run.start({ input: { question: "Sure?" } });
    const [{ interruptId, payload, namespace }] = await asked(thread);
    expect([payload, namespace]).toEqual([{ ask: "person", question: "Sure?" }, []]);
    await thread.output;
    await eventually(async () => thread.interrupted);
    const values = await thread.subscribe("values");
    await thread.input.respond({ namespace, interrupt_id: interruptId, response: "yes" });
    const [last] = (await all<Any>(values)).slice(-1);
    expect(last.params.data).toMatchObject({ answers: { person: "yes" }, done: "person" });
    expect([thread.interrupted, thread.interrupts]).toEqual([false, []]);
    await thread.close();
  });

  test("two questions are answered at once", async () => {
    const thread = open("hitl2");
    await thread.run.start({ input: {} });
    await eventually(async () => thread.interrupts.length === 2);
    const responses = thread.interrupts.map(({ interruptId, payload, namespace }: Any) => ({
      namespace,
      interrupt_id: interruptId,
      response: payload.ask,
    }));
    await thread.input.respond({ responses });
    await eventually(async () => (await state(thread)).done === "left+right");
    expect(await state(thread)).toMatchObject({ answers: { left: "left", right: "right" } });
    await thread.close();
  });

  test("an answer with an update of the state", async () => {
    const thread = open("hitl");
    await thread.run.start({ input: {} });
    const [{ interruptId, namespace }] = await asked(thread);
    const update = { answers: { other: "update" } };
    await thread.input.respond({ namespace, interrupt_id: interruptId, response: "yes", update });
    await eventually(async () => (await state(thread)).done !== null);
    expect((await state(thread)).answers).toEqual({ other: "update", person: "yes" });
    await thread.close();
  });

  test("a question deep in subgraphs, answered where it was asked", async () => {
    const thread = open("nested");
    await thread.run.start({ input: { ask: true } });
    const [{ interruptId, namespace }] = await asked(thread);
    expect(namespace).toHaveLength(2);
    await thread.input.respond({ namespace, interrupt_id: interruptId, response: "sure" });
    await eventually(async () => (await state(thread)).trail.includes("answer: sure"));
    await thread.close();
  });

  test("state, checkpoints and the tree; a fork from a checkpoint", async () => {
    const thread = open("plain");
    await thread.run.start({ input: { value: 1 } });
    await thread.output;
    expect((await thread.state.get({ namespace: [] })).values).toEqual({ value: 4, steps: ["first", "second"] });
    const { checkpoints } = await thread.state.listCheckpoints({});
    expect(checkpoints.map(({ step }: Any) => step)).toEqual([2, 1, 0, -1]);
    expect((await thread.agent.getTree()).tree).toMatchObject({ status: "completed", graph_name: "plain" });
    const forked = await thread.state.fork({ checkpoint_id: checkpoints[1].id });
    expect(await api.get(`/threads/${thread.threadId}/runs/${forked.run_id}/join`)).toMatchObject({ value: 4 });
    await thread.close();
  });

  test("a page that is loaded again sees the run that goes on from its beginning", async () => {
    const before = open("chat");
    const config = { configurable: { tokens: 30, delay_ms: 20 } };
    await before.run.start({ input: HELLO, config });
    await first(before.messages);
    await before.close();
    const after = open("chat", before.threadId);
    const output = after.output;
    const message = await first<Any>(after.messages);
    expect((await message.text).split(" ")).toHaveLength(30);
    expect((await output).messages).toHaveLength(2);
    await after.close();
  });

  test("a thread whose run has ended: everything is there", async () => {
    const before = open("agent");
    // Asked for before the run can have ended, for the same reason as below.
    const ending = before.output;
    await before.run.start({ input: HELLO });
    const output = await ending;
    await before.close();
    // One stream each: on a WebSocket the SDK stops all subscriptions of a stream at the first end of a run that any of them sees.
    const [one, two, three] = [1, 2, 3].map(() => open("agent", before.threadId));
    expect(await one.output).toEqual(output);
    const calls = onceEach(await all<Any>(two.toolCalls));
    expect(calls.map(({ name }) => name).sort()).toEqual(["add", "shout"]);
    expect(await all(three.messages)).toHaveLength(2);
    for (const stream of [one, two, three]) await stream.close();
  });

  test("a cancelled run ends", async () => {
    const thread = open("slow");
    const { run_id } = await thread.run.start({ input: { delay_ms: 60_000 } });
    const output = thread.output.catch((error: unknown) => error);
    await api.post(`/threads/${thread.threadId}/runs/${run_id}/cancel?wait=true`);
    await output;
    expect((await api.get(`/threads/${thread.threadId}/runs/${run_id}`)).status).toBe("interrupted");
    await thread.close();
  });

  test("a run that fails says why", async () => {
    const thread = open("error");
    const lifecycle = all<Any>(await thread.subscribe("lifecycle"));
    await thread.run.start({ input: {} });
    expect(await thread.output).toEqual({ value: "before the error" });
    const ends = (await lifecycle).map(({ params }) => params.data);
    expect(ends.at(-1)).toMatchObject({ event: "failed", error: expect.stringContaining("kaboom") });
    await thread.close();
  });

  test("a command that is refused throws its code", async () => {
    const thread = open("nobody");
    await expect(thread.run.start({ input: {} })).rejects.toThrow(/nobody/);
    await thread.close();
  });
});
