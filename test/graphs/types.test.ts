/** The types of graphs as JSON schemas, without a server. */
import { expect, test } from "vitest";
import { TypeReader } from "../../src/graphs/derive.ts";
import { Types } from "../../src/graphs/type-schemas.ts";
import { MESSAGE_SCHEMA, type TypeSchemas } from "../../src/schemas/graphs.ts";
import { project } from "../support/project.ts";

const STATE = `
import type { Document } from "@langchain/core/documents";
import type { AIMessage, BaseMessage } from "@langchain/core/messages";
import { Annotation, MessagesAnnotation, START, StateGraph } from "@langchain/langgraph";

interface Item {
  /** What it is called. */
  name: string;
  price?: number;
  parent?: Item;
  describe(): string;
}
enum Color { Red = "red", Blue = "blue" }
type Json = string | number | boolean | null | Json[] | { [key: string]: Json };
class Thing { #secret = 1; shown = 2; private hidden = 3; }
interface Box<T> { content: T }

export const State = Annotation.Root({
  ...MessagesAnnotation.spec,
  /** How many. */
  count: Annotation<number>,
  items: Annotation<string[]>({ reducer: (a, b) => a.concat(b), default: () => [] }),
  added: Annotation<string[], string>({ reducer: (a, b) => [...a, b], default: () => [] }),
  tree: Annotation<Item>,
  mood: Annotation<"happy" | "sad" | null>,
  flag: Annotation<boolean | undefined>,
  mixed: Annotation<"x" | 1 | true>,
  color: Annotation<Color>,
  word: Annotation<\`a-\${string}\`>,
  pair: Annotation<[string, number?]>,
  both: Annotation<{ a: 1 } & { b: string }>,
  dictionary: Annotation<Record<string, { n: number }> | null>,
  box: Annotation<Box<{ deep: string[] }>>,
  part: Annotation<Partial<Pick<Item, "name">>>,
  shape: Annotation<{ kind: "a"; x: number } | { kind: "b"; y: string }>,
  json: Annotation<Json>,
  when: Annotation<Date | null>,
  link: Annotation<URL>,
  thing: Annotation<Thing>,
  last: Annotation<AIMessage | null>,
  nested: Annotation<{ message: BaseMessage; log: BaseMessage[] }>,
  doc: Annotation<Document<{ page: number }>>,
  any: Annotation<any>,
  unknown: Annotation<unknown>,
  bytes: Annotation<Uint8Array>,
  map: Annotation<Map<string, number>>,
  big: Annotation<bigint>,
  call: Annotation<() => void>,
  later: Annotation<Promise<string>>,
});
export const graph = new StateGraph(State).addNode("one", () => ({})).addEdge(START, "one").compile();
`;

const reader = new TypeReader();
const MESSAGES = { type: "array", items: MESSAGE_SCHEMA };
const objectOf = (properties: object, required = Object.keys(properties)) => ({ type: "object", properties, required });

test("everything a state may hold", async () => {
  await using files = await project({ "graph.ts": STATE });
  const { graph } = read(files.dir, "graph.ts", ["graph"])("graph");
  expect(graph.context).toBeUndefined();
  expect(graph.state).not.toHaveProperty("required");
  expect(graph.state).toMatchObject({ $schema: "http://json-schema.org/draft-07/schema#", type: "object" });
  expect(graph.state?.properties).toEqual({
    messages: MESSAGES,
    count: { type: "number", description: "How many." },
    items: { type: "array", items: { type: "string" } },
    added: { type: "array", items: { type: "string" } },
    tree: { $ref: "#/definitions/Item" },
    mood: { anyOf: [{ type: "string", enum: ["happy", "sad"] }, { type: "null" }] },
    flag: { type: "boolean" },
    mixed: { enum: [true, 1, "x"] },
    color: { type: "string", enum: ["red", "blue"] },
    word: { type: "string" },
    pair: { type: "array", items: [{ type: "string" }, { type: "number" }], minItems: 1, maxItems: 2 },
    both: objectOf({ a: { type: "number", const: 1 }, b: { type: "string" } }),
    dictionary: {
      anyOf: [{ type: "object", additionalProperties: objectOf({ n: { type: "number" } }) }, { type: "null" }],
    },
    box: objectOf({ content: objectOf({ deep: { type: "array", items: { type: "string" } } }) }),
    part: { type: "object", properties: { name: { type: "string", description: "What it is called." } } },
    shape: {
      anyOf: [
        objectOf({ kind: { type: "string", const: "a" }, x: { type: "number" } }),
        objectOf({ kind: { type: "string", const: "b" }, y: { type: "string" } }),
      ],
    },
    json: expect.objectContaining({
      anyOf: expect.arrayContaining([{ type: "array", items: { $ref: "#/definitions/Json" } }]),
    }),
    when: { anyOf: [{ type: "string", format: "date-time" }, { type: "null" }] },
    link: { type: "string" },
    thing: objectOf({ shown: { type: "number" } }),
    last: { anyOf: [MESSAGE_SCHEMA, { type: "null" }] },
    nested: objectOf({ message: MESSAGE_SCHEMA, log: MESSAGES }),
    doc: expect.objectContaining({ type: "object", required: ["pageContent", "metadata"] }),
    ...Object.fromEntries(["any", "unknown", "bytes", "map", "big", "call", "later"].map((name) => [name, {}])),
  });
  expect(graph.state?.definitions).toMatchObject({
    Item: {
      type: "object",
      properties: {
        name: { type: "string", description: "What it is called." },
        parent: { $ref: "#/definitions/Item" },
      },
      required: ["name"],
    },
    Json: {},
  });
  // What a client sends is what the reducers take.
  expect(graph.input?.properties).toMatchObject({
    messages: MESSAGES,
    items: { type: "array", items: { type: "string" } },
    added: { type: "string" },
  });
});

