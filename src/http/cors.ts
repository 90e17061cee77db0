/** Cross-origin rules: browsers may call from the configured origins and read the headers our clients use. */
import type { MiddlewareHandler } from "hono";
import type { CorsSettings } from "../config/http.ts";
import { type HttpContext, type HttpEnv, setHeader } from "./types.ts";

const EXPOSED = [
  "content-location",
  "location",
  "x-pagination-total",
  "x-pagination-next",
  "x-request-id",
  "mcp-session-id",
];

/** Whether pages of this origin may call. */
export const allowsOrigin = ({ origins, originPattern }: CorsSettings, origin: string): boolean =>
  origins.includes("*") || origins.includes(origin) || originPattern?.test(origin) === true;

/** Sets the headers on every answer and answers preflights itself. */
export function cors(settings: CorsSettings): MiddlewareHandler<HttpEnv> {
  const any = settings.origins.includes("*");
  const exposed = [...new Set([...EXPOSED, ...settings.exposed])].join(", ");
  return async (c, next) => {
    const origin = c.req.header("origin");
    if (any) setHeader(c, "access-control-allow-origin", "*");
    else {
      setHeader(c, "vary", "Origin");
      if (origin !== undefined && allowsOrigin(settings, origin)) {
        setHeader(c, "access-control-allow-origin", origin);
        if (settings.credentials) setHeader(c, "access-control-allow-credentials", "true");
      }
    }
    setHeader(c, "access-control-expose-headers", exposed);
    const preflight = c.req.method === "OPTIONS" && c.req.header("access-control-request-method") !== undefined;
    if (preflight) return answerPreflight(c, settings);
    await next();
    return undefined;
  };
}

function answerPreflight(c: HttpContext, { methods, headers, maxAgeSeconds }: CorsSettings): Response {
  setHeader(c, "access-control-allow-methods", methods.join(", "));
  // Echoed rather than `*`, which does not cover `authorization`.
  const allowed = headers === null ? (c.req.header("access-control-request-headers") ?? "*") : headers.join(", ");
  setHeader(c, "access-control-allow-headers", allowed);
  setHeader(c, "access-control-max-age", String(maxAgeSeconds));
  // Studio is a public page that talks to a server on this machine.
  if (c.req.header("access-control-request-private-network") === "true") {
    setHeader(c, "access-control-allow-private-network", "true");
  }
  return c.body(null, 204);
}
