/** The long-term store on the wire. Source: contract schemas StorePutRequest, StoreSearchRequest, Item and their kin. */
import { z } from "@hono/zod-openapi";
import { JsonObject, orDefault } from "./common.ts";
import { MAX_TTL_MINUTES } from "./limits.ts";

/** Where clients write a namespace as one text, a dot stands between labels. */
const Label = z
  .string()
  .min(1, "a label must not be empty")
  .refine((label) => !label.includes("."), "a label must not contain a dot");

const Namespace = z.array(Label).openapi({ description: "Labels from the outermost to the innermost." });

export const StorePut = z
  .object({
    namespace: Namespace.min(1, "at least one label is required"),
    key: z.string(),
    value: JsonObject,
    index: z
      .union([z.literal(false), z.array(z.string().min(1)), z.null()])
      .optional()
      .openapi({ default: null })
      .describe("Paths of the texts to embed; false for none; null for the fields of the configuration."),
    ttl: z
      .number()
      .positive()
      .max(MAX_TTL_MINUTES)
      .nullish()
      .openapi({ default: null })
      .describe("Minutes to live; null for ever. Absent: the default of the configuration."),
  })
  .openapi("StorePutRequest");
export type StorePut = z.infer<typeof StorePut>;

export const StoreDelete = z.object({ namespace: Namespace.nullish(), key: z.string() }).openapi("StoreDeleteRequest");
export type StoreDelete = z.infer<typeof StoreDelete>;

/** SDKs send labels joined by dots, the contract repeats the parameter. */
const toLabels = (value: unknown): unknown =>
  [value ?? []].flat().flatMap((text: unknown) => (text === "" ? [] : String(text).split(".")));

export const QueryNamespace = z
  .preprocess(toLabels, z.array(Label))
  .openapi({ type: "array", items: { type: "string" }, description: "Labels, repeated or joined by dots." });

const Limit = z.int().min(0).max(2_147_483_647);

export const StoreSearch = z
  .object({
    namespace_prefix: Namespace.nullish(),
    filter: JsonObject.nullish().describe(
      "Members of the value: one to equal, or {$eq, $ne, $gt, $gte, $lt, $lte, $in, $nin}.",
    ),
    limit: orDefault(Limit, 10),
    offset: orDefault(Limit, 0),
    query: z.string().nullish().describe("Ranks items by likeness to this text, where the store has an index."),
    refresh_ttl: z.boolean().nullish().openapi({ default: null }).describe("Null: as configured."),
  })
  .openapi("StoreSearchRequest");
export type StoreSearch = z.infer<typeof StoreSearch>;

const Pattern = Namespace.nullish().describe('"*" stands for any one label.');

export const StoreListNamespaces = z
  .object({
    prefix: Pattern,
    suffix: Pattern,
    max_depth: z.int().min(1).nullish().describe("Namespaces are cut to this many labels."),
    limit: orDefault(Limit, 100),
    offset: orDefault(Limit, 0),
  })
  .openapi("StoreListNamespacesRequest");
export type StoreListNamespaces = z.infer<typeof StoreListNamespaces>;

export const Item = z
  .object({
    namespace: z.array(z.string()),
    key: z.string(),
    value: JsonObject,
    created_at: z.iso.datetime(),
    updated_at: z.iso.datetime(),
    score: z.number().optional().describe("Likeness to the query, at most 1; only in a search by a query."),
  })
  .openapi("Item");

export const SearchItemsResponse = z.object({ items: z.array(Item) }).openapi("SearchItemsResponse");

/** Both SDKs read `namespaces`; the contract has the bare list. */
export const ListNamespaceResponse = z
  .object({ namespaces: z.array(z.array(z.string())) })
  .openapi("ListNamespaceResponse");
