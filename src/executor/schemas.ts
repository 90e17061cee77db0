/** JSON schemas of what graphs take, keep and give. */
import type { JsonObject } from "../schemas/common.ts";
import { MESSAGE_SCHEMA, type TypeSchemas } from "../schemas/graphs.ts";
import type { GraphLike, LangGraph } from "./langgraph.ts";
import type { Question } from "./protocol.ts";

/** As the contract names them. Context is what newer graphs call their config: both are the same. */
interface Schemas {
  readonly input_schema: JsonObject;
  readonly output_schema: JsonObject;
  readonly state_schema: JsonObject;
  readonly config_schema?: JsonObject;
  readonly context_schema?: JsonObject;
}

/** Of each, the best that is known: what the graph has at run time, what its types say, what its channels tell. */
export async function schemasOf(
  graph: GraphLike,
  langgraph: LangGraph,
  types: TypeSchemas | undefined,
): Promise<Schemas> {
  const own = await runtimeSchemas(graph, langgraph);
  const context = own.context ?? types?.context;
  return {
    input_schema: own.input ?? types?.input ?? channelsSchema(graph, inputKeys(graph)),
    output_schema: own.output ?? types?.output ?? channelsSchema(graph, graph.outputChannels),
    state_schema: own.state ?? types?.state ?? channelsSchema(graph, graph.streamChannelsAsIs),
    ...(context === undefined ? {} : { config_schema: context, context_schema: context }),
  };
}

/** Where a builder keeps the schemas its graph was made with. */
const DEFINITIONS = {
  state: "_schemaRuntimeDefinition",
  input: "_inputRuntimeDefinition",
  output: "_outputRuntimeDefinition",
  context: "_configRuntimeSchema",
} as const;
type Kind = keyof typeof DEFINITIONS;
type Definitions = Readonly<Record<(typeof DEFINITIONS)[Kind], unknown>>;

async function runtimeSchemas(graph: GraphLike, langgraph: LangGraph): Promise<TypeSchemas> {
  const module = await langgraph.schemas();
  if (module === undefined) return {};
  const read: Record<Kind, (graph: unknown) => unknown> = {
    state: module.getStateTypeSchema,
    input: module.getInputTypeSchema,
    output: module.getOutputTypeSchema,
    context: module.getConfigTypeSchema,
  };
  const found = (Object.keys(read) as Kind[]).flatMap((kind) => {
    const schema = attempt(read[kind], graph) ?? memberByMember(read[kind], graph, kind);
    return schema === undefined ? [] : [[kind, withMessages(schema)]];
  });
  return Object.fromEntries(found) as TypeSchemas;
}

function attempt(read: (graph: unknown) => unknown, graph: unknown): JsonObject | undefined {
  try {
    return read(graph) as JsonObject | undefined;
  } catch {
    // Something in it has no JSON form, such as a transform or a custom check: zod then writes nothing at all.
    return undefined;
  }
}

/** What can be written of a schema that cannot be written whole; the other members are what their channels tell. */
function memberByMember(read: (graph: unknown) => unknown, graph: GraphLike, kind: Kind): JsonObject | undefined {
  const builder = graph.builder as Definitions | undefined;
  const own = builder?.[DEFINITIONS[kind]];
  // A symbol says: as the state, in parts.
  const definition = typeof own === "symbol" ? builder?._schemaRuntimeDefinition : own;
  if (builder === undefined || !isZodObject(definition)) return undefined;
  const properties: Record<string, unknown> = {};
  const $defs: Record<string, unknown> = {};
  const required: string[] = [];
  for (const key of Object.keys(definition.shape)) {
    const part = attempt((each) => read({ builder: only(each as Definitions, key) }), builder) as
      | ObjectSchema
      | undefined;
    const { property, defs } = part === undefined ? {} : memberOf(part, key);
    properties[key] = property ?? channelSchema(key, graph.channels[key]);
    Object.assign($defs, defs);
    required.push(...(part?.required ?? []));
  }
  return {
    $schema: DIALECT,
    type: "object",
    properties,
    ...(required.length > 0 ? { required } : {}),
    ...(Object.keys($defs).length > 0 ? { $defs } : {}),
  };
}

/** A member and what it refers to, under names that no other member has. */
function memberOf({ properties, $defs = {} }: ObjectSchema, key: string): { property?: JsonObject; defs?: JsonObject } {
  const defs = Object.fromEntries(Object.entries($defs).map(([name, schema]) => [`${key}.${name}`, schema]));
  const place = encodeURIComponent(key.replaceAll("~", "~0").replaceAll("/", "~1"));
  const text = JSON.stringify({ property: properties?.[key], defs });
  return JSON.parse(text.replaceAll('"$ref":"#/$defs/', `"$ref":"#/$defs/${place}.`));
}

