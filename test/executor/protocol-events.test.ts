/** Chunks of a graph → events of streaming v2: which, where, in what order. Blocks of messages: `block-writer.test.ts`. */
import { AIMessage, AIMessageChunk, HumanMessage, ToolMessage } from "@langchain/core/messages";
import { describe, expect, it } from "vitest";
import type { WireEvent } from "../../src/executor/protocol.ts";
import {
  createProtocolSink,
  type ProtocolSink,
  type ProtocolSinkOptions,
  type SinkEnd,
} from "../../src/executor/protocol-events.ts";
import { dataOf, parseProtocolName } from "../../src/schemas/protocol-events.ts";

type Chunk = readonly [namespace: readonly string[], mode: string, payload: unknown];
interface Line {
  readonly at: string;
  readonly method: string;
  readonly channel: string;
  readonly node: string | undefined;
  readonly timestamp: number;
  readonly data: Record<string, unknown>;
}

function read({ event, data }: WireEvent): Line {
  const { method, channel, namespace } = parseProtocolName(event);
  const params = JSON.parse(data) as { namespace: string[]; timestamp: number; node?: string; data: Line["data"] };
  expect(params.namespace).toEqual(namespace);
  expect(JSON.parse(dataOf(data))).toEqual(params.data);
  return {
    at: namespace.join("|"),
    method,
    channel,
    node: params.node,
    timestamp: params.timestamp,
    data: params.data,
  };
}

function through(
  drive: (sink: ProtocolSink) => void,
  options: Pick<ProtocolSinkOptions, "messages" | "checkpoints"> = { messages: "v3" },
): Line[] {
  const lines: Line[] = [];
  let clock = 0;
  const sink = createProtocolSink({ emit: (event) => lines.push(read(event)), now: () => ++clock, ...options });
  drive(sink);
  return lines;
}

const chunks = (given: readonly Chunk[], options?: Pick<ProtocolSinkOptions, "messages" | "checkpoints">): Line[] =>
  through((sink) => {
    for (const [namespace, mode, payload] of given) sink.chunk(namespace, mode, payload);
  }, options);

/** `method@namespace`, of lifecycle with its word. */
const order = (lines: readonly Line[]): string[] =>
  lines.map(({ method, at, data }) => `${method === "lifecycle" ? (data.event as string) : method}@${at}`);

const task = (id: string, name: string, fields: object = {}) => ({
  id,
  name,
  input: {},
  triggers: [`branch:to:${name}`],
  interrupts: [],
  ...fields,
});
const result = (id: string, name: string, fields: object = {}) => ({
  id,
  name,
  result: {},
  interrupts: [],
  error: null,
  ...fields,
});
const ENVELOPE = { id: "c", step: 0, source: "loop" };
const CHILD = ["mid:1"];
const GRANDCHILD = ["mid:1", "in:2"];

