/** The HTTP API: middleware in order, then one line per resource. */
import { OpenAPIHono } from "@hono/zod-openapi";
import type { MiddlewareHandler } from "hono";
import type { Tracing } from "../observability/tracing.ts";
import type { AuthUser } from "../schemas/auth.ts";
import type { Services } from "../services/contract.ts";
import { cors } from "./cors.ts";
import { errorResponse } from "./errors.ts";
import { observed } from "./observed.ts";
import { a2aRoutes } from "./routes/a2a.ts";
import { assistantRoutes } from "./routes/assistants.ts";
import { commandRoutes } from "./routes/commands.ts";
import { cronRoutes } from "./routes/crons.ts";
import { mcpRoutes } from "./routes/mcp.ts";
import { runRoutes } from "./routes/runs.ts";
import { statelessRunRoutes } from "./routes/stateless-runs.ts";
import { storeRoutes } from "./routes/store.ts";
import { systemRoutes } from "./routes/system.ts";
import { threadEventRoutes } from "./routes/thread-events.ts";
import { threadStateRoutes } from "./routes/thread-states.ts";
import { threadStreamRoutes } from "./routes/thread-stream.ts";
import { threadRoutes } from "./routes/threads.ts";
import { uiRoutes } from "./routes/ui.ts";
import {
  type App,
  type HttpContext,
  type HttpEnv,
  type HttpSettings,
  type Logger,
  type Observe,
  type Room,
  setHeader,
} from "./types.ts";

export interface AppOptions {
  readonly services: Services;
  /** Says who sends a request, or refuses it. None: anybody may do anything. */
  readonly authenticate?: MiddlewareHandler<HttpEnv> | null;
  /** The services as this user may use them. None: whoever comes in may do anything. */
  readonly servicesFor?: ((user: AuthUser) => Services) | null;
  readonly settings: HttpSettings;
  readonly logger: Logger;
  readonly observe: Observe;
  /** Null: nobody traces. */
  readonly tracing?: Tracing | null;
  /** `system`: health, identity and numbers only. */
  readonly rooms?: Rooms;
}

export type Rooms = "all" | "system";

const DEFAULT_HEARTBEAT_MS = 5000;

/** Builds the app. Needs @hono/node-server: streams are written to Node's response. */
export function createApp(options: AppOptions): App {
  const { services, authenticate = null, servicesFor = null, settings, logger, observe, tracing = null } = options;
  const { rooms = "all" } = options;
  const app: App = new OpenAPIHono<HttpEnv>();
  app.use("*", observed(observe, tracing), cors(settings.corsOrigins));
  if (authenticate !== null) app.use("*", authenticate);
  app.onError((error, c) => errorResponse(c, error, logger));

  const { maxBodyBytes, heartbeatMs = DEFAULT_HEARTBEAT_MS } = settings;
  const room: Room = {
    app,
    services: servicesFor === null ? () => services : (c) => servicesOf(c, services, servicesFor),
    system: services.system,
    logger,
    maxBodyBytes,
    heartbeatMs,
  };
  if (rooms === "all") {
    assistantRoutes(room);
    threadRoutes(room);
    threadStreamRoutes(room);
    threadEventRoutes(room);
    threadStateRoutes(room);
    runRoutes(room);
    statelessRunRoutes(room);
    cronRoutes(room);
    storeRoutes(room);
    commandRoutes(room);
    uiRoutes(room);
    if (settings.mcp) mcpRoutes(room, settings);
    if (settings.a2a) a2aRoutes(room, settings);
  }
  systemRoutes(room, settings);

  app.notFound((c) => unknownRoute(app, c));
  return app;
}

/** Who comes without a user has come past the authentication: that must never be taken for somebody who may do anything. */
function servicesOf(c: HttpContext, services: Services, servicesFor: (user: AuthUser) => Services): Services {
  const user: AuthUser | null | undefined = c.get("user");
  if (user === undefined) throw new Error(`nobody was authenticated for ${c.req.method} ${c.req.path}`);
  // One for the whole request: it knows which runs the request has made.
  const own = c.get("services") ?? (user === null ? services : servicesFor(user));
  c.set("services", own);
  return own;
}

/** 405 when the path exists under another method (OPTIONS asks for just that), else 404. */
function unknownRoute(app: App, c: HttpContext): Response {
  const methods = app.routes.filter(({ method, path }) => method !== "ALL" && pathMatches(path, c.req.path));
  if (methods.length === 0) return c.json({ detail: `Not Found: ${c.req.method} ${c.req.path}` }, 404);
  const allowed = [...new Set(methods.flatMap(({ method }) => (method === "GET" ? ["GET", "HEAD"] : method)))].join(
    ", ",
  );
  setHeader(c, "allow", allowed);
  if (c.req.method === "OPTIONS") return c.body(null, 204);
  return c.json({ detail: `Method Not Allowed: ${c.req.method} ${c.req.path} (allowed: ${allowed})` }, 405);
}

function pathMatches(pattern: string, path: string): boolean {
  const wanted = pattern.split("/");
  const given = path.split("/");
  return wanted.length === given.length && wanted.every((part, i) => part.startsWith(":") || part === given[i]);
}
