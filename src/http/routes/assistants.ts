/** Assistants: make, find and change them, and look at the graphs behind them. */
import { z } from "@hono/zod-openapi";
import { invalid } from "../../errors.ts";
import {
  Assistant,
  AssistantCount,
  AssistantCreate,
  AssistantPatch,
  AssistantSearch,
  AssistantVersionChange,
  AssistantVersionsSearch,
  GraphDrawing,
  GraphSchema,
  Subgraphs,
} from "../../schemas/assistants.ts";
import { QueryBoolean, QueryVersion, QueryXray } from "../../schemas/query.ts";
import { PAGE_HEADERS, paginate } from "../pagination.ts";
import { jsonText } from "../respond.ts";
import { mount } from "../route.ts";
import type { Room } from "../types.ts";

const tag = "Assistants";
const params = z.object({
  assistant_id: z.string().min(1).describe("Id of an assistant, or of a graph (its default assistant)."),
});

export function assistantRoutes(room: Room): void {
  mount(
    room,
    {
      method: "post",
      path: "/assistants",
      id: "create_assistant",
      tag,
      summary: "Create an assistant",
      body: { schema: AssistantCreate, rule: "required" },
      answer: { description: "The assistant, at version 1.", schema: Assistant },
      errors: [404, 409, 422],
    },
    async ({ body }, c) => c.json(await room.services(c).assistants.create(body)),
  );

  mount(
    room,
    {
      method: "post",
      path: "/assistants/search",
      id: "search_assistants",
      tag,
      summary: "Search assistants",
      body: { schema: AssistantSearch, rule: "optional" },
      answer: {
        description: "A page of assistants.",
        schema: z.array(Assistant.partial()),
        headers: PAGE_HEADERS,
      },
      errors: [422],
    },
    async ({ body }, c) => {
      const { items, total } = await room.services(c).assistants.search(body);
      paginate(c, body, total);
      return c.json(items);
    },
  );

  mount(
    room,
    {
      method: "post",
      path: "/assistants/count",
      id: "count_assistants",
      tag,
      summary: "Count assistants",
      body: { schema: AssistantCount, rule: "optional" },
      answer: { description: "How many match.", schema: z.int() },
      errors: [422],
    },
    async ({ body }, c) => c.json(await room.services(c).assistants.count(body)),
  );

  mount(
    room,
    {
      method: "get",
      path: "/assistants/{assistant_id}",
      id: "get_assistant",
      tag,
      summary: "Get an assistant",
      params,
      answer: { description: "The assistant.", schema: Assistant },
      errors: [404],
    },
    async ({ params: { assistant_id } }, c) => c.json(await room.services(c).assistants.get(assistant_id)),
  );

  mount(
    room,
    {
      method: "patch",
      path: "/assistants/{assistant_id}",
      id: "patch_assistant",
      tag,
      summary: "Change an assistant",
      description: "Makes a new version and activates it.",
      params,
      body: { schema: AssistantPatch, rule: "required" },
      answer: { description: "The assistant, at its new version.", schema: Assistant },
      errors: [404, 422],
    },
    async ({ params: { assistant_id }, body }, c) =>
      c.json(await room.services(c).assistants.patch(assistant_id, body)),
  );

  mount(
    room,
    {
      method: "delete",
      path: "/assistants/{assistant_id}",
      id: "delete_assistant",
      tag,
      summary: "Delete an assistant",
      description:
        "With all its versions; its runs in flight are stopped. The default assistant of a graph starts anew.",
      params,
      query: z.object({
        delete_threads: QueryBoolean.describe("Delete the threads whose `metadata.assistant_id` is this one, too."),
      }),
      answer: { description: "The deleted assistant's id, in a list.", schema: z.array(z.string()) },
      errors: [404, 422],
    },
    async ({ params: { assistant_id }, query }, c) =>
      c.json([await room.services(c).assistants.delete(assistant_id, query.delete_threads)]),
  );

  mount(
    room,
    {
      method: "post",
      path: "/assistants/{assistant_id}/versions",
      id: "list_assistant_versions",
      tag,
      summary: "List the versions of an assistant",
      params,
      body: { schema: AssistantVersionsSearch, rule: "optional" },
      answer: { description: "A page of versions, newest first.", schema: z.array(Assistant), headers: PAGE_HEADERS },
      errors: [404, 422],
    },
    async ({ params: { assistant_id }, body }, c) => {
      const { items, total } = await room.services(c).assistants.versions(assistant_id, body);
      paginate(c, body, total);
      return c.json(items);
    },
  );

  mount(
    room,
    {
      method: "post",
      path: "/assistants/{assistant_id}/latest",
      id: "set_latest_assistant_version",
      tag,
      summary: "Activate a version of an assistant",
      description: "The version is named in the query or in the body.",
      params,
      query: z.object({ version: QueryVersion }),
      body: { schema: AssistantVersionChange, rule: "optional" },
      answer: { description: "The assistant as that version has it.", schema: Assistant },
      errors: [404, 422],
    },
    async ({ params: { assistant_id }, query, body }, c) =>
      c.json(await room.services(c).assistants.setLatest(assistant_id, wantedVersion(query.version, body.version))),
  );

  mount(
    room,
    {
      method: "get",
      path: "/assistants/{assistant_id}/graph",
      id: "get_assistant_graph",
      tag,
      summary: "Draw the graph",
      params,
      query: z.object({ xray: QueryXray }),
      answer: { description: "Nodes and edges.", schema: GraphDrawing },
      errors: [404, 422],
    },
    async ({ params: { assistant_id }, query }, c) =>
      jsonText(c, await room.services(c).assistants.graph(assistant_id, query.xray)),
  );

  const recurse = z.object({ recurse: QueryBoolean });
  const subgraphs = { description: "Schemas by subgraph name.", schema: Subgraphs };

  mount(
    room,
    {
      method: "get",
      path: "/assistants/{assistant_id}/subgraphs",
      id: "get_assistant_subgraphs",
      tag,
      summary: "List the subgraphs",
      params,
      query: recurse,
      answer: subgraphs,
      errors: [404, 422],
    },
    async ({ params: { assistant_id }, query }, c) =>
      jsonText(c, await room.services(c).assistants.subgraphs(assistant_id, null, query.recurse)),
  );

  mount(
    room,
    {
      method: "get",
      path: "/assistants/{assistant_id}/subgraphs/{namespace}",
      id: "get_assistant_subgraphs_in_namespace",
      tag,
      summary: "List the subgraphs in a namespace",
      params: params.extend({ namespace: z.string() }),
      query: recurse,
      answer: subgraphs,
      errors: [404, 422],
    },
    async ({ params: { assistant_id, namespace }, query }, c) =>
      jsonText(c, await room.services(c).assistants.subgraphs(assistant_id, namespace, query.recurse)),
  );

  mount(
    room,
    {
      method: "get",
      path: "/assistants/{assistant_id}/schemas",
      id: "get_assistant_schemas",
      tag,
      summary: "Get the graph's JSON schemas",
      params,
      answer: { description: "What the graph takes, gives and keeps.", schema: GraphSchema },
      errors: [404, 422],
    },
    async ({ params: { assistant_id } }, c) => jsonText(c, await room.services(c).assistants.schemas(assistant_id)),
  );
}

/** The contract has it in the query, SDKs send it in the body. */
function wantedVersion(query: number | undefined, body: number | null | undefined): number {
  if (query !== undefined && body != null && query !== body) {
    throw invalid("version", `the query says ${query} and the body ${body}`);
  }
  const version = query ?? body;
  if (version == null) throw invalid("version", "field required (an integer), in the query or in the body");
  return version;
}