describe("graphs", () => {
  it("a graph starts before what it says, with the name of its agent, and ends behind its task", () => {
    const lines = chunks([
      [[], "tasks", task("1", "mid")],
      [CHILD, "checkpoints", ENVELOPE],
      [CHILD, "values", { x: 1 }],
      [CHILD, "tasks", task("9", "leaf", { metadata: { lc_agent_name: "helper" } })],
      [CHILD, "updates", { leaf: { x: 2 } }],
      [CHILD, "tasks", result("9", "leaf")],
      [[], "updates", { mid: { x: 2 } }],
      [[], "tasks", result("1", "mid")],
    ]);
    expect(order(lines)).toEqual([
      "tasks@",
      "started@mid:1",
      "checkpoints@mid:1",
      "values@mid:1",
      "tasks@mid:1",
      "updates@mid:1",
      "tasks@mid:1",
      "updates@",
      "tasks@",
      "completed@mid:1",
    ]);
    expect(lines[1]?.data).toEqual({ event: "started", graph_name: "helper" });
    expect(lines.at(-1)?.data).toEqual({ event: "completed", graph_name: "helper" });
    expect(lines.map(({ timestamp }) => timestamp)).toEqual(
      lines.map(({ timestamp }) => timestamp).sort((a, b) => a - b),
    );
  });

  it("nodes that are no graphs have no lifecycle", () => {
    const lines = chunks([
      [[], "tasks", task("1", "node")],
      [["node:1"], "custom", { progress: 1 }],
      [
        ["node:1"],
        "messages",
        [
          { event: "message-start", id: "m" },
          { run_id: "r", langgraph_node: "node" },
        ],
      ],
      [[], "tasks", result("1", "node")],
    ]);
    expect(lines.some(({ method }) => method === "lifecycle")).toBe(false);
  });

  it.each<[string, readonly Chunk[], string[]]>([
    ["after three of its events", [1, 2, 3].map((x): Chunk => [CHILD, "values", { x }]), ["mid"]],
    [
      "at an event of its parent",
      [
        [CHILD, "values", {}],
        [[], "updates", { other: {} }],
      ],
      ["mid"],
    ],
    [
      "before a graph below it",
      [
        [CHILD, "values", {}],
        [GRANDCHILD, "tasks", task("3", "x")],
      ],
      ["mid", "in"],
    ],
    [
      "at something else that happens in it",
      [
        [CHILD, "values", {}],
        [CHILD, "custom", 1],
      ],
      ["mid"],
    ],
  ])("a graph without a task starts %s", (_, given, names) => {
    const lines = chunks(given);
    const started = lines.filter(({ data }) => data.event === "started");
    expect(started.map(({ data }) => data.graph_name)).toEqual(names);
    expect(lines[0]?.data.event).toBe("started");
  });

  it("siblings do not wake each other", () => {
    const other = ["mid:7"];
    const lines = chunks([
      [CHILD, "values", {}],
      [other, "values", {}],
      [CHILD, "tasks", task("9", "leaf", { metadata: { lc_agent_name: "a" } })],
      [other, "tasks", task("8", "leaf", { metadata: { lc_agent_name: "b" } })],
    ]);
    const names = lines.filter(({ data }) => data.event === "started").map(({ at, data }) => [at, data.graph_name]);
    expect(names).toEqual([
      ["mid:1", "a"],
      ["mid:7", "b"],
    ]);
  });

  it.each([
    [{}, { event: "completed" }],
    [{ interrupts: [{ id: "i", value: 1 }] }, { event: "interrupted" }],
    [{ error: new TypeError("no") }, { event: "failed", error: "no" }],
    [{ error: "text" }, { event: "failed", error: "text" }],
  ])("a task that left %j: graphs below it end, deepest first", (left, expected) => {
    const lines = chunks([
      [CHILD, "tasks", task("2", "in")],
      [GRANDCHILD, "tasks", task("3", "x")],
      [["mid:10"], "tasks", task("4", "y")],
      [[], "tasks", result("1", "mid", left)],
    ]);
    const ends = lines.slice(-2);
    expect(ends.map(({ at, data }) => [at, data])).toEqual([
      ["mid:1|in:2", { ...expected, graph_name: "in" }],
      ["mid:1", { ...expected, graph_name: "mid" }],
    ]);
  });

  it.each(["completed", "interrupted", { failed: "no" }] as const)("the run ends %j: so does what is open", (how) => {
    const lines = through((sink) => {
      sink.chunk(CHILD, "tasks", task("2", "in"));
      sink.chunk(GRANDCHILD, "values", {});
      sink.end(how);
    });
    const event = typeof how === "string" ? how : "failed";
    expect(order(lines).slice(-3)).toEqual([`values@mid:1|in:2`, `${event}@mid:1|in:2`, `${event}@mid:1`]);
  });
});

