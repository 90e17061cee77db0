import { AIMessage, AIMessageChunk, type BaseMessage, HumanMessage, RemoveMessage } from "@langchain/core/messages";
import { messagesStateReducer, REMOVE_ALL_MESSAGES } from "@langchain/langgraph";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { incremental, type MessagesReducer } from "../../src/executor/messages.ts";

const own = messagesStateReducer as MessagesReducer;
const plain = (messages: unknown[]) => (messages as BaseMessage[]).map((m) => [m.getType(), m.id, m.content]);
const outcome = (work: () => unknown[]) => {
  try {
    return plain(work());
  } catch (error) {
    return String(error);
  }
};
const many = (count: number) =>
  Array.from({ length: count }, (_, n) => new HumanMessage({ id: `m${n}`, content: `${n}` }));

/** What nodes and clients write: by id, so that both sides get equal ones of their own. */
const id = fc.integer({ min: 0, max: 60 }).map((n) => `m${n}`);
const write = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constantFrom("ai", "dict", "chunk", "tuple" as const), id }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("remove" as const), id }) },
  { weight: 1, arbitrary: fc.constant({ kind: "clear" as const, id: REMOVE_ALL_MESSAGES }) },
);
type Write = { readonly kind: "ai" | "dict" | "chunk" | "tuple" | "remove" | "clear"; readonly id: string };
function message({ kind, id }: Write): unknown {
  if (kind === "ai") return new AIMessage({ id, content: `ai ${id}` });
  if (kind === "chunk") return new AIMessageChunk({ id, content: `chunk ${id}` });
  if (kind === "dict") return { role: "user", id, content: `dict ${id}` };
  if (kind === "tuple") return { type: "human", id, content: `tuple ${id}` };
  return new RemoveMessage({ id });
}

describe("the reducer of messages for lists that grow", () => {
  it("gives what LangGraph's gives, whatever is written, to whichever list of the past", () => {
    const steps = fc.array(
      fc.record({ from: fc.nat(5), writes: fc.array(write, { minLength: 1, maxLength: 3 }), single: fc.boolean() }),
      { maxLength: 25 },
    );
    fc.assert(
      fc.property(steps, (steps) => {
        const ours = incremental(own);
        const histories: [unknown[], unknown[]][] = [[ours([], many(45)), own([], many(45))]];
        for (const { from, writes, single } of steps) {
          const [mine, theirs] = histories[Math.max(0, histories.length - 1 - from)] as [unknown[], unknown[]];
          const right = () => (single ? message(writes[0] as Write) : writes.map(message));
          const [got, wanted] = [outcome(() => ours([...mine], right())), outcome(() => own(theirs, right()))];
          expect(got).toEqual(wanted);
          if (typeof wanted !== "string") histories.push([ours([...mine], right()), own(theirs, right())]);
        }
      }),
      { numRuns: 150 },
    );
  });

  it("shows LangGraph's reducer only what is new", () => {
    const seen: number[] = [];
    const ours = incremental((left, right) => {
      seen.push((left as unknown[]).length);
      return own(left, right);
    });
    let list = ours([], many(100));
    for (let n = 0; n < 5; n++) list = ours([...list], { role: "user", content: `new ${n}` });
    expect(list).toHaveLength(105);
    expect(seen).toEqual([0, 0, 0, 0, 0, 0]);
  });

  it("gives ids to messages that have none, and keeps those of the list as they are", () => {
    const ours = incremental(own);
    const list = ours([], many(50));
    const longer = ours(list, [new AIMessage("one"), new AIMessage("two")]) as BaseMessage[];
    expect(longer.slice(0, 50)).toEqual(list);
    expect(new Set(longer.map(({ id }) => id)).size).toBe(52);
  });

  it("sees an id that somebody has changed in place", () => {
    const ours = incremental(own);
    const list = ours([], many(50)) as BaseMessage[];
    (list[10] as BaseMessage).id = "changed";
    const longer = ours(list, new HumanMessage({ id: "changed", content: "instead" })) as BaseMessage[];
    expect(longer).toHaveLength(50);
    expect(longer[10]?.content).toBe("instead");
  });

  it("lets two forks of one list go on", () => {
    const ours = incremental(own);
    const list = ours([], many(50));
    const left = ours(list, new HumanMessage({ id: "left", content: "l" }));
    const right = ours(list, new HumanMessage({ id: "right", content: "r" }));
    expect(plain(ours(left, new HumanMessage({ id: "right", content: "new here" })))).toHaveLength(52);
    expect(plain(ours(right, new HumanMessage({ id: "right", content: "replaced" })))).toHaveLength(51);
  });
});
