/** Values come back as LangGraph's own serde gives them, shared or not. */
import { AIMessage, HumanMessage, ToolMessage } from "@langchain/core/messages";
import { JsonPlusSerializer } from "@langchain/langgraph-checkpoint";
import { describe, expect, it } from "vitest";
import { revive, SharedValues } from "../../src/executor/revive.ts";
import { toJson } from "../../src/executor/serialize.ts";

const serde = new JsonPlusSerializer();
const human = new HumanMessage({ id: "1", content: "hi" });
const ai = new AIMessage({
  id: "2",
  content: [{ type: "text", text: 'says "lc"' }],
  tool_calls: [{ id: "c", name: "add", args: { a: 1 } }],
});
const tool = new ToolMessage({ id: "3", content: "5", tool_call_id: "c", artifact: { deep: [1, 2] } });

const VALUES: Readonly<Record<string, unknown>> = {
  text: "hello",
  nothing: null,
  plain: { a: [1, { b: "c" }], d: false },
  words: { note: 'mentions "lc" and is plain' },
  messages: [human, ai, tool],
  nested: { by: { name: [human, { last: ai }] }, again: human },
  "a set beside a message": { seen: new Set(["a"]), human },
  "a map": new Map([["k", human]]),
  "an undefined": { a: undefined, b: 1 },
  bytes: new Uint8Array([1, 2, 3]),
};

describe.each(Object.entries(VALUES))("%s", (_, value) => {
  it("is what the serde makes of it", async () => {
    const stored = await serde.dumpsTyped(value);
    const expected = await serde.loadsTyped(...stored);
    expect(await revive(serde, stored)).toEqual(expected);
    const shared = new SharedValues();
    for (const form of [stored, [stored[0], stored[0] === "json" ? new TextDecoder().decode(stored[1]) : stored[1]]]) {
      const found = await shared.revive(serde, form as [string, string]);
      expect(found).toEqual(expected);
      expect(toJson(found)).toBe(toJson(expected));
    }
  });
});

it("shares a message between all values that hold it, and a value with all who ask", async () => {
  const shared = new SharedValues();
  const get = async (value: unknown) => (await shared.revive(serde, await serde.dumpsTyped(value))) as unknown[];
  const [one, two] = [await get([human]), await get([human, ai])];
  expect(two[0]).toBe(one[0]);
  expect(await get([human, ai])).toBe(two);
  const own = (await revive(serde, await serde.dumpsTyped([human]))) as unknown[];
  expect(own[0]).not.toBe(one[0]);
});
