/** `Idempotency-Key`: a client that does not know whether its request arrived sends it again under the same key. */
import { z } from "@hono/zod-openapi";
import { invalid } from "../errors.ts";
import type { Repeatable } from "../services/idempotency.ts";
import type { HttpContext } from "./types.ts";

const LONGEST_KEY = 255;

/** Documentation of the header. */
export const RepeatableHeaders = z.object({
  "Idempotency-Key": z
    .string()
    .min(1)
    .max(LONGEST_KEY)
    .optional()
    .describe("The same request with the same key, within 24 hours, gets the same run instead of another."),
});

/** The request's key, if it has one. Most have none, and pay no more than a look. */
export function repeatable(c: HttpContext): Repeatable | undefined {
  const key = c.req.header("idempotency-key");
  if (key === undefined) return undefined;
  if (key.length > 0 && key.length <= LONGEST_KEY) {
    // Ids in paths are the same in upper case.
    return { key, operation: `${c.req.method} ${c.req.path.toLowerCase()}` };
  }
  throw invalid("Idempotency-Key", `expected 1 to ${LONGEST_KEY} characters`);
}
