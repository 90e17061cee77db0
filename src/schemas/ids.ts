/** Ids as clients send them. */
import { z } from "@hono/zod-openapi";

/** A UUID of any version, in the one form the database keeps. */
export const Id = z.guid().toLowerCase().openapi({ format: "uuid" });
