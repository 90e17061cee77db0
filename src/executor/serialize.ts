/**
 * Values of user graphs → JSON text. Messages become plain objects with `type`, wherever they are; what JSON cannot
 * say is made sayable: functions vanish, a BigInt becomes its decimal text, a Map an object (or entries when its keys
 * are not strings), a Set an array, an Error `{message, name}`, bytes base64. A structure that contains itself is an
 * error, named `SerializationError`.
 *
 * `JSON.stringify` with a replacer would call back for every key; instead one walk copies only the branches that need
 * a change, and the native stringifier does the rest.
 */
import type { Json } from "./protocol.ts";

export class SerializationError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "SerializationError";
  }
}

/** A LangChain message, whichever copy of the library made it. */
export interface MessageLike {
  readonly id?: string | undefined;
  readonly lc_kwargs: Record<string, unknown>;
  _getType(): string;
  /** Only chunks have it. */
  concat?(chunk: MessageLike): MessageLike;
}

export function isMessage(value: unknown): value is MessageLike {
  if (typeof value !== "object" || value === null || !("lc_kwargs" in value)) return false;
  const candidate = value as { _getType?: unknown; lc_kwargs: unknown; content?: unknown };
  return typeof candidate._getType === "function" && typeof candidate.lc_kwargs === "object" && "content" in value;
}

/** JSON text of any value; `null` for what JSON has no text for. */
export function toJson(value: unknown): Json {
  return cleanText(JSON.stringify(plain(value, [])) ?? "null");
}

/** Lists from this length on are put together from the texts their older messages have. */
const LONG = 16;
/** Messages at the end of a list that are written anew each time: those that people and nodes edit. */
const FRESH = 4;

/** `toJson` of a state: a long list of messages is mostly the one that was sent before. */
export function stateJson(state: unknown): Json {
  if (!isPlainRecord(state)) return toJson(state);
  const long = Object.entries(state).filter(([, value]) => Array.isArray(value) && value.length >= LONG);
  if (long.length === 0) return toJson(state);
  const members = Object.entries(state).flatMap(([key, value]) => {
    if (value === undefined || typeof value === "function" || typeof value === "symbol") return [];
    const text = Array.isArray(value) && value.length >= LONG ? listJson(value) : toJson(value);
    return [`${cleanText(JSON.stringify(key))}:${text}`];
  });
  return `{${members.join()}}`;
}

const listJson = (items: readonly unknown[]): Json => `[${itemsJson(items, 0)}]`;

/** Texts of a list's items from this place on, joined by commas. */
export function itemsJson(items: readonly unknown[], from: number): Json {
  let text = "";
  for (let i = from; i < items.length; i += 1) {
    const item = items[i];
    if (i > from) text += ",";
    text += i < items.length - FRESH && isMessage(item) ? rememberedJson(item) : toJson(item);
  }
  return text;
}

/** A message's text, and the fields that change, if any does, as they were then. */
interface Remembered extends VolatileFields {
  readonly text: Json;
}
interface VolatileFields {
  readonly content?: unknown;
  readonly id?: unknown;
  readonly name?: unknown;
  readonly tool_calls?: unknown;
  readonly additional_kwargs?: unknown;
  readonly response_metadata?: unknown;
  readonly usage_metadata?: unknown;
}
const texts = new WeakMap<MessageLike, Remembered>();

/** One look at each field: a long list has thousands of messages, and is written at each step. */
function rememberedJson(message: MessageLike): Json {
  const now = message as VolatileFields;
  const then = texts.get(message);
  if (
    then !== undefined &&
    then.content === now.content &&
    then.id === now.id &&
    then.name === now.name &&
    then.tool_calls === now.tool_calls &&
    then.additional_kwargs === now.additional_kwargs &&
    then.response_metadata === now.response_metadata &&
    then.usage_metadata === now.usage_metadata
  ) {
    return then.text;
  }
  const text = messageJson(message);
  const { content, id, name, tool_calls, additional_kwargs, response_metadata, usage_metadata } = now;
  texts.set(message, {
    content,
    id,
    name,
    tool_calls,
    additional_kwargs,
    response_metadata,
    usage_metadata,
    text,
  });
  return text;
}

export function isPlainRecord(value: unknown): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null || "toJSON" in value) return false;
  const prototype = Object.getPrototypeOf(value) as object | null;
  return prototype === Object.prototype || prototype === null;
}

/** JSON text of one message (streaming calls this once per token). */
export function messageJson(message: MessageLike): Json {
  return cleanText(JSON.stringify(plainMessage(message, [])));
}

