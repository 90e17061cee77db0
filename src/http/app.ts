/** The HTTP API: middleware in order, then one line per resource. */
import { OpenAPIHono } from "@hono/zod-openapi";
import type { MiddlewareHandler } from "hono";
import { PUBLIC_PATHS } from "../auth/table.ts";
import type { AppSettings, Switch } from "../config/http.ts";
import type { Tracing } from "../observability/tracing.ts";
import type { AuthUser } from "../schemas/auth.ts";
import type { Services } from "../services/contract.ts";
import { cors } from "./cors.ts";
import { before, type CustomApp } from "./custom-app.ts";
import { errorResponse } from "./errors.ts";
import type { ChooseHeaders } from "./headers.ts";
import { observed } from "./observed.ts";
import { onlyBelow, pathFinder } from "./prefix.ts";
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
  /** The project's own app, before our routes. */
  readonly custom?: Custom | null;
}

/** The project's own app, and what comes first: it, or the question who sends a request. */
export interface Custom extends Pick<AppSettings, "order" | "authenticated"> {
  readonly app: CustomApp;
}

export type Rooms = "all" | "system";

const DEFAULT_HEARTBEAT_MS = 5000;

/** Builds the app. Under @hono/node-server streams are written to Node's response. */
export function createApp(options: AppOptions): App {
  const { services, servicesFor = null, settings, logger, observe, tracing = null, rooms = "all" } = options;
  const { maxBodyBytes, heartbeatMs = DEFAULT_HEARTBEAT_MS, configurable, mountPrefix } = settings;
  const getPath = pathFinder(mountPrefix);
  const app: App = new OpenAPIHono<HttpEnv>(getPath === undefined ? {} : { getPath });
  app.use("*", observed(observe, tracing, settings.logged), cors(settings.cors));
  app.onError((error, c) => errorResponse(c, error, logger));
  if (mountPrefix !== "") app.use("*", onlyBelow(mountPrefix, notFound));
  if (rooms === "all") beforeOurs(app, mountPrefix, options);
  if (configurable !== undefined) app.use("*", choosing(configurable));
  const room: Room = {
    app,
    services: servicesFor === null ? () => services : (c) => servicesOf(c, services, servicesFor),
    system: services.system,
    logger,
    maxBodyBytes,
    heartbeatMs,
  };
  if (rooms === "all") addRooms(room, settings);
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

function addRooms(room: Room, settings: HttpSettings): void {
  const { disabled } = settings;
  const isThere = (...parts: Switch[]): boolean => !parts.some((part) => disabled.has(part));
  if (isThere("assistants")) assistantRoutes(room);
  if (isThere("threads")) {
    threadRoutes(room);
    threadStreamRoutes(room);
    threadStateRoutes(room);
  }
  // Streaming v2 makes runs, and reads the state of threads.
  if (isThere("threads", "runs")) {
    threadEventRoutes(room);
    commandRoutes(room);
  }
  if (isThere("runs")) {
    runRoutes(room);
    statelessRunRoutes(room);
    cronRoutes(room);
  }
  if (isThere("store")) storeRoutes(room);
  if (isThere("ui")) uiRoutes(room, settings);
  if (isThere("mcp")) mcpRoutes(room, settings);
  if (isThere("a2a")) a2aRoutes(room, settings);
}

/** The project's app, and the question who sends a request, in their order. */
function beforeOurs(app: App, prefix: string, { authenticate = null, custom = null }: AppOptions): void {
  const asksWho = authenticate && onlyOn(needsUser, authenticate);
  if (custom === null) {
    if (asksWho !== null) app.use("*", asksWho);
    return;
  }
  const itself = before(custom.app, prefix);
  if (authenticate === null || asksWho === null) app.use("*", itself);
  else if (custom.authenticated) {
    // What the app has on a public path is no more public than the rest of it; without a route there, it is not asked.
    const isKept = (c: HttpContext): boolean => needsUser(c) || custom.app.hasRoute(c.req.method, c.req.path);
    app.use("*", onlyOn(isKept, authenticate), onlyOn(isKept, itself));
  } else if (custom.order === "auth_first") app.use("*", onlyOn(isOurs(app), asksWho), itself);
  else app.use("*", itself, asksWho);
}

const needsUser = (c: HttpContext): boolean => !PUBLIC_PATHS.has(c.req.path);

const onlyOn =
  (condition: (c: HttpContext) => boolean, middleware: MiddlewareHandler<HttpEnv>): MiddlewareHandler<HttpEnv> =>
  (c, next) =>
    condition(c) ? middleware(c, next) : next().then(() => undefined);

/** Whether a request is about one of our routes, whoever answers it then. */
const isOurs =
  (app: App) =>
  (c: HttpContext): boolean =>
    methodsAt(app, c.req.path).length > 0;

const choosing =
  (configurable: ChooseHeaders): MiddlewareHandler<HttpEnv> =>
  (c, next) => {
    c.set("chosen", configurable(c.req.raw.headers));
    return next();
  };

/** 405 when the path exists under another method (OPTIONS asks for just that), else 404. */
function unknownRoute(app: App, c: HttpContext): Response {
  const methods = methodsAt(app, c.req.path);
  if (methods.length === 0) return notFound(c);
  const allowed = [...new Set(methods.flatMap((method) => (method === "GET" ? ["GET", "HEAD"] : method)))].join(", ");
  setHeader(c, "allow", allowed);
  if (c.req.method === "OPTIONS") return c.body(null, 204);
  return c.json({ detail: `Method Not Allowed: ${c.req.method} ${c.req.path} (allowed: ${allowed})` }, 405);
}

const notFound = (c: HttpContext): Response => c.json({ detail: `Not Found: ${c.req.method} ${c.req.path}` }, 404);

/** Methods of our routes at a path; those of `ALL` are middleware. */
const methodsAt = (app: App, path: string): readonly string[] =>
  app.routes.filter((route) => route.method !== "ALL" && pathMatches(route.path, path)).map(({ method }) => method);

function pathMatches(pattern: string, path: string): boolean {
  const wanted = pattern.split("/");
  const given = path.split("/");
  return wanted.length === given.length && wanted.every((part, i) => part.startsWith(":") || part === given[i]);
}
