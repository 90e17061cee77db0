/** Threads on the wire. Source: contract schemas Thread, ThreadCreate, ThreadState. */
import { z } from "@hono/zod-openapi";
import { CheckpointConfig, JsonObject, OwnMetadata, orDefault } from "./common.ts";
import { Id } from "./ids.ts";

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
  })
  .openapi("ThreadCreate");
export type ThreadCreate = z.infer<typeof ThreadCreate>;

export const ThreadState = z
  .object({
    values: z.unknown(),
    next: z.array(z.string()),
    tasks: z.array(JsonObject),
    checkpoint: CheckpointConfig.nullable(),
    metadata: JsonObject,
    created_at: z.string().nullable(),
    parent_checkpoint: CheckpointConfig.nullable(),
    interrupts: z.array(JsonObject),
    checkpoint_id: z.string().nullish(),
    parent_checkpoint_id: z.string().nullish(),
  })
  .openapi("ThreadState");

export const ThreadStateAtCheckpoint = z
  .object({ checkpoint: CheckpointConfig, subgraphs: z.boolean().nullish() })
  .openapi("ThreadStateCheckpointRequest");
