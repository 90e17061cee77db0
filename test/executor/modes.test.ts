/** What each stream mode sends, against captures of the official dev server. */
import { beforeAll, describe, expect, it } from "vitest";
import { type Harness, harness, job, type Ran, spec } from "./support.ts";

const GRAPHS = ["plain", "sub", "hitl", "hitl2", "hitlsub", "err", "chat", "toolAgent", "output"];
const HELLO = { messages: [{ role: "user", content: "hi" }] };
let h: Harness;

beforeAll(async () => {
  h = harness(GRAPHS.map((id) => spec(id)));
  await h.loaded;
});

const withoutIds = (name: string): string => name.replaceAll(/:[0-9a-f-]{36}/g, ":ID");
const texts = (ran: Ran): string[] => ran.events.map(({ event, data }) => `${event} ${data}`);

describe("stream modes", () => {
  it("sends metadata first, then values", async () => {
    const run = job("plain");
    const ran = await h.run("plain", { ...run, kwargs: {} });
    expect(texts(ran)).toEqual([
      `metadata {"run_id":"${run.run_id}","attempt":1}`,
      `values {"foo":"x","log":[]}`,
      `values {"foo":"x","log":["one"]}`,
      `values {"foo":"done","log":["one","two"]}`,
    ]);
    expect(ran.outcome).toMatchObject({ kind: "success", output: `{"foo":"done","log":["one","two"]}` });
  });

  it("sends updates and custom", async () => {
    const ran = await h.run("plain", { kwargs: { stream_mode: ["updates", "custom"] } });
    expect(texts(ran).slice(1)).toEqual([
      `custom {"progress":1}`,
      `updates {"one":{"log":["one"]}}`,
      `updates {"two":{"foo":"done","log":["two"]}}`,
    ]);
  });

  it("sends tasks with public metadata and errors by message and name", async () => {
    const ran = await h.run("err", { kwargs: { stream_mode: ["tasks"] } });
    const [start] = ran.data("tasks") as { metadata: object }[];
    expect(Object.keys(start?.metadata ?? {})).toEqual([
      "ls_integration",
      "created_by",
      "graph_id",
      "assistant_id",
      "run_attempt",
      "langgraph_version",
      "langgraph_plan",
      "langgraph_host",
      "run_id",
    ]);
    expect(ran.data("tasks").at(-1)).toMatchObject({ result: {}, error: { message: "kaboom", name: "TypeError" } });
    expect(ran.outcome).toMatchObject({ kind: "error", error: { error: "TypeError", message: "kaboom" } });
  });

  it("sends checkpoints as values, metadata and next", async () => {
    const ran = await h.run("plain", { kwargs: { stream_mode: ["checkpoints"] } });
    expect(texts(ran).slice(1, 3)).toEqual([
      `checkpoints {"values":{"log":[]},"metadata":{"source":"input","step":-1,"parents":{}},"next":["__start__"]}`,
      `checkpoints {"values":{"foo":"x","log":[]},"metadata":{"source":"loop","step":0,"parents":{}},"next":["one"]}`,
    ]);
  });

  it("sends debug without internals, with snake_case parents", async () => {
    const ran = await h.run("plain", { kwargs: { stream_mode: ["debug"] } });
    const frames = ran.data("debug") as { type: string; payload: Record<string, object> }[];
    expect(frames.map(({ type }) => type)).toEqual([
      "checkpoint",
      "checkpoint",
      "task",
      "task_result",
      "checkpoint",
      "task",
      "task_result",
      "checkpoint",
    ]);
    expect(Object.keys(frames[1]?.payload ?? {})).toEqual([
      "config",
      "values",
      "metadata",
      "next",
      "tasks",
      "checkpoint",
      "parent_checkpoint",
      "parent_config",
    ]);
    expect(Object.keys(frames[0]?.payload["config"] ?? {})).toEqual([
      "configurable",
      "metadata",
      "recursion_limit",
      "tags",
    ]);
    expect(ran.events.map((e) => e.data).join("")).not.toMatch(/"__pregel_\w+":/);
  });

  it("sends LangChain events and takes the other modes from the same run", async () => {
    const ran = await h.run("plain", { kwargs: { stream_mode: ["events", "values"] } });
    expect((ran.data("events") as { event: string; name: string }[]).map((e) => `${e.event} ${e.name}`)).toEqual([
      "on_chain_start LangGraph",
      "on_chain_start one",
      "on_chain_end one",
      "on_chain_start two",
      "on_chain_end two",
      "on_chain_end LangGraph",
    ]);
    expect(ran.data("values")).toHaveLength(3);
    expect(ran.outcome.kind).toBe("success");
  });

  it("sends tools", async () => {
    const ran = await h.run("toolAgent", { kwargs: { input: HELLO, stream_mode: ["tools"] } });
    expect(texts(ran)[1]).toBe(
      `tools {"event":"on_tool_start","toolCallId":"call_1","name":"get_weather","input":"{\\"city\\":\\"Paris\\"}"}`,
    );
    expect(ran.data("tools")[1]).toMatchObject({
      event: "on_tool_end",
      output: { type: "tool", tool_call_id: "call_1" },
    });
  });

  it("sends messages-tuple as plain chunks with their metadata", async () => {
    const ran = await h.run("chat", { kwargs: { input: HELLO, stream_mode: ["messages-tuple"] } });
    const tuples = ran.data("messages") as [{ content: string; type: string }, Record<string, unknown>][];
    expect(tuples.map(([chunk]) => chunk.content).join("")).toBe("Hi there");
    expect(tuples.every(([chunk]) => chunk.type === "ai")).toBe(true);
    expect(tuples[0]?.[1]).toMatchObject({ langgraph_node: "agent", langgraph_step: 1, graph_id: "chat" });
    expect(Object.keys(tuples[0]?.[0] ?? {})).toEqual([
      "content",
      "tool_calls",
      "invalid_tool_calls",
      "tool_call_chunks",
      "additional_kwargs",
      "response_metadata",
      "id",
      "type",
    ]);
  });

  it("sends messages as metadata once, growing partials and completes", async () => {
    const ran = await h.run("toolAgent", { kwargs: { input: HELLO, stream_mode: ["messages"] } });
    expect(ran.names.slice(1)).toEqual([
      "messages/complete",
      "messages/metadata",
      "messages/partial",
      "messages/partial",
      "messages/partial",
      "messages/partial",
      "messages/complete",
      "messages/complete",
      "messages/metadata",
      "messages/partial",
      "messages/partial",
      "messages/complete",
    ]);
    const [last] = ran.data("messages/partial").at(3) as { tool_calls: unknown[] }[];
    expect(last?.tool_calls).toEqual([
      { name: "get_weather", args: { city: "Paris" }, id: "call_1", type: "tool_call" },
    ]);
    expect(Object.keys(ran.data("messages/metadata")[0] as object)).toEqual(["ai-1"]);
  });
});

