/**
 * One message of a model → its events of streaming v2: start, content blocks, finish. Two kinds of input end in the same
 * output: the events of LangChain's core (v3 streams), and message chunks (v1 streams).
 *
 * Core starts a block before it has finished the one before, and finishes all of them at the end; the protocol wants one
 * block after the other. So a block is finished, with what has been gathered, as soon as another one starts. If more of it
 * comes then, it is gathered, and the whole block is said once more when core finishes it.
 */
import type { Json } from "./protocol.ts";
import { cleanText, type MessageLike, toJson } from "./serialize.ts";

/** An event of core's `ChatModelStreamEvent`s. */
export interface CoreEvent {
  readonly event: string;
  readonly [field: string]: unknown;
}

export interface BlockWriter {
  /** An event of core. One that does not fit what came before is left out. */
  event(event: CoreEvent): void;
  /** The next piece of the message, or the whole of it. */
  chunk(message: MessageLike): void;
  /** The message is complete. Nothing happens when it was already. */
  finish(): void;
  /** The message will not be completed. Nothing happens when it is. */
  fail(message: string): void;
  /** True from its start to its finish or failure. */
  readonly isOpen: boolean;
}

/** What each event of the message says of it. */
export interface MessageHead {
  readonly id: string;
  readonly run_id: string;
}

interface Block {
  readonly index: number;
  content: Record<string, unknown>;
  /** The text of the content that was last said to be whole; undefined while the block is open. */
  finished: Json | undefined;
  /** Of a tool call: how much of its arguments clients have. */
  said: number;
}

type Delta = Readonly<Record<string, unknown>> & { readonly type: string };

/** Arguments of a tool call are said anew, from the beginning, when they have grown by this much. */
const ARGS_STEP = 16;
const ARGS_SHARE = 1 / 8;

