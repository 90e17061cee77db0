/** Assistants: find them, and look at the graphs behind them. */
import { z } from "@hono/zod-openapi";
import {
  Assistant,
  AssistantCount,
  AssistantSearch,
  GraphDrawing,
  GraphSchemas,
  Subgraphs,
} from "../../schemas/assistants.ts";
import { QueryBoolean, QueryXray } from "../../schemas/query.ts";
import { PAGE_HEADERS, paginate } from "../pagination.ts";
import { jsonText } from "../respond.ts";
import { mount } from "../route.ts";
import type { Room } from "../types.ts";

const tag = "Assistants";
const params = z.object({
  assistant_id: z.string().min(1).describe("Id of an assistant, or of a graph (its default assistant)."),
});

export function assistantRoutes(room: Room): void {
  const { assistants } = room.services;

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
      const { items, total } = await assistants.search(body);
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
    async ({ body }, c) => c.json(await assistants.count(body)),
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
    async ({ params: { assistant_id } }, c) => c.json(await assistants.get(assistant_id)),
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
    async ({ params: { assistant_id }, query }, c) => jsonText(c, await assistants.graph(assistant_id, query.xray)),
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
      jsonText(c, await assistants.subgraphs(assistant_id, null, query.recurse)),
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
      jsonText(c, await assistants.subgraphs(assistant_id, namespace, query.recurse)),
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
      answer: { description: "A schema is null when it cannot be derived.", schema: GraphSchemas },
      errors: [404, 422],
    },
    async ({ params: { assistant_id } }, c) => jsonText(c, await assistants.schemas(assistant_id)),
  );
}
