/**
 * OpenTelemetry: spans and metrics by OTLP, as `OTEL_*` says. Its packages are loaded when this begins and not before: who does not
 * use it pays nothing.
 *
 * A run's span has to be known before it is made: attempts are its children, on any process, and it is told when the run has
 * ended. So the ids of spans of runs and attempts follow from the run: whoever tells of one tells it by the same id.
 */
import { createHash, randomBytes } from "node:crypto";
import type { Context, Span, Tracer } from "@opentelemetry/api";
import type { Resource } from "@opentelemetry/resources";
import type { SpanExporter } from "@opentelemetry/sdk-trace-base";
import type { Registry } from "prom-client";
import type { OtlpProtocol, TelemetrySettings } from "../config.ts";
import type { ErrorBody } from "../errors.ts";
import type { NodeStep, StepOf } from "../executor/protocol.ts";
import type { TraceContext } from "../schemas/runs.ts";
import { VERSION } from "../version.ts";
import type { Logger } from "./logger.ts";
import { type Complain, heard, metersOf } from "./otel-metrics.ts";
import { REQUEST_ID } from "./request.ts";
import type {
  AttemptSpan,
  IncomingRequest,
  RequestSpan,
  SpanIds,
  TickSpan,
  TracedCall,
  TracedRun,
  Tracing,
  WebhookSpan,
} from "./tracing.ts";

export interface Telemetry {
  readonly tracing: Tracing | null;
  /** Sends what is left, for a limited time. Never rejects. */
  stop(): Promise<void>;
}

type Api = typeof import("@opentelemetry/api");

/** A collector that is away must not keep the server from stopping. */
const FLUSH_MS = 3000;
/** Between two complaints that the collector cannot be reached. */
const QUIET_MS = 60_000;

/** Has no part in what is global in the process: a host of this server may trace too, and in its own way. */
export async function startTelemetry(
  settings: TelemetrySettings,
  registry: Registry,
  logger: Logger,
): Promise<Telemetry> {
  // The SDK reads the process's environment while it is set up, and what the project's `env` says is not there. A host's stays as it is.
  const added = Object.entries(settings.env).filter(([name]) => process.env[name] === undefined);
  for (const [name, value] of added) process.env[name] = value;
  try {
    return await setUp(settings, registry, logger);
  } finally {
    for (const [name] of added) delete process.env[name];
  }
}

async function setUp(
  { traces, metrics, detectors }: TelemetrySettings,
  registry: Registry,
  logger: Logger,
): Promise<Telemetry> {
  const resource = await resourceOf(detectors);
  const complain = complaints(logger);
  const meters = metrics && (await metersOf({ metrics, registry, resource, complain }));
  const tracers = traces && (await tracersOf(traces, resource, complain));
  const stopped = async (): Promise<void> => {
    await Promise.all([tracers?.provider.shutdown(), meters?.shutdown()]);
  };
  return { tracing: tracers?.tracing ?? null, stop: () => within(FLUSH_MS, stopped()) };
}

async function resourceOf(detectors: TelemetrySettings["detectors"]): Promise<Resource> {
  const resources = await import("@opentelemetry/resources");
  const known = {
    env: resources.envDetector,
    host: resources.hostDetector,
    os: resources.osDetector,
    process: resources.processDetector,
    serviceinstance: resources.serviceInstanceIdDetector,
  };
  const own = resources.resourceFromAttributes({ "service.name": "skein", "service.version": VERSION });
  const detected = resources.detectResources({ detectors: detectors.map((name) => known[name]) });
  return resources.defaultResource().merge(own).merge(detected);
}

