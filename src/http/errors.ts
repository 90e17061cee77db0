/** The one table that turns what went wrong into a status and a body: always `{"detail": "<sentence>"}`. */
import { RequestError } from "@hono/node-server";
import { HTTPException } from "hono/http-exception";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import { Denied, type ErrorBody, type ErrorKind, errorBody, SkeinError } from "../errors.ts";
import { type HttpContext, type Logger, setHeader } from "./types.ts";

const STATUS = {
  not_found: 404,
  conflict: 409,
  invalid: 422,
  too_large: 413,
  unavailable: 503,
  forbidden: 403,
} as const satisfies Record<ErrorKind, number>;

/** Any thrown value as a response. What is not ours is logged in full and shown as a bare 500. */
export function errorResponse(c: HttpContext, thrown: unknown, logger: Logger): Response {
  if (thrown instanceof Denied) {
    for (const [name, value] of Object.entries(thrown.headers)) setHeader(c, name, value);
    return c.json({ detail: thrown.message }, thrown.status as ContentfulStatusCode);
  }
  if (thrown instanceof SkeinError) {
    // The rest of an oversized body is not worth reading: do not keep its connection.
    if (thrown.kind === "too_large" && c.env.incoming !== undefined) setHeader(c, "connection", "close");
    return c.json({ detail: thrown.message }, STATUS[thrown.kind]);
  }
  if (thrown instanceof HTTPException) return c.json({ detail: thrown.message || "Error" }, thrown.status);
  logger.error(
    { err: thrown, method: c.req.method, path: c.req.path, request_id: c.get("request_id") },
    "request failed",
  );
  return c.json({ detail: "Internal Server Error" }, 500);
}

/** The answer where there is no request for the app: Node took for one what has no URL, such as a target that is none. */
export const unreadable = (thrown: unknown): Response =>
  thrown instanceof RequestError
    ? Response.json({ detail: `This is no HTTP request: ${thrown.message}` }, { status: 400 })
    : Response.json({ detail: "Internal Server Error" }, { status: 500 });

/** The same, for a failure after the headers have gone: only our own errors may show their words. */
export function publicErrorBody(thrown: unknown): ErrorBody {
  if (thrown instanceof SkeinError) return errorBody(thrown);
  return { error: "InternalServerError", message: "Internal Server Error" };
}
