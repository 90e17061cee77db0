/** Where runs run: how many at once, on which thread, with whose LangGraph, and how nodes reach this server. */
import { cp, mkdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { project, ROOT } from "../support/project.ts";
import { eventually, startServer } from "../support/server.ts";
import { type Any, Api, Gate, numbers, type Place, useServer, useTempDir } from "./support.ts";

const temp = useTempDir();

const PLACES = `
import { threadId } from "node:worker_threads";
import { Annotation, START, StateGraph } from "@langchain/langgraph";
let count = 0;
const State = Annotation.Root({ thread: Annotation(), count: Annotation() });
export const graph = new StateGraph(State)
  .addNode("look", () => ({ thread: threadId, count: ++count }))
  .addEdge(START, "look")
  .compile();`;

const LOOPBACK = `
import { Annotation, START, StateGraph } from "@langchain/langgraph";
import { Client } from "@langchain/langgraph-sdk";
const State = Annotation.Root({ value: Annotation(), answer: Annotation(), events: Annotation() });
async function ask({ value }) {
  const client = new Client();
  const input = { value };
  const answer = await client.runs.wait(null, "inner", { input });
  const events = [];
  for await (const { event } of client.runs.stream(null, "inner", { input })) events.push(event);
  return { answer, events };
}
export const graph = new StateGraph(State).addNode("ask", ask).addEdge(START, "ask").compile();`;

const INNER = `
import { Annotation, START, StateGraph } from "@langchain/langgraph";
const State = Annotation.Root({ value: Annotation() });
export const graph = new StateGraph(State).addNode("add", ({ value }) => ({ value: value + 1 })).addEdge(START, "add").compile();`;

test("runs of one conversation go to the same executor thread; others use the other", async () => {
  await using own = await project({ "places.mjs": PLACES });
  await using server = await startServer({ project: own, args: ["--threads", "2"] });
  const api = new Api(server);
  const run = (thread_id: string): Promise<Any> =>
    api.wait({ assistant_id: "places", input: {} }, `/threads/${thread_id}/runs/wait`);
  const conversations = await Promise.all(numbers(4).map(() => api.thread()));
  const homes = new Map<string, number>();
  for (const _ of numbers(3)) {
    const results = await Promise.all(conversations.map(async (id) => [id, await run(id)] as const));
    for (const [id, { thread }] of results) {
      expect(homes.get(id) ?? thread).toBe(thread);
      homes.set(id, thread);
    }
  }
  expect(new Set(homes.values()).size).toBe(2);
  // Module state lives on: the count on a thread goes on where it was.
  const [first = ""] = conversations;
  const before = await run(first);
  expect((await run(first)).count).toBe(before.count + 1);
});

test("--jobs runs at once, across threads; the rest wait their turn", async () => {
  await using server = await startServer({ args: ["--jobs", "2", "--threads", "1"] });
  const api = new Api(server);
  const gates = numbers(5).map((index) => new Gate(temp.dir, `jobs-${index}`));
  const places: Place[] = [];
  for (const gate of gates) places.push(await api.background({ assistant_id: "slow", input: gate.input }));
  const statuses = async (): Promise<string[]> =>
    (await Promise.all(places.map(({ path }) => api.get(path)))).map(({ status }) => status);
  await eventually(() => gates[0]?.log.length === 1 && gates[1]?.log.length === 1);
  expect(await statuses()).toEqual(["running", "running", "pending", "pending", "pending"]);
  gates[1]?.openAll();
  await eventually(() => gates[2]?.log.length === 1);
  expect(await statuses()).toEqual(["running", "success", "running", "pending", "pending"]);
  for (const gate of gates) gate.openAll();
  await Promise.all(places.map(({ path }) => api.get(`${path}/join`)));
  expect(new Set(await statuses())).toEqual(new Set(["success"]));
});

describe("loopback", () => {
  const api = useServer(async () => ({ project: await project({ "outer.mjs": LOOPBACK, "inner.mjs": INNER }) }));

  test("new Client() inside a node reaches this server, even one run for each slot", async () => {
    const body = { assistant_id: "outer", input: { value: 1 } };
    for (const result of await Promise.all(numbers(5).map(() => api.wait(body)))) {
      expect(result).toEqual({ value: 1, answer: { value: 2 }, events: ["metadata", "values", "values"] });
    }
  });
});

describe("a project with its own LangGraph", () => {
  /** LangGraph and all it needs, as `npm install` in the project would have put it there. */
  async function install(into: string, packages: readonly string[]): Promise<void> {
    const todo = [...packages];
    const done = new Set<string>();
    for (let name = todo.pop(); name !== undefined; name = todo.pop()) {
      if (done.has(name)) continue;
      done.add(name);
      const from = join(ROOT, "node_modules", name);
      const manifest = JSON.parse(await readFile(join(from, "package.json"), "utf8").catch(() => "{}"));
      if (manifest.name === undefined) continue;
      await mkdir(join(into, name, ".."), { recursive: true });
      await cp(from, join(into, name), { recursive: true, filter: (path) => !/\.(map|d\.c?ts|cjs)$/.test(path) });
      todo.push(...Object.keys(manifest.dependencies ?? {}));
    }
  }

  const CHAT = `
import { interrupt, MessagesAnnotation, START, StateGraph } from "@langchain/langgraph";
import { AIMessage } from "@langchain/core/messages";
export const graph = new StateGraph(MessagesAnnotation)
  .addNode("ask", ({ messages }) => {
    if (!(messages[0] instanceof Object)) throw new Error("no message");
    return { messages: [new AIMessage("they said " + interrupt("Say something"))] };
  })
  .addEdge(START, "ask")
  .compile();
export const where = import.meta.resolve("@langchain/langgraph");`;

  test("two copies are loaded and nothing breaks: messages, interrupts, commands, checkpoints", async () => {
    await using own = await project({ "chat.mjs": CHAT, "inner.mjs": INNER });
    const modules = join(own.dir, "node_modules");
    await rm(modules, { recursive: true });
    await install(modules, ["@langchain/langgraph", "@langchain/core", "@langchain/langgraph-checkpoint", "zod"]);
    await using server = await startServer({ project: own });
    const api = new Api(server);
    const thread_id = await api.thread();
    const runs = `/threads/${thread_id}/runs/wait`;
    const input = { messages: [{ role: "user", content: "hi" }] };
    expect((await api.wait({ assistant_id: "chat", input }, runs)).__interrupt__).toEqual([
      { id: expect.any(String), value: "Say something" },
    ]);
    const { messages } = await api.wait({ assistant_id: "chat", command: { resume: "hello" } }, runs);
    expect(messages.map(({ type, content }: Any) => [type, content])).toEqual([
      ["human", "hi"],
      ["ai", "they said hello"],
    ]);
    const { values } = await api.get(`/threads/${thread_id}/state`);
    expect(values.messages).toEqual(messages);
    await server.restart();
    expect((await api.get(`/threads/${thread_id}/state`)).values.messages).toEqual(messages);
  });
});
