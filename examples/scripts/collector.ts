/**
 * A collector of OpenTelemetry to look at: takes traces by OTLP (JSON over HTTP) and prints each as a tree.
 *
 *     npm run collector -w skein-examples
 *     OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 OTEL_EXPORTER_OTLP_PROTOCOL=http/json npm start
 */
import { createServer } from "node:http";

interface Span {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly status: { readonly code: number };
}

interface Traces {
  readonly resourceSpans?: readonly { readonly scopeSpans: readonly { readonly spans: readonly Span[] }[] }[];
}

const PORT = Number(process.env.PORT ?? 4318);
/** A run's span comes when it has ended, and the request that waited for it a little later. */
const QUIET_MS = 1000;

const traces = new Map<string, { spans: Span[]; print: NodeJS.Timeout }>();

function take({ resourceSpans = [] }: Traces): void {
  for (const span of resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans))) {
    const known = traces.get(span.traceId);
    clearTimeout(known?.print);
    const spans = [...(known?.spans ?? []), span];
    traces.set(span.traceId, { spans, print: setTimeout(() => print(span.traceId), QUIET_MS) });
  }
}

function print(traceId: string): void {
  const spans = traces.get(traceId)?.spans ?? [];
  traces.delete(traceId);
  const ids = new Set(spans.map(({ spanId }) => spanId));
  const roots = spans.filter(({ parentSpanId = "" }) => !ids.has(parentSpanId));
  console.log(`trace ${traceId}`);
  for (const root of roots) printUnder(root, spans, 1);
}

function printUnder(span: Span, spans: readonly Span[], depth: number): void {
  const ms = Number(BigInt(span.endTimeUnixNano) - BigInt(span.startTimeUnixNano)) / 1e6;
  console.log(`${"  ".repeat(depth)}${span.name}  ${ms.toFixed(1)} ms${span.status.code === 2 ? "  FAILED" : ""}`);
  const children = spans.filter(({ parentSpanId }) => parentSpanId === span.spanId);
  children.sort((a, b) => (BigInt(a.startTimeUnixNano) < BigInt(b.startTimeUnixNano) ? -1 : 1));
  for (const child of children) printUnder(child, spans, depth + 1);
}

const server = createServer(async (request, response) => {
  let text = "";
  for await (const chunk of request) text += chunk;
  const isJson = request.headers["content-type"] === "application/json";
  if (isJson && request.url === "/v1/traces") take(JSON.parse(text) as Traces);
  response.writeHead(isJson ? 200 : 415, { "content-type": "application/json" }).end("{}");
});
server.listen(PORT, "127.0.0.1", () => {
  const address = server.address();
  console.log(`traces: http://127.0.0.1:${typeof address === "object" ? address?.port : PORT}`);
});