async function tracersOf(
  { protocol, isW3c }: NonNullable<TelemetrySettings["traces"]>,
  resource: Resource,
  complain: Complain,
) {
  const [api, sdk, core, exporter] = await Promise.all([
    import("@opentelemetry/api"),
    import("@opentelemetry/sdk-trace-base"),
    import("@opentelemetry/core"),
    exporterOf(protocol),
  ]);
  const ids = new SpanIdsInHand();
  const spanProcessors = [new sdk.BatchSpanProcessor(heard(exporter, complain))];
  const provider = new sdk.BasicTracerProvider({ resource, idGenerator: ids, spanProcessors });
  const tracer = provider.getTracer("skein", VERSION);
  return { provider, tracing: new OtelTracing({ api, tracer, w3c: new core.W3CTraceContextPropagator(), ids, isW3c }) };
}

async function exporterOf(protocol: OtlpProtocol): Promise<SpanExporter> {
  switch (protocol) {
    case "grpc":
      return new (await import("@opentelemetry/exporter-trace-otlp-grpc")).OTLPTraceExporter();
    case "http/json":
      return new (await import("@opentelemetry/exporter-trace-otlp-http")).OTLPTraceExporter();
    case "http/protobuf":
      return new (await import("@opentelemetry/exporter-trace-otlp-proto")).OTLPTraceExporter();
    default:
      return protocol satisfies never;
  }
}

/** Resolves in time, whatever comes of the work: what goes wrong has been told. */
async function within(ms: number, work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([work.catch(() => undefined), late]);
  clearTimeout(timer);
}

/** A collector that cannot be reached goes to the log, and not with every batch. */
function complaints(logger: Logger): Complain {
  let last = Number.NEGATIVE_INFINITY;
  return (err) => {
    const now = performance.now();
    if (now - last < QUIET_MS) return;
    last = now;
    logger.warn({ err }, "OpenTelemetry: what was to be sent is lost");
  };
}

/** Random ids, but for a span whose id is known before. */
class SpanIdsInHand {
  #known: string | undefined;

  generateTraceId = (): string => randomBytes(16).toString("hex");

  generateSpanId = (): string => this.#known ?? randomBytes(8).toString("hex");

  as<T>(id: string, begin: () => T): T {
    this.#known = id;
    try {
      return begin();
    } finally {
      this.#known = undefined;
    }
  }
}

const spanIdOf = (...names: readonly (string | number)[]): string =>
  createHash("sha256").update(names.join(":")).digest("hex").slice(0, 16);

/** Writes a context into the form in which it is stored with a run. */
interface Propagator {
  inject(context: Context, carrier: unknown, setter: Api["defaultTextMapSetter"]): void;
  extract(context: Context, carrier: unknown, getter: Api["defaultTextMapGetter"]): Context;
}

interface TracingParts {
  readonly api: Api;
  readonly tracer: Tracer;
  readonly w3c: Propagator;
  readonly ids: SpanIdsInHand;
  /** Whether traces of callers go on here. */
  readonly isW3c: boolean;
}

class OtelTracing implements Tracing {
  readonly #api: Api;
  readonly #tracer: Tracer;
  readonly #w3c: Propagator;
  readonly #ids: SpanIdsInHand;
  readonly #isW3c: boolean;

  constructor({ api, tracer, w3c, ids, isW3c }: TracingParts) {
    this.#api = api;
    this.#tracer = tracer;
    this.#w3c = w3c;
    this.#ids = ids;
    this.#isW3c = isW3c;
  }

  beginRequest({ method, path, headers, client, httpVersion, request_id }: IncomingRequest): RequestSpan {
    const { SpanKind, SpanStatusCode, ROOT_CONTEXT, defaultTextMapGetter } = this.#api;
    const parent = this.#isW3c ? this.#w3c.extract(ROOT_CONTEXT, headers, defaultTextMapGetter) : ROOT_CONTEXT;
    const attributes = {
      "http.request.method": method,
      "url.path": path,
      "url.scheme": "http",
      ...(httpVersion === undefined ? {} : { "network.protocol.version": httpVersion }),
      "skein.request_id": request_id,
      ...(client === undefined ? {} : { "client.address": client }),
      ...(headers["user-agent"] === undefined ? {} : { "user_agent.original": headers["user-agent"] }),
      ...serverOf(headers.host),
    };
    const span = this.#tracer.startSpan(method, { kind: SpanKind.SERVER, attributes }, parent);
    return {
      ids: idsOf(span),
      context: this.#stored(span),
      end(route, status) {
        if (route !== "unknown") span.updateName(`${method} ${route}`).setAttribute("http.route", route);
        span.setAttribute("http.response.status_code", status);
        if (status >= 500) span.setStatus({ code: SpanStatusCode.ERROR }).setAttribute("error.type", String(status));
        span.end();
      },
    };
  }

