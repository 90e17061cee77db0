import { AIMessage, AIMessageChunk, HumanMessage, ToolMessage } from "@langchain/core/messages";
import { describe, expect, it } from "vitest";
import {
  cleanText,
  messageJson,
  SerializationError,
  stateJson,
  toJson,
  toPlain,
} from "../../src/executor/serialize.ts";

describe("messages", () => {
  it.each([
    new HumanMessage({ content: "hi", id: "1" }),
    new AIMessage({ content: [{ type: "text", text: "x" }], tool_calls: [{ name: "f", args: { a: 1 }, id: "c" }] }),
    new AIMessageChunk({ content: "tok", id: "2", tool_call_chunks: [{ index: 0, args: "{", name: "f", id: "c" }] }),
    new ToolMessage({ content: "ok", tool_call_id: "c", artifact: { deep: [1] } }),
  ])("are toDict().data with type: %#", (message) => {
    const { type, data } = message.toDict();
    expect(JSON.parse(toJson({ deep: [message] }))).toEqual({ deep: [{ ...JSON.parse(JSON.stringify(data)), type }] });
    expect(messageJson(message)).toBe(toJson(message));
  });

  it("show an id given after construction", () => {
    const message = new AIMessage("x");
    message.id = "late";
    expect(JSON.parse(toJson(message))).toMatchObject({ id: "late", type: "ai" });
  });
});

describe("values", () => {
  it.each([
    ["functions vanish", { a: 1, f: () => 1 }, `{"a":1}`],
    ["undefined is null", undefined, "null"],
    ["BigInt is decimal text", { n: 12n }, `{"n":"12"}`],
    ["Map by string keys is an object", new Map([["a", 1]]), `{"a":1}`],
    ["Map by other keys is entries", new Map([[1, "a"]]), `[[1,"a"]]`],
    ["Set is an array", { s: new Set([1, 2]) }, `{"s":[1,2]}`],
    ["Date is ISO", new Date(0), `"1970-01-01T00:00:00.000Z"`],
    ["Error is message and name", new TypeError("no"), `{"message":"no","name":"TypeError"}`],
    ["bytes are base64", new Uint8Array([1, 2, 3]), `"AQID"`],
    ["toJSON is honoured", { toJSON: () => ({ m: new Set([1]) }) }, `{"m":[1]}`],
    ["numbers JSON cannot say are null", [Number.NaN, Infinity], "[null,null]"],
  ])("%s", (_, value, json) => {
    expect(toJson(value)).toBe(json);
  });

  it("are not copied when nothing needs a change", () => {
    const value = { a: [1, { b: "c" }] };
    expect(toPlain(value)).toBe(value);
  });

  it("may repeat, but not contain themselves", () => {
    const shared = { x: 1 };
    expect(toJson([shared, shared])).toBe(`[{"x":1},{"x":1}]`);
    const self: unknown[] = [];
    self.push({ self });
    expect(() => toJson(self)).toThrow(SerializationError);
  });
});

describe("text", () => {
  it("replaces NUL and lone surrogates, and nothing else", () => {
    expect(JSON.parse(toJson("a\0b\ud800c\udfffd"))).toBe("a\ufffdb\ufffdc\ufffdd");
    expect(JSON.parse(toJson("😀 \\u0000 \\ud800"))).toBe("😀 \\u0000 \\ud800");
    expect(JSON.parse(toJson("\\\0"))).toBe("\\\ufffd");
    expect(JSON.parse(toJson({ "k\0": 1 }))).toEqual({ "k\ufffd": 1 });
    const clean = toJson({ a: "b" });
    expect(cleanText(clean)).toBe(clean);
  });
});

describe("a state with a long list of messages", () => {
  const chat = (length: number) =>
    Array.from({ length }, (_, i) => new AIMessage({ content: `text ${i}`, id: `${i}`, tool_calls: [] }));

  it("is the same text as any other value, however often it is asked for", () => {
    const state = { messages: chat(40), note: undefined, count: 2n, "näme\u0000": [1] };
    const grown = { ...state, messages: [...state.messages, new HumanMessage("more")] };
    for (const value of [state, state, grown, grown, { messages: [] }, chat(20), null, "text"]) {
      expect(stateJson(value)).toBe(toJson(value));
    }
  });

  it("shows messages as they are, edited ones too", () => {
    const messages = chat(40);
    stateJson({ messages });
    const [first] = messages;
    if (first !== undefined) first.content = "edited";
    const last = messages[39];
    if (last !== undefined) last.tool_calls = [{ id: "c", name: "f", args: {} }];
    expect(stateJson({ messages })).toBe(toJson({ messages }));
    expect(stateJson({ messages })).toContain("edited");
  });
});
