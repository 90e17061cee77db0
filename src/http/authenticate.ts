/** Who sends a request. */
import { timingSafeEqual } from "node:crypto";
import type { MiddlewareHandler } from "hono";
import type { AuthUser } from "../schemas/auth.ts";
import type { HttpEnv } from "./types.ts";

/** The user; null: the server itself, which may do anything. Rejects with `Denied`. */
export type Identify = (request: Request, remote: string | undefined) => Promise<AuthUser | null>;

export interface IdentifyOptions {
  readonly authenticate: (request: Request) => Promise<AuthUser>;
  /** What graphs that run here call their own server with. */
  readonly serverKey: string;
  /** Whether LangGraph Studio on this machine comes in without a user of the project's. */
  readonly studio: boolean;
}

export const SERVER_KEY_HEADER = "x-skein-server-key";

/** As the SDK's `isStudioUser` knows it. */
const STUDIO_USER: AuthUser = {
  kind: "StudioUser",
  identity: "langgraph-studio-user",
  display_name: "langgraph-studio-user",
  is_authenticated: true,
  permissions: [],
};

export function identifier({ authenticate, serverKey, studio }: IdentifyOptions): Identify {
  const isServer = equals(serverKey);
  return async (request, remote) => {
    const key = request.headers.get(SERVER_KEY_HEADER);
    if (key !== null && isServer(key)) return null;
    if (studio && request.headers.get("x-auth-scheme") === "langsmith" && isLoopback(remote)) return STUDIO_USER;
    return authenticate(request);
  };
}

/** Hangs the user on the request. */
export function authenticate(identify: Identify): MiddlewareHandler<HttpEnv> {
  return async (c, next) => {
    const incoming: HttpEnv["Bindings"]["incoming"] | undefined = c.env.incoming;
    // Without the body, which is for the operation. A `Request` cannot say TRACE, which no operation answers.
    const method = c.req.method === "TRACE" ? "GET" : c.req.method;
    const request = new Request(c.get("url") ?? c.req.url, { method, headers: c.req.raw.headers });
    c.set("user", await identify(request, incoming?.socket.remoteAddress));
    await next();
  };
}

/** Takes as long whatever is given. */
function equals(secret: string): (given: string) => boolean {
  const wanted = Buffer.from(secret);
  return (given) => {
    const bytes = Buffer.from(given);
    return bytes.length === wanted.length && timingSafeEqual(bytes, wanted);
  };
}

const isLoopback = (address: string | undefined): boolean =>
  address !== undefined && (address === "::1" || /^(::ffff:)?127\./.test(address));