/** Replaces NUL and lone surrogates by U+FFFD. Both can only stand in JSON text as escapes, so the check is cheap. */
export function cleanText(json: Json): Json {
  if (!json.includes("\\u0000") && !json.includes("\\ud")) return json;
  // An escaped backslash is consumed as a pair, so the text `\\u0000` (a backslash, then letters) stays as it is.
  return json.replace(/\\\\|\\u0000|\\ud[89a-f][0-9a-f]{2}/g, (found) => (found === "\\\\" ? found : "\ufffd"));
}

/** A value as plain JSON-able data; the same reference when nothing in it needs a change. */
export function toPlain(value: unknown): unknown {
  return plain(value, []);
}

type Ancestors = object[];

function plain(value: unknown, above: Ancestors): unknown {
  if (typeof value === "object") return value === null ? null : plainObject(value, above);
  if (typeof value === "bigint") return value.toString();
  return value;
}

function plainObject(value: object, above: Ancestors): unknown {
  if (above.includes(value)) throw new SerializationError("A value contains itself and cannot be sent as JSON.");
  above.push(value);
  const result = convert(value, above);
  above.pop();
  return result;
}

function convert(value: object, above: Ancestors): unknown {
  if (Array.isArray(value)) return plainArray(value, above);
  if (isPlainRecord(value)) return plainRecord(value, above);
  if (isMessage(value)) return plainMessage(value, above);
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString();
  if (value instanceof Map) return plainMap(value, above);
  if (value instanceof Set) return plainArray([...value], above);
  if (value instanceof Error) return plainError(value, above);
  if (value instanceof RegExp) return String(value);
  if (value instanceof Uint8Array)
    return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("base64");
  if (value instanceof AbortSignal || value instanceof Promise || value instanceof WeakMap) return undefined;
  if (ArrayBuffer.isView(value) && !(value instanceof DataView)) return [...(value as Float64Array)];
  const own = (value as { toJSON?: unknown }).toJSON;
  if (typeof own === "function") return plain(own.call(value, ""), above);
  return plainRecord(value, above);
}

function plainArray(items: readonly unknown[], above: Ancestors): readonly unknown[] {
  let copy: unknown[] | undefined;
  for (let i = 0; i < items.length; i += 1) {
    const item = items[i];
    if (typeof item !== "object" && typeof item !== "bigint") continue;
    const changed = plain(item, above);
    if (changed === item) continue;
    copy ??= items.slice();
    copy[i] = changed;
  }
  return copy ?? items;
}

function plainRecord(record: object, above: Ancestors): object {
  const source = record as Record<string, unknown>;
  let copy: Record<string, unknown> | undefined;
  for (const key of Object.keys(source)) {
    const item = source[key];
    if (typeof item !== "object" && typeof item !== "bigint") continue;
    const changed = plain(item, above);
    if (changed === item) continue;
    copy ??= { ...source };
    copy[key] = changed;
  }
  return copy ?? record;
}

function plainMap(map: Map<unknown, unknown>, above: Ancestors): unknown {
  const entries = [...map].map(([key, item]) => [key, plain(item, above)] as const);
  if (entries.every(([key]) => typeof key === "string")) return Object.fromEntries(entries as [string, unknown][]);
  return entries.map(([key, item]) => [plain(key, above), item]);
}

function plainError(error: Error, above: Ancestors): object {
  return { message: error.message, name: error.name, ...plainRecord({ ...error }, above) };
}

/** `toDict().data` plus `type`, without the detours: the fields the message was made with, at their present values. */
function plainMessage(message: MessageLike, above: Ancestors): Record<string, unknown> {
  const fields = message as unknown as Record<string, unknown>;
  const result: Record<string, unknown> = {};
  for (const key of Object.keys(message.lc_kwargs)) {
    if (key === "type") continue;
    const value = key in fields ? fields[key] : message.lc_kwargs[key];
    if (value === undefined || typeof value === "function") continue;
    result[snakeCase(key)] = typeof value === "object" || typeof value === "bigint" ? plain(value, above) : value;
  }
  // An id given after construction (LangGraph's handlers do) is not among the fields.
  if (result.id === undefined && message.id !== undefined) result.id = message.id;
  result.type = message._getType();
  return result;
}

const snakeCases = new Map<string, string>();

function snakeCase(key: string): string {
  let snake = snakeCases.get(key);
  if (snake === undefined) {
    snake = key
      .replace(/([A-Z]+)([A-Z][a-z0-9]+)/g, "$1_$2")
      .replace(/([a-z0-9])([A-Z])/g, "$1_$2")
      .replace(/[-_\s]+/g, "_")
      .toLowerCase();
    snakeCases.set(key, snake);
  }
  return snake;
}
