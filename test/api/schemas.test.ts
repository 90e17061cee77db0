/** What a server says of its graphs: schemas of every kind of state, subgraphs, drawings. */
import { join } from "node:path";
import { Client } from "@langchain/langgraph-sdk";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { MESSAGE_SCHEMA } from "../../src/schemas/graphs.ts";
import type { Any } from "../runs/support.ts";
import { http, ok } from "../support/http.ts";
import { eventually, project, put, startServer, type TempDir, type TestServer } from "../support/server.ts";

const IMPORTS = `import { Annotation, MessagesAnnotation, MessagesZodMeta, MessagesZodState, START, StateGraph, entrypoint } from "@langchain/langgraph";
import { withLangGraph } from "@langchain/langgraph/zod";
import { z } from "zod";`;
const COMPILE = `.addNode("one", () => ({})).addEdge(START, "one").compile();`;

const ZOD = `${IMPORTS}
const State = z.object({
  messages: withLangGraph(z.array(z.custom()), MessagesZodMeta),
  count: z.number().describe("How many."),
  items: withLangGraph(z.array(z.string()), { reducer: { fn: (a, b) => a.concat(b), schema: z.string() }, default: () => [] }),
});
const Context = z.object({
  prompt: withLangGraph(z.string().optional(), { jsonSchemaExtra: { langgraph_nodes: ["one"], langgraph_type: "prompt" } }),
  model: z.enum(["small", "large"]).default("small"),
});
const inner = new StateGraph(z.object({ count: z.number() }))${COMPILE}
export const graph = new StateGraph({
  state: State,
  input: z.object({ count: z.number() }),
  output: z.object({ items: z.array(z.string()) }),
}, Context).addNode("inner", inner).addEdge(START, "inner").compile();
export const plain = new StateGraph(State)${COMPILE}
export const older = new StateGraph(MessagesZodState)${COMPILE}`;

const UNTYPED = `${IMPORTS}
export const graph = new StateGraph(Annotation.Root({
  ...MessagesAnnotation.spec,
  list: Annotation({ reducer: (a, b) => a.concat(b), default: () => [] }),
  free: Annotation(),
}))${COMPILE}
export const flow = entrypoint({ name: "flow" }, async (input) => input);
export const unwritable = new StateGraph(z.object({ when: z.string().transform((text) => new Date(text)) }))${COMPILE}`;

const TYPED = (
  type: string,
) => `import { Annotation, MessagesAnnotation, START, StateGraph } from "@langchain/langgraph";
import { outer } from "./lib/types.js";
const State = Annotation.Root({
  ...MessagesAnnotation.spec,
  count: Annotation<${type}>,
  items: Annotation<string[]>({ reducer: (a, b) => a.concat(b), default: () => [] }),
});
const leaf = new StateGraph(outer)${COMPILE}
export const graph = new StateGraph(State, Annotation.Root({ model: Annotation<"small" | "large"> }))
  .addNode("leaf", leaf).addEdge(START, "leaf").compile();
export const vague: any = new StateGraph(State)${COMPILE}`;

const TYPES = `import { Annotation } from "@langchain/langgraph";
export interface Item { name: string; price?: number }
export const outer = Annotation.Root({ item: Annotation<Item> });`;

const DIALECT = "http://json-schema.org/draft-07/schema#";
const MESSAGES = { type: "array", items: MESSAGE_SCHEMA };

let files: TempDir;
let server: TestServer;
const schemas = (graph: string): Promise<Any> => ok(http(server.url).get(`/assistants/${graph}/schemas`));
const properties = async (graph: string, kind: string) => (await schemas(graph))[`${kind}_schema`].properties;

beforeAll(async () => {
  const sources = { "zod.mjs": ZOD, "untyped.mjs": UNTYPED, "typed.ts": TYPED("number"), "lib/types.ts": TYPES };
  const graphs = {
    zod: "./zod.mjs:graph",
    zod_plain: "./zod.mjs:plain",
    zod_older: "./zod.mjs:older",
    untyped: "./untyped.mjs:graph",
    flow: "./untyped.mjs:flow",
    unwritable: "./untyped.mjs:unwritable",
    typed: "./typed.ts:graph",
    vague: "./typed.ts:vague",
  };
  files = await project(sources, { graphs });
  server = await startServer({ project: files, command: "dev" });
});
afterAll(async () => {
  await server?.[Symbol.asyncDispose]();
  await files?.[Symbol.asyncDispose]();
});

