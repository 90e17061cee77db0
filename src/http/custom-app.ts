/**
 * The project's own app (`http.app`): its routes come before ours, its middleware around ours. A Hono app of any copy of Hono, or
 * anything with a `fetch`.
 */
import type { MiddlewareHandler } from "hono";
import { getPath } from "hono/utils/url";
import type { AppSettings } from "../config/http.ts";
import { exportsOf, isRecord, loadExport } from "../load-module.ts";
import { belowPrefix } from "./prefix.ts";
import type { HttpContext, HttpEnv } from "./types.ts";

/** The app does not load, is none, or does not start; the message says which and why. */
export class AppError extends Error {
  override readonly name = "AppError";
}

/** What is to be done when the server starts and when it ends. */
export interface Lifespan {
  start(): Promise<void>;
  stop(): Promise<void>;
}

export interface CustomApp {
  readonly lifespan: Lifespan;
  /** Whether a route or a middleware of it is about the request. */
  concerns(request: Request, prefix: string): boolean;
  /** Whether a route of it is known to be just there; one that catches all paths, or middleware, is not. */
  hasRoute(method: string, path: string): boolean;
  /** Its answer. `ours` is what comes after its middleware where it has no route; undefined: it leaves the request to us. */
  answer(request: Request, env: HttpEnv["Bindings"], ours: Ours): Promise<Response | undefined>;
}

/** Answers the request as the app hands it on. */
type Ours = (request: Request) => Promise<Response>;

/** Loads the app, and makes it ready to stand before our routes. `edition`: as `loadExport` has it. */
export async function loadApp(settings: AppSettings, project_dir: string, edition = 0): Promise<CustomApp> {
  const { exported, namespace } = await loadExport(settings, project_dir, edition).catch((error: unknown) => {
    throw new AppError(`http.app: ${settings.path} does not load: ${messageOf(error)}`, { cause: error });
  });
  const lifespan = lifespanOf(namespace.lifespan, settings.path);
  if (isHono(exported)) return honoApp(exported, settings.path, lifespan);
  if (hasFetch(exported)) return plainApp(exported, settings.path, lifespan);
  throw new AppError(
    `http.app: ${settings.path} is no Hono app and nothing else with a function fetch. ${exportsOf(namespace)}`,
  );
}

/** An app in whose place another can be put; `put` returns the one that was there. */
export function replaceable(first: CustomApp): CustomApp & { put(app: CustomApp): CustomApp } {
  let current = first;
  return {
    get lifespan() {
      return current.lifespan;
    },
    concerns: (...asked) => current.concerns(...asked),
    hasRoute: (...asked) => current.hasRoute(...asked),
    answer: (...asked) => current.answer(...asked),
    put(app) {
      const before = current;
      current = app;
      return before;
    },
  };
}

/* ------------------------------------------------------------------------------- in front of ours */

/** Lets the app answer what it is about. Answers of ours pass it whole, so that its middleware may change them. */
export function before(app: CustomApp, prefix: string): MiddlewareHandler<HttpEnv> {
  return async (c, next) => {
    // No web request can say so, and no operation answers it.
    if (c.req.method === "TRACE") return next();
    const { url } = c.req.raw;
    // What is escaped is asked about as it is routed: a guard that reads the path must not be passed by in other letters.
    const isPlain = !url.includes("%");
    const isConcerned = isPlain ? app.concerns(c.req.raw, prefix) : app.concerns(withoutPrefix(c, prefix), "");
    c.set("url", url);
    // A stream that nobody looks at goes to the socket by the short way.
    if (!isConcerned) return next();
    c.set("isWrapped", true);
    let isOurs = false;
    const ours = async (request: Request): Promise<Response> => {
      isOurs = true;
      c.req.raw = request;
      await next();
      return c.res;
    };
    try {
      const answer = await app.answer(isPlain ? withoutPrefix(c, prefix) : c.req.raw, c.env, ours);
      if (answer !== undefined) replace(c, answer, isOurs);
      else if (!isOurs) {
        c.set("isWrapped", false);
        await next();
      }
    } catch (thrown) {
      if (isOurs) c.res = undefined;
      throw thrown;
    }
    return undefined;
  };
}