interface ObjectSchema extends JsonObject {
  readonly $defs?: Readonly<Record<string, JsonObject>>;
  readonly properties?: Readonly<Record<string, JsonObject>>;
  readonly required?: readonly string[];
}

interface ZodObject {
  readonly shape: Readonly<Record<string, unknown>>;
  pick(members: Readonly<Record<string, true>>): unknown;
}

const isZodObject = (value: unknown): value is ZodObject =>
  typeof value === "object" &&
  value !== null &&
  "shape" in value &&
  "pick" in value &&
  typeof value.pick === "function";

function only(definitions: Definitions, key: string): Partial<Definitions> {
  const picked = Object.values(DEFINITIONS).map((name) => {
    const definition = definitions[name];
    return [name, isZodObject(definition) && key in definition.shape ? definition.pick({ [key]: true }) : definition];
  });
  return Object.fromEntries(picked) as Partial<Definitions>;
}

/** LangGraph only marks where messages are; what they are is said here. */
function withMessages(schema: JsonObject): JsonObject {
  const { properties } = schema as { properties?: Record<string, JsonObject> };
  if (properties === undefined) return schema;
  const described = Object.entries(properties).map(([key, property]) =>
    property.langgraph_type === "messages" && !("items" in property)
      ? [key, { type: "array", items: MESSAGE_SCHEMA, ...property }]
      : [key, property],
  );
  return { ...schema, properties: Object.fromEntries(described) };
}

export async function isUntyped(graph: GraphLike, langgraph: LangGraph): Promise<boolean> {
  const lacks = async (each: GraphLike): Promise<boolean> => {
    const { state, input, output } = await runtimeSchemas(each, langgraph);
    return state === undefined || input === undefined || output === undefined;
  };
  if (await lacks(graph)) return true;
  for await (const [, subgraph] of graph.getSubgraphsAsync(undefined, true)) if (await lacks(subgraph)) return true;
  return false;
}

/** A graph reads its input from one channel, `__start__`; the keys it takes are known to its builder. */
function inputKeys(graph: GraphLike): string | readonly string[] {
  const { builder } = graph as { builder?: { _inputDefinition?: unknown; _schemaDefinition?: unknown } };
  const definition = builder?._inputDefinition ?? builder?._schemaDefinition;
  if (typeof definition === "object" && definition !== null) {
    const keys = Object.keys(definition).filter((key) => key in graph.channels);
    if (keys.length > 0) return keys;
  }
  return graph.inputChannels === "__start__" ? graph.streamChannelsAsIs : graph.inputChannels;
}

const DIALECT = "http://json-schema.org/draft-07/schema#";

/** What can be said of a state that has no schema: its keys, and that messages are messages. */
function channelsSchema(graph: GraphLike, keys: string | readonly string[]): JsonObject {
  // One value and no members (functional API): it may be anything.
  if (typeof keys === "string") return { $schema: DIALECT };
  const visible = keys.filter((key) => !key.startsWith("__") && !key.startsWith("branch:"));
  const properties = Object.fromEntries(visible.map((key) => [key, channelSchema(key, graph.channels[key])]));
  return { $schema: DIALECT, type: "object", properties };
}

function channelSchema(key: string, channel: unknown): JsonObject {
  if (key === "messages" || hasMessagesReducer(channel)) return { type: "array", items: MESSAGE_SCHEMA };
  if (key === "ui") return { type: "array", items: { type: "object" } };
  const initial = initialValue(channel);
  if (Array.isArray(initial)) return { type: "array" };
  const type = typeof initial;
  return type === "string" || type === "number" || type === "boolean" ? { type } : {};
}

function hasMessagesReducer(channel: unknown): boolean {
  const { operator } = (channel ?? {}) as { operator?: unknown };
  return typeof operator === "function" && operator.name === "messagesStateReducer";
}

/** The default of a reducer channel tells its type. */
function initialValue(channel: unknown): unknown {
  const { initialValueFactory } = (channel ?? {}) as { initialValueFactory?: unknown };
  if (typeof initialValueFactory !== "function") return undefined;
  try {
    return initialValueFactory() as unknown;
  } catch {
    return undefined;
  }
}

export async function subgraphsOf(
  graph: GraphLike,
  langgraph: LangGraph,
  { namespace, recurse, types }: Extract<Question, { ask: "subgraphs" }>,
): Promise<Record<string, Schemas>> {
  const found: Record<string, Schemas> = {};
  for await (const [name, subgraph] of graph.getSubgraphsAsync(namespace ?? undefined, recurse)) {
    const node = name.split("|").at(-1) ?? name;
    found[name] = await schemasOf(subgraph, langgraph, types?.subgraphs[node]);
  }
  return found;
}
