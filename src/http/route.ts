/**
 * The one way to add an operation: it lands in the served document and in the router from the same
 * description, and its handler sees only values that passed the schemas.
 */
import { z } from "@hono/zod-openapi";
import { SkeinError } from "../errors.ts";
import { ErrorResponse } from "../schemas/common.ts";
import { invalidInput } from "../schemas/issues.ts";
import { cleanText } from "../schemas/json-text.ts";
import { type BodyRule, readBody } from "./body.ts";
import type { App, HttpContext, Room } from "./types.ts";

export type Tag =
  | "Assistants"
  | "Threads"
  | "Thread Runs"
  | "Stateless Runs"
  | "Crons"
  | "Store"
  | "Streaming"
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
  /** How a body that is no JSON or does not fit is answered: 400 and this. Default: 422 and `{"detail"}`. */
  readonly malformed?: { readonly schema: z.ZodType; readonly answer: (body: unknown, message: string) => object };
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
      if (thrown instanceof Malformed) return c.json(thrown.answer, 400);
      // Hono hands only errors to `onError`; user code may throw anything.
      throw thrown instanceof Error ? thrown : new Error(String(thrown), { cause: thrown });
    }
  });
}

/** Ends a request whose body its operation answers in its own way. */
class Malformed extends Error {
  readonly answer: object;

  constructor(answer: object) {
    super("malformed body");
    this.answer = answer;
  }
}

async function readInput<P extends z.ZodObject, Q extends z.ZodObject, B extends z.ZodType>(
  c: HttpContext,
  { params, query, body, malformed }: Operation<P, Q, B>,
  maxBodyBytes: number,
): Promise<Input<P, Q, B>> {
  // The absent schemas' types are their defaults, which only the type parameters know.
  return {
    params: params === undefined ? {} : check(params, readParams(c, params), "path"),
    query: query === undefined ? {} : check(query, readQuery(c, query), "query"),
    body: body === undefined ? undefined : await checkedBody(c, body, maxBodyBytes, malformed),
  } as Input<P, Q, B>;
}

async function checkedBody<B extends z.ZodType>(
  c: HttpContext,
  { schema, rule }: { readonly schema: B; readonly rule: BodyRule },
  maxBodyBytes: number,
  malformed: Failing["malformed"],
): Promise<z.output<B>> {
  let body: unknown;
  try {
    body = await readBody(c, rule, maxBodyBytes);
    return check(schema, body, "body");
  } catch (error) {
    if (malformed === undefined || !(error instanceof SkeinError) || error.kind !== "invalid") throw error;
    throw new Malformed(malformed.answer(body, error.message));
  }
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
    responses: { ...successes(operation), ...failures(operation) },
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

type Failing = Pick<Operation<never, never, z.ZodType>, "errors" | "body" | "ownBody" | "malformed">;

function failures({ errors, body, ownBody, malformed }: Failing) {
  const statuses = new Set([
    ...errors,
    ...(malformed === undefined ? [] : [400 as const]),
    ...(body === undefined && ownBody === undefined ? [] : [413 as const]),
  ]);
  const schemaOf = (status: keyof typeof ERRORS) => (status === 400 && malformed?.schema) || ErrorResponse;
  const entries = [...statuses].map((status) => [
    status,
    { description: ERRORS[status], content: { "application/json": { schema: schemaOf(status) } } },
  ]);
  return Object.fromEntries(entries);
}
