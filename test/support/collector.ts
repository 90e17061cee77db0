/** A collector of OpenTelemetry that keeps what it is sent: OTLP over HTTP, as JSON. */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { eventually } from "./server.ts";

export interface SeenSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string | undefined;
  readonly name: string;
  readonly kind: number;
  /** 2: failed. */
  readonly status: number;
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly pid: number;
}

export interface SeenMetric {
  readonly name: string;
  readonly description: string;
  readonly unit: string;
  readonly sum?: { readonly dataPoints: readonly SeenPoint[]; readonly isMonotonic: boolean };
  readonly gauge?: { readonly dataPoints: readonly SeenPoint[] };
  readonly histogram?: { readonly dataPoints: readonly SeenPoint[] };
}

export interface SeenPoint {
  readonly attributes: readonly Attribute[];
  readonly asDouble?: number;
  readonly count?: number;
  readonly sum?: number;
  readonly bucketCounts?: readonly number[];
  readonly explicitBounds?: readonly number[];
}

interface Attribute {
  readonly key: string;
  readonly value: { readonly stringValue?: string; readonly intValue?: number; readonly boolValue?: boolean };
}

interface Exported {
  readonly resourceSpans?: readonly {
    readonly resource: { readonly attributes: readonly Attribute[] };
    readonly scopeSpans: readonly {
      readonly spans: readonly (Omit<SeenSpan, "attributes" | "status"> & {
        readonly attributes: readonly Attribute[];
        readonly status: { readonly code: number };
      })[];
    }[];
  }[];
  readonly resourceMetrics?: readonly {
    readonly scopeMetrics: readonly { readonly metrics: readonly SeenMetric[] }[];
  }[];
}

export class Collector implements AsyncDisposable {
  connections = 0;
  readonly spans: SeenSpan[] = [];
  /** Of the last export. */
  metrics: readonly SeenMetric[] = [];
  /** Bodies that are not JSON, by their type. */
  readonly others: { readonly type: string; readonly path: string; readonly body: Buffer }[] = [];
  readonly #server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    const type = request.headers["content-type"] ?? "";
    if (type === "application/json") this.#take(JSON.parse(body.toString()) as Exported);
    else this.others.push({ type, path: request.url ?? "", body });
    response.writeHead(200, { "content-type": type }).end(type === "application/json" ? "{}" : "");
  }).on("connection", () => {
    this.connections += 1;
  });

  static async open(): Promise<Collector> {
    const collector = new Collector();
    collector.#server.listen(0, "127.0.0.1");
    await once(collector.#server, "listening");
    return collector;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Makes a server send here, soon. */
  env(more: Readonly<Record<string, string>> = {}): Record<string, string> {
    return {
      OTEL_EXPORTER_OTLP_ENDPOINT: this.url,
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
      OTEL_BSP_SCHEDULE_DELAY: "50",
      OTEL_METRIC_EXPORT_INTERVAL: "500",
      OTEL_METRIC_EXPORT_TIMEOUT: "400",
      ...more,
    };
  }

  /** The spans of a run, and of what is around and in it, once it has ended and so many nodes have come. */
  async ofRun(run_id: string, nodes = 0): Promise<SeenSpan[]> {
    return eventually(() => {
      const run = this.spans.find(
        ({ name, attributes }) => name.startsWith("run ") && attributes["skein.run_id"] === run_id,
      );
      const trace = this.spans.filter(({ traceId }) => traceId === run?.traceId);
      const isWhole = trace.filter(isNode).length >= nodes && trace.some(({ spanId }) => spanId === run?.parentSpanId);
      return run !== undefined && isWhole ? trace : undefined;
    });
  }

  #take({ resourceSpans = [], resourceMetrics = [] }: Exported): void {
    for (const { resource, scopeSpans } of resourceSpans) {
      const pid = Number(valuesOf(resource.attributes)["process.pid"]);
      for (const span of scopeSpans.flatMap(({ spans }) => spans)) {
        this.spans.push({ ...span, status: span.status.code, attributes: valuesOf(span.attributes), pid });
      }
    }
    for (const { scopeMetrics } of resourceMetrics) this.metrics = scopeMetrics.flatMap(({ metrics }) => metrics);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

const isNode = ({ name }: SeenSpan): boolean => name.startsWith("node ");

const valuesOf = (attributes: readonly Attribute[]): Record<string, unknown> =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]));

/** Spans as a tree of names, each under its parent: `name [child, child]`. */
export function treeOf(spans: readonly SeenSpan[]): string[] {
  const ids = new Set(spans.map(({ spanId }) => spanId));
  const under = (parent: string | undefined): string[] =>
    spans
      .filter(
        ({ parentSpanId }) =>
          (parentSpanId !== undefined && ids.has(parentSpanId) ? parentSpanId : undefined) === parent,
      )
      .map(({ name, spanId }) => {
        const children = under(spanId);
        return children.length === 0 ? name : `${name} [${children.join(", ")}]`;
      })
      .sort();
  return under(undefined);
}
