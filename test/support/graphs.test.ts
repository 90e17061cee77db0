/** The fixture graphs themselves, without a server: when a server test fails, it is not because of these. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command, InMemoryStore, MemorySaver, type Pregel } from "@langchain/langgraph";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import config from "./graphs/langgraph.json" with { type: "json" };

type Graph = Pick<Pregel<never, never>, "invoke" | "stream" | "getState"> & { checkpointer?: unknown; store?: unknown };
type Values = Record<string, unknown>;

const FOLDER = new URL("./graphs/", import.meta.url);
const thread = { configurable: { thread_id: "t" } };
let dir: string;

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "skein-graphs-"));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

async function load(id: keyof typeof config.graphs): Promise<Graph> {
  const [file = "", name = ""] = config.graphs[id].split(":");
  const { [name]: graph } = (await import(new URL(file, FOLDER).href)) as Record<string, Graph>;
  if (graph === undefined) throw new Error(`${id}: ${file} does not export ${name}`);
  graph.checkpointer = new MemorySaver();
  graph.store = new InMemoryStore();
  return graph;
}

const run = async (id: keyof typeof config.graphs, input: unknown, settings: object = thread): Promise<Values> =>
  (await load(id)).invoke(input as never, settings as never) as Promise<Values>;

async function custom(id: keyof typeof config.graphs, input: unknown): Promise<unknown[]> {
  const options = { ...thread, streamMode: "custom", subgraphs: true };
  const stream = (await (await load(id)).stream(input as never, options as never)) as AsyncIterable<
    [string[], unknown]
  >;
  const events: unknown[] = [];
  for await (const [, event] of stream) events.push(event);
  return events;
}

const lastText = ({ messages }: Values) => (messages as { text: string }[]).at(-1)?.text;

describe("fixture graphs", () => {
  test("every graph of langgraph.json loads", async () => {
    for (const id of Object.keys(config.graphs)) await load(id as keyof typeof config.graphs);
  });

  test("plain", async () => {
    expect(await run("plain", { value: 1 })).toEqual({ value: 4, steps: ["first", "second"] });
    expect(await custom("plain", {})).toEqual([{ progress: 1 }, { progress: 2 }]);
  });

  test("echo", async () => {
    const { seen } = await run(
      "echo",
      { input: 1 },
      { ...thread, context: { tone: "dry" }, metadata: { m: 1 }, tags: ["t"] },
    );
    expect(seen).toMatchObject({
      input: 1,
      configurable: { thread_id: "t" },
      context: { tone: "dry" },
      metadata: { m: 1 },
    });
  });

  test("remember", async () => {
    expect(await run("remember", { user: "u", note: "tea" })).toMatchObject({ notes: ["tea"] });
  });

  test("chat", async () => {
    const input = { messages: [{ role: "user", content: "hi" }] };
    expect(lastText(await run("chat", input))).toBe("You said: hi");
    expect(lastText(await run("chat", input, { configurable: { thread_id: "t", tokens: 2 } }))).toBe("word0 word1");
  });

  test("agent", async () => {
    expect(lastText(await run("agent", { messages: [{ role: "user", content: "hi" }] }))).toBe("Results: 5, HI");
  });

  test("hitl and hitl2", async () => {
    const one = await load("hitl");
    expect(await one.invoke({} as never, thread)).toHaveProperty("__interrupt__.length", 1);
    expect(await one.invoke(new Command({ resume: "yes" }) as never, thread)).toMatchObject({
      answers: { person: "yes" },
    });
    const two = await load("hitl2");
    const asked = (await two.invoke({} as never, thread)) as { __interrupt__: { id: string }[] };
    const resume = Object.fromEntries(asked.__interrupt__.map(({ id }) => [id, "ok"]));
    expect(await two.invoke(new Command({ resume }) as never, thread)).toMatchObject({ done: "left+right" });
  });

  test("nested", async () => {
    expect(await custom("nested", {})).toEqual([{ from: "deep" }]);
    const graph = await load("nested");
    await graph.invoke({ ask: true } as never, thread);
    expect(await graph.invoke(new Command({ resume: "yes" }) as never, thread)).toMatchObject({
      trail: ["outer", "before", "deep", "answer: yes", "last"],
    });
  });

  test("error and recursion", async () => {
    await expect(run("error", {})).rejects.toMatchObject({ name: "TypeError", message: "kaboom" });
    await expect(run("recursion", {}, { ...thread, recursionLimit: 5 })).rejects.toThrow(/[Rr]ecursion limit of 5/);
  });

  test("slow", async () => {
    const log = join(dir, "slow");
    expect(await run("slow", { delay_ms: 5 })).toMatchObject({ steps: [1, 2, 3] });
    await expect(
      run("slow", { delay_ms: 60_000, log }, { ...thread, signal: AbortSignal.timeout(50) }),
    ).rejects.toThrow();
    expect(readFileSync(log, "utf8")).toBe("start 1\naborted 1\n");
  });

  test("route", async () => {
    const { results } = await run("route", { items: ["a", "b"], extra: true });
    expect(results).toEqual(["worked on a", "worked on b", "gathered", "extra"]);
  });

  test("functional", async () => {
    expect(await run("functional", "any JSON")).toBe("any JSON");
    expect(await run("functional", [1, null])).toEqual([1, null]);
  });

  test("counter", async () => {
    const file = join(dir, "counter");
    expect(await run("counter", { steps: 4, file })).toMatchObject({ count: 4 });
    expect(readFileSync(file, "utf8")).toBe("1\n2\n3\n4\n");
  });

  test("block", async () => {
    const started = performance.now();
    expect(await run("block", { ms: 50 })).toMatchObject({ survived: true });
    expect(performance.now() - started).toBeGreaterThan(45);
  });
});