/**
 * Asks the app about a request for a connection, which has no response that middleware could change. Resolves with the request as the app
 * hands it on, or with its refusal.
 */
export async function passedBy(
  app: CustomApp,
  request: Request,
  prefix: string,
): Promise<Request | { readonly status: number; readonly detail: string }> {
  const asked = below(request, prefix);
  if (!app.concerns(asked, "")) return request;
  let passed: Request | undefined;
  const ours = async (handedOn: Request): Promise<Response> => {
    passed = handedOn;
    return new Response(null, { status: 204 });
  };
  const answer = await app.answer(asked, {}, ours);
  if (passed !== undefined) return new Request(request.url, { headers: passed.headers });
  if (answer === undefined) return request;
  return answer.status < 400
    ? { status: 404, detail: "http.app has something else than a WebSocket here" }
    : { status: answer.status, detail: `refused by http.app with ${answer.status}` };
}

/** The app knows nothing of the prefix, and finds the path written as it is read here. The request's body goes along, so that what is left to us reads it there. */
function withoutPrefix(c: HttpContext, prefix: string): Request {
  c.req.raw = below(c.req.raw, prefix);
  return c.req.raw;
}

function below(request: Request, prefix: string): Request {
  const path = belowPrefix(getPath(request), prefix);
  if (path === undefined) return request;
  const url = new URL(request.url);
  url.pathname = path;
  return url.href === request.url ? request : copyOf(request, url, request.body);
}

const copyOf = (
  { method, headers, signal }: Request,
  url: string | URL,
  body: ReadableStream<Uint8Array> | ArrayBuffer | null,
): Request => new Request(url, { method, headers, signal, ...(body === null ? {} : { body, duplex: "half" }) });

/** What passed the app has our headers, as far as it kept them; what it made itself gets those that it does not set. */
function replace(c: HttpContext, answer: Response, isOurs: boolean): void {
  const added = isOurs || c.env.outgoing !== undefined ? [] : [...c.res.headers];
  c.res = undefined;
  c.res = answer;
  for (const [name, value] of added) if (!answer.headers.has(name)) c.header(name, value);
}

/* ------------------------------------------------------------------------------- kinds of apps */

interface Fetching {
  fetch(request: Request, env: object): unknown;
}

/** What we use of Hono; there may be another version of it in the project. */
interface HonoLike extends Fetching {
  readonly router: { match(method: string, path: string): readonly [readonly Matched[], ...unknown[]] };
  readonly errorHandler: unknown;
  getPath(request: Request): string;
  notFound(handler: (c: ContextLike) => Promise<Response>): unknown;
  onError(handler: (error: Error) => Response): unknown;
}

/** A handler, with the route that it is of. */
type Matched = readonly [readonly [unknown, { readonly method: string; readonly path: string }?], ...unknown[]];

interface ContextLike {
  readonly env: { readonly [OURS]: Ours };
  readonly req: { readonly raw: Request; arrayBuffer(): Promise<ArrayBuffer> };
}

const OURS: unique symbol = Symbol("skein: our routes");

const hasFetch = (value: unknown): value is Fetching => isRecord(value) && typeof value.fetch === "function";

const isHono = (value: unknown): value is HonoLike =>
  isRecord(value) &&
  ["fetch", "notFound", "onError", "getPath"].every((name) => typeof value[name] === "function") &&
  isRecord(value.router) &&
  typeof value.router.match === "function";

/** Where no route of the app answers, ours do, inside of its middleware. */
function honoApp(app: HonoLike, name: string, lifespan: Lifespan): CustomApp {
  app.notFound(async (c) => c.env[OURS](await asRead(c)));
  if (!hasErrorHandler(app)) app.onError(answerOrThrow);
  return {
    lifespan,
    concerns(request, prefix) {
      const own = app.getPath(request);
      const plain = getPath(request);
      // Its routes are about more than the path: about the host, say.
      if (own !== plain && `${own}/` !== plain) return true;
      const path = belowPrefix(own, prefix);
      return path !== undefined && matched(app, request.method, path).length > 0;
    },
    // Middleware is a route for all methods, too, and mostly for many paths.
    hasRoute: (method, path) =>
      matched(app, method, path).some(
        ([[, route]]) => route !== undefined && (route.method !== "ALL" || route.path === path),
      ),
    answer: (request, env, ours) => guarded(name, () => app.fetch(request, { ...env, [OURS]: ours })),
  };
}

