/** Cross-origin rules: browsers may call from the configured origins and read the headers our clients use. */
import type { MiddlewareHandler } from "hono";
import { type HttpContext, type HttpEnv, setHeader } from "./types.ts";

const EXPOSED = "content-location, location, x-pagination-total, x-pagination-next, x-request-id, mcp-session-id";
const METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/** Sets the headers on every answer and answers preflights itself. */
export function cors(origins: readonly string[]): MiddlewareHandler<HttpEnv> {
  const any = origins.includes("*");
  return async (c, next) => {
    const origin = c.req.header("origin");
    if (any) setHeader(c, "access-control-allow-origin", "*");
    else {
      setHeader(c, "vary", "Origin");
      if (origin !== undefined && origins.includes(origin)) setHeader(c, "access-control-allow-origin", origin);
    }
    setHeader(c, "access-control-expose-headers", EXPOSED);
    const preflight = c.req.method === "OPTIONS" && c.req.header("access-control-request-method") !== undefined;
    if (preflight) return answerPreflight(c);
    await next();
    return undefined;
  };
}

function answerPreflight(c: HttpContext): Response {
  setHeader(c, "access-control-allow-methods", METHODS);
  // Echoed rather than `*`, which does not cover `authorization`.
  setHeader(c, "access-control-allow-headers", c.req.header("access-control-request-headers") ?? "*");
  setHeader(c, "access-control-max-age", "600");
  // Studio is a public page that talks to a server on this machine.
  if (c.req.header("access-control-request-private-network") === "true") {
    setHeader(c, "access-control-allow-private-network", "true");
  }
  return c.body(null, 204);
}
