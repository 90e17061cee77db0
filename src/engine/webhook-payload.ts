/** What a webhook says: the run, when it ran, the thread's values or the error. */
import { v7 as uuid7 } from "uuid";
import type { ErrorBody } from "../errors.ts";
import type { Json } from "../executor/protocol.ts";
import type { NewRun, WebhookRecord } from "../storage/storage.ts";
import { isoTime, runToWire } from "./wire.ts";

export interface RunResult {
  readonly values: Json | null;
  readonly error: ErrorBody | null;
}

/** The row of the outbox for a run that ends now. The payload's `values` are spliced in as the text they are. */
export function webhookFor(run: NewRun, { values, error }: RunResult, now: number): WebhookRecord {
  const fields = JSON.stringify({
    ...runToWire(run),
    run_started_at: run.started_at === null ? null : isoTime(run.started_at),
    run_ended_at: isoTime(now),
    error,
  });
  return {
    webhook_id: uuid7(),
    run_id: run.run_id,
    url: run.kwargs.webhook ?? "",
    payload: `${fields.slice(0, -1)},"values":${values ?? "null"}}`,
    attempts: 0,
    next_attempt_at: now,
    created_at: now,
  };
}

/** The payload as it goes out: with the time of this sending. */
export const stamped = (payload: Json, now: number): Json =>
  `${payload.slice(0, -1)},"webhook_sent_at":${JSON.stringify(isoTime(now))}}`;

/** The payload with these fields only; null means all. */
export function exposed(payload: Json, fields: readonly string[] | null): Json {
  if (fields === null) return payload;
  const entries = Object.entries(JSON.parse(payload) as Record<string, unknown>);
  return JSON.stringify(Object.fromEntries(entries.filter(([name]) => fields.includes(name))));
}
