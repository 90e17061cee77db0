/** Runs of streaming v2 with real graphs: the same events in the same order, whatever LangGraph streams. */
import { cp, mkdir, mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { HIGH_WATER } from "../../src/executor/flow.ts";
import { isProtocolEvent, parseProtocolName } from "../../src/schemas/protocol-events.ts";
import type { RunKwargs } from "../../src/schemas/runs.ts";
import { GRAPHS, type Harness, harness, type JobFields, job, type Ran, spec } from "./support.ts";

const BASIC = ["plain", "sub", "hitl", "hitlsub", "err", "slow", "chat"];
const OWN = [
  "reasons",
  "speaksThenCalls",
  "modelFails",
  "talksBelow",
  "named",
  "sends",
  "deepAgent",
  "agentFails",
  "channels",
  "channelsFail",
  "channelsAsk",
  "floods",
];
const HELLO = { messages: [{ role: "user", content: "hi" }] };
type Protocol = NonNullable<RunKwargs["protocol"]>;

let h: Harness;
/** The same graphs, by a LangGraph that has no protocol stream. */
let old: Harness;
let project: string;

beforeAll(async () => {
  project = await mkdtemp(join(tmpdir(), "skein-langgraph-"));
  const packages = join(project, "node_modules", "@langchain");
  await mkdir(packages, { recursive: true });
  const root = join(GRAPHS, "..", "..", "..", "node_modules");
  await symlink(join(root, "langgraph-1.2"), join(packages, "langgraph"));
  await symlink(join(root, "@langchain", "core"), join(packages, "core"));
  for (const file of ["basic.mjs", "models.mjs"]) await cp(join(GRAPHS, file), join(project, file));
  old = harness(BASIC.map((id) => ({ ...spec(id), file: join(project, "basic.mjs") })));
  h = harness([...BASIC.map((id) => spec(id)), ...OWN.map((id) => spec(id, "protocol.mjs"))]);
  await Promise.all([h.loaded, old.loaded]);
});
afterAll(() => rm(project, { recursive: true, force: true }));

const globals = globalThis as { __gate?: (() => Promise<void>) | undefined; __after?: (() => void) | undefined };
afterEach(() => {
  globals.__gate = undefined;
  globals.__after = undefined;
});

interface Line {
  readonly at: string;
  readonly method: string;
  readonly channel: string;
  readonly node: string | undefined;
  readonly data: Record<string, unknown>;
}

const run = (
  from: Harness,
  protocol: Protocol,
  graph_id: string,
  { kwargs, ...fields }: JobFields = {},
): Promise<Ran> => from.run(graph_id, { ...fields, kwargs: { protocol, ...kwargs } });

const withoutIds = (text: string): string => text.replaceAll(/:[0-9a-f-]{36}/g, "");

function linesOf({ events }: Pick<Ran, "events">): Line[] {
  return events
    .filter(({ event }) => isProtocolEvent(event))
    .map(({ event, data }) => {
      const { method, channel, namespace } = parseProtocolName(event);
      const params = JSON.parse(data) as { node?: string; data: Line["data"] };
      return { at: withoutIds(namespace.join("|")), method, channel, node: params.node, data: params.data };
    });
}

/** `checkpoints`, `started mid`, `tasks mid`; consecutive events of messages and tools by their own words. */
const order = (ran: Pick<Ran, "events">): string[] =>
  linesOf(ran).map(({ method, at, data }) => {
    const word = ["lifecycle", "messages", "tools"].includes(method) ? (data.event as string) : method;
    return at === "" ? word : `${word} ${at}`;
  });
const v1 = ({ events }: Ran): string[] =>
  events.filter(({ event }) => !isProtocolEvent(event)).map(({ event }) => event);

/** As the official server streams it. */
const SUB = [
  ["checkpoints", "values", "tasks"],
  ["started middle", "checkpoints middle", "values middle", "tasks middle"],
  ["started middle|inner", "checkpoints middle|inner", "values middle|inner", "tasks middle|inner"],
  ["updates middle|inner", "tasks middle|inner", "checkpoints middle|inner", "values middle|inner"],
  ["updates middle", "tasks middle", "completed middle|inner", "checkpoints middle", "values middle"],
  ["updates", "tasks", "completed middle", "checkpoints", "values"],
  ["tasks", "updates", "tasks", "checkpoints", "values"],
].flat();
const HITLSUB = [
  ["checkpoints", "values", "tasks"],
  ["started child", "checkpoints child", "values child", "tasks child", "input.requested child", "tasks child"],
  ["tasks", "interrupted child"],
].flat();

const SOURCES: readonly (readonly [string, () => Harness, Protocol])[] = [
  ["native", () => h, "native"],
  ["beside v1", () => h, "beside"],
  ["native, LangGraph without a protocol stream", () => old, "native"],
  ["beside v1, LangGraph without a protocol stream", () => old, "beside"],
];

describe.each(SOURCES)("%s", (_, from, protocol) => {
  it("subgraphs", async () => {
    const ran = await run(from(), protocol, "sub");
    expect(order(ran)).toEqual(SUB);
    expect(ran.outcome).toMatchObject({ kind: "success", output: '{"foo":"done","log":["inner"]}' });
    const envelopes = linesOf(ran).filter(({ method, at }) => method === "checkpoints" && at === "");
    expect(envelopes.map(({ data }) => data.step)).toEqual([0, 1, 2]);
    expect(envelopes[1]?.data).toMatchObject({ parent_id: envelopes[0]?.data.id, source: "loop" });
  });

  it("an interrupt below, and its answer", async () => {
    const { thread_id } = job("hitlsub");
    const first = await run(from(), protocol, "hitlsub", { thread_id });
    expect(first.outcome.kind).toBe("interrupted");
    expect(order(first)).toEqual(HITLSUB);
    const asked = linesOf(first).find(({ method }) => method === "input.requested")?.data;
    expect(asked).toMatchObject({ payload: { question: "Nested?" } });
    const answers = [asked?.interrupt_id as string];
    const kwargs = { command: { resume: { [answers[0] as string]: "yes" } }, answers };
    const second = await run(from(), protocol, "hitlsub", { thread_id, kwargs });
    expect(second.outcome.kind).toBe("success");
    expect(order(second).filter((line) => /started|completed|input/.test(line))).toEqual([
      "started child",
      "completed child",
    ]);
    // Answered already: only the values, and no node runs again.
    const third = await run(from(), protocol, "hitlsub", { thread_id, kwargs });
    expect(order(third)).toEqual(["values"]);
    expect(third.outcome.kind).toBe("success");
  });

  it("a node that fails", async () => {
    const ran = await run(from(), protocol, "err");
    expect(ran.outcome).toMatchObject({ kind: "error", error: { message: "kaboom" } });
    expect(order(ran).slice(0, 7)).toEqual([
      "checkpoints",
      "values",
      "tasks",
      "updates",
      "tasks",
      "checkpoints",
      "values",
    ]);
    expect(order(ran).some((line) => /failed|completed/.test(line))).toBe(false);
  });

  it("a model that streams", async () => {
    const ran = await run(from(), protocol, "chat", { kwargs: { input: HELLO } });
    const block = ["content-block-start", ...Array<string>(8).fill("content-block-delta"), "content-block-finish"];
    const message = ["message-start", ...block, "message-finish"];
    expect(order(ran)).toEqual([
      ...["checkpoints", "values", "tasks"],
      ...message,
      ...["updates", "tasks", "checkpoints", "values"],
    ]);
    const messages = linesOf(ran).filter(({ method }) => method === "messages");
    const [{ id, run_id } = {}] = messages.map(({ data }) => data);
    expect(id).toBe(`run-${run_id as string}`);
    for (const { data, node } of messages) expect({ ...data, node }).toMatchObject({ id, run_id, node: "agent" });
    expect(messages.at(-2)?.data.content).toMatchObject({ type: "text", text: "Hi there" });
  });
});

describe.each<Protocol>(["native", "beside"])("%s", (protocol) => {
  it("reasoning, text and a tool call are one block after the other", async () => {
    const ran = await run(h, protocol, "reasons", { kwargs: { input: HELLO } });
    const messages = linesOf(ran).filter(({ method }) => method === "messages");
    const blocks = messages.map(({ data }) => `${data.event as string} ${(data.index as number | undefined) ?? ""}`);
    const distinct = blocks.filter((block, i) => !block.startsWith("content-block-delta") && block !== blocks[i - 1]);
    expect(distinct.map((block) => block.replace("content-block-", "").trim())).toEqual([
      "message-start",
      ...[0, 1, 2].flatMap((index) => [`start ${index}`, `finish ${index}`]),
      "message-finish",
    ]);
    const finished = messages.flatMap(({ data }) => (data.event === "content-block-finish" ? [data.content] : []));
    expect(finished).toMatchObject([
      { type: "reasoning", reasoning: "Let me think" },
      { type: "text", text: "Answer" },
      { type: "tool_call", id: "c", name: "f", args: { a: 1 } },
    ]);
    expect(messages.at(-1)?.data).toMatchObject({ usage: { input_tokens: 3, output_tokens: 2, total_tokens: 5 } });
  });

  it("calls behind text that is a string stay calls, on the stream and in the state", async () => {
    const ran = await run(h, protocol, "speaksThenCalls", { kwargs: { input: HELLO } });
    const finished = linesOf(ran).flatMap(({ method, data }) =>
      method === "messages" && data.event === "content-block-finish" ? [data.content] : [],
    );
    const calls = [
      { type: "tool_call", id: "c", name: "f", args: { a: 1 } },
      { type: "tool_call", id: "d", name: "g", args: {} },
    ];
    expect(finished).toMatchObject([{ type: "text", text: "Let me see." }, ...calls]);
    const state = linesOf(ran).findLast(({ method }) => method === "values")?.data;
    expect(state).toMatchObject({ messages: [{}, { tool_calls: calls }] });
  });

  it("a model that fails: its message fails, nothing stays open", async () => {
    const ran = await run(h, protocol, "modelFails", { kwargs: { input: HELLO } });
    expect(ran.outcome).toMatchObject({ kind: "error", error: { message: "model exploded" } });
    const words = order(ran).filter((line) => /block-start|block-finish|message|error/.test(line));
    expect(words).toEqual(["message-start", "content-block-start", "content-block-finish", "error"]);
    expect(linesOf(ran).find(({ data }) => data.event === "error")?.data.message).toBe("model exploded");
  });

  it("custom events, named and not", async () => {
    const custom = linesOf(await run(h, protocol, "named")).filter(({ method }) => method === "custom");
    expect(custom).toMatchObject([
      { channel: "custom:a2a", at: "", data: { name: "a2a", payload: { step: 1 } } },
      { channel: "custom", at: "", data: { payload: "plain string" } },
    ]);
  });

  it("graphs that were sent to say who sent", async () => {
    const lines = linesOf(await run(h, protocol, "sends")).filter(({ method }) => method === "lifecycle");
    const sent = { event: "started", graph_name: "worker", cause: { type: "send", from_node: "plan" } };
    expect(lines.filter(({ data }) => data.event === "started").map(({ data }) => data)).toEqual([sent, sent]);
    expect(lines.filter(({ data }) => data.event === "completed")).toHaveLength(2);
  });

  it("an agent: its nodes are no graphs, its tools are its own, a helper is a graph of its tool call", async () => {
    const ran = await run(h, protocol, "deepAgent", { kwargs: { input: HELLO } });
    expect(ran.outcome.kind).toBe("success");
    const lines = linesOf(ran);
    expect(lines.filter(({ method }) => method === "lifecycle").map(({ at, data }) => [at, data])).toEqual([
      ["tools", { event: "started", graph_name: "helper", cause: { type: "toolCall", tool_call_id: "c1" } }],
      ["tools", { event: "completed", graph_name: "helper" }],
    ]);
    const tools = lines.filter(({ method }) => method === "tools");
    const of = (id: string) => tools.filter(({ data }) => data.tool_call_id === id);
    expect(of("c1").map(({ at, data }) => [at, data.event])).toEqual([
      ["tools", "tool-started"],
      ["tools", "tool-finished"],
    ]);
    expect(of("c2").map(({ at, data }) => [at, data.event, data.delta])).toEqual([
      ["", "tool-started", undefined],
      ["", "tool-output-delta", "part 0"],
      ["", "tool-output-delta", "part 1"],
      ["", "tool-finished", undefined],
    ]);
    const started = lines.filter(({ data }) => data.event === "message-start").map(({ at, data }) => [at, data.id]);
    expect(started).toEqual([
      ["", "a1"],
      ["tools", "s1"],
      ["", "a2"],
    ]);
  });

  it("an agent whose tool fails", async () => {
    const ran = await run(h, protocol, "agentFails", { kwargs: { input: HELLO } });
    expect(ran.outcome.kind).toBe("success");
    expect(linesOf(ran).find(({ data }) => data.event === "tool-error")?.data).toMatchObject({
      tool_call_id: "c1",
      message: "tool failed",
    });
  });

  it("what nobody takes is not read", async () => {
    const wanted = job("floods", { kwargs: { input: HELLO, protocol } });
    const whole = new Promise<void>((resolve) => {
      globals.__after = resolve;
    });
    const take = h.stopTaking();
    const running = h.run("floods", wanted);
    await whole;
    const sent = h.messages.reduce(
      (bytes, message) => bytes + (message.type === "events" && message.run_id === wanted.run_id ? message.bytes : 0),
      0,
    );
    expect(sent).toBeLessThan(HIGH_WATER + 100_000);
    take();
    const ran = await running;
    expect(ran.outcome.kind).toBe("success");
    expect(order(ran).filter((line) => line === "content-block-delta child")).toHaveLength(96);
  });

  it("a cancelled run leaves nothing open", async () => {
    const wanted = job("talksBelow", { kwargs: { input: HELLO, protocol } });
    globals.__gate = () => new Promise(() => undefined);
    const running = h.run("talksBelow", wanted);
    await h.sent(wanted.run_id, (name) => isProtocolEvent(name) && parseProtocolName(name).method === "messages");
    h.send({ type: "cancel", run_id: wanted.run_id, action: "interrupt" });
    const ran = await running;
    expect(ran.outcome.kind).toBe("cancelled");
    expect(order(ran).slice(-2)).toEqual(["error child", "interrupted child"]);
  });
});

it("a channel of the graph's transformers is a named custom event", async () => {
  const ran = await run(h, "native", "channels");
  expect(ran.outcome.kind).toBe("success");
  expect(linesOf(ran).filter(({ method }) => method === "custom")).toMatchObject([
    { channel: "custom:files", data: { name: "files", payload: { wrote: "one" } } },
  ]);
});

it("a graph with transformers fails, asks and is answered as any", async () => {
  const failed = await run(h, "native", "channelsFail");
  expect(failed.outcome).toMatchObject({ kind: "error", error: { error: "Error", message: "no" } });
  const { thread_id } = job("channelsAsk");
  const asked = await run(h, "native", "channelsAsk", { thread_id });
  expect(asked.outcome.kind).toBe("interrupted");
  expect(order(asked)).toEqual(["tasks", "custom", "input.requested", "tasks"]);
  const answered = await run(h, "native", "channelsAsk", { thread_id, kwargs: { command: { resume: "yes" } } });
  expect(answered.outcome).toMatchObject({ kind: "success", output: '{"log":["yes"]}' });
});

it("a native run writes nothing in v1's modes", async () => {
  const ran = await run(h, "native", "sub", { kwargs: { stream_mode: ["values", "updates"], subgraphs: true } });
  expect(v1(ran)).toEqual(["metadata"]);
});

it.each<[string, Partial<RunKwargs>]>([
  ["values", {}],
  ["several modes", { stream_mode: ["values", "updates", "tasks", "custom", "messages-tuple", "debug"] }],
  ["values of subgraphs", { subgraphs: true }],
  ["checkpoints of subgraphs", { stream_mode: ["values", "checkpoints"], subgraphs: true }],
  ["events", { stream_mode: ["events", "values"] }],
])("beside v1, v1 is what it is without: %s", async (_, kwargs) => {
  for (const graph_id of ["sub", "chat"]) {
    const input = graph_id === "chat" ? HELLO : { foo: "x" };
    const plain = await h.run(graph_id, { kwargs: { ...kwargs, input } });
    const beside = await run(h, "beside", graph_id, { kwargs: { ...kwargs, input } });
    const isTheirs = (name: string): boolean => !name.startsWith("events");
    expect(v1(beside).filter(isTheirs).map(withoutIds)).toEqual(v1(plain).filter(isTheirs).map(withoutIds));
    if (graph_id === "sub") expect(order(beside)).toEqual(SUB);
  }
});

it("a static breakpoint asks nothing", async () => {
  const ran = await run(h, "native", "plain", { kwargs: { interrupt_before: ["two"] } });
  expect(ran.outcome.kind).toBe("interrupted");
  expect(order(ran)).toEqual(["checkpoints", "values", "tasks", "custom", "updates", "tasks", "checkpoints", "values"]);
});
