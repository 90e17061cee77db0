/**
 * What can go wrong, in the product's words. Nothing here knows HTTP: `http/errors.ts`
 * owns the one table that turns a kind into a status.
 */
export type ErrorKind = "not_found" | "conflict" | "invalid" | "too_large" | "unavailable" | "forbidden";

/** What a request may name that is not there, where callers tell one from the other. */
export type Missing = "assistant" | "thread" | "run" | "checkpoint" | "interrupt";

export class SkeinError extends Error {
  readonly kind: ErrorKind;
  readonly missing: Missing | undefined;

  constructor(kind: ErrorKind, message: string, options?: ErrorOptions & { readonly missing?: Missing | undefined }) {
    super(message, options);
    this.name = "SkeinError";
    this.kind = kind;
    this.missing = options?.missing;
  }
}

/** The thing named does not exist. */
export const notFound = (what: string, missing?: Missing): SkeinError => new SkeinError("not_found", what, { missing });
/** The request is sound but the resource's state forbids it now. */
export const conflict = (why: string): SkeinError => new SkeinError("conflict", why);
/** The request itself is wrong; `path` is the field, as the client wrote it. */
export const invalid = (path: string, why: string): SkeinError =>
  new SkeinError("invalid", path === "" ? why : `${path}: ${why}`);
/** The server cannot do this now (shutting down, no executor). */
export const unavailable = (why: string): SkeinError => new SkeinError("unavailable", why);

/** The project's own auth refuses the request, in its own words: it names the status and may set headers. */
export class Denied extends SkeinError {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, message: string, headers: Readonly<Record<string, string>> = {}, options?: ErrorOptions) {
    super("forbidden", message, options);
    this.status = status;
    this.headers = headers;
  }
}

/** An error as clients see it in streams, `wait` and webhooks: its own name and message, never JSON in a string. */
export interface ErrorBody {
  readonly error: string;
  readonly message: string;
}

/** Any thrown value as name and message. */
export function errorBody(thrown: unknown): ErrorBody {
  if (thrown instanceof Error) return { error: thrown.name || "Error", message: thrown.message };
  return { error: "Error", message: String(thrown) };
}