describe("subgraphs", () => {
  it("names namespaces in the event and announces each values by its checkpoint", async () => {
    const ran = await h.run("sub", { kwargs: { stream_mode: ["values", "updates"], subgraphs: true } });
    expect(ran.names.map(withoutIds)).toEqual([
      "metadata",
      "checkpoints",
      "values",
      "checkpoints|middle:ID",
      "values|middle:ID",
      "checkpoints|middle:ID|inner:ID",
      "values|middle:ID|inner:ID",
      "updates|middle:ID|inner:ID",
      "checkpoints|middle:ID|inner:ID",
      "values|middle:ID|inner:ID",
      "updates|middle:ID",
      "checkpoints|middle:ID",
      "values|middle:ID",
      "updates",
      "checkpoints",
      "values",
      "updates",
      "checkpoints",
      "values",
    ]);
    expect(Object.keys(ran.data("checkpoints")[0] as object)).toEqual(["id", "parent_id", "step", "source"]);
    expect(ran.outcome).toMatchObject({ output: `{"foo":"done","log":["inner"]}` });
  });

  it("sends real checkpoints when they are asked for", async () => {
    const ran = await h.run("sub", { kwargs: { stream_mode: ["values", "checkpoints"], subgraphs: true } });
    expect((ran.data("checkpoints") as object[]).every((frame) => "values" in frame)).toBe(true);
  });

  it("keeps a root node's tokens at the root", async () => {
    const ran = await h.run("chat", { kwargs: { input: HELLO, stream_mode: ["messages-tuple"], subgraphs: true } });
    expect(new Set(ran.names)).toEqual(new Set(["metadata", "messages"]));
  });
});

