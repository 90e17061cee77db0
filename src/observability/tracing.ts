/** Spans of requests, runs and nodes, as the rest of the server sees them. `otel.ts` makes them; where nobody traces there is none. */
import type { IncomingHttpHeaders } from "node:http";
import type { ErrorBody } from "../errors.ts";
import type { RunKwargs, TraceContext } from "../schemas/runs.ts";

export interface Tracing {
  /** A request that comes in: it goes on with the trace that its headers name, or begins one. */
  beginRequest(request: IncomingRequest): RequestSpan;
  /** A tick of a cron begins a trace. */
  beginTick(cron_id: string, request_id: string): TickSpan;
  /** Undefined when the run is in no trace, or in one that is not recorded. */
  beginAttempt(run: TracedRun): AttemptSpan | undefined;
  /** The run has ended just now, wherever it began: its span, from its creation on. */
  endRun(run: TracedRun, status: string, error: ErrorBody | null): void;
}

export interface IncomingRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly client: string | undefined;
  readonly httpVersion: string;
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
  /** `refused`: why the tick made no run. */
  end(refused?: string): void;
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

export interface AttemptSpan {
  readonly ids: SpanIds;
  /** What the graph's nodes do, in the order in which it happens. */
  nodes(steps: readonly NodeStep[]): void;
  /** Nodes that have not ended have not come to their end. `lost`: why the attempt came to none. */
  end(outcome: string, failure?: string): void;
}

/** A node begins, or has ended. Times are epoch milliseconds. */
export type NodeStep =
  | {
      readonly step: "begin";
      readonly id: string;
      /** The node around it, of a subgraph's; null at the root. */
      readonly parent: string | null;
      readonly at: number;
      readonly node: string;
      readonly superstep: number;
      /** Of its checkpoints; empty at the root. */
      readonly namespace: string;
    }
  | {
      readonly step: "end";
      readonly id: string;
      readonly at: number;
      /** Null: it has done its work. */
      readonly error: ErrorBody | null;
      /** It asked a question, or handed over to the graph around it. */
      readonly left?: true;
    };
