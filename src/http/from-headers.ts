/** What the headers of a request say of the runs it makes. */
import { z } from "@hono/zod-openapi";
import { invalid } from "../errors.ts";
import type { FromHeaders } from "../services/contract.ts";
import type { Repeatable } from "../services/idempotency.ts";
import type { HttpContext, Room } from "./types.ts";

const LONGEST_KEY = 255;

/** Documentation of `Idempotency-Key`: a client that does not know whether its request arrived sends it again under the same key. */
export const RepeatableHeaders = z.object({
  "Idempotency-Key": z
    .string()
    .min(1)
    .max(LONGEST_KEY)
    .optional()
    .describe("The same request with the same key, within 24 hours, gets the same run instead of another."),
});

/** Most requests say nothing, and pay no more than a look. */
export function fromHeaders({ configurable }: Pick<Room, "configurable">, c: HttpContext): FromHeaders {
  return { repeatable: repeatable(c), configurable: configurable?.(c.req.raw.headers) };
}

function repeatable(c: HttpContext): Repeatable | undefined {
  const key = c.req.header("idempotency-key");
  if (key === undefined) return undefined;
  // Ids in paths are the same in upper case.
  if (key.length > 0 && key.length <= LONGEST_KEY)
    return { key, operation: `${c.req.method} ${c.req.path.toLowerCase()}` };
  throw invalid("Idempotency-Key", `expected 1 to ${LONGEST_KEY} characters`);
}
