/** Each stream mode: the names on the wire and the shapes of the payloads, as clients know them. */
import { describe, expect, test } from "vitest";
import type { Frame } from "../support/sse.ts";
import { type Any, ids, json, names, numbers, ofEvent, payloads, useServer } from "./support.ts";

const api = useServer();

const plain = (stream_mode: unknown): Promise<Frame[]> =>
  api.stream({ assistant_id: "plain", input: { value: 1 }, stream_mode });
const hello = { messages: [{ role: "user", content: "hi you" }] };
const uuid = expect.stringMatching(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
const keys = (value: object): string[] => Object.keys(value).sort();

/** Metadata of a run that reaches its nodes, its messages and its events. */
const RUN_METADATA = {
  graph_id: expect.any(String),
  assistant_id: uuid,
  created_by: "system",
  run_attempt: 1,
  run_id: uuid,
  langgraph_version: expect.any(String),
  langgraph_request_id: uuid,
};

describe("on a graph of two nodes", () => {
  test("default is values", async () => {
    const frames = await api.stream({ assistant_id: "plain", input: { value: 1 } });
    expect(frames.slice(1).map((frame) => [frame.event, json(frame)])).toEqual([
      ["values", { value: 1, steps: [] }],
      ["values", { value: 2, steps: ["first"] }],
      ["values", { value: 4, steps: ["first", "second"] }],
    ]);
    expect((await plain([])).slice(1).map(json)).toEqual(frames.slice(1).map(json));
  });

  test.each([
    ["string", "updates"],
    ["list", ["updates"]],
  ])("updates, as a %s", async (_, mode) => {
    const [, ...frames] = await plain(mode);
    expect(names(frames)).toEqual(["updates", "updates"]);
    expect(frames.map(json)).toEqual([
      { first: { value: 2, steps: ["first"] } },
      { second: { value: 4, steps: ["second"] } },
    ]);
  });

  test("custom", async () => {
    const [, ...frames] = await plain("custom");
    expect(names(frames)).toEqual(["custom", "custom"]);
    expect(frames.map(json)).toEqual([{ progress: 1 }, { progress: 2 }]);
  });

  test("tasks", async () => {
    const [, ...frames] = await plain("tasks");
    expect(names(frames)).toEqual(["tasks", "tasks", "tasks", "tasks"]);
    const [started, ended] = frames.map(json);
    expect(started).toEqual({
      id: uuid,
      name: "first",
      input: { value: 1, steps: [] },
      triggers: ["branch:to:first"],
      interrupts: [],
      metadata: expect.objectContaining(RUN_METADATA),
    });
    const result = { value: 2, steps: ["first"] };
    expect(ended).toEqual({ id: started.id, name: "first", result, interrupts: [], error: null });
  });

  test("checkpoints", async () => {
    const [, ...frames] = await plain("checkpoints");
    expect(names(frames)).toEqual(Array.from({ length: 4 }, () => "checkpoints"));
    expect(frames.map(json)).toEqual([
      { values: { steps: [] }, metadata: { source: "input", step: -1, parents: {} }, next: ["__start__"] },
      { values: { value: 1, steps: [] }, metadata: { source: "loop", step: 0, parents: {} }, next: ["first"] },
      { values: { value: 2, steps: ["first"] }, metadata: { source: "loop", step: 1, parents: {} }, next: ["second"] },
      {
        values: { value: 4, steps: ["first", "second"] },
        metadata: { source: "loop", step: 2, parents: {} },
        next: [],
      },
    ]);
  });

  test("debug", async () => {
    const [metadata, ...frames] = await plain("debug");
    expect(new Set(names(frames))).toEqual(new Set(["debug"]));
    const all = frames.map(json);
    for (const frame of all) expect(keys(frame)).toEqual(["payload", "step", "timestamp", "type"]);
    const outline = all.map(({ step, type, payload }) => [step, type, payload.name]);
    expect(outline).toEqual([
      [-1, "checkpoint", undefined],
      [0, "checkpoint", undefined],
      [1, "task", "first"],
      [1, "task_result", "first"],
      [1, "checkpoint", undefined],
      [2, "task", "second"],
      [2, "task_result", "second"],
      [2, "checkpoint", undefined],
    ]);
    const { payload } = all[1];
    const shown = ["checkpoint", "config", "metadata", "next", "parent_checkpoint", "parent_config", "tasks", "values"];
    expect(keys(payload)).toEqual(shown);
    const { run_id } = json(metadata);
    expect(payload.config.configurable).toMatchObject({ run_id, checkpoint_id: expect.any(String), checkpoint_ns: "" });
    expect(JSON.stringify(all)).not.toMatch(/__pregel_(?!pull)|callbacks|"signal"/);
    const checkpoint = { thread_id: uuid, checkpoint_id: uuid, checkpoint_ns: "", checkpoint_map: null };
    expect(payload.checkpoint).toEqual(checkpoint);
    expect(payload.parent_checkpoint).toEqual(all[0].payload.checkpoint);
    expect(payload.tasks).toEqual([{ id: uuid, name: "first", path: ["__pregel_pull", "first"], interrupts: [] }]);
    expect(all[0].payload).toMatchObject({ parent_checkpoint: null });
  });

  test("events", async () => {
    const [metadata, ...frames] = await plain("events");
    expect(new Set(names(frames))).toEqual(new Set(["events"]));
    const all = frames.map(json);
    expect(all.map(({ event, name }) => [event, name])).toEqual([
      ["on_chain_start", "LangGraph"],
      ["on_chain_start", "first"],
      ["on_chain_end", "first"],
      ["on_chain_start", "second"],
      ["on_chain_end", "second"],
      ["on_chain_end", "LangGraph"],
    ]);
    const { run_id } = json(metadata);
    const [start, first, firstEnd] = all;
    const root = { event: "on_chain_start", data: { input: { value: 1 } }, name: "LangGraph", tags: [], run_id };
    expect(start).toEqual({ ...root, metadata: expect.objectContaining(RUN_METADATA) });
    const about = [...Object.keys(RUN_METADATA), "langgraph_host", "langgraph_plan", "ls_integration", "thread_id"];
    expect(keys(start.metadata)).toEqual(about.sort());
    expect(first).toMatchObject({ tags: ["graph:step:1"], metadata: { langgraph_node: "first", langgraph_step: 1 } });
    expect(firstEnd.data).toEqual({ output: { value: 2, steps: ["first"] }, input: { value: 1, steps: [] } });
    expect(all.at(-1)).toMatchObject({ run_id, data: { output: { value: 4, steps: ["first", "second"] } } });
  });

  test("messages and tools of a graph without either: nothing but metadata", async () => {
    expect(names(await plain(["messages", "messages-tuple", "tools"]))).toEqual(["metadata"]);
  });

  test("all at once: each mode gives what it gives alone, under one numbering", async () => {
    const modes = ["values", "updates", "custom", "tasks", "checkpoints", "debug", "events"];
    const together = await plain(modes);
    expect(ids(together)).toEqual(numbers(together.length));
    for (const mode of modes) {
      const alone = ofEvent(await plain(mode), mode);
      expect([mode, ofEvent(together, mode).length]).toEqual([mode, alone.length]);
    }
    expect(new Set(names(together))).toEqual(new Set(["metadata", ...modes]));
  });
});

describe("on a chat", () => {
  const chat = (stream_mode: unknown): Promise<Frame[]> =>
    api.stream({ assistant_id: "chat", input: hello, stream_mode, metadata: { who: "me" } });

  test("messages-tuple: pairs of a token and its metadata, under the name messages", async () => {
    const [, ...frames] = await chat("messages-tuple");
    expect(new Set(names(frames))).toEqual(new Set(["messages"]));
    const pairs = frames.map(json);
    expect(pairs.map(([message]) => message.content).join("")).toBe("You said: hi you");
    expect(pairs.length).toBeGreaterThan(3);
    const [message, metadata] = pairs[0];
    expect(message).toMatchObject({ type: "ai", id: pairs.at(-1)[0].id, content: "You", tool_call_chunks: [] });
    expect(message).not.toHaveProperty("lc");
    expect(metadata).toMatchObject({
      ...RUN_METADATA,
      who: "me",
      tags: [],
      langgraph_node: "answer",
      langgraph_step: 1,
      ls_model_type: "chat",
    });
  });

  test("messages: metadata once, then the message as it grows, then complete ones", async () => {
    const [, ...frames] = await chat("messages");
    const kinds = names(frames).filter((name, index, all) => name !== all[index - 1]);
    expect(kinds).toEqual(["messages/complete", "messages/metadata", "messages/partial", "messages/complete"]);
    const [asked, answered] = payloads(frames, "messages/complete");
    expect(asked).toEqual([expect.objectContaining({ type: "human", content: "hi you", id: expect.any(String) })]);
    expect(answered).toEqual([expect.objectContaining({ type: "ai", content: "You said: hi you" })]);
    const id = answered[0].id;
    const about = payloads(frames, "messages/metadata");
    expect(about).toEqual([
      { [id]: { metadata: expect.objectContaining({ ...RUN_METADATA, langgraph_node: "answer" }) } },
    ]);
    const partial = payloads(frames, "messages/partial");
    for (const list of partial) expect(list).toEqual([expect.objectContaining({ type: "ai", id })]);
    const texts = partial.map(([message]) => message.content);
    expect(texts.slice(0, 4)).toEqual(["You", "You said:", "You said: hi", "You said: hi you"]);
  });

  test("messages in values, updates and tasks are plain objects with a type", async () => {
    const frames = await chat(["values", "updates", "tasks", "checkpoints", "debug"]);
    const text = frames.map(({ data }) => data).join("\n");
    expect(text).not.toMatch(/"lc":\s*1|"lc_/);
    const { messages } = payloads(frames, "values").at(-1);
    expect(messages.map(({ type, content }: Any) => [type, content])).toEqual([
      ["human", "hi you"],
      ["ai", "You said: hi you"],
    ]);
  });

  test("events: the model's own, token by token", async () => {
    const all = payloads(await chat("events"), "events");
    const kinds = all.map(({ event }) => event);
    expect(kinds).toContain("on_chat_model_start");
    expect(kinds).toContain("on_chat_model_end");
    const tokens = all.filter(({ event }) => event === "on_chat_model_stream").map(({ data }) => data.chunk.content);
    expect(tokens.join("")).toBe("You said: hi you");
  });
});

test("tools: start and end of each call, by the call's id", async () => {
  const [, ...frames] = await api.stream({ assistant_id: "agent", input: hello, stream_mode: "tools" });
  expect(new Set(names(frames))).toEqual(new Set(["tools"]));
  const all = frames.map(json);
  const of = (name: string) => all.filter((event) => event.name === name);
  const [start, end, ...more] = of("add");
  expect(more).toEqual([]);
  expect(start).toEqual({
    event: "on_tool_start",
    toolCallId: expect.any(String),
    name: "add",
    input: '{"a":2,"b":3}',
  });
  expect(end).toEqual({
    event: "on_tool_end",
    toolCallId: start.toolCallId,
    name: "add",
    output: expect.objectContaining({ type: "tool", content: "5", tool_call_id: start.toolCallId, status: "success" }),
  });
  expect(of("shout").map(({ event }) => event)).toEqual(["on_tool_start", "on_tool_end"]);
});

test("an interrupt shows in values and updates", async () => {
  const frames = await api.stream({ assistant_id: "hitl", input: {}, stream_mode: ["values", "updates"] });
  const interrupt = { __interrupt__: [{ id: expect.any(String), value: { ask: "person", question: "Go on?" } }] };
  expect(json(ofEvent(frames, "values").at(-1))).toEqual(interrupt);
  expect(json(ofEvent(frames, "updates").at(-1))).toEqual(interrupt);
});

describe("stream_subgraphs", () => {
  const nested = (stream_mode: unknown, stream_subgraphs: boolean, input = {}): Promise<Frame[]> =>
    api.stream({ assistant_id: "nested", input, stream_mode, stream_subgraphs });
  const id = "[0-9a-f-]{36}";
  const MIDDLE = new RegExp(`^(\\w+)\\|middle:${id}$`);
  const INNER = new RegExp(`^(\\w+)\\|middle:${id}\\|inner:${id}$`);
  const modesOf = (frames: readonly Frame[], pattern: RegExp): Set<string | undefined> =>
    new Set(names(frames).flatMap((name) => pattern.exec(name ?? "")?.[1] ?? []));

  test.each(["values", "updates", "tasks", "debug"])("%s says where it comes from, at each depth", async (mode) => {
    const [, ...frames] = await nested(mode, true);
    for (const pattern of [/^(\w+)$/, MIDDLE, INNER]) expect(modesOf(frames, pattern)).toContain(mode);
    for (const name of names(frames)) expect(name).toMatch(/^\w+(\|(middle|inner):[0-9a-f-]{36})*$/);
  });

  test("checkpoints at each depth, in their full form when asked for", async () => {
    const frames = await nested(["checkpoints", "values"], true);
    for (const pattern of [/^(\w+)$/, MIDDLE, INNER]) expect(modesOf(frames, pattern)).toContain("checkpoints");
    const checkpoints = frames.filter(({ event }) => event?.startsWith("checkpoints"));
    for (const frame of checkpoints) expect(keys(json(frame))).toEqual(["metadata", "next", "values"]);
  });

  test("custom of an inner node carries its namespace, and is missing without subgraphs", async () => {
    const [, ...frames] = await nested("custom", true);
    expect(frames.map((frame) => [frame.event?.replace(/:[0-9a-f-]{36}/g, ""), json(frame)])).toEqual([
      ["custom|middle|inner", { from: "deep" }],
    ]);
  });

  test("values are announced by a light checkpoints frame of the same namespace, directly before", async () => {
    const [, ...frames] = await nested("values", true);
    const values = frames.flatMap(({ event }, index) => (event?.startsWith("values") ? [index] : []));
    expect(values.length).toBeGreaterThan(4);
    for (const index of values) {
      const [before, frame] = [frames[index - 1], frames[index]];
      expect(before?.event).toBe(frame?.event?.replace("values", "checkpoints"));
      expect(keys(json(before))).toEqual(["id", "parent_id", "source", "step"]);
    }
  });

  test("without it only the root speaks", async () => {
    const frames = await nested(["values", "updates", "tasks", "debug", "checkpoints"], false);
    expect(names(frames).filter((name) => name?.includes("|"))).toEqual([]);
    expect(payloads(frames, "updates").map((update) => Object.keys(update)[0])).toEqual(["outer", "middle", "last"]);
  });

  test.each([
    ["messages-tuple", "messages"],
    ["messages", "messages/partial"],
  ])("%s of a root node have no namespace", async (mode, name) => {
    const body = { assistant_id: "chat", input: hello, stream_mode: mode, stream_subgraphs: true };
    const frames = await api.stream(body);
    expect(names(frames)).toContain(name);
    expect(names(frames).filter((event) => event?.includes("|"))).toEqual([]);
  });

  test("messages and tools of an agent two levels down carry the agent's namespace", async () => {
    const stream_mode = ["messages-tuple", "messages", "tools"];
    const frames = await api.stream({ assistant_id: "team", input: hello, stream_mode, stream_subgraphs: true });
    const kinds = new Set(names(frames).map((name) => name?.replace(/:[0-9a-f-]{36}/g, "")));
    const modes = ["messages", "messages/metadata", "messages/partial", "messages/complete", "tools"];
    for (const mode of modes) expect(kinds).toContain(`${mode}|desk|agent`);
    const tools = frames.filter(({ event }) => event?.startsWith("tools|")).map(json);
    expect(tools.map(({ event }) => event)).toEqual(["on_tool_start", "on_tool_start", "on_tool_end", "on_tool_end"]);
    const tokens = frames.filter(({ event }) => event?.startsWith("messages|")).map(json);
    expect(tokens.map(([message]) => message.content).join("")).toContain("Let me see.");
  });

  test("events and tools keep working with it", async () => {
    const body = { assistant_id: "agent", input: hello, stream_mode: ["tools", "events"], stream_subgraphs: true };
    const frames = await api.stream(body);
    expect(payloads(frames, "tools")).toHaveLength(4);
    expect(payloads(frames, "events").at(-1)).toMatchObject({ event: "on_chain_end", name: "LangGraph" });
  });

  test("an interrupt of an inner node reaches the root", async () => {
    const frames = await nested(["values"], true, { ask: true });
    const waiting = [{ id: expect.any(String), value: "Deep down: go on?" }];
    expect(json(frames.at(-1))).toEqual({ __interrupt__: waiting });
    expect(frames.at(-1)?.event).toBe("values");
  });
});
