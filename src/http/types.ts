/** What the `http` room is given, and what it hangs on each request. */

import type { IncomingHttpHeaders } from "node:http";
import type { HttpBindings } from "@hono/node-server";
import type { OpenAPIHono } from "@hono/zod-openapi";
import type { Context } from "hono";
import type { CorsSettings, Switch } from "../config/http.ts";
import type { AuthDocument } from "../config.ts";
import type { RequestSpan, SpanIds } from "../observability/tracing.ts";
import type { AuthUser } from "../schemas/auth.ts";
import type { Services, SystemService } from "../services/contract.ts";
import type { OpenAnswers } from "./answers.ts";
import type { ChooseHeaders, ChosenHeaders } from "./headers.ts";

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
  /** Those that the configuration wants to have in the log. */
  readonly headers?: ChosenHeaders;
}

/** Called once per answered request. */
export type Observe = (answered: Answered) => void;

export interface HttpSettings {
  readonly maxBodyBytes: number;
  readonly version: string;
  readonly cors: CorsSettings;
  /** Silence after which a stream or a waiting answer gets a sign of life. Default 5000. */
  readonly heartbeatMs?: number | undefined;
  /** How the server was started (`dev`, `start` …); shown in the served document. */
  readonly mode: string;
  /** Parts of the API that are not there. */
  readonly disabled: ReadonlySet<Switch>;
  /** In front of every path, or nothing. */
  readonly mountPrefix: string;
  /** Headers that become part of a run's `configurable`. */
  readonly configurable?: ChooseHeaders | undefined;
  /** Headers that are written to the log. */
  readonly logged?: ChooseHeaders | undefined;
  /** What the served document and agent cards say of how clients log in; null: nobody has to. */
  readonly auth?: AuthDocument | null;
}

export interface HttpEnv {
  /** Node's request and response where there are any: a request may come by `fetch` alone. */
  Bindings: Partial<HttpBindings> & { readonly answers?: OpenAnswers };
  Variables: {
    route: string;
    request_id: string;
    span: RequestSpan | undefined;
    /** Null: the server itself. Not there where nobody has to log in, nor on public paths. */
    user: AuthUser | null;
    services: Services;
    /** As the client asked for it; not there where nothing has changed the request since. */
    url: string | undefined;
    /** Headers that become part of its runs' `configurable`. */
    chosen: ChosenHeaders | undefined;
    /** Code of the project gets to see the answer before it goes. */
    isWrapped: boolean;
    /** Resolves when an answer that is a web stream is over, read or given up. */
    streamed: Promise<void> | undefined;
    /** Of a request without a connection of Node: to be fired when nobody reads its answer any more. */
    gone: AbortController;
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

/** The request's headers as Node has them. */
export const incomingHeaders = (c: HttpContext): IncomingHttpHeaders =>
  c.env.incoming?.headers ?? Object.fromEntries(c.req.raw.headers);

/** Where an answer can be written without a web response; undefined when it must be one. */
export function nodeResponse(c: HttpContext): HttpBindings["outgoing"] | undefined {
  return c.get("isWrapped") ? undefined : c.env.outgoing;
}

/**
 * Sets a header on whatever will be answered: a hono response, an error, or a stream written straight to the socket.
 * Node merges these into `writeHead`, which also spares a web `Headers` object per request.
 */
export function setHeader(c: HttpContext, name: string, value: string): void {
  const outgoing = nodeResponse(c);
  // Not `c.header`: responses that are made elsewhere would lose it.
  if (outgoing === undefined) c.res.headers.set(name, value);
  else outgoing.setHeader(name, value);
}
