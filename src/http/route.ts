/**
 * The one way to add an operation: it lands in the served document and in the router from the same
 * description, and its handler sees only values that passed the schemas.
 */
import { z } from "@hono/zod-openapi";
import { ErrorResponse } from "../schemas/common.ts";
import { type BodyRule, readBody } from "./body.ts";
import { invalidInput } from "./issues.ts";
import { cleanText } from "./json.ts";
import type { App, HttpContext, Room } from "./types.ts";

export type Tag =
  | "Assistants"
  | "Threads"
  | "Thread Runs"
  | "Stateless Runs"
  | "Crons"
  | "Store"
  | "A2A"
  | "MCP"
  | "System";

const Nothing = z.object({});
const Unset = z.undefined();

/** A success as the document shows it. */
export interface Answer {
  readonly description: string;
  readonly schema: z.ZodType;
  /** Default `application/json`. */
  readonly type?: string;
  /** Where it comes as JSON too, on request. */
  readonly orJson?: z.ZodType;
  /** Names of headers worth documenting, with what they say. */
  readonly headers?: Readonly<Record<string, string>>;
}

export interface Operation<P extends z.ZodObject, Q extends z.ZodObject, B extends z.ZodType> {
  readonly method: "get" | "post" | "put" | "patch" | "delete";
  /** OpenAPI form: `/threads/{thread_id}`. */
  readonly path: string;
  /** Another path that does the same; not documented. */
  readonly alias?: string;
  readonly id: string;
  readonly tag: Tag;
  readonly summary: string;
  readonly description?: string;
  readonly params?: P;
  readonly query?: Q;
  /** Documented only: handlers read headers themselves. */
  readonly headers?: z.ZodObject;
  readonly body?: { readonly schema: B; readonly rule: BodyRule };
  /** A body that the handler reads itself, because what is wrong with it is told in another protocol's words. */
  readonly ownBody?: z.ZodType;
  /** Left out where there is no success. */
  readonly answer?: Answer;
  /** The answer may also be, or always is, an empty 204. */
  readonly empty?: "sometimes" | "always";
  /** The answer may also be an empty 202. */
  readonly accepts?: true;
  /** Statuses of errors it may answer with; that a body may be too large needs no saying. */
  readonly errors: readonly (keyof typeof ERRORS)[];
}

export interface Input<P extends z.ZodObject, Q extends z.ZodObject, B extends z.ZodType> {
  readonly params: z.output<P>;
  readonly query: z.output<Q>;
  readonly body: z.output<B>;
}

const ERRORS = {
  400: "Bad request",
  404: "Not found",
  405: "Method not allowed",
  409: "Conflict with the state of the resource",
  413: "Body too large",
  422: "Validation error",
  500: "Server error",
  503: "Not possible now",
} as const;

/** Documents and mounts an operation. */
export function mount<
  P extends z.ZodObject = typeof Nothing,
  Q extends z.ZodObject = typeof Nothing,
  B extends z.ZodType = typeof Unset,
>(
  room: Pick<Room, "app" | "maxBodyBytes">,
  operation: Operation<P, Q, B>,
  handler: (input: Input<P, Q, B>, c: HttpContext) => Response | Promise<Response>,
): void {
  document(room.app, operation);
  const { method, path, alias } = operation;
  const paths = alias === undefined ? [path] : [path, alias];
  const patterns = paths.map((each) => each.replaceAll(/\{(\w+)\}/g, ":$1"));
  room.app.on(method.toUpperCase(), patterns, async (c) => {
    c.set("route", path);
    try {
      return await handler(await readInput(c, operation, room.maxBodyBytes), c);
    } catch (thrown) {
      // Hono hands only errors to `onError`; user code may throw anything.
      throw thrown instanceof Error ? thrown : new Error(String(thrown), { cause: thrown });
    }
  });
}

