/** What `skein compat` finds in a document, and what it prints about a server. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { compat } from "../../src/compat/command.ts";
import { compare } from "../../src/compat/compare.ts";
import { type ListedOperation, OPERATIONS } from "../../src/compat/operations.ts";

const search: ListedOperation = {
  tag: "Threads",
  method: "post",
  path: "/threads/{thread_id}/search",
  params: { thread_id: { kinds: ["string"], required: true } },
  query: { wait: { kinds: ["boolean"], default: false } },
  headers: { "Last-Event-ID": { kinds: ["string"] } },
  body: {
    kinds: ["object"],
    fields: {
      ids: { kinds: ["array"], items: { kinds: ["string"] }, required: true },
      limit: { kinds: ["integer"], default: 10, min: 1, max: 1000 },
      mode: { kinds: ["string"], values: ["a", "b"] },
      input: { kinds: ["any"] },
      config: { kinds: ["object"], fields: { tags: { kinds: ["array"], items: { kinds: ["string"] } } } },
    },
  },
  success: 200,
  types: ["application/json"],
  errors: [404, 422],
};

// biome-ignore lint/suspicious/noExplicitAny: documents are taken apart and bent by the tests.
type Any = any;

function fields(): Any {
  return {
    ids: { type: "array", items: { type: "string" } },
    limit: { type: ["integer", "null"], default: 10, minimum: 1, maximum: 1000 },
    mode: { anyOf: [{ $ref: "#/components/schemas/Mode" }, { type: "null" }] },
    input: {},
    config: { $ref: "#/components/schemas/Config" },
  };
}

/** A document that fits, after `bend` has changed it. */
function documentWith(bend: (parts: { operation: Any; fields: Any; schemas: Any }) => void = () => {}): unknown {
  const properties = fields();
  const answer = { content: { "application/json": {} } };
  const operation: Any = {
    parameters: [
      { in: "query", name: "wait", schema: { type: "boolean", default: false } },
      { in: "header", name: "last-event-id", schema: { type: "string" } },
    ],
    requestBody: { content: { "application/json": { schema: { $ref: "#/components/schemas/Search" } } } },
    responses: { 200: answer, 404: answer, 422: answer },
  };
  const schemas: Any = {
    Search: { type: "object", properties, required: ["ids"] },
    Mode: { type: "string", enum: ["a", "b"] },
    Config: { allOf: [{ type: "object", properties: { tags: { type: "array", items: { type: "string" } } } }] },
  };
  bend({ operation, fields: properties, schemas });
  const item = { parameters: [{ in: "path", name: "id", required: true, schema: {} }], post: operation };
  return { paths: { "/threads/{id}/search": item }, components: { schemas } };
}

const found = (document: unknown): string[] =>
  compare(document, [search]).map(({ place, kind, says }) => `${kind} ${place}: ${says}`);

