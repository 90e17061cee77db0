/** What is known of a request, and stays with the runs it makes: who has an answer, a log line, a run or a trace finds the others. */
import { randomUUID } from "node:crypto";
import type { TraceContext } from "../schemas/runs.ts";

export interface RequestFacts {
  /** The caller's own where it may be logged and echoed, else one of ours. */
  readonly request_id: string;
  /** What it adds to `config.configurable` of its runs. */
  readonly configurable: Readonly<Record<string, unknown>>;
  /** Where it is in a trace; undefined where nobody traces. */
  readonly trace?: TraceContext | undefined;
}

/** Ids of callers are kept when they are safe to log and to echo. */
const SAFE_ID = /^[\w.:/+=-]{1,128}$/;

/** The id of a request whose header says this. */
export const requestIdFrom = (header: string | undefined): string =>
  header !== undefined && SAFE_ID.test(header) ? header : newRequestId();

/** Of what nobody requested: a tick of a cron, a call of ours. */
export const newRequestId = (): string => randomUUID();

/** The configurable by which a run's graph knows the request. */
export const REQUEST_ID = "langgraph_request_id";

interface OfRequest {
  readonly run_id: string;
  readonly kwargs: { readonly config: { readonly configurable: Readonly<Record<string, unknown>> } };
}

/** How log lines about a run name it. */
export const namesOf = ({ run_id, kwargs }: OfRequest): { readonly run_id: string; readonly request_id: unknown } => ({
  run_id,
  request_id: kwargs.config.configurable[REQUEST_ID],
});
