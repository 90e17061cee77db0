import { AIMessage, HumanMessage } from "@langchain/core/messages";
import { describe, expect, test } from "vitest";
import { appendedItems, isUntouched, listAsLoaded, listAsStored, noteReturned } from "../../src/executor/lists.ts";

const message = (text: string, id: string) => new HumanMessage({ content: text, id });
const chat = (length: number) => Array.from({ length }, (_, i) => message(`text ${i}`, `${i}`));
const nothing: ReadonlySet<unknown> = new Set();
const returned = (value: unknown): Set<unknown> => {
  const set = new Set<unknown>();
  noteReturned(value, set);
  return set;
};

describe.each([
  ["stored", (items: unknown[]) => listAsStored("l", items)],
  ["loaded", (items: unknown[]) => listAsLoaded("l", items)],
])("a list as %s", (_, form) => {
  test("that has grown: what is new", () => {
    const before = chat(10);
    const added = [message("new", "n"), new AIMessage("newer")];
    expect(appendedItems(form(before), [...before, ...added], returned(added))).toEqual(added);
    expect(appendedItems(form(before), before, nothing)).toEqual([]);
    expect(appendedItems(form([]), added, nothing)).toEqual(added);
  });

  test("that lost, replaced or reordered something: not to be added to", () => {
    const before = chat(10);
    expect(appendedItems(form(before), before.slice(1), nothing)).toBeUndefined();
    expect(appendedItems(form(before), before.with(3, message("other", "3")), nothing)).toBeUndefined();
    expect(appendedItems(form(before), before.toReversed(), nothing)).toBeUndefined();
  });

  test("whose end was edited in place: not to be added to, whoever edited it", () => {
    const before = [...chat(10), new AIMessage({ content: "", tool_calls: [{ id: "c", name: "f", args: { a: 1 } }] })];
    const stored = form(before);
    const last = before[10] as AIMessage;
    const [call] = last.tool_calls ?? [];
    if (call !== undefined) call.args.a = 2;
    expect(appendedItems(stored, [...before, message("x", "x")], nothing)).toBeUndefined();
    expect(isUntouched(stored)).toBe(false);
    expect(isUntouched(form(before))).toBe(true);
  });

  test("an older item that a node edited and returned: not to be added to", () => {
    const before = chat(10);
    const stored = form(before);
    const edited = before[2] as HumanMessage;
    edited.content = "edited";
    expect(appendedItems(stored, before, returned([edited]))).toBeUndefined();
  });
});

test("returned as it was: nothing new, where it is known what it said", () => {
  const before = chat(10);
  expect(appendedItems(listAsStored("l", before), before, returned(before))).toEqual([]);
  const grown = listAsStored("l", [...before, message("x", "x")], listAsStored("l", before));
  expect(grown).toMatchObject({ list: "l", length: 11 });
  expect(appendedItems(grown, [...grown.items], returned(grown.items))).toEqual([]);
});

test("the array may be the graph's own, and change afterwards", () => {
  const own: unknown[] = ["a", "b"];
  const stored = listAsStored("l", own);
  own[0] = "changed";
  expect(appendedItems(stored, own, nothing)).toBeUndefined();
  own[0] = "a";
  own.push("c");
  expect(appendedItems(stored, own, nothing)).toEqual(["c"]);
});

test("an item that JSON has no text for is stored anew", () => {
  const circular: Record<string, unknown> = {};
  circular.self = circular;
  expect(appendedItems(listAsStored("l", [circular]), [circular], nothing)).toBeUndefined();
});
