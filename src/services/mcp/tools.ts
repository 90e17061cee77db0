/** Assistants as tools of MCP: their names, their schemas, and what a call's output says. Pure. */
import type { CallToolResult, Tool } from "@modelcontextprotocol/sdk/types.js";
import type { Assistant } from "../../schemas/assistants.ts";
import { publicText } from "../public-text.ts";
import { answerOf, isObject, messagesOf, type RunOutcome, textOf } from "../run-output.ts";
import { portable, type Schema } from "./portable.ts";

/** What names and places of tools depend on. */
export type Named = Pick<Assistant, "assistant_id" | "name" | "graph_id" | "description" | "created_at">;

export interface NamedTool {
  readonly name: string;
  readonly assistant: Named;
}

/** Models of several providers take no more. */
const LONGEST_NAME = 64;
const SUFFIX_DIGITS = 8;

/**
 * Each assistant with its tool's name, in the order given (oldest first). Of several that would have the same name the first has it, and
 * the others end in the last digits of their ids: so an assistant that comes later changes no name.
 */
export function toolNames(assistants: readonly Named[]): NamedTool[] {
  const taken = new Set<string>();
  return assistants.map((assistant) => {
    const plain = sanitised(assistant.name) || sanitised(assistant.graph_id) || "assistant";
    const name = taken.has(plain) ? `${plain.slice(0, LONGEST_NAME - SUFFIX_DIGITS - 1)}_${suffix(assistant)}` : plain;
    taken.add(name);
    return { name, assistant };
  });
}

const sanitised = (text: string): string =>
  text
    .replaceAll(/[^a-zA-Z0-9_-]+/g, "_")
    .replaceAll(/^_+|_+$/g, "")
    .slice(0, LONGEST_NAME);

const suffix = ({ assistant_id }: Named): string => assistant_id.replaceAll("-", "").slice(-SUFFIX_DIGITS);

/** Schemas of a graph, as `GET /assistants/{id}/schemas` answers. */
export interface GraphSchemas {
  readonly input_schema?: Schema | null;
  readonly output_schema?: Schema | null;
}

export function toolOf({ name, assistant }: NamedTool, { input_schema, output_schema }: GraphSchemas): Tool {
  const outputSchema = outputSchemaOf(output_schema);
  return {
    name,
    title: assistant.name,
    description: assistant.description || `The agent "${assistant.name}".`,
    inputSchema: inputSchemaOf(input_schema) as Tool["inputSchema"],
    ...(outputSchema === undefined ? {} : { outputSchema: outputSchema as NonNullable<Tool["outputSchema"]> }),
  };
}

const SIMPLE_MESSAGES = {
  type: "array",
  description: "Messages to the agent, oldest first.",
  items: {
    type: "object",
    properties: {
      role: { type: "string", enum: ["user", "assistant", "system"], default: "user" },
      content: { type: "string" },
    },
    required: ["content"],
  },
};

/** A graph whose input is no object takes it as the argument `input`. */
export function inputSchemaOf(schema: Schema | null | undefined): Schema {
  if (takesObject(schema)) return withMessages(portable(schema), SIMPLE_MESSAGES);
  return {
    type: "object",
    properties: { input: portable(schema ?? {}, "#/properties/input") },
    required: ["input"],
  };
}

/** Undefined when nothing is known of it. A graph need not write every channel, so nothing is required. */
export function outputSchemaOf(schema: Schema | null | undefined): Schema | undefined {
  if (!takesObject(schema) || !isObject(schema.properties) || Object.keys(schema.properties).length === 0)
    return undefined;
  const { required: _, additionalProperties: __, ...rest } = portable(schema);
  return withMessages(rest, { type: "array", items: { type: "object" } });
}

const takesObject = (schema: Schema | null | undefined): schema is Schema => schema?.type === "object";

function withMessages(schema: Schema, messages: Schema): Schema {
  if (!isObject(schema.properties)) return schema;
  const properties = Object.entries(schema.properties).map(([name, property]) => [
    name,
    isMessages(property) ? messages : property,
  ]);
  return { ...schema, properties: Object.fromEntries(properties) };
}

const isMessages = (schema: unknown): boolean =>
  isObject(schema) && schema.type === "array" && isObject(schema.items) && schema.items.title === "Message";

/** The run's input for the arguments of a call. */
export function inputOf(schema: Schema | null | undefined, given: Readonly<Record<string, unknown>>): unknown {
  if (!takesObject(schema)) return given.input;
  const properties = isObject(schema.properties) ? schema.properties : {};
  return Object.fromEntries(
    Object.entries(given).map(([name, value]) => [
      name,
      isMessages(properties[name]) && Array.isArray(value) ? value.map(withRole) : value,
    ]),
  );
}

const withRole = (message: unknown): unknown =>
  isObject(message) && message.role === undefined && message.type === undefined
    ? { role: "user", ...message }
    : message;

/** What a call answers. An agent that asks back cannot be answered here: each call is a run of its own. */
export function resultOf({ values, questions, error }: RunOutcome): CallToolResult {
  if (error !== null) return failed(`${error.error}: ${publicText(error.message)}`);
  if (questions.length > 0) {
    const asked = questions.map(({ value }) => (typeof value === "string" ? value : JSON.stringify(value))).join("\n");
    return failed(`The agent stopped to ask something, and a tool call cannot answer: ${asked}`);
  }
  const text = { type: "text" as const, text: shown(values) };
  return isObject(values) ? { content: [text], structuredContent: values } : { content: [text] };
}

export const failed = (text: string): CallToolResult => ({ isError: true, content: [{ type: "text", text }] });

/** Of a conversation the answer, of anything else all of it. */
function shown(values: unknown): string {
  const messages = messagesOf(values);
  const others = isObject(values) ? Object.keys(values).filter((name) => name !== "messages") : [];
  const answer = messages === undefined || others.length > 0 ? undefined : answerOf(messages);
  return (answer && textOf(answer.content)) || JSON.stringify(values);
}
