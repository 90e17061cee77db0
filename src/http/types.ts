/** What the `http` room is given, and what it hangs on each request. */

import type { HttpBindings } from "@hono/node-server";
import type { OpenAPIHono } from "@hono/zod-openapi";
import type { Context } from "hono";
import type { AuthDocument } from "../config.ts";
import type { RequestSpan, SpanIds } from "../observability/tracing.ts";
import type { AuthUser } from "../schemas/auth.ts";
import type { Services, SystemService } from "../services/contract.ts";

/** The part of pino this room uses. */
export interface Logger {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** A request that has been answered. */
export interface Answered extends Partial<SpanIds> {
  /** The pattern, never the concrete path. */
  readonly route: string;
  readonly method: string;
  /** Without its query, which may hold secrets. */
  readonly path: string;
  readonly status: number;
  readonly ms: number;
  readonly request_id: string;
}

/** Called once per answered request. */
export type Observe = (answered: Answered) => void;

export interface HttpSettings {
  readonly maxBodyBytes: number;
  readonly version: string;
  /** `["*"]` for any. */
  readonly corsOrigins: readonly string[];
  /** Silence after which a stream or a waiting answer gets a sign of life. Default 5000. */
  readonly heartbeatMs?: number | undefined;
  /** How the server was started (`dev`, `start` …); shown in the served document. */
  readonly mode: string;
  /** Whether the endpoint of MCP is there. */
  readonly mcp: boolean;
  /** Whether the endpoints of A2A are there. */
  readonly a2a: boolean;
  /** What the served document says of how clients log in. */
  readonly auth?: AuthDocument | null;
}

export interface HttpEnv {
  Bindings: HttpBindings;
  Variables: {
    route: string;
    request_id: string;
    span: RequestSpan | undefined;
    /** Null: the server itself. Not there where nobody has to log in, nor on public paths. */
    user: AuthUser | null;
    services: Services;
  };
}

export type App = OpenAPIHono<HttpEnv>;
export type HttpContext = Context<HttpEnv>;

/** What every route file gets: the app to mount on, and what to call. */
export interface Room {
  readonly app: App;
  /** What the one who sends this request may ask of the product. */
  readonly services: (c: HttpContext) => Services;
  readonly system: SystemService;
  readonly logger: Logger;
  readonly maxBodyBytes: number;
  readonly heartbeatMs: number;
}

/**
 * Sets a header on whatever will be answered: a hono response, an error, or a stream written straight to the socket.
 * Node merges these into `writeHead`, which also spares a web `Headers` object per request.
 */
export function setHeader(c: HttpContext, name: string, value: string): void {
  const outgoing: HttpBindings["outgoing"] | undefined = c.env.outgoing;
  if (outgoing === undefined) c.header(name, value);
  else outgoing.setHeader(name, value);
}