const matched = ({ router }: HonoLike, method: string, path: string): readonly Matched[] =>
  router.match(method === "HEAD" ? "GET" : method, path)[0];

/** Hono keeps a body that a middleware has read; who asked the request itself for it has taken it away from us. */
async function asRead({ req }: ContextLike): Promise<Request> {
  return req.raw.bodyUsed ? copyOf(req.raw, req.raw.url, await req.arrayBuffer()) : req.raw;
}

/** Whether the project has said what its errors look like. Hono's own way writes to the console and answers with text. */
function hasErrorHandler(app: HonoLike): boolean {
  const Hono = rootClass(app);
  return Hono === undefined || Reflect.construct(Hono, []).errorHandler !== app.errorHandler;
}

/** The class at the bottom: those above it may want arguments. */
function rootClass(app: object): (new () => HonoLike) | undefined {
  let found: unknown;
  for (let at: unknown = Object.getPrototypeOf(app); isRecord(at) && at !== Object.prototype; ) {
    found = at.constructor;
    at = Object.getPrototypeOf(at);
  }
  return typeof found === "function" ? (found as new () => HonoLike) : undefined;
}

/** `HTTPException` says itself how it looks. */
function answerOrThrow(error: Error): Response {
  if ("getResponse" in error && typeof error.getResponse === "function") return error.getResponse() as Response;
  throw error;
}

/** Asked for everything; what it answers with 404, or not at all, and has not begun to read, is left to us. */
function plainApp(app: Fetching, name: string, lifespan: Lifespan): CustomApp {
  return {
    lifespan,
    concerns: () => true,
    hasRoute: () => false,
    async answer(request, env) {
      const answer = await guarded(name, () => app.fetch(request, env));
      return answer?.status === 404 && !request.bodyUsed ? undefined : answer;
    },
  };
}

async function guarded(name: string, fetch: () => unknown): Promise<Response | undefined> {
  let answer: unknown;
  try {
    answer = await fetch();
  } catch (error) {
    throw new AppError(`http.app (${name}) threw: ${messageOf(error)}`, { cause: error });
  }
  if (answer === undefined || answer === null || isResponse(answer)) return answer ?? undefined;
  throw new AppError(`http.app (${name}) answered with something that is no Response`);
}

/** There may be several classes of that name: Node's, and that of its adapter. */
const isResponse = (value: unknown): value is Response =>
  isRecord(value) && typeof value.status === "number" && typeof value.arrayBuffer === "function" && "headers" in value;

/* ------------------------------------------------------------------------------- lifespan */

const nothing = async (): Promise<void> => undefined;

/** The export `lifespan` beside the app: an object with `start`, `stop` or both. */
function lifespanOf(given: unknown, name: string): Lifespan {
  if (given === undefined) return { start: nothing, stop: nothing };
  const { start, stop } = isRecord(given) ? given : {};
  const isHook = (hook: unknown): hook is (() => unknown) | undefined =>
    hook === undefined || typeof hook === "function";
  if (!isHook(start) || !isHook(stop) || (start === undefined && stop === undefined)) {
    throw new AppError(
      `http.app: the export lifespan beside ${name} must have a function start, a function stop or both`,
    );
  }
  const run = async (hook: (() => unknown) | undefined, which: string): Promise<void> => {
    try {
      await hook?.call(given);
    } catch (error) {
      throw new AppError(`http.app: lifespan.${which} beside ${name} threw: ${messageOf(error)}`, { cause: error });
    }
  };
  return { start: () => run(start, "start"), stop: () => run(stop, "stop") };
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