describe("what started a graph", () => {
  const started = (given: readonly Chunk[]): unknown =>
    chunks([...given, [CHILD, "tasks", task("9", "leaf")]]).find(({ data }) => data.event === "started")?.data.cause;
  const tool = (id: string): Chunk => [CHILD, "tools", { event: "on_tool_start", toolCallId: id, name: "task" }];
  const step = (...names: string[]): Chunk[] => [
    ...names.map((name, i): Chunk => [[], "tasks", task(`s${i}`, name)]),
    ...names.map((name, i): Chunk => [[], "tasks", result(`s${i}`, name)]),
    [[], "values", {}],
  ];

  it.each<[string, readonly Chunk[], unknown]>([
    ["nothing known", [], undefined],
    ["the one open tool call", [tool("c1")], { type: "toolCall", tool_call_id: "c1" }],
    ["two open tool calls", [tool("c1"), tool("c2")], undefined],
    [
      "the call its task was given",
      [[[], "tasks", task("1", "mid", { input: { lg_tool_call: { id: "c" } } })]],
      { type: "toolCall", tool_call_id: "c" },
    ],
    [
      "the only call in the task's list",
      [[[], "tasks", task("1", "mid", { input: [{ id: "c" }] })]],
      { type: "toolCall", tool_call_id: "c" },
    ],
    ["the first step", [[[], "tasks", task("1", "mid")]], undefined],
    ["an edge", [...step("a"), [[], "tasks", task("1", "mid")]], { type: "edge", from_node: "a" }],
    ["one of two edges", [...step("a", "b"), [[], "tasks", task("1", "mid")]], undefined],
    [
      "a send",
      [...step("a"), [[], "tasks", task("1", "mid", { triggers: ["__pregel_push"] })]],
      { type: "send", from_node: "a" },
    ],
  ])("%s", (_, given, cause) => {
    expect(started(given)).toEqual(cause);
  });

  it("what a transformer says wins", () => {
    const lines = through((sink) => {
      const cause = { type: "toolCall", tool_call_id: "theirs" };
      sink.muxEvent({ method: "lifecycle", params: { namespace: CHILD, data: { event: "started", cause } } });
      sink.chunk(...tool("c1"));
      sink.chunk(CHILD, "tasks", task("9", "leaf"));
    });
    expect(lines.find(({ data }) => data.event === "started")?.data.cause).toMatchObject({ tool_call_id: "theirs" });
  });
});

describe("interrupts", () => {
  it("are requested once, where they are, and are no values or updates", () => {
    const interrupts = [{ id: "i", value: { q: 1 } }];
    const lines = chunks([
      [CHILD, "tasks", task("2", "ask")],
      [CHILD, "updates", { __interrupt__: interrupts }],
      [CHILD, "values", { __interrupt__: interrupts }],
      [[], "updates", { __interrupt__: interrupts }],
      [[], "values", { __interrupt__: interrupts }],
      [[], "values", { __interrupt__: [] }],
    ]);
    expect(order(lines)).toEqual(["started@mid:1", "tasks@mid:1", "input.requested@mid:1"]);
    expect(lines.at(-1)?.data).toEqual({ interrupt_id: "i", payload: { q: 1 }, value: { q: 1 } });
    expect(lines.at(-1)?.channel).toBe("input");
  });
});

