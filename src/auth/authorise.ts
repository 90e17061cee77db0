/** Whether a user may do something, and to which: the project's handlers say it. */
import { Denied } from "../errors.ts";
import type { AuthUser } from "../schemas/auth.ts";
import type { MetadataFilter } from "../storage/filter.ts";
import { FilterError, parseFilter } from "./filter.ts";
import { type AuthEvent, type Handlers, handlerOf, partsOf } from "./handlers.ts";
import { denied, isHttpError } from "./refusal.ts";

type Members = Readonly<Record<string, unknown>>;

export interface Asked {
  /** What the request is about. Handlers may look, and fail where they try to change it. */
  readonly fixed: Members;
  /** What handlers may change. */
  readonly open?: Members;
}

export interface Allowed {
  /** As handlers left it, the fixed members included. */
  readonly value: Members;
  /** What the metadata of the thing must be like; null: anything. */
  readonly filter: MetadataFilter | null;
}

export interface AuthoriseLogger {
  error(fields: object, message: string): void;
}

/** Asks the handler for the event. Rejects with `Denied`, or with an error that is the handler's fault. */
export type Authorise = (event: AuthEvent, asked: Asked) => Promise<Allowed>;

export function authoriser(handlers: Handlers, user: AuthUser, logger: AuthoriseLogger): Authorise {
  return async (event, { fixed, open = {} }) => {
    const value = asValue(fixed, open);
    const handler = handlerOf(handlers.callbacks, event);
    if (handler === undefined) return { value, filter: null };
    const { permissions } = user;
    let said: unknown;
    try {
      said = await handler({ event, ...partsOf(event), value, user, permissions });
    } catch (thrown) {
      if (isHttpError(thrown)) throw denied(thrown);
      logger.error(
        { err: thrown, event },
        "a handler of auth threw something else than an HTTPException; the request is answered 403",
      );
      throw new Denied(403, "Forbidden", {}, { cause: thrown });
    }
    return { value, filter: meant(said, event) };
  };
}

/** A handler that changes what it may not gets an error that names it. */
function asValue(fixed: Members, open: Members): Members {
  const value: Record<string, unknown> = { ...open };
  for (const [name, member] of Object.entries(fixed))
    Object.defineProperty(value, name, { value: member, enumerable: true });
  return value;
}

/** Nothing and `true` allow, `false` refuses, an object is a filter. */
function meant(said: unknown, event: AuthEvent): MetadataFilter | null {
  if (said === undefined || said === null || said === true) return null;
  if (said === false) throw new Denied(403, "Forbidden");
  if (typeof said !== "object" || Array.isArray(said)) {
    throw new Error(
      `the handler of auth for ${event} returned ${Array.isArray(said) ? "a list" : `a ${typeof said}`}: neither true, false nor a filter`,
    );
  }
  if (Object.keys(said).length === 0) return null;
  if (event.startsWith("store:")) {
    throw new Error(
      `the handler of auth for ${event} returned a filter: items have no metadata; change value.namespace`,
    );
  }
  try {
    return parseFilter(said as Members);
  } catch (error) {
    if (!(error instanceof FilterError)) throw error;
    throw new Error(`the filter that the handler of auth for ${event} returned is not understood: ${error.message}`);
  }
}
