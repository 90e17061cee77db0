/** Who sends a request: the project's `authenticate` says it. */
import type { AuthCacheSettings } from "../config.ts";
import { Denied } from "../errors.ts";
import type { AuthUser } from "../schemas/auth.ts";
import type { Handlers } from "./handlers.ts";
import { denied, isHttpError } from "./refusal.ts";

export interface AuthLogger {
  warn(fields: object, message: string): void;
}

/** The user, or rejects with `Denied`. The request has no body: that is for those behind. */
export type Authenticate = (request: Request) => Promise<AuthUser>;

export function authenticator(handlers: Handlers, logger: AuthLogger, cache: AuthCacheSettings | null): Authenticate {
  const ask: Authenticate = async (request) => {
    try {
      return userOf(await handlers.authenticate(request));
    } catch (thrown) {
      if (isHttpError(thrown)) throw denied(thrown);
      // Libraries that check tokens throw errors of their own at a bad one.
      logger.warn(
        { err: thrown },
        "authenticate threw something else than an HTTPException; the request is answered 401",
      );
      throw new Denied(401, "Unauthorized", {}, { cause: thrown });
    }
  };
  return cache === null ? ask : remembered(ask, cache);
}

/** Throws when it is none. */
export function userOf(given: unknown): AuthUser {
  if (typeof given === "string") return userOf({ identity: given });
  const { identity, permissions = [], is_authenticated = true, display_name } = (given ?? {}) as Partial<AuthUser>;
  if (typeof identity !== "string" || identity === "") {
    throw new Error("authenticate returned neither a string nor an object with an `identity`");
  }
  if (!Array.isArray(permissions) || !permissions.every((each) => typeof each === "string")) {
    throw new Error("authenticate returned a user whose `permissions` are no list of strings");
  }
  if (is_authenticated !== true) throw new Denied(401, "Unauthorized");
  return { ...(given as object), identity, permissions, is_authenticated, display_name: display_name ?? identity };
}

/** Asks once for all requests whose headers say the same, as long as that is remembered. Refusals are not. */
function remembered(ask: Authenticate, { headers, ttlMs, maxSize }: AuthCacheSettings): Authenticate {
  const known = new Map<string, { readonly user: AuthUser; readonly until: number }>();
  return async (request) => {
    const values = headers.map((name) => request.headers.get(name));
    // Nothing tells these requests apart.
    if (values.every((value) => value === null)) return ask(request);
    const key = JSON.stringify(values);
    const found = known.get(key);
    if (found !== undefined && found.until > performance.now()) return copyOf(found.user);
    known.delete(key);
    const user = await ask(request);
    const [oldest] = known.keys();
    if (known.size >= maxSize && oldest !== undefined) known.delete(oldest);
    known.set(key, { user, until: performance.now() + ttlMs });
    return copyOf(user);
  };
}

/** Handlers may write to the user they get: that is over with the request. */
const copyOf = (user: AuthUser): AuthUser => ({ ...user, permissions: [...user.permissions] });