test("input, output, context, and all that a graph may be exported as", async () => {
  await using files = await project({
    "graphs.ts": `
      import { Annotation, entrypoint, MessagesAnnotation, START, StateGraph } from "@langchain/langgraph";
      import { inner } from "#lib/inner.js";
      const State = Annotation.Root({ total: Annotation<number>, secret: Annotation<string> });
      const parts = {
        input: Annotation.Root({ total: Annotation<number> }),
        output: Annotation.Root({ secret: Annotation<string> }),
      };
      const Settings = Annotation.Root({ model: Annotation<"small" | "large"> });
      const leaf = new StateGraph(MessagesAnnotation).addNode("m", () => ({})).addEdge(START, "m").compile();
      export const builder = new StateGraph({ stateSchema: State, ...parts }, Settings)
        .addNode("inner", inner)
        .addNode("leaf", leaf)
        .addNode("twice", leaf)
        .addEdge(START, "inner");
      export const compiled = builder.compile();
      export async function factory(config: unknown) { return builder.compile(); }
      export const promise = Promise.resolve(compiled);
      export const agent = { graph: compiled };
      export default compiled;
      export const flow = entrypoint({ name: "flow" }, async (input: { city: string; days?: number }) => [input.city]);
      export const vague: any = compiled;
      export const other = new StateGraph(State).addNode("twice", inner).addEdge(START, "twice").compile();
    `,
    "lib/inner.ts": `
      import { Annotation, START, StateGraph } from "@langchain/langgraph";
      const State = Annotation.Root({ words: Annotation<string[]> });
      export const inner = new StateGraph(State).addNode("a", () => ({})).addEdge(START, "a").compile();
    `,
    "tsconfig.json": `{ "compilerOptions": { /* as people write it */ "paths": { "#lib/*": ["./lib/*"] } } }`,
  });
  const same = ["builder", "factory", "promise", "agent", "default"];
  const of = read(files.dir, "graphs.ts", ["compiled", ...same, "flow", "vague", "missing"]);
  const { graph, subgraphs } = of("compiled");
  const members = ({ input, output, state, context }: TypeSchemas) =>
    [input, output, state, context].map((schema) => schema?.properties);
  expect(members(graph)).toEqual([
    { total: { type: "number" } },
    { secret: { type: "string" } },
    { total: { type: "number" }, secret: { type: "string" } },
    { model: { type: "string", enum: ["small", "large"] } },
  ]);
  for (const name of same) expect(of(name).graph, name).toEqual(graph);
  expect(subgraphs.inner?.state?.properties).toEqual({ words: { type: "array", items: { type: "string" } } });
  expect(subgraphs.leaf?.input?.properties).toEqual({ messages: MESSAGES });
  // Two graphs go by this name: it says nothing.
  expect(subgraphs).not.toHaveProperty("twice");

  const flow = of("flow").graph;
  expect(flow.input).toMatchObject({
    properties: { city: { type: "string" }, days: { type: "number" } },
    required: ["city"],
  });
  expect(flow.output).toMatchObject({ type: "array", items: { type: "string" } });
  expect(flow.state).toBeUndefined();
  expect(of("vague").graph).toEqual({});
  expect(of("missing").graph).toEqual({});
});

test("a reader that dies is a graph without types, and no error", async () => {
  const problems: string[] = [];
  // Under vitest there is no compiled entry beside the source: the process ends at once.
  const spec = { graph_id: "g", file: "/g.ts", export_name: "graph", description: null };
  const specs = [spec, spec, { ...spec, file: "/h.ts" }];
  const types = new Types({
    graphs: () => specs,
    project_dir: "/",
    timeoutMs: 60_000,
    idleMs: 1,
    onProblem: (...said) => problems.push(said.join(": ")),
  });
  expect(await Promise.all(specs.map((spec) => types.of(spec)))).toEqual([null, null, null]);
  expect(problems).toEqual(["/g.ts: its process ended (1)", "/h.ts: its process ended (1)"]);
});

function read(dir: string, file: string, export_names: readonly string[]) {
  const types = reader.read({ file: `${dir}/${file}`, export_names, project_dir: dir });
  return (name: string) => types[name] ?? { graph: {}, subgraphs: {} };
}
