/** Events of streaming v2 as stream modes have them. */
import { describe, expect, test } from "vitest";
import { paramsText, protocolName } from "../../../src/schemas/protocol-events.ts";
import { asModes } from "../../../src/streaming/protocol/as-modes.ts";

type Method = Parameters<typeof protocolName>[0];

function projected(events: readonly (readonly [Method, unknown, { ns?: string[]; node?: string }?])[]) {
  const project = asModes();
  return events.map(([method, data, { ns = [], node } = {}], id) => {
    const event = project({
      id,
      event: protocolName(method, ns),
      data: paramsText(ns, 1, node, JSON.stringify(data)),
    });
    return event && [event.event, JSON.parse(event.data)];
  });
}

const message = (data: Record<string, unknown>) =>
  ["messages", { ...data, id: "m", run_id: "r" }, { node: "n" }] as const;
const text = (pieces: ReturnType<typeof projected>): string =>
  pieces.map((piece) => (typeof piece?.[1][0].content === "string" ? piece[1][0].content : "")).join("");

test.each([
  ["values", { a: 1 }, { ns: ["s:1"] }, "values|s:1", { a: 1 }],
  ["updates", { node: "n", values: { a: 1 } }, {}, "updates", { n: { a: 1 } }],
  ["tasks", { id: "1" }, {}, "tasks", { id: "1" }],
  ["custom", { payload: 5 }, {}, "custom", 5],
  ["custom:mine", { name: "mine", payload: 5 }, { ns: ["s:1"] }, "custom|s:1", 5],
  [
    "input.requested",
    { interrupt_id: "i", payload: "?" },
    { ns: ["s:1"] },
    "values",
    { __interrupt__: [{ id: "i", value: "?" }] },
  ],
  [
    "tools",
    { event: "tool-started", tool_call_id: "c", tool_name: "t", input: "{}" },
    {},
    "tools",
    { event: "on_tool_start", toolCallId: "c", name: "t", input: "{}" },
  ],
  [
    "tools",
    { event: "tool-finished", tool_call_id: "c", output: 1 },
    {},
    "tools",
    { event: "on_tool_end", toolCallId: "c", output: 1 },
  ],
  [
    "tools",
    { event: "tool-error", tool_call_id: "c", message: "m" },
    {},
    "tools",
    { event: "on_tool_error", toolCallId: "c", error: { message: "m" } },
  ],
] as const)("%s %j", (method, data, { ns = [] }: { ns?: readonly string[] }, event, expected) => {
  expect(projected([[method, data, { ns: [...ns] }]])).toEqual([[event, expected]]);
});

test("lifecycle and answers are of no mode", () => {
  expect(
    projected([
      ["lifecycle", { event: "running" }],
      ["input.answered", { interrupt_ids: [] }],
    ]),
  ).toEqual([undefined, undefined]);
});

describe("messages", () => {
  test("pieces add up to the message", () => {
    const pieces = projected([
      message({ event: "message-start", role: "ai" }),
      message({ event: "content-block-start", index: 0, content: { type: "text", text: "" } }),
      message({ event: "content-block-delta", index: 0, delta: { type: "text-delta", text: "Hel" } }),
      message({ event: "content-block-delta", index: 0, delta: { type: "text-delta", text: "lo" } }),
      message({ event: "content-block-finish", index: 0, content: { type: "text", text: "Hello" } }),
      message({
        event: "content-block-start",
        index: 1,
        content: { type: "tool_call_chunk", id: "c", name: "t", args: "" },
      }),
      message({
        event: "content-block-finish",
        index: 1,
        content: { type: "tool_call", id: "c", name: "t", args: { a: 1 } },
      }),
      message({ event: "message-finish", reason: "stop", usage: { total_tokens: 3 } }),
    ]);
    expect(text(pieces)).toBe("Hello");
    const said = pieces.flatMap((piece) => (piece === undefined ? [] : [piece]));
    expect(said.map(([name]) => name)).toEqual(["messages", "messages", "messages", "messages"]);
    expect(said[0]?.[1]).toEqual([
      expect.objectContaining({ id: "m", type: "ai", content: "Hel" }),
      { langgraph_node: "n", run_id: "r" },
    ]);
    expect(said[2]?.[1][0].tool_calls).toEqual([{ id: "c", name: "t", args: { a: 1 }, type: "tool_call" }]);
    expect(said[3]?.[1][0].usage_metadata).toEqual({ total_tokens: 3 });
  });

  test("a block that comes whole, or more of it once more, is said once", () => {
    const pieces = projected([
      message({ event: "message-start", role: "ai" }),
      message({ event: "content-block-start", index: 0, content: { type: "text", text: "" } }),
      message({ event: "content-block-delta", index: 0, delta: { type: "text-delta", text: "ab" } }),
      message({ event: "content-block-finish", index: 0, content: { type: "text", text: "ab" } }),
      message({ event: "content-block-start", index: 0, content: { type: "text", text: "" } }),
      message({ event: "content-block-finish", index: 0, content: { type: "text", text: "abcd" } }),
    ]);
    expect(text(pieces)).toBe("abcd");
  });

  test("a reader that comes in the middle of a block has what comes", () => {
    const pieces = projected([
      message({ event: "content-block-finish", index: 0, content: { type: "text", text: "abcd" } }),
    ]);
    expect(pieces).toEqual([undefined]);
  });
});
