/** A path in front of all others: routes are matched without it. */
import type { MiddlewareHandler } from "hono";
import { getPath } from "hono/utils/url";
import type { HttpContext, HttpEnv } from "./types.ts";

/** Asked at the root, too: health checks know no prefix. */
const AT_ROOT = "/ok";

/** The path below the prefix; undefined when it is not below it. */
export function belowPrefix(path: string, prefix: string): string | undefined {
  if (prefix === "") return path;
  if (path === prefix) return "/";
  if (path.startsWith(`${prefix}/`)) return path.slice(prefix.length);
  return path === AT_ROOT ? path : undefined;
}

/** How hono finds the path of a request; undefined: as it does anyway. */
export function pathFinder(prefix: string): ((request: Request) => string) | undefined {
  if (prefix === "") return undefined;
  return (request) => {
    const path = getPath(request);
    return belowPrefix(path, prefix) ?? path;
  };
}

/** Answers what is not below the prefix. */
export function onlyBelow(prefix: string, otherwise: (c: HttpContext) => Response): MiddlewareHandler<HttpEnv> {
  return async (c, next) => {
    if (belowPrefix(getPath(c.req.raw), prefix) === undefined) return otherwise(c);
    await next();
    return undefined;
  };
}
