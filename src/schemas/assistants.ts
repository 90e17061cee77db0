/** Assistants on the wire. Source: contract schemas Assistant, AssistantSearchRequest, AssistantCountRequest. */
import { z } from "@hono/zod-openapi";
import { Config, JsonObject, OwnMetadata, orDefault } from "./common.ts";
import { Id } from "./ids.ts";

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

export const AssistantCreate = z
  .object({
    assistant_id: Id.nullish().describe("Default: a new one."),
    graph_id: z.string().min(1),
    config: Config.nullish(),
    context: JsonObject.nullish(),
    metadata: OwnMetadata.nullish(),
    if_exists: orDefault(z.enum(["raise", "do_nothing"]), "raise"),
    name: z.string().nullish().describe('Default: "Untitled".'),
    description: z.string().nullish(),
  })
  .openapi("AssistantCreate");
export type AssistantCreate = z.infer<typeof AssistantCreate>;

export const AssistantPatch = z
  .object({
    graph_id: z.string().min(1).nullish(),
    config: Config.nullish().describe("Replaces the config; the context follows it."),
    context: JsonObject.nullish().describe("Replaces the context; `config.configurable` follows it."),
    metadata: OwnMetadata.nullish().describe("Merged into the metadata."),
    name: z.string().nullish(),
    description: z.string().nullish().describe("Null takes it away."),
  })
  .openapi("AssistantPatch");
export type AssistantPatch = z.infer<typeof AssistantPatch>;

export const AssistantVersionsSearch = z
  .object({
    metadata: JsonObject.nullish(),
    limit: orDefault(z.int().min(1).max(1000), 10),
    offset: orDefault(z.int().min(0), 0),
  })
  .openapi("AssistantVersionsSearchRequest");
export type AssistantVersionsSearch = z.infer<typeof AssistantVersionsSearch>;

export const AssistantVersionChange = z.object({ version: z.int().nullish() }).openapi("AssistantVersionChange");

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
  limit: orDefault(z.int().min(1).max(1000), 10),
  offset: orDefault(z.int().min(0), 0),
  sort_by: z.enum(["assistant_id", "created_at", "updated_at", "name", "graph_id"]).nullish(),
  sort_order: z.enum(["asc", "desc"]).nullish(),
  select: z.array(z.enum(ASSISTANT_FIELDS)).nullish(),
}).openapi("AssistantSearchRequest");
export type AssistantSearch = z.infer<typeof AssistantSearch>;

export const AssistantCount = AssistantFilter.openapi("AssistantCountRequest");

export const GraphDrawing = z
  .object({ nodes: z.array(JsonObject), edges: z.array(JsonObject) })
  .openapi("GraphDrawing");

const JsonSchema = JsonObject.describe("A JSON schema.");

export const GraphSchemaNoId = z
  .object({
    input_schema: JsonSchema,
    output_schema: JsonSchema,
    state_schema: JsonSchema,
    config_schema: JsonSchema.optional().describe("Absent when the graph declares none."),
    context_schema: JsonSchema.optional().describe("Absent when the graph declares none."),
  })
  .openapi("GraphSchemaNoId");

export const GraphSchema = GraphSchemaNoId.extend({ graph_id: z.string() }).openapi("GraphSchema");

export const Subgraphs = z.record(z.string(), GraphSchemaNoId).openapi("Subgraphs");
