/** Blocks of a message: one after the other, whole at their finish, whatever order the model gives them in. */
import { AIMessage, AIMessageChunk } from "@langchain/core/messages";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type BlockWriter, type CoreEvent, createBlockWriter } from "../../src/executor/block-writer.ts";
import type { MessageLike } from "../../src/executor/serialize.ts";

interface Said {
  readonly event: string;
  readonly index?: number;
  readonly content?: Record<string, unknown>;
  readonly delta?: Record<string, unknown>;
  readonly [field: string]: unknown;
}

function said(write: (writer: BlockWriter) => void): Said[] {
  const lines: Said[] = [];
  const writer = createBlockWriter({ id: "m", run_id: "r" }, (json) => lines.push(JSON.parse(json) as Said));
  write(writer);
  for (const line of lines) expect(line).toMatchObject({ id: "m", run_id: "r" });
  return lines;
}

const fromEvents = (events: readonly CoreEvent[]): Said[] =>
  said((writer) => {
    for (const event of events) writer.event(event);
  });

/** In short: `start0 delta0 finish0`. */
const order = (lines: readonly Said[]): string =>
  lines.map(({ event, index }) => event.replace("content-block-", "") + (index ?? "")).join(" ");

const start = (index: number, content: object): CoreEvent => ({ event: "content-block-start", index, content });
const delta = (index: number, fields: object): CoreEvent => ({ event: "content-block-delta", index, delta: fields });
const finish = (index: number, content: object): CoreEvent => ({ event: "content-block-finish", index, content });
const text = (piece: string): object => ({ type: "text-delta", text: piece });
const args = (piece: string): object => ({ type: "tool-call-delta", args: piece });
const EMPTY = { type: "text", text: "" };
const BEGIN: CoreEvent = { event: "message-start", id: "m" };
const END: CoreEvent = { event: "message-finish", reason: "stop" };

/** The grammar of the protocol: blocks one after the other, each finished, and an end. */
function expectGrammar(lines: readonly Said[]): void {
  let open: number | undefined;
  for (const [at, { event, index }] of lines.entries()) {
    const isLast = at === lines.length - 1;
    expect(event === "message-start").toBe(at === 0);
    expect(event === "message-finish" || event === "error").toBe(isLast);
    if (event === "content-block-start") {
      expect(open).toBeUndefined();
      open = index;
    } else if (event.startsWith("content-block-")) {
      expect(index).toBe(open);
      if (event === "content-block-finish") open = undefined;
    } else expect(open).toBeUndefined();
  }
}

