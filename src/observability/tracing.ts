/** Spans of requests, runs and nodes, as the rest of the server sees them. `otel.ts` makes them; where nobody traces there are none. */
import type { IncomingHttpHeaders } from "node:http";
import type { ErrorBody } from "../errors.ts";
import type { NodeStep } from "../executor/protocol.ts";
import type { RunKwargs, TraceContext } from "../schemas/runs.ts";

export interface Tracing {
  /** A request that comes in: it goes on with the trace that its headers name, or begins one. */
  beginRequest(request: IncomingRequest): RequestSpan;
  /** A tick of a cron begins a trace. */
  beginTick(cron_id: string, request_id: string): TickSpan;
  /** Undefined when the run is in no trace, or in one that is not recorded. `since`: when it began, if not now. */
  beginAttempt(run: TracedRun, since?: number): AttemptSpan | undefined;
  /** A call about a run; undefined when the run is in no trace. */
  beginWebhook(call: TracedCall): WebhookSpan | undefined;
  /** The run has ended just now, wherever it began: its span, from its creation on. */
  endRun(run: TracedRun, status: string, error: ErrorBody | null): void;
}

export interface IncomingRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly client: string | undefined;
  readonly httpVersion: string | undefined;
  readonly request_id: string;
}

/** How log lines name a place in a trace. */
export interface SpanIds {
  readonly trace_id: string;
  readonly span_id: string;
}

export interface RequestSpan {
  readonly ids: SpanIds;
  readonly context: TraceContext;
  end(route: string, status: number): void;
}

export interface TickSpan {
  readonly context: TraceContext;
  /** `refusal`: why the tick made no run. */
  end(refusal?: string): void;
}

export interface TracedCall {
  readonly run_id: string;
  readonly webhook_id: string;
  /** Host and port of who is called; undefined: this server. */
  readonly target: string | undefined;
  /** Where the run was made. */
  readonly trace: TraceContext | undefined;
}

export interface WebhookSpan {
  /** By which the one who is called goes on with the trace. */
  readonly headers: Readonly<Record<string, string>>;
  /** `failure`: why there is no status, or one that is no success. */
  end(status: number | null, failure: string | null): void;
}

/** What spans tell of a run. */
export interface TracedRun {
  readonly run_id: string;
  readonly thread_id: string;
  readonly assistant_id: string;
  readonly graph_id: string;
  readonly attempt: number;
  /** Grows with each attempt. */
  readonly fence: number;
  readonly created_at: number;
  readonly kwargs: Pick<RunKwargs, "trace" | "config">;
}

/** An attempt that is never ended is told by nobody, or by whoever took it over. */
export interface AttemptSpan {
  readonly ids: SpanIds;
  /** What the graph's nodes do, in the order in which it happens. */
  nodes(steps: readonly NodeStep[]): void;
  /** Nodes that have not ended end here. `failure`: what the attempt failed of. */
  end(outcome: string, failure?: ErrorBody): void;
}
