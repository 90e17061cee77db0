/** Vocabulary that several resources share. Imports nothing of ours but errors. */
import { z } from "@hono/zod-openapi";

export const JsonObject = z.record(z.string(), z.unknown());
export type JsonObject = Record<string, unknown>;

/** Written by the server alone. A client's are taken out and not refused: SDKs send back metadata as they got it. */
const RESERVED = /^(__pregel_|langgraph_auth_|langgraph_request_id$)/;

/** Metadata as clients give it. In filters it is a `JsonObject`: what the server wrote can be searched. */
export const OwnMetadata = JsonObject.transform(
  (given): JsonObject => Object.fromEntries(Object.entries(given).filter(([key]) => !RESERVED.test(key))),
).openapi({ type: "object" });

/** A field that may be left out or null. The document tells what then holds; whoever reads the field applies it. */
export function orDefault<S extends z.ZodType>(schema: S, fallback: z.output<S>) {
  return schema.nullish().openapi({ default: fallback });
}

export const ErrorResponse = z
  .object({ detail: z.string().describe("What is wrong, and where.") })
  .openapi("ErrorResponse");

/** Config of an assistant or run as clients send it. Unknown keys are tolerated and dropped. */
export const Config = z
  .object({
    tags: z.array(z.string()).optional(),
    recursion_limit: z.int().min(1).max(2_147_483_647).optional(),
    configurable: JsonObject.optional(),
    metadata: JsonObject.optional(),
  })
  .openapi("Config");
export type Config = z.infer<typeof Config>;

/** A pointer to a checkpoint. Clients send explicit nulls (useStream's edit sends `checkpoint_map: null`). */
export const CheckpointConfig = z
  .object({
    thread_id: z.string().nullish(),
    checkpoint_ns: z.string().nullish(),
    checkpoint_id: z.string().nullish(),
    checkpoint_map: JsonObject.nullish(),
  })
  .openapi("CheckpointConfig");
export type CheckpointConfig = z.infer<typeof CheckpointConfig>;
