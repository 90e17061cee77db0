/** Messages, inputs and outputs of graphs ↔ parts, messages and artifacts of A2A. Pure. */
import { type Artifact, type Message, type Part, Role } from "@a2a-js/sdk";
import { ContentTypeNotSupportedError, RequestMalformedError } from "@a2a-js/sdk/errors";
import type { Command } from "../../schemas/runs.ts";
import { answerOf, isObject, messagesOf, type PlainMessage, type Question, textOf } from "../run-output.ts";

export const textPart = (text: string, metadata?: Record<string, unknown>): Part => ({
  content: { $case: "text", value: text },
  metadata,
  filename: "",
  mediaType: "",
});

export const dataPart = (value: unknown, metadata?: Record<string, unknown>): Part => ({
  content: { $case: "data", value },
  metadata,
  filename: "",
  mediaType: "",
});

/** What the parts of a client's message say: its texts, and its data merged. */
interface Said {
  readonly texts: readonly string[];
  readonly data: Readonly<Record<string, unknown>>;
  readonly hasData: boolean;
}

function said({ parts }: Pick<Message, "parts">): Said {
  const texts: string[] = [];
  const data: Record<string, unknown> = {};
  let hasData = false;
  for (const { content } of parts) {
    if (content?.$case === "text") texts.push(content.value);
    else if (content?.$case === "data") {
      if (!isObject(content.value)) throw malformed("message.parts: data must be an object");
      Object.assign(data, content.value);
      hasData = true;
    } else throw new ContentTypeNotSupportedError("message.parts: only text and data parts are supported, not files");
  }
  return { texts, data, hasData };
}

const malformed = (message: string): RequestMalformedError => new RequestMalformedError(message);

/** The graph's input for a message that begins something. Text is a message of the conversation, data are members of the input. */
export function inputOf(message: Message, takesMessages: boolean): Readonly<Record<string, unknown>> {
  const { texts, data } = said(message);
  if (texts.length === 0) return data;
  if (!takesMessages)
    throw malformed("message.parts: this agent takes no text, because its input has no messages; send data");
  const own = {
    type: message.role === Role.ROLE_AGENT ? "ai" : "human",
    content: texts.join("\n"),
    id: message.messageId,
  };
  const before = Array.isArray(data.messages) ? (data.messages as unknown[]) : [];
  return { ...data, messages: [...before, own] };
}

/** The command for a message that answers what a task waits with. */
export function resumeOf(message: Message, questions: readonly Question[]): Command {
  const { texts, data, hasData } = said(message);
  if (hasData && "resume" in data) return { resume: namedAnswers(data.resume, questions) };
  if (hasData && texts.length > 0) throw malformed("message.parts: an answer is either text or data");
  if (questions.length > 1) {
    throw malformed(
      `message.parts: the task waits for ${questions.length} answers; send a data part {"resume": [{"id": …, "value": …}]}`,
    );
  }
  return { resume: hasData ? data : texts.join("\n") };
}

function namedAnswers(resume: unknown, questions: readonly Question[]): unknown {
  if (!Array.isArray(resume)) return resume;
  if (!resume.every((one) => isObject(one) && typeof one.id === "string" && "value" in one)) {
    throw malformed('message.parts: resume must be a list of {"id": …, "value": …}');
  }
  const answers = resume as readonly { readonly id: string; readonly value: unknown }[];
  const stranger = answers.find(({ id }) => !questions.some((question) => question.id === id));
  if (stranger !== undefined) throw malformed(`message.parts: resume: the task waits for no answer to ${stranger.id}`);
  return Object.fromEntries(answers.map(({ id, value }) => [id, value]));
}

/** Where a message of A2A stands. */
export interface Place {
  readonly task_id: string;
  readonly context_id: string;
}

export const messageAt = ({ task_id, context_id }: Place, id: string, role: Role, parts: Part[]): Message => ({
  messageId: id,
  contextId: context_id,
  taskId: task_id,
  role,
  parts,
  metadata: undefined,
  extensions: [],
  referenceTaskIds: [],
});

/** A message of the graph's conversation. Tool calls are data; a tool's result names the call. */
export function historyMessage(message: PlainMessage, index: number, context_id: string): Message {
  const { id, type, content } = message;
  const isUser = type === "human" || type === "user";
  const role = isUser ? Role.ROLE_USER : Role.ROLE_AGENT;
  const base = messageAt({ task_id: "", context_id }, id ?? `${context_id}:${index}`, role, partsOf(message));
  const correlation = message.tool_call_id == null ? {} : { toolCallId: message.tool_call_id };
  const metadata = { ...(isUser || type === "ai" ? {} : { type }), ...nameOf(message), ...correlation };
  return { ...base, parts: base.parts.length > 0 ? base.parts : [dataPart({ content })], ...orNone(metadata) };
}

const orNone = (metadata: Record<string, unknown>): { metadata: Record<string, unknown> | undefined } => ({
  metadata: Object.keys(metadata).length === 0 ? undefined : metadata,
});

const nameOf = ({ name }: PlainMessage): Record<string, unknown> => (name == null ? {} : { name });

function partsOf({ content, tool_calls = [] }: PlainMessage): Part[] {
  const text = textOf(content);
  const calls = tool_calls.map(({ id, name, args }) =>
    dataPart({ name, args }, { type: "tool_call", toolCallId: id ?? "" }),
  );
  return text === "" ? (calls.length > 0 ? calls : content === "" ? [textPart("")] : []) : [textPart(text), ...calls];
}

/** The answer's id is its run's, so that what is streamed of it and what is read of it later are one thing. */
export const answerArtifact = (run_id: string, parts: Part[]): Artifact => ({
  artifactId: run_id,
  name: "Assistant Response",
  description: "",
  parts,
  metadata: undefined,
  extensions: [],
});

/** What the run gave: the answer of a conversation as text, everything else of the output as data. */
export function outputArtifact(run_id: string, values: unknown): Artifact | undefined {
  const messages = messagesOf(values);
  if (messages === undefined || !isObject(values)) {
    return values === null || values === undefined ? undefined : answerArtifact(run_id, [dataPart(values)]);
  }
  const { messages: _, ...others } = values;
  const answer = answerOf(messages);
  const text = answer === undefined ? "" : textOf(answer.content);
  const parts = [
    ...(text === "" ? [] : [textPart(text)]),
    ...(Object.keys(others).length === 0 ? [] : [dataPart(others)]),
  ];
  return parts.length === 0 ? undefined : answerArtifact(run_id, parts);
}

/** A question, so that it can be answered by its id. */
export const questionArtifact = ({ id = "", value }: Question): Artifact => ({
  artifactId: `interrupt:${id}`,
  name: "Interrupt",
  description: "",
  parts: [dataPart({ id, value: value ?? null })],
  metadata: { interruptId: id },
  extensions: [],
});

/** Questions as the status tells them. */
export const questionParts = (questions: readonly Question[]): Part[] =>
  questions.map(({ id = "", value }) =>
    typeof value === "string" ? textPart(value, { interruptId: id }) : dataPart(value ?? null, { interruptId: id }),
  );
