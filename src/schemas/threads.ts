/** Threads on the wire. Source: contract schemas Thread, ThreadCreate. */
import { z } from "@hono/zod-openapi";
import { JsonObject, OwnMetadata, orDefault } from "./common.ts";
import { Id } from "./ids.ts";
import { Superstep } from "./thread-states.ts";

export const ThreadStatus = z.enum(["idle", "busy", "interrupted", "error"]);
export type ThreadStatus = z.infer<typeof ThreadStatus>;

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
  })
  .openapi("ThreadCreate");
export type ThreadCreate = z.infer<typeof ThreadCreate>;