describe("events of core", () => {
  it("finishes a block when the next one starts, and does not repeat core's finish", () => {
    const lines = fromEvents([
      BEGIN,
      start(0, { type: "reasoning", reasoning: "Let me ", index: 0 }),
      delta(0, { type: "reasoning-delta", reasoning: "think" }),
      start(1, { type: "text", text: "Ans", index: 1 }),
      delta(1, text("wer")),
      { event: "usage", usage: { input_tokens: 3 } },
      finish(0, { type: "reasoning", reasoning: "Let me think", index: 0 }),
      finish(1, { type: "text", text: "Answer", index: 1 }),
      END,
    ]);
    expect(order(lines)).toBe("message-start start0 delta0 finish0 start1 delta1 finish1 message-finish");
    expect(lines[0]).toMatchObject({ role: "ai" });
    expect(lines[3]?.content).toMatchObject({ type: "reasoning", reasoning: "Let me think" });
    expect(lines.at(-1)).toMatchObject({ reason: "stop", usage: { input_tokens: 3 } });
  });

  it("says a block anew, whole, when more of it came after its finish", () => {
    const whole = { type: "text", text: "abc" };
    const lines = fromEvents([
      BEGIN,
      start(0, EMPTY),
      delta(0, text("a")),
      start(1, EMPTY),
      delta(1, text("x")),
      delta(0, text("bc")),
      delta(1, text("y")),
      finish(0, whole),
      finish(1, { type: "text", text: "xy" }),
      END,
    ]);
    expect(order(lines)).toBe(
      "message-start start0 delta0 finish0 start1 delta1 delta1 finish1 start0 finish0 message-finish",
    );
    expect(lines[9]?.content).toEqual(whole);
  });

  it.each([
    ['{"a":1}', { type: "tool_call", id: "c", name: "f", args: { a: 1 } }],
    ["", { type: "tool_call", id: "c", name: "f", args: {} }],
    ['{"a":', { type: "invalid_tool_call", id: "c", name: "f", args: '{"a":' }],
  ])("a tool call that is finished early with arguments %s", (given, expected) => {
    const call = { type: "tool_call_chunk", id: "c", name: "f", args: "", index: 0 };
    const lines = fromEvents([BEGIN, start(0, call), delta(0, args(given)), start(1, EMPTY), END]);
    expect(lines.find(({ event }) => event === "content-block-finish")?.content).toMatchObject(expected);
  });

  it("corrects a tool call that another block came into", () => {
    const call = { type: "tool_call_chunk", id: "c", name: "f", args: "" };
    const whole = { type: "tool_call", id: "c", name: "f", args: { a: 1 } };
    const lines = fromEvents([
      BEGIN,
      start(0, call),
      delta(0, args('{"a":')),
      start(1, EMPTY),
      delta(0, args("1}")),
      finish(0, whole),
      finish(1, EMPTY),
      END,
    ]);
    const finishes = lines.filter(({ event, index }) => event === "content-block-finish" && index === 0);
    expect(finishes.map(({ content }) => content?.type)).toEqual(["invalid_tool_call", "tool_call"]);
    expect(finishes[1]?.content).toEqual(whole);
  });

  it("says arguments from their beginning, and not with each token", () => {
    const pieces = Array.from({ length: 400 }, (_, i) => String(i % 10));
    const call = { type: "tool_call_chunk", id: "c", name: "f", args: "" };
    const lines = fromEvents([BEGIN, start(0, call), ...pieces.map((piece) => delta(0, args(piece))), END]);
    const deltas = lines.filter(({ event }) => event === "content-block-delta");
    expect(deltas.length).toBeLessThan(40);
    for (const { delta: sent } of deltas) {
      const { type, fields } = sent as { type: string; fields: Record<string, unknown> };
      expect(type).toBe("block-delta");
      expect(fields).toMatchObject({ type: "tool_call_chunk", id: "c", name: "f" });
      expect(pieces.join("").startsWith(fields.args as string)).toBe(true);
    }
  });

  it("closes what is open when the message fails, and says nothing after", () => {
    const lines = said((writer) => {
      for (const event of [BEGIN, start(0, EMPTY), delta(0, text("par"))]) writer.event(event);
      writer.fail("model exploded");
      writer.event(delta(0, text("tial")));
      writer.finish();
    });
    expect(order(lines)).toBe("message-start start0 delta0 finish0 error");
    expect(lines.at(-1)).toMatchObject({ message: "model exploded" });
  });

  it("keeps what core says of the role, the tool call and the response", () => {
    const lines = fromEvents([
      { event: "message-start", id: "m", role: "tool", tool_call_id: "c" },
      { event: "message-finish", responseMetadata: { model: "x" }, usage: { total_tokens: 1 } },
    ]);
    expect(lines).toMatchObject([
      { event: "message-start", role: "tool", tool_call_id: "c" },
      { event: "message-finish", reason: "stop", metadata: { model: "x" }, usage: { total_tokens: 1 } },
    ]);
  });
});

/* ------------------------------------------------------------------------------ any order */

const piece = fc.record({ index: fc.nat({ max: 3 }), text: fc.string({ maxLength: 12 }) });
const kinds = fc.array(fc.constantFrom("text", "reasoning", "tool"), { minLength: 4, maxLength: 4 });