  beginTick(cron_id: string, request_id: string): TickSpan {
    const attributes = { "skein.cron_id": cron_id, "skein.request_id": request_id };
    const span = this.#tracer.startSpan("cron tick", { attributes, root: true }, this.#api.ROOT_CONTEXT);
    return {
      context: this.#stored(span),
      end: (refusal) => {
        if (refusal !== undefined) fail(this.#api, span, { error: "Refused", message: refusal });
        span.end();
      },
    };
  }

  beginAttempt(run: TracedRun, since?: number): AttemptSpan | undefined {
    const parent = this.#under(run.run_id, run.kwargs.trace);
    if (parent === undefined) return undefined;
    const options = {
      attributes: { ...attributesOf(run), "skein.run.attempt": run.attempt },
      ...(since === undefined ? {} : { startTime: since }),
    };
    const span = this.#ids.as(spanIdOf(run.run_id, run.fence), () =>
      this.#tracer.startSpan("attempt", options, parent),
    );
    if (!span.isRecording()) return undefined;
    const nodes = new Nodes(this.#api, this.#tracer, span);
    return {
      ids: idsOf(span),
      nodes: (steps) => nodes.take(steps),
      end: (outcome, failure) => {
        nodes.end();
        span.setAttribute("skein.run.outcome", outcome);
        if (failure !== undefined) fail(this.#api, span, failure);
        span.end();
      },
    };
  }

  beginWebhook({ run_id, webhook_id, target, trace }: TracedCall): WebhookSpan | undefined {
    const { SpanKind, SpanStatusCode } = this.#api;
    const parent = this.#under(run_id, trace);
    if (parent === undefined) return undefined;
    const attributes = {
      "http.request.method": "POST",
      ...serverOf(target),
      "skein.run_id": run_id,
      "skein.webhook_id": webhook_id,
    };
    const span = this.#tracer.startSpan("webhook", { kind: SpanKind.CLIENT, attributes }, parent);
    return {
      headers: this.#isW3c ? { ...this.#stored(span) } : {},
      end(status, failure) {
        if (status !== null) span.setAttribute("http.response.status_code", status);
        if (failure !== null) span.setStatus({ code: SpanStatusCode.ERROR, message: failure });
        span.end();
      },
    };
  }

  endRun(run: TracedRun, status: string, error: ErrorBody | null): void {
    const around = this.#around(run.kwargs.trace);
    if (around === undefined) return;
    const attributes = { ...attributesOf(run), "skein.run.status": status, "skein.run.attempts": run.attempt };
    const options = { attributes, startTime: run.created_at };
    const name = `run ${run.graph_id}`;
    const span = this.#ids.as(spanIdOf(run.run_id), () => this.#tracer.startSpan(name, options, around.context));
    if (error !== null) fail(this.#api, span, error);
    span.end();
  }

  /** Where the run was made. */
  #around(trace: TraceContext | undefined) {
    if (trace === undefined) return undefined;
    const context = this.#w3c.extract(this.#api.ROOT_CONTEXT, trace, this.#api.defaultTextMapGetter);
    const span = this.#api.trace.getSpanContext(context);
    return span && { context, span };
  }

  /** Below the run's span, which may be told later, or by another process. */
  #under(run_id: string, trace: TraceContext | undefined) {
    const around = this.#around(trace);
    if (around === undefined) return undefined;
    const { traceId, traceFlags, traceState } = around.span;
    const spanContext = {
      traceId,
      traceFlags,
      spanId: spanIdOf(run_id),
      isRemote: true,
      ...(traceState === undefined ? {} : { traceState }),
    };
    return this.#api.trace.setSpanContext(this.#api.ROOT_CONTEXT, spanContext);
  }

  #stored(span: Span): TraceContext {
    const stored: TraceContext = { traceparent: "" };
    this.#w3c.inject(this.#api.trace.setSpan(this.#api.ROOT_CONTEXT, span), stored, this.#api.defaultTextMapSetter);
    return stored;
  }
}