describe("of zod states", () => {
  test("state, input and output", async () => {
    const { graph_id, input_schema, output_schema, state_schema } = await schemas("zod");
    expect(graph_id).toBe("zod");
    expect(input_schema.properties).toEqual({ count: { type: "number" } });
    expect(output_schema.properties).toMatchObject({ items: { type: "array", items: { type: "string" } } });
    expect(state_schema.properties).toMatchObject({
      messages: MESSAGES,
      count: { type: "number", description: "How many." },
      items: { type: "array" },
    });
    expect(state_schema.required).toEqual(["count", "items"]);
    expect(await properties("zod_older", "state")).toEqual({ messages: { langgraph_type: "messages", ...MESSAGES } });
    // Without an input of its own a graph takes what its reducers take.
    expect(await properties("zod_plain", "input")).toMatchObject({ items: { type: "string" }, messages: MESSAGES });
  });

  test("hints for Studio pass through, in the config and in the context", async () => {
    const { config_schema, context_schema } = await schemas("zod");
    expect(config_schema.properties).toMatchObject({
      prompt: { type: "string", langgraph_nodes: ["one"], langgraph_type: "prompt" },
      model: { enum: ["small", "large"], default: "small" },
    });
    expect(context_schema).toEqual(config_schema);
    expect(await schemas("zod_plain")).not.toHaveProperty("config_schema");
  });
});

describe("of states without a schema", () => {
  test("what their channels tell", async () => {
    const expected = { messages: MESSAGES, list: { type: "array" }, free: {} };
    const untyped = await schemas("untyped");
    for (const kind of ["input", "output", "state"]) {
      expect(untyped[`${kind}_schema`]).toEqual({ $schema: DIALECT, type: "object", properties: expected });
    }
  });

  test("the functional API, and a schema that has no JSON form", async () => {
    const anything = { $schema: DIALECT };
    expect(await schemas("flow")).toEqual({
      graph_id: "flow",
      input_schema: anything,
      output_schema: anything,
      state_schema: anything,
    });
    expect(Object.keys(await properties("unwritable", "state"))).toEqual(["when"]);
  });
});

describe("of TypeScript types", () => {
  test("are read while runs and requests go on, and kept", async () => {
    const order: string[] = [];
    const asked = schemas("typed").then((answer) => {
      order.push("schemas");
      return answer;
    });
    const run = await ok(http(server.url).post("/runs/wait", { assistant_id: "untyped", input: { list: [1] } }));
    order.push("run");
    expect(run.list).toEqual([1]);
    const { graph_id, state_schema, input_schema, output_schema, context_schema, config_schema } = await asked;
    expect(order).toEqual(["run", "schemas"]);
    const state = {
      messages: MESSAGES,
      count: { type: "number" },
      items: { type: "array", items: { type: "string" } },
    };
    expect(graph_id).toBe("typed");
    for (const schema of [state_schema, input_schema, output_schema]) {
      expect(schema).toMatchObject({ $schema: DIALECT, type: "object" });
      expect(schema.properties).toEqual(state);
    }
    expect(context_schema.properties).toEqual({ model: { type: "string", enum: ["small", "large"] } });
    expect(config_schema).toEqual(context_schema);
    // Again, with the source gone from the disk: nothing is read a second time.
    expect((await schemas("typed")).state_schema).toEqual(state_schema);
  });

  test("of subgraphs", async () => {
    const subgraphs = (path: string): Promise<Any> => ok(http(server.url).get(`/assistants/${path}`));
    const { leaf } = await subgraphs("typed/subgraphs");
    expect(Object.keys(leaf).sort()).toEqual(["input_schema", "output_schema", "state_schema"]);
    const item = {
      type: "object",
      properties: { name: { type: "string" }, price: { type: "number" } },
      required: ["name"],
    };
    expect(leaf.state_schema.properties).toEqual({ item });
    const { inner } = await subgraphs("zod/subgraphs/inner");
    expect(inner.input_schema.properties).toEqual({ count: { type: "number" } });
    expect(await subgraphs("untyped/subgraphs?recurse=true")).toEqual({});
  });

  test("that say nothing leave what the channels tell", async () => {
    const { messages, count, items } = await properties("vague", "state");
    expect([messages, count, items]).toEqual([MESSAGES, {}, { type: "array" }]);
  });

  test("are read anew when the code changes", async () => {
    await put(join(files.dir, "typed.ts"), TYPED("{ deep: boolean }[]"));
    const changed = {
      type: "array",
      items: { type: "object", properties: { deep: { type: "boolean" } }, required: ["deep"] },
    };
    await eventually(
      async () => JSON.stringify((await properties("typed", "state")).count) === JSON.stringify(changed),
      {
        ms: 30_000,
        every: 200,
      },
    );
  });
});

test("of an assistant, by id, and through the SDK", async () => {
  const { assistants } = new Client({ apiUrl: server.url });
  const { assistant_id } = await assistants.create({ graphId: "zod", context: { model: "large" } });
  expect(await assistants.getSchemas(assistant_id)).toEqual(await schemas("zod"));
  expect((await http(server.url).get("/assistants/nope/schemas")).status).toBe(404);
  expect((await http(server.url).get("/assistants/nope/subgraphs")).status).toBe(404);
  expect((await http(server.url).get("/assistants/nope/graph")).status).toBe(404);
});