describe("compare", () => {
  test("a document that fits, through references, unions and other names of path parameters", () => {
    expect(found(documentWith())).toEqual([]);
  });

  test("no such operation", () => {
    expect(found({ paths: {} })).toEqual(["missing : the operation is not served"]);
    expect(found(null)).toEqual(["missing : the operation is not served"]);
  });

  const bent: readonly [string, Parameters<typeof documentWith>[0], string[]][] = [
    ["a field is gone", ({ fields }) => delete fields.input, ["missing body.input: is not described"]],
    ["a field is new", ({ fields }) => (fields.more = {}), ["extra body.more: is taken too"]],
    [
      "a new field is required",
      ({ fields, schemas }) => {
        fields.more = {};
        schemas.Search.required.push("more");
      },
      ["different body.more: is required, and no client sends it"],
    ],
    [
      "a required field is not",
      ({ schemas }) => (schemas.Search.required = []),
      ["different body.ids: is not required"],
    ],
    [
      "another default",
      ({ fields }) => (fields.limit.default = 5),
      ["different body.limit: its default is 10, the document has 5"],
    ],
    [
      "no default",
      ({ fields }) => delete fields.limit.default,
      ["different body.limit: its default is 10, the document has none"],
    ],
    [
      "another limit",
      ({ fields }) => (fields.limit.maximum = 99),
      ["different body.limit: its max is 1000, the document has 99"],
    ],
    [
      "another kind",
      ({ fields }) => (fields.ids = { type: "string" }),
      ["different body.ids: does not take array", "extra body.ids: takes string too"],
    ],
    ["a word is gone", ({ schemas }) => (schemas.Mode.enum = ["a"]), ["missing body.mode: does not take b"]],
    ["a word is new", ({ schemas }) => schemas.Mode.enum.push("c"), ["extra body.mode: takes c too"]],
    [
      "any word",
      ({ schemas }) => delete schemas.Mode.enum,
      ["different body.mode: does not say that it takes only a, b"],
    ],
    [
      "words said beside the kinds",
      ({ fields }) => {
        fields.mode = { type: ["string", "null"], anyOf: [{ type: "string", enum: ["a", "b"] }, { type: "null" }] };
      },
      [],
    ],
    [
      "not any JSON",
      ({ fields }) => (fields.input = { type: "object" }),
      ["different body.input: takes only object, not any JSON"],
    ],
    [
      "deep inside",
      ({ schemas }) => (schemas.Config.allOf[0].properties = {}),
      ["missing body.config.tags: is not described"],
    ],
    [
      "items of another kind",
      ({ fields }) => (fields.ids.items = { type: "integer" }),
      ["different body.ids[]: does not take string", "extra body.ids[]: takes integer too"],
    ],
    ["no query", ({ operation }) => operation.parameters.shift(), ["missing query.wait: is not described"]],
    ["no header", ({ operation }) => operation.parameters.pop(), ["missing header.Last-Event-ID: is not described"]],
    ["no body", ({ operation }) => delete operation.requestBody, ["missing body: takes no JSON body"]],
    ["no error", ({ operation }) => delete operation.responses[404], ["missing answer.404: is not described"]],
    [
      "another type",
      ({ operation }) => (operation.responses[200] = { content: { "text/html": {} } }),
      ["missing answer.200: does not answer as application/json"],
    ],
  ];
  test.each(bent)("%s", (_, bend, expected) => {
    expect(found(documentWith(bend))).toEqual(expected);
  });

  test("a document that refers to itself for ever", () => {
    const document = documentWith(({ schemas }) => {
      schemas.Config = { $ref: "#/components/schemas/Config" };
      schemas.Mode = { anyOf: [{ $ref: "#/components/schemas/Mode" }] };
    });
    expect(found(document).length).toBeGreaterThan(0);
  });

  test("the list is 63 operations, each once", () => {
    expect(new Set(OPERATIONS.map(({ method, path }) => `${method} ${path}`)).size).toBe(63);
  });
});

describe("skein compat", () => {
  let server: Server | undefined;
  afterEach(() => {
    server?.close();
  });

  async function serving(status: number, body: string): Promise<string> {
    server = createServer((request, response) => {
      response.writeHead(request.url === "/prefix/openapi.json" ? status : 404).end(body);
    });
    await new Promise<void>((resolve) => server?.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}/prefix`;
  }

  async function run(flags: Parameters<typeof compat>[0]): Promise<[number, string]> {
    let out = "";
    return [await compat(flags, (text) => (out += text)), out];
  }

  test("a server that has one operation: the table, what is missing, and 1", async () => {
    const url = await serving(
      200,
      JSON.stringify({ paths: { "/info": { get: { responses: { 200: { content: { "application/json": {} } } } } } } }),
    );
    const [code, text] = await run({ url });
    expect(code).toBe(1);
    expect(text).toMatch(/^System +4 +1 +3 +0$/m);
    expect(text).toMatch(/^total +63 +1 +62 +0$/m);
    expect(text).toContain("  GET /ok: the operation is not served");
    expect(text).not.toContain("GET /info");
  });

  test("--json gives every difference, --list the list", async () => {
    const url = await serving(200, "{}");
    expect(JSON.parse((await run({ url, json: true }))[1])).toHaveLength(63);
    const [code, text] = await run({ url: "", list: true });
    expect([code, JSON.parse(text)]).toEqual([0, JSON.parse(JSON.stringify(OPERATIONS))]);
  });

  test("no document: why", async () => {
    await expect(run({ url: await serving(503, "") })).rejects.toThrow("/prefix/openapi.json: it answered 503");
    await expect(run({ url: "localhost:2024" })).rejects.toThrow("is no http(s) URL");
    await expect(run({ url: "http://127.0.0.1:9" })).rejects.toThrow("no OpenAPI document from http://127.0.0.1:9/");
  });
});