function wellFormed(pieces: readonly { index: number; text: string }[], kindOf: readonly string[]) {
  const whole = new Map<number, string>();
  const events: CoreEvent[] = [BEGIN];
  for (const { index, text: more } of pieces) {
    const kind = kindOf[index];
    if (!whole.has(index)) {
      whole.set(index, "");
      if (kind === "tool") events.push(start(index, { type: "tool_call_chunk", id: `c${index}`, name: "f", args: "" }));
      else if (kind === "text") events.push(start(index, EMPTY));
      else events.push(start(index, { type: "reasoning", reasoning: "" }));
    }
    whole.set(index, `${whole.get(index)}${more}`);
    if (kind === "tool") events.push(delta(index, args(more)));
    else if (kind === "text") events.push(delta(index, text(more)));
    else events.push(delta(index, { type: "reasoning-delta", reasoning: more }));
  }
  const contents = new Map<number, object>();
  for (const [index, all] of whole) {
    const kind = kindOf[index];
    const content =
      kind === "tool"
        ? { type: "invalid_tool_call", id: `c${index}`, name: "f", args: all, error: "no JSON" }
        : kind === "text"
          ? { type: "text", text: all }
          : { type: "reasoning", reasoning: all };
    contents.set(index, content);
    events.push(finish(index, content));
  }
  return { events: [...events, END], contents };
}

it("never interleaves, and the last finish of each block is whole", () => {
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 30 }), kinds, (pieces, kindOf) => {
      const { events, contents } = wellFormed(pieces, kindOf);
      const lines = fromEvents(events);
      expectGrammar(lines);
      const last = new Map(
        lines.flatMap(({ event, index, content }) => (event === "content-block-finish" ? [[index, content]] : [])),
      );
      expect(last.size).toBe(contents.size);
      for (const [index, content] of contents) expect(last.get(index)).toEqual(content);
    }),
  );
});

it("keeps the grammar whatever comes", () => {
  const index = fc.nat({ max: 3 });
  const some = fc.string({ maxLength: 6 });
  const content = fc.oneof(
    some.map((value) => ({ type: "text", text: value })),
    some.map((value) => ({ type: "tool_call_chunk", args: value })),
    fc.constant({ type: "image", url: "u" }),
  );
  const event: fc.Arbitrary<CoreEvent> = fc.oneof(
    fc.tuple(index, content).map(([i, c]) => start(i, c)),
    fc.tuple(index, some).map(([i, t]) => delta(i, text(t))),
    fc.tuple(index, some).map(([i, t]) => delta(i, args(t))),
    fc.tuple(index, content).map(([i, c]) => finish(i, c)),
    fc.tuple(index, content).map(([i, c]) => delta(i, { type: "block-delta", fields: c })),
    fc.constant(END),
    fc.constant({ event: "error", message: "no" }),
    fc.constant(BEGIN),
  );
  fc.assert(
    fc.property(fc.array(event, { maxLength: 30 }), fc.boolean(), (events, isWell) => {
      const lines = said((writer) => {
        for (const one of [BEGIN, ...events]) writer.event(one);
        if (isWell) writer.finish();
        else writer.fail("no");
        expect(writer.isOpen).toBe(false);
      });
      expectGrammar(lines);
    }),
  );
});

/* ----------------------------------------------------------------------- messages of v1 */

const fromChunks = (chunks: readonly object[]): Said[] =>
  said((writer) => {
    for (const chunk of chunks) writer.chunk(chunk as MessageLike);
    writer.finish();
  });