describe("interrupts", () => {
  it("sends interrupts by updates and values, and all pending ones as output", async () => {
    const ran = await h.run("hitl2", { kwargs: { stream_mode: ["values"] } });
    expect(ran.data("values").slice(1)).toMatchObject([
      { __interrupt__: [{ value: { q: "a" } }] },
      { __interrupt__: [{ value: { q: "b" } }] },
    ]);
    expect(ran.outcome.kind).toBe("interrupted");
    if (ran.outcome.kind !== "interrupted") return;
    expect(JSON.parse(ran.outcome.output)).toMatchObject({
      foo: "x",
      __interrupt__: [{ value: { q: "a" } }, { value: { q: "b" } }],
    });
    expect(Object.values(JSON.parse(ran.outcome.snapshot.interrupts) as object)).toHaveLength(2);
  });

  it("stops at static breakpoints with an empty list", async () => {
    const ran = await h.run("plain", { kwargs: { stream_mode: ["values", "updates"], interrupt_before: ["two"] } });
    expect(texts(ran).slice(-2)).toEqual([`updates {"__interrupt__":[]}`, `values {"__interrupt__":[]}`]);
    expect(ran.outcome).toMatchObject({
      kind: "interrupted",
      output: `{"foo":"x","log":["one"],"__interrupt__":[]}`,
      snapshot: { interrupted: true },
    });
  });

  it.each([
    ["a value", { resume: "yes", goto: [] }, '"yes"'],
    ["false", { resume: false }, "false"],
    ["zero", { resume: 0 }, "0"],
    ["null", { resume: null }, "null"],
    ["null among Python's empty keys", { resume: null, graph: null, update: null, goto: [] }, "null"],
  ])("resumes with %s", async (_, command, answer) => {
    const { thread_id } = job("hitl");
    await h.run("hitl", { thread_id });
    const ran = await h.run("hitl", { thread_id, kwargs: { input: null, command } });
    expect(ran.outcome).toMatchObject({
      kind: "success",
      output: JSON.stringify({ foo: answer, log: ["ask", "finish"] }),
    });
  });

  it("resumes one of two by its id and keeps the other pending", async () => {
    const { thread_id } = job("hitl2");
    const first = await h.run("hitl2", { thread_id });
    if (first.outcome.kind !== "interrupted") throw new Error(first.outcome.kind);
    const { __interrupt__: ids } = JSON.parse(first.outcome.output) as { __interrupt__: { id: string }[] };
    const answer = (i: number, value: unknown) =>
      h.run("hitl2", { thread_id, kwargs: { input: null, command: { resume: { [ids[i]?.id ?? ""]: value } } } });
    const second = await answer(0, "A");
    expect(second.outcome.kind).toBe("interrupted");
    if (second.outcome.kind !== "interrupted") return;
    expect((JSON.parse(second.outcome.output) as { __interrupt__: object[] }).__interrupt__).toHaveLength(1);
    const third = await answer(1, "B");
    expect(third.outcome).toMatchObject({ kind: "success", output: `{"foo":"x","log":["a:\\"A\\"","b:\\"B\\""]}` });
  });

  it("resumes inside a subgraph", async () => {
    const { thread_id } = job("hitlsub");
    await h.run("hitlsub", { thread_id });
    const ran = await h.run("hitlsub", { thread_id, kwargs: { input: null, command: { resume: "ok" } } });
    expect(ran.outcome).toMatchObject({ kind: "success", output: `{"foo":"\\"ok\\"","log":["nested"]}` });
  });

  it("applies update and goto of a command, with Send", async () => {
    const ran = await h.run("plain", {
      kwargs: { input: null, command: { update: { foo: "u" }, goto: { node: "two", input: { foo: "s", log: [] } } } },
    });
    expect(ran.outcome).toMatchObject({ kind: "success", output: `{"foo":"done","log":["two"]}` });
  });
});

it("answers with the output schema, and shows all channels in the state", async () => {
  const ran = await h.run("output");
  expect(ran.outcome).toMatchObject({
    output: `{"foo":"out"}`,
    snapshot: { values: `{"foo":"out","log":["hidden"]}` },
  });
});