async function readInput<P extends z.ZodObject, Q extends z.ZodObject, B extends z.ZodType>(
  c: HttpContext,
  { params, query, body }: Operation<P, Q, B>,
  maxBodyBytes: number,
): Promise<Input<P, Q, B>> {
  // The absent schemas' types are their defaults, which only the type parameters know.
  return {
    params: params === undefined ? {} : check(params, readParams(c, params), "path"),
    query: query === undefined ? {} : check(query, readQuery(c, query), "query"),
    body: body === undefined ? undefined : check(body.schema, await readBody(c, body.rule, maxBodyBytes), "body"),
  } as Input<P, Q, B>;
}

function check<S extends z.ZodType>(schema: S, value: unknown, whole: string): z.output<S> {
  const result = schema.safeParse(value, { reportInput: true });
  if (!result.success) throw invalidInput(result.error, whole);
  return result.data;
}

function readParams(c: HttpContext, schema: z.ZodObject): Record<string, string> {
  return Object.fromEntries(Object.keys(schema.shape).map((name) => [name, cleanText(c.req.param(name) ?? "")]));
}

/** Only names the schema knows; a name given once is a string, given more often an array. */
function readQuery(c: HttpContext, schema: z.ZodObject): Record<string, string | string[]> {
  const found: Record<string, string | string[]> = {};
  const mark = c.req.url.indexOf("?");
  if (mark === -1) return found;
  const query = new URLSearchParams(c.req.url.slice(mark));
  for (const name of Object.keys(schema.shape)) {
    const values = query.getAll(name).map(cleanText);
    if (values.length > 0) found[name] = values.length === 1 ? (values[0] ?? "") : values;
  }
  return found;
}

function document<P extends z.ZodObject, Q extends z.ZodObject, B extends z.ZodType>(
  app: App,
  operation: Operation<P, Q, B>,
): void {
  const { params, query, headers, description } = operation;
  const body = operation.body ?? (operation.ownBody && { schema: operation.ownBody, rule: "required" });
  app.openAPIRegistry.registerPath({
    method: operation.method,
    path: operation.path,
    operationId: operation.id,
    tags: [operation.tag],
    summary: operation.summary,
    ...(description === undefined ? {} : { description }),
    request: {
      ...(params === undefined ? {} : { params }),
      ...(query === undefined ? {} : { query }),
      ...(headers === undefined ? {} : { headers }),
      ...(body === undefined
        ? {}
        : { body: { required: body.rule === "required", content: { "application/json": { schema: body.schema } } } }),
    },
    responses: { ...successes(operation), ...failures(operation.errors, body !== undefined) },
  });
}

function successes({ answer, empty, accepts }: Pick<Operation<never, never, never>, "answer" | "empty" | "accepts">) {
  const nothing = { description: "Done; no body." };
  return {
    ...(empty === "always" || answer === undefined ? {} : { 200: success(answer) }),
    ...(accepts === undefined ? {} : { 202: { description: "Taken; no body." } }),
    ...(empty === undefined ? {} : { 204: nothing }),
  };
}

function success(answer: Answer) {
  const headers = Object.entries(answer.headers ?? {}).map(([name, description]) => [
    name,
    { description, schema: { type: "string" as const } },
  ]);
  return {
    description: answer.description,
    content: {
      [answer.type ?? "application/json"]: { schema: answer.schema },
      ...(answer.orJson === undefined ? {} : { "application/json": { schema: answer.orJson } }),
    },
    ...(headers.length === 0 ? {} : { headers: Object.fromEntries(headers) }),
  };
}

function failures(errors: readonly (keyof typeof ERRORS)[], takesBody: boolean) {
  const statuses = new Set([...errors, ...(takesBody ? [413 as const] : [])]);
  const entries = [...statuses].map((status) => [
    status,
    { description: ERRORS[status], content: { "application/json": { schema: ErrorResponse } } },
  ]);
  return Object.fromEntries(entries);
}
