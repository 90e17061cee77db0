/** Assistants on the wire. Source: contract schemas Assistant, AssistantSearchRequest, AssistantCountRequest. */
import { z } from "@hono/zod-openapi";
import { Config, JsonObject } from "./common.ts";

export const Assistant = z
  .object({
    assistant_id: z.uuid(),
    graph_id: z.string(),
    config: Config,
    context: JsonObject,
    created_at: z.iso.datetime(),
    updated_at: z.iso.datetime(),
    metadata: JsonObject,
    version: z.int(),
    name: z.string(),
    description: z.string().nullable(),
  })
  .openapi("Assistant");
export type Assistant = z.infer<typeof Assistant>;

export const ASSISTANT_FIELDS = [
  "assistant_id",
  "graph_id",
  "name",
  "description",
  "config",
  "context",
  "created_at",
  "updated_at",
  "metadata",
  "version",
] as const;

export const AssistantFilter = z.object({
  metadata: JsonObject.nullish(),
  graph_id: z.string().nullish(),
  name: z.string().nullish().describe("Case-insensitive substring."),
});
export type AssistantFilter = z.infer<typeof AssistantFilter>;

export const AssistantSearch = AssistantFilter.extend({
  limit: z.int().min(1).max(1000).nullish(),
  offset: z.int().min(0).nullish(),
  sort_by: z.enum(["assistant_id", "created_at", "updated_at", "name", "graph_id"]).nullish(),
  sort_order: z.enum(["asc", "desc"]).nullish(),
  select: z.array(z.enum(ASSISTANT_FIELDS)).nullish(),
}).openapi("AssistantSearchRequest");
export type AssistantSearch = z.infer<typeof AssistantSearch>;

export const AssistantCount = AssistantFilter.openapi("AssistantCountRequest");

export const GraphDrawing = z
  .object({ nodes: z.array(JsonObject), edges: z.array(JsonObject) })
  .openapi("GraphDrawing");

const JsonSchema = JsonObject.nullish().describe("A JSON schema, when it can be derived.");

export const GraphSchemas = z
  .object({
    graph_id: z.string(),
    input_schema: JsonSchema,
    output_schema: JsonSchema,
    state_schema: JsonSchema,
    config_schema: JsonSchema,
    context_schema: JsonSchema,
  })
  .openapi("GraphSchemas");

export const Subgraphs = z.record(z.string(), GraphSchemas.partial()).openapi("Subgraphs");