export function createBlockWriter(head: MessageHead, emit: (data: Json) => void): BlockWriter {
  const tail = `,"id":${cleanText(JSON.stringify(head.id))},"run_id":${cleanText(JSON.stringify(head.run_id))}}`;
  /** By their place in the input. */
  const blocks = new Map<string | number, Block>();
  let open: Block | undefined;
  let state: "new" | "open" | "done" = "new";
  let usage: Record<string, unknown> | undefined;
  let metadata: Record<string, unknown> | undefined;
  let reason: string | undefined;

  const say = (json: Json): void => emit(`${json.slice(0, -1)}${tail}`);
  const sayPlain = (value: unknown): void => say(cleanText(JSON.stringify(value)));
  const sayAny = (value: unknown): void => say(toJson(value));

  const begin = (fields: object): void => {
    if (state !== "new") return;
    state = "open";
    sayAny({ event: "message-start", ...fields });
  };
  const closeWith = (block: Block, content: unknown): void => {
    block.finished = toJson(content);
    if (open === block) open = undefined;
    say(`{"event":"content-block-finish","index":${block.index},"content":${block.finished}}`);
  };
  const close = (): void => {
    if (open !== undefined) closeWith(open, finalContent(open.content));
  };
  const start = (key: string | number, index: number, content: Record<string, unknown>): Block => {
    close();
    const block: Block = { index, content: { ...content }, finished: undefined, said: lengthOf(content.args) };
    blocks.set(key, block);
    open = block;
    sayAny({ event: "content-block-start", index, content });
    return block;
  };
  const grow = (block: Block, delta: Delta): void => {
    const grown = withDelta(block.content, delta);
    if (grown === undefined) return;
    block.content = grown;
    // Of a block that is finished clients hear again when it is whole.
    if (block !== open) return;
    if (grown.type !== "tool_call_chunk") {
      if (delta.type === "block-delta") sayAny({ event: "content-block-delta", index: block.index, delta });
      else sayPlain({ event: "content-block-delta", index: block.index, delta });
      return;
    }
    const length = lengthOf(grown.args);
    if (length - block.said < Math.max(ARGS_STEP, block.said * ARGS_SHARE)) return;
    block.said = length;
    const { id, name, args } = grown;
    const fields = { type: "tool_call_chunk", id, name, args };
    sayAny({ event: "content-block-delta", index: block.index, delta: { type: "block-delta", fields } });
  };
  /** A block that was finished too early, whole. */
  const again = (block: Block, content: unknown): void => {
    close();
    sayAny({ event: "content-block-start", index: block.index, content: beginningOf(content) });
    closeWith(block, content);
  };
  const finishBlock = (index: number, content: unknown): void => {
    const known = blocks.get(index);
    if (known === undefined) {
      closeWith(start(index, index, beginningOf(content)), content);
      return;
    }
    known.content = { ...recordOf(content) };
    if (known.finished === undefined) closeWith(known, content);
    else if (!isSame(known.finished, toJson(content))) again(known, content);
  };

  const onEvent: BlockWriter["event"] = (event) => {
    if (state === "done") return;
    const index = typeof event.index === "number" ? event.index : 0;
    switch (event.event) {
      case "message-start": {
        const { role = "ai", tool_call_id } = event;
        begin({ role, ...(tool_call_id === undefined ? {} : { tool_call_id }) });
        usage = recordOf(event.usage) ?? usage;
        return;
      }
      case "content-block-start":
        begin({ role: "ai" });
        if (blocks.get(index) === undefined) start(index, index, recordOf(event.content) ?? { type: "text", text: "" });
        return;
      case "content-block-delta": {
        begin({ role: "ai" });
        const delta = (recordOf(event.delta) ?? deltaOf(event.content)) as Delta | undefined;
        if (delta === undefined) return;
        const known = blocks.get(index);
        if (known !== undefined) return grow(known, delta);
        const beginning = firstContent(delta);
        if (beginning !== undefined) grow(start(index, index, beginning), delta);
        return;
      }
      case "content-block-finish":
        begin({ role: "ai" });
        return finishBlock(index, event.content);
      case "usage":
        usage = recordOf(event.usage) ?? usage;
        return;
      case "message-finish":
        usage = recordOf(event.usage) ?? usage;
        metadata = recordOf(event.metadata) ?? recordOf(event.responseMetadata);
        if (typeof event.reason === "string") reason = event.reason;
        return finish();
      case "error":
        return fail(typeof event.message === "string" ? event.message : "The model failed.");
      default:
    }
  };

  function finish(): void {
    if (state !== "open") return;
    close();
    for (const block of blocks.values()) {
      const content = finalContent(block.content);
      if (block.finished !== undefined && !isSame(block.finished, toJson(content)) && isLonger(block, content)) {
        again(block, content);
      }
    }
    state = "done";
    const hasMetadata = metadata !== undefined && Object.keys(metadata).length > 0;
    sayAny({
      event: "message-finish",
      reason: reason ?? "stop",
      ...(usage === undefined ? {} : { usage }),
      ...(hasMetadata ? { metadata } : {}),
    });
  }

  function fail(message: string): void {
    if (state !== "open") return;
    close();
    state = "done";
    sayPlain({ event: "error", message });
  }

  /** Blocks of a message in pieces are numbered as they come; pieces of one kind without an index belong together. */
  const at = (key: string, beginning: Record<string, unknown>): Block =>
    blocks.get(key) ?? start(key, blocks.size, beginning);

  const onPart = (part: Readonly<Record<string, unknown>>): void => {
    const delta = deltaOf(part);
    if (delta === undefined) return;
    const key = typeof part.index === "number" ? `content:${part.index}` : `content:${part.type as string}`;
    if (delta.type === "block-delta" && !blocks.has(key)) {
      start(key, blocks.size, { ...part });
      return;
    }
    const beginning = firstContent(delta);
    const block = blocks.get(key) ?? (beginning === undefined ? undefined : at(key, beginning));
    if (block !== undefined) grow(block, delta);
  };

  let lastCall: string | undefined;
  const onToolCall = (piece: ToolCallPiece): void => {
    const { id, name, args } = piece;
    const isNext = lastCall === undefined || (piece.index === undefined && id !== undefined);
    if (piece.index !== undefined) lastCall = `call:${piece.index}`;
    else if (isNext) lastCall = `call:${id ?? blocks.size}`;
    const key = lastCall as string;
    const known = blocks.get(key);
    const block = known ?? at(key, { type: "tool_call_chunk", ...given({ id, name }), args: "" });
    if (known !== undefined) Object.assign(block.content, given({ id, name }));
    if (args !== undefined && args !== "") grow(block, { type: "tool-call-delta", args });
  };

  const onChunk: BlockWriter["chunk"] = (message) => {
    if (state === "done") return;
    const { content, tool_call_chunks, tool_calls, usage_metadata, response_metadata, tool_call_id } =
      message as MessageFields;
    const role = message._getType();
    begin({ role, ...(role === "tool" && typeof tool_call_id === "string" ? { tool_call_id } : {}) });
    const isPiece = message.concat !== undefined;
    if (typeof content === "string") {
      if (content !== "") grow(at("content:text", { type: "text", text: "" }), { type: "text-delta", text: content });
    } else if (Array.isArray(content)) {
      for (const part of content as unknown[]) if (isPart(part)) onPart(part);
    }
    if (isPiece) for (const piece of tool_call_chunks ?? []) onToolCall(piece);
    else for (const { id, name, args } of tool_calls ?? []) onToolCall({ id, name, args: toJson(args ?? {}) });
    if (usage_metadata !== undefined && usage_metadata !== null) usage = sum(usage, usage_metadata);
    if (response_metadata !== undefined && Object.keys(response_metadata).length > 0) {
      metadata = { ...metadata, ...response_metadata };
    }
  };

  return {
    event: onEvent,
    chunk: onChunk,
    finish,
    fail,
    get isOpen() {
      return state === "open";
    },
  };
}