describe("messages", () => {
  const core = (event: object, run_id = "r"): unknown => [event, { run_id, langgraph_node: "agent" }];

  it("are shown in the graph of their node, with the node", () => {
    const lines = chunks([
      [CHILD, "tasks", task("2", "agent")],
      [["mid:1", "agent:2"], "messages", core({ event: "message-start", id: "m" })],
      [["mid:1", "agent:2"], "messages", core({ event: "message-finish" })],
      [["top:3"], "messages", core({ event: "message-start", id: "t" }, "r2")],
    ]);
    expect(lines.filter(({ method }) => method === "messages").map(({ at, node }) => [at, node])).toEqual([
      ["mid:1", "agent"],
      ["mid:1", "agent"],
      ["", "agent"],
    ]);
    expect(lines[2]?.data).toMatchObject({ id: "m", run_id: "r", role: "ai" });
  });

  it("that a failed task leaves open fail before its result", () => {
    const lines = chunks([
      [[], "tasks", task("1", "agent")],
      [["agent:1"], "messages", core({ event: "message-start", id: "m" })],
      [[], "tasks", result("1", "agent", { error: new Error("model exploded") })],
    ]);
    expect(lines.map(({ data }) => data.event ?? data.name)).toEqual(["agent", "message-start", "error", "agent"]);
    expect(lines[2]?.data).toMatchObject({ message: "model exploded", id: "m" });
  });

  it("a second answer of the same model run ends the first", () => {
    const lines = chunks([
      [["agent:1"], "messages", core({ event: "message-start", id: "m" })],
      [["agent:1"], "messages", core({ event: "message-start", id: "n" })],
      [["agent:1"], "messages", core({ event: "message-finish" })],
    ]);
    expect(lines.map(({ data }) => [data.event, data.id])).toEqual([
      ["message-start", "m"],
      ["error", "m"],
      ["message-start", "n"],
      ["message-finish", "n"],
    ]);
  });

  it("of v1 finish before the update of their node, once", () => {
    const meta = { langgraph_node: "agent", langgraph_checkpoint_ns: "agent:1" };
    const lines = chunks(
      [
        [[], "tasks", task("1", "agent")],
        [[], "messages", [new AIMessageChunk({ id: "run-7", content: "Hi" }), meta]],
        [[], "updates", { agent: {} }],
        [[], "messages", [new AIMessage({ id: "run-7", content: "Hi" }), meta]],
        [[], "messages", [new ToolMessage({ id: "t", content: "x", tool_call_id: "c" }), meta]],
        [[], "messages", [new HumanMessage({ id: "h", content: "x" }), meta]],
        [[], "tasks", result("1", "agent")],
      ],
      { messages: "v1" },
    );
    const messages = lines.filter(({ method }) => method === "messages");
    expect(lines.findIndex(({ method }) => method === "updates")).toBe(6);
    expect(messages.map(({ data }) => data.id)).toEqual(["run-7", "h"].flatMap((id) => Array<string>(5).fill(id)));
    expect(messages[0]?.data).toMatchObject({ event: "message-start", run_id: "7", role: "ai" });
    expect(new Set(messages.map(({ data }) => data.id))).toEqual(new Set(["run-7", "h"]));
    expect(messages.filter(({ data }) => data.event === "message-finish")).toHaveLength(2);
  });

  it("of v1, of two tasks of one node, finish with their own task", () => {
    const meta = (id: string) => ({ langgraph_node: "agent", langgraph_checkpoint_ns: `agent:${id}` });
    const lines = chunks(
      [
        [[], "tasks", task("1", "agent")],
        [[], "tasks", task("2", "agent")],
        [[], "messages", [new AIMessageChunk({ id: "a", content: "A" }), meta("1")]],
        [[], "messages", [new AIMessageChunk({ id: "b", content: "B" }), meta("2")]],
        [[], "updates", { agent: {} }],
        [[], "tasks", result("1", "agent")],
        [[], "messages", [new AIMessageChunk({ id: "b", content: "B" }), meta("2")]],
        [[], "updates", { agent: {} }],
        [[], "tasks", result("2", "agent")],
      ],
      { messages: "v1" },
    );
    const finishes = lines.filter(({ data }) => data.event === "content-block-finish");
    expect(finishes.map(({ data }) => (data.content as { text: string }).text)).toEqual(["A", "BB"]);
  });
});

describe("tools", () => {
  it("are shown in the graph of their node; a subagent's where the subagent is", () => {
    const lines = chunks([
      [["tools:1"], "tools", { event: "on_tool_start", toolCallId: "c", name: "search", input: "{}" }],
      [["tools:1"], "tools", { event: "on_tool_event", toolCallId: "c", name: "search", data: { n: 1 } }],
      [["tools:1"], "tools", { event: "on_tool_end", toolCallId: "c", name: "search", output: 1 }],
      [["tools:2"], "tools", { event: "on_tool_start", toolCallId: "d", name: "task", input: "{}" }],
      [["tools:2"], "tasks", task("9", "leaf")],
      [["tools:2"], "tools", { event: "on_tool_error", toolCallId: "d", name: "task", error: new Error("no") }],
    ]);
    expect(lines.filter(({ method }) => method === "tools").map(({ at, data }) => [at, data])).toEqual([
      ["", { event: "tool-started", tool_call_id: "c", tool_name: "search", input: "{}" }],
      ["", { event: "tool-output-delta", tool_call_id: "c", delta: '{"n":1}' }],
      ["", { event: "tool-finished", tool_call_id: "c", output: 1 }],
      ["tools:2", { event: "tool-started", tool_call_id: "d", tool_name: "task", input: "{}" }],
      ["tools:2", { event: "tool-error", tool_call_id: "d", message: "no" }],
    ]);
  });

  it.each<[SinkEnd, string[]]>([
    ["cancelled", ["tool-started", "tool-started", "tool-finished", "tool-error d", "interrupted"]],
    [{ failed: "why" }, ["tool-started", "tool-started", "tool-finished", "tool-error d", "failed"]],
    // With the answer it is called again.
    ["interrupted", ["tool-started", "tool-started", "tool-finished", "interrupted"]],
  ])("that are under way when the run ends: %j", (how, told) => {
    const lines = through((sink) => {
      sink.chunk(["sub:1"], "tasks", task("2", "tools"));
      for (const id of ["c", "d"]) {
        sink.chunk(["sub:1", "tools:2"], "tools", { event: "on_tool_start", toolCallId: id, name: "search" });
      }
      sink.chunk(["sub:1", "tools:2"], "tools", { event: "on_tool_end", toolCallId: "c", name: "search", output: 1 });
      sink.end(how);
    }).filter(({ method, data }) => method === "tools" || (method === "lifecycle" && data.event !== "started"));
    expect(new Set(lines.map(({ at }) => at))).toEqual(new Set(["sub:1"]));
    const words = lines.map(({ data }) =>
      data.event === "tool-error" ? `tool-error ${data.tool_call_id}` : data.event,
    );
    expect(words).toEqual(told);
  });

  it("of v1, whose namespaces are those of graphs, find the subagent by its task", () => {
    const lines = chunks(
      [
        [[], "tasks", task("1", "tools", { input: { lg_tool_call: { id: "c" } } })],
        [[], "tools", { event: "on_tool_start", toolCallId: "c", name: "task", input: "{}" }],
        [[], "tools", { event: "on_tool_start", toolCallId: "d", name: "search", input: "{}" }],
      ],
      { messages: "v1" },
    );
    expect(lines.filter(({ method }) => method === "tools").map(({ at }) => at)).toEqual(["tools:1", ""]);
  });
});