/** The nodes of an attempt and what they call, told by its executor thread. */
class Nodes {
  readonly #api: Api;
  readonly #tracer: Tracer;
  readonly #attempt: Span;
  readonly #open = new Map<string, Span>();

  constructor(api: Api, tracer: Tracer, attempt: Span) {
    this.#api = api;
    this.#tracer = tracer;
    this.#attempt = attempt;
  }

  take(steps: readonly NodeStep[]): void {
    for (const step of steps) {
      if (step.step === "begin") this.#open.set(step.id, this.#started(step));
      else this.#ended(step);
    }
  }

  #started({ parent, of, at }: Extract<NodeStep, { step: "begin" }>): Span {
    // One that is around others ends after them.
    const around = (parent === null ? undefined : this.#open.get(parent)) ?? this.#attempt;
    const context = this.#api.trace.setSpan(this.#api.ROOT_CONTEXT, around);
    return this.#tracer.startSpan(`${of.kind} ${of.name}`, { attributes: factsOf(of), startTime: at }, context);
  }

  #ended({ id, at, error, left, usage }: Extract<NodeStep, { step: "end" }>): void {
    const span = this.#open.get(id);
    this.#open.delete(id);
    if (usage !== undefined) {
      span?.setAttributes({ "gen_ai.usage.input_tokens": usage.input, "gen_ai.usage.output_tokens": usage.output });
    }
    if (left !== undefined) span?.setAttribute("langgraph.left_by", left);
    if (span !== undefined && error !== null) fail(this.#api, span, error);
    span?.end(at);
  }

  /** Innermost first. */
  end(): void {
    for (const span of [...this.#open.values()].reverse()) span.setAttribute("skein.unfinished", true).end();
    this.#open.clear();
  }
}

/** Models and tools in the words of OpenTelemetry's conventions for generative AI. */
function factsOf(of: StepOf): Record<string, string | number> {
  if (of.kind === "node") {
    return { "langgraph.node": of.name, "langgraph.step": of.superstep, "langgraph.checkpoint_ns": of.namespace };
  }
  return of.kind === "model"
    ? { "gen_ai.operation.name": "chat", "gen_ai.request.model": of.name }
    : { "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": of.name };
}

function fail({ SpanStatusCode }: Api, span: Span, { error, message }: ErrorBody): void {
  span.setStatus({ code: SpanStatusCode.ERROR, message }).setAttribute("error.type", error);
  span.recordException({ name: error, message });
}

function serverOf(host: string | undefined): Record<string, string | number> {
  const url = `http://${host}`;
  if (host === undefined || !URL.canParse(url)) return {};
  const { hostname, port } = new URL(url);
  return { "server.address": hostname, "server.port": port === "" ? 80 : Number(port) };
}

const idsOf = (span: Span): SpanIds => {
  const { traceId, spanId } = span.spanContext();
  return { trace_id: traceId, span_id: spanId };
};

const attributesOf = ({ run_id, thread_id, assistant_id, graph_id, kwargs }: TracedRun) => ({
  "skein.run_id": run_id,
  "skein.thread_id": thread_id,
  "skein.assistant_id": assistant_id,
  "skein.graph_id": graph_id,
  "skein.request_id": String(kwargs.config.configurable[REQUEST_ID]),
});
