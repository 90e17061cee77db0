/** What every request gets: an id, a span where the server traces, and a word to whoever counts and logs. */
import type { MiddlewareHandler } from "hono";
import { requestIdFrom } from "../observability/request.ts";
import type { RequestSpan, Tracing } from "../observability/tracing.ts";
import type { ChooseHeaders } from "./headers.ts";
import { type HttpContext, type HttpEnv, incomingHeaders, type Observe, setHeader } from "./types.ts";

const ID_HEADER = "x-request-id";
/** They come every few seconds: a trace of each would be all there is. */
export const PROBES: ReadonlySet<string> = new Set(["/", "/ok", "/metrics"]);

/** Goes first. An answer that is a stream is over when its stream is. */
export function observed(
  observe: Observe,
  tracing: Tracing | null,
  logged: ChooseHeaders | undefined,
): MiddlewareHandler<HttpEnv> {
  return async (c, next) => {
    const start = performance.now();
    const request_id = requestIdFrom(c.req.header(ID_HEADER));
    c.set("request_id", request_id);
    setHeader(c, ID_HEADER, request_id);
    const { method, path } = c.req;
    const span = tracing === null || PROBES.has(path) ? undefined : beginSpan(c, tracing, request_id);
    await next();
    const route = c.get("route") ?? "unknown";
    const status = c.res.status;
    const headers = logged?.(c.req.raw.headers);
    const told = headers === undefined ? span?.ids : { ...span?.ids, headers };
    const end = (): void => {
      span?.end(route, status);
      observe({ route, method, path, status, ms: performance.now() - start, request_id, ...told });
    };
    const streamed = c.get("streamed");
    if (streamed === undefined) end();
    // Whoever asked waits for the headers first, and reads on his own.
    else void streamed.then(end);
  };
}

function beginSpan(c: HttpContext, tracing: Tracing, request_id: string): RequestSpan {
  const { incoming } = c.env;
  const span = tracing.beginRequest({
    method: c.req.method,
    path: c.req.path,
    headers: incomingHeaders(c),
    client: incoming?.socket.remoteAddress,
    httpVersion: incoming?.httpVersion,
    request_id,
  });
  c.set("span", span);
  return span;
}