describe("custom", () => {
  it.each([
    [{ name: "a2a", payload: { step: 1 } }, "custom:a2a", { name: "a2a", payload: { step: 1 } }],
    ["text", "custom", { payload: "text" }],
    [{ progress: 1 }, "custom", { payload: { progress: 1 } }],
    [{ name: "Ann", age: 3 }, "custom", { payload: { name: "Ann", age: 3 } }],
  ])("%j is one of %s, from chunks and from transformers", (payload, channel, data) => {
    const converted = typeof payload === "object" && "name" in payload ? payload : { payload };
    const lines = through((sink) => {
      sink.chunk([], "custom", payload);
      sink.muxEvent({ method: "custom", params: { namespace: [], data: converted } });
    });
    expect(lines).toMatchObject([
      { method: "custom", channel, data },
      { method: "custom", channel, data },
    ]);
  });

  it("a channel of a transformer is a named custom event", () => {
    const lines = through((sink) => {
      sink.muxEvent({ method: "custom:files", params: { namespace: CHILD, data: [1] } });
      sink.muxEvent({ method: "anything", params: { namespace: [], data: 1 } });
    });
    expect(lines).toMatchObject([{ at: "mid:1", channel: "custom:files", data: { name: "files", payload: [1] } }]);
  });
});

describe("checkpoints", () => {
  const frame = (id: string, parent: string | undefined, step: number) => ({
    config: { configurable: { checkpoint_id: id } },
    ...(parent === undefined ? {} : { parentConfig: { configurable: { checkpoint_id: parent } } }),
    values: {},
    metadata: { source: "loop", step },
  });

  it("of versions without envelopes are told by the frame behind the values", () => {
    const lines = chunks(
      [
        [[], "checkpoints", frame("in", undefined, -1)],
        [[], "values", { x: 0 }],
        [[], "checkpoints", frame("a", "in", 0)],
        [[], "values", { x: 1 }],
        [[], "tasks", task("1", "n")],
      ],
      { messages: "v1", checkpoints: "frames" },
    );
    expect(order(lines)).toEqual(["checkpoints@", "values@", "values@", "tasks@"]);
    expect(lines[0]?.data).toEqual({ id: "a", parent_id: "in", step: 0, source: "loop" });
    expect(lines[2]?.data).toEqual({ x: 1 });
  });

  it("that never come do not keep the last values back", () => {
    const lines = through(
      (sink) => {
        sink.chunk([], "values", { x: 1 });
        sink.end("completed");
      },
      { messages: "v1", checkpoints: "frames" },
    );
    expect(order(lines)).toEqual(["values@"]);
  });
});
