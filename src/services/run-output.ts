/** The JSON text that `wait` answers with, read for callers of MCP and A2A. Pure. */
import type { ErrorBody } from "../errors.ts";
import type { Json } from "../executor/protocol.ts";

/** A question as `__interrupt__` shows it. */
export interface Question {
  readonly id?: string;
  readonly value?: unknown;
}

export interface RunOutcome {
  /** The graph's output; null when it gave none. */
  readonly values: unknown;
  /** What the graph waits for. */
  readonly questions: readonly Question[];
  readonly error: ErrorBody | null;
}

/** A message as graphs and streams show it. */
export interface PlainMessage {
  readonly type: string;
  readonly content: unknown;
  readonly id?: string | null;
  readonly name?: string | null;
  readonly tool_calls?: readonly { readonly id?: string; readonly name?: string; readonly args?: unknown }[];
  readonly tool_call_id?: string | null;
}

export function readOutput(json: Json): RunOutcome {
  const output = JSON.parse(json) as unknown;
  if (!isObject(output)) return { values: output, questions: [], error: null };
  if (isObject(output.__error__))
    return { values: null, questions: [], error: output.__error__ as unknown as ErrorBody };
  const { __interrupt__: questions, ...values } = output;
  return { values, questions: Array.isArray(questions) ? (questions as Question[]) : [], error: null };
}

export const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** The messages of an output that has some. */
export function messagesOf(values: unknown): readonly PlainMessage[] | undefined {
  if (!isObject(values) || !Array.isArray(values.messages)) return undefined;
  return values.messages.filter((message): message is PlainMessage => isObject(message) && "content" in message);
}

/** The text of a message's content, whether it is a string or a list of blocks. */
export function textOf(content: unknown): string {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return "";
  return content
    .map((block: unknown) =>
      isObject(block) && block.type === "text" && typeof block.text === "string" ? block.text : "",
    )
    .join("");
}

/** What the agent said last, if its last word is text. */
export function answerOf(messages: readonly PlainMessage[]): PlainMessage | undefined {
  const last = messages.at(-1);
  return last?.type.startsWith("ai") === true || last?.type === "AIMessageChunk" ? last : undefined;
}