describe("messages and their chunks", () => {
  it("text, then a tool call in pieces, each a block", () => {
    const call = (id: string | undefined, piece: string) => ({
      type: "tool_call_chunk" as const,
      index: 0,
      args: piece,
      ...(id === undefined ? {} : { id, name: "f" }),
    });
    const lines = fromChunks([
      new AIMessageChunk({ id: "m", content: "Let me " }),
      new AIMessageChunk({ id: "m", content: "look." }),
      new AIMessageChunk({ id: "m", content: "", tool_call_chunks: [call("c", "")] }),
      new AIMessageChunk({ id: "m", content: "", tool_call_chunks: [call(undefined, '{"city":')] }),
      new AIMessageChunk({ id: "m", content: "", tool_call_chunks: [call(undefined, '"Paris"}')] }),
      Object.assign(new AIMessageChunk({ id: "m", content: "", response_metadata: { finish_reason: "stop" } }), {
        usage_metadata: { input_tokens: 1, output_tokens: 2, total_tokens: 3 },
      }),
    ]);
    expectGrammar(lines);
    expect(order(lines)).toBe("message-start start0 delta0 delta0 finish0 start1 delta1 finish1 message-finish");
    expect(lines[4]?.content).toEqual({ type: "text", text: "Let me look." });
    expect(lines[7]?.content).toEqual({ type: "tool_call", id: "c", name: "f", args: { city: "Paris" } });
    expect(lines.at(-1)).toMatchObject({
      usage: { total_tokens: 3 },
      metadata: { finish_reason: "stop" },
    });
  });

  it("parts of a content: reasoning, text, and no calls in a provider's words", () => {
    const lines = fromChunks([
      new AIMessageChunk({ id: "m", content: [{ type: "thinking", thinking: "h", index: 0 }] }),
      new AIMessageChunk({ id: "m", content: [{ type: "thinking", thinking: "m", index: 0 }] }),
      new AIMessageChunk({ id: "m", content: [{ type: "text", text: "Hi", index: 1 }] }),
      new AIMessageChunk({ id: "m", content: [{ type: "tool_use", id: "c", name: "f", input: "", index: 2 }] }),
      new AIMessageChunk({ id: "m", content: [{ type: "image", url: "u", index: 3 }] }),
    ]);
    expectGrammar(lines);
    expect(lines.flatMap(({ event, content }) => (event === "content-block-finish" ? [content] : []))).toEqual([
      { type: "reasoning", reasoning: "hm" },
      { type: "text", text: "Hi" },
      { type: "image", url: "u", index: 3 },
    ]);
  });

  it("a whole message with its tool calls", () => {
    const lines = fromChunks([
      new AIMessage({ id: "m", content: "Hi", tool_calls: [{ id: "c", name: "f", args: { a: 1 } }] }),
    ]);
    expectGrammar(lines);
    expect(lines.flatMap(({ event, content }) => (event === "content-block-finish" ? [content] : []))).toEqual([
      { type: "text", text: "Hi" },
      { type: "tool_call", id: "c", name: "f", args: { a: 1 } },
    ]);
  });

  it("any pieces of text and calls, together they are whole", () => {
    const chunk = fc.oneof(
      fc.string({ maxLength: 5 }).map((content) => ({ content, call: undefined })),
      fc.tuple(fc.nat({ max: 2 }), fc.string({ maxLength: 5 })).map((call) => ({ content: "", call })),
    );
    fc.assert(
      fc.property(fc.array(chunk, { maxLength: 25 }), (pieces) => {
        const lines = fromChunks([
          new AIMessageChunk({ id: "m", content: "" }),
          ...pieces.map(({ content, call }) => {
            const calls = call === undefined ? [] : [{ index: call[0], id: `c${call[0]}`, name: "f", args: call[1] }];
            return new AIMessageChunk({ id: "m", content, tool_call_chunks: calls });
          }),
        ]);
        expectGrammar(lines);
        const last = new Map(
          lines.flatMap(({ event, index, content }) => (event === "content-block-finish" ? [[index, content]] : [])),
        );
        const whole = [...last.values()].find((content) => content?.type === "text")?.text ?? "";
        expect(whole).toBe(pieces.map(({ content }) => content).join(""));
      }),
    );
  });
});