interface ToolCallPiece {
  readonly index?: number | undefined;
  readonly id?: string | undefined;
  readonly name?: string | undefined;
  readonly args?: string | undefined;
}

interface MessageFields extends MessageLike {
  readonly content?: unknown;
  readonly tool_call_chunks?: readonly ToolCallPiece[];
  readonly tool_calls?: readonly { readonly id?: string; readonly name?: string; readonly args?: unknown }[];
  readonly usage_metadata?: Record<string, unknown> | null;
  readonly response_metadata?: Record<string, unknown>;
  readonly tool_call_id?: unknown;
}

/** Parts of a content that say the tool calls of the message once more, in the words of a provider. */
const CALLS = new Set(["tool_use", "input_json_delta", "tool_call", "tool_call_chunk", "function_call"]);

const isPart = (part: unknown): part is Readonly<Record<string, unknown>> =>
  typeof part === "object" && part !== null && "type" in part && typeof part.type === "string" && !CALLS.has(part.type);

const recordOf = (value: unknown): Record<string, unknown> | undefined =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined;

const given = (fields: Readonly<Record<string, unknown>>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined && value !== null));

const lengthOf = (text: unknown): number => (typeof text === "string" ? text.length : 0);
const textOf = (value: unknown): string => (typeof value === "string" ? value : "");

/** A piece of content as the delta it is. */
function deltaOf(content: unknown): Delta | undefined {
  const part = recordOf(content);
  if (typeof part?.type !== "string") return undefined;
  switch (part.type) {
    case "text":
      return { type: "text-delta", text: textOf(part.text) };
    case "reasoning":
      return { type: "reasoning-delta", reasoning: textOf(part.reasoning) };
    case "thinking":
      return { type: "reasoning-delta", reasoning: textOf(part.thinking) };
    default:
      return { type: "block-delta", fields: part };
  }
}

