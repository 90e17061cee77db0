/** Threads on the wire. Source: contract schemas Thread, ThreadCreate, ThreadPatch, ThreadSearchRequest, ThreadPruneRequest. */
import { z } from "@hono/zod-openapi";
import { JsonObject, OwnMetadata, orDefault } from "./common.ts";
import { Id } from "./ids.ts";
import { Superstep } from "./thread-states.ts";

export const ThreadStatus = z.enum(["idle", "busy", "interrupted", "error"]);
export type ThreadStatus = z.infer<typeof ThreadStatus>;

export const TtlStrategy = z.enum(["delete", "keep_latest"]);
export type TtlStrategy = z.infer<typeof TtlStrategy>;

/** Minutes; up to a thousand years, so that the end stays a date. */
const TtlMinutes = z.number().positive().max(525_600_000);

/** Older clients send the minutes alone. */
export const TtlRequest = z
  .union([
    TtlMinutes,
    z.object({
      strategy: orDefault(TtlStrategy, "delete").describe("Default: as configured, else `delete`."),
      ttl: TtlMinutes.nullish().describe("Minutes from now. Default: as configured."),
    }),
  ])
  .openapi("ThreadTtlRequest", {
    description:
      "When the thread expires. `delete` removes it; `keep_latest` keeps it with its latest state and removes the history.",
  });
export type TtlRequest = z.infer<typeof TtlRequest>;

const TtlInfo = z
  .object({
    strategy: TtlStrategy,
    ttl_minutes: z.number(),
    expires_at: z.iso.datetime().nullable().describe("Null when the history was removed since the last run."),
  })
  .openapi("ThreadTtl");

export const Thread = z
  .object({
    thread_id: z.uuid(),
    created_at: z.iso.datetime(),
    updated_at: z.iso.datetime(),
    state_updated_at: z.iso.datetime(),
    metadata: JsonObject,
    config: JsonObject,
    status: ThreadStatus,
    values: z.unknown(),
    interrupts: JsonObject,
    ttl: TtlInfo.nullable().optional().describe("Only with `include=ttl`; null when the thread does not expire."),
    extracted: JsonObject.optional().describe("Only where a search asks for `extract`."),
  })
  .openapi("Thread");
export type Thread = z.infer<typeof Thread>;

export const ThreadCreate = z
  .object({
    thread_id: Id.nullish().describe("Default: a new one."),
    metadata: OwnMetadata.nullish(),
    if_exists: orDefault(z.enum(["raise", "do_nothing"]), "raise"),
    supersteps: z
      .array(Superstep)
      .nullish()
      .describe("State to begin with: updates of the graph in `metadata.graph_id`, applied in order."),
    ttl: TtlRequest.nullish(),
  })
  .openapi("ThreadCreate");
export type ThreadCreate = z.infer<typeof ThreadCreate>;

export const ThreadPatch = z
  .object({
    metadata: OwnMetadata.nullish().describe("Merged into the thread's."),
    ttl: TtlRequest.nullish(),
  })
  .openapi("ThreadPatch");
export type ThreadPatch = z.infer<typeof ThreadPatch>;

export const THREAD_FIELDS = [
  "thread_id",
  "created_at",
  "updated_at",
  "state_updated_at",
  "metadata",
  "config",
  "status",
  "values",
  "interrupts",
] as const;

export const ThreadFilter = z.object({
  metadata: JsonObject.nullish().describe("Members that the metadata must have, exactly."),
  values: JsonObject.nullish().describe("Members that the values must have, exactly."),
  status: ThreadStatus.nullish(),
});
export type ThreadFilter = z.infer<typeof ThreadFilter>;

const EXTRACT_LIMIT = 10;
const EXTRACT_PATH = /^(values|metadata|config|interrupts)(\.[^.[\]]+|\[-?\d{1,9}\])*$/;

const ExtractPath = z
  .string()
  .regex(EXTRACT_PATH, "a path begins with values, metadata, config or interrupts, as in values.messages[-1].content");

export const ThreadSearch = ThreadFilter.extend({
  ids: z.array(Id).nullish().describe("Only these threads."),
  limit: orDefault(z.int().min(1).max(1000), 10),
  offset: orDefault(z.int().min(0), 0),
  sort_by: z.enum(["thread_id", "status", "created_at", "updated_at", "state_updated_at"]).nullish(),
  sort_order: z.enum(["asc", "desc"]).nullish(),
  select: z.array(z.enum(THREAD_FIELDS)).nullish(),
  extract: z
    .record(z.string(), ExtractPath)
    .refine((paths) => Object.keys(paths).length <= EXTRACT_LIMIT, `at most ${EXTRACT_LIMIT} paths`)
    .openapi({ maxProperties: EXTRACT_LIMIT })
    .nullish()
    .describe("Alias to path; each thread answers with what is there in `extracted`, null where nothing is."),
}).openapi("ThreadSearchRequest");
export type ThreadSearch = z.infer<typeof ThreadSearch>;

export const ThreadCount = ThreadFilter.openapi("ThreadCountRequest");

export const ThreadPrune = z
  .object({ thread_ids: z.array(Id), strategy: orDefault(TtlStrategy, "delete") })
  .openapi("ThreadPruneRequest");
export type ThreadPrune = z.infer<typeof ThreadPrune>;

export const ThreadPruned = z.object({ pruned_count: z.int() }).openapi("ThreadPruneResponse");