/** The empty block that a delta may go into; undefined when it cannot tell. */
function firstContent(delta: Delta): Record<string, unknown> | undefined {
  switch (delta.type) {
    case "text-delta":
      return { type: "text", text: "" };
    case "reasoning-delta":
      return { type: "reasoning", reasoning: "" };
    case "tool-call-delta":
      return { type: "tool_call_chunk", args: "" };
    case "block-delta":
      return typeof recordOf(delta.fields)?.type === "string" ? { type: recordOf(delta.fields)?.type } : undefined;
    default:
      return undefined;
  }
}

/** A content with more of it; undefined when the delta is of another kind. */
function withDelta(content: Record<string, unknown>, delta: Delta): Record<string, unknown> | undefined {
  switch (delta.type) {
    case "text-delta":
      return content.type === "text" ? { ...content, text: textOf(content.text) + textOf(delta.text) } : undefined;
    case "reasoning-delta":
      return content.type === "reasoning"
        ? { ...content, reasoning: textOf(content.reasoning) + textOf(delta.reasoning) }
        : content.type === "thinking"
          ? { ...content, thinking: textOf(content.thinking) + textOf(delta.reasoning) }
          : undefined;
    case "data-delta":
      return { ...content, data: textOf(content.data) + textOf(delta.data) };
    case "tool-call-delta":
      return content.type === "tool_call_chunk"
        ? { ...content, args: textOf(content.args) + textOf(delta.args) }
        : undefined;
    case "block-delta":
      return { ...content, ...recordOf(delta.fields) };
    default:
      return undefined;
  }
}

/** The start of a block that is said whole at its finish. */
function beginningOf(content: unknown): Record<string, unknown> {
  const { type = "text", id, name } = recordOf(content) ?? {};
  switch (type) {
    case "text":
      return { type, text: "" };
    case "reasoning":
      return { type, reasoning: "" };
    case "tool_call":
    case "invalid_tool_call":
      return { type: "tool_call_chunk", ...given({ id, name }), args: "" };
    default:
      return { ...recordOf(content) };
  }
}

/** A gathered content as that of a whole block. */
function finalContent(content: Record<string, unknown>): Record<string, unknown> {
  if (content.type !== "tool_call_chunk") return content;
  const { id, name, args } = content;
  const call = given({ id, name });
  const text = textOf(args);
  try {
    return { type: "tool_call", ...call, args: JSON.parse(text === "" ? "{}" : text) as unknown };
  } catch {
    return { type: "invalid_tool_call", ...call, args: text, error: "Failed to parse tool call arguments as JSON" };
  }
}

/** Core leaves out, or keeps, an index in a content. */
const isSame = (a: Json, b: Json): boolean => a === b || withoutIndex(a) === withoutIndex(b);
const withoutIndex = (json: Json): string => {
  const { index: _, ...rest } = JSON.parse(json) as Record<string, unknown>;
  return JSON.stringify(Object.entries(rest).sort(([a], [b]) => (a < b ? -1 : 1)));
};

/** More came for a block after it had been finished, and nobody has said the whole since. */
const isLonger = ({ finished }: Block, content: unknown): boolean => toJson(content).length > (finished?.length ?? 0);

/** Chunks say how much of the tokens they are; together they say all. */
function sum(a: Record<string, unknown> | undefined, b: Record<string, unknown>): Record<string, unknown> {
  if (a === undefined) return { ...b };
  const keys = new Set([...Object.keys(a), ...Object.keys(b)]);
  return Object.fromEntries(
    [...keys].map((key) => {
      const [left, right] = [a[key], b[key]];
      if (typeof left === "number" && typeof right === "number") return [key, left + right];
      const [inner, more] = [recordOf(left), recordOf(right)];
      return [key, inner !== undefined && more !== undefined ? sum(inner, more) : (right ?? left)];
    }),
  );
}
