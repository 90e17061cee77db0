/** What a webhook says: the run, when it ran, the thread's values or the error. */
import { v7 as uuid7 } from "uuid";
import type { ErrorBody } from "../errors.ts";
import type { Json } from "../executor/protocol.ts";
import type { PushConfig, TaskOfRun } from "../schemas/runs.ts";
import type { NewRun, WebhookRecord } from "../storage/storage.ts";
import { isoTime, runToWire } from "./wire.ts";

export interface RunResult {
  readonly values: Json | null;
  readonly error: ErrorBody | null;
  /** The questions the thread is left with, by task; null when it waits for nothing. */
  readonly interrupts: Json | null;
}

/** The rows of the outbox for a run that ends now: its webhook, and whoever wants to know how its task is left. */
export function webhooksFor(run: NewRun, result: RunResult, now: number): WebhookRecord[] {
  const { webhook } = run.kwargs;
  if (!callsSomebody(run)) return [];
  const payload = payloadOf(run, result, now);
  const calls = notifications(run, payload, result, now);
  return webhook === null ? calls : [{ ...rowFor(run, now), url: webhook, payload }, ...calls];
}

/** The rows for whoever wants to know that a task's question was withdrawn: its run ended when it asked. */
export function notificationsOfWithdrawal(run: NewRun, now: number): WebhookRecord[] {
  const nothing = { values: null, error: null, interrupts: null };
  return notifications(run, payloadOf(run, nothing, now), nothing, now);
}

function notifications(run: NewRun, payload: Json, { interrupts }: RunResult, now: number): WebhookRecord[] {
  const { task } = run.kwargs;
  const waits = interrupts === null ? null : (JSON.parse(interrupts) as Interrupts);
  return (task?.push ?? []).map((push) => ({
    ...rowFor(run, now),
    url: push.url,
    payload: withMember(payload, PUSH, JSON.stringify({ ...task, push, waits })),
  }));
}

const rowFor = ({ run_id, kwargs: { trace } }: Pick<NewRun, "run_id" | "kwargs">, now: number) => ({
  webhook_id: uuid7(),
  run_id,
  attempts: 0,
  next_attempt_at: now,
  created_at: now,
  trace: trace === undefined ? null : JSON.stringify(trace),
});

/** Whether the end of the run is told anybody. */
export const callsSomebody = ({ kwargs: { webhook, task } }: Pick<NewRun, "kwargs">): boolean =>
  webhook !== null || (task !== undefined && task.push.length > 0);

/** The payload's `values` are spliced in as the text they are. */
function payloadOf(run: NewRun, { values, error }: RunResult, now: number): Json {
  const fields = JSON.stringify({
    ...runToWire(run),
    run_started_at: run.started_at === null ? null : isoTime(run.started_at),
    run_ended_at: isoTime(now),
    error,
  });
  return withMember(fields, "values", values ?? "null");
}

const withMember = (json: Json, name: string, value: Json): Json =>
  `${json.slice(0, -1)},${JSON.stringify(name)}:${value}}`;

/** Questions by the graph's task that asks them. */
export type Interrupts = Readonly<Record<string, readonly { readonly id?: string; readonly value?: unknown }[]>>;

/** The member that makes a payload a notification: it says to whom. */
const PUSH = "push";

/** A notification of the outbox: the run as its webhook would show it, and its task with the one to tell. */
export interface PushPayload {
  readonly run: Readonly<Record<string, unknown>>;
  readonly task: Omit<TaskOfRun, "push"> & { readonly push: PushConfig; readonly waits: Interrupts | null };
}

/** What a payload of the outbox says, when it is a notification. */
export function pushIn(payload: Json): PushPayload | undefined {
  // Most are not, and some are large.
  if (!payload.includes(`"${PUSH}":`)) return undefined;
  const { [PUSH]: task, ...run } = JSON.parse(payload) as Record<string, unknown>;
  return task === undefined ? undefined : { run, task: task as PushPayload["task"] };
}

/** The payload as it goes out: with the time of this sending. */
export const stamped = (payload: Json, now: number): Json =>
  withMember(payload, "webhook_sent_at", JSON.stringify(isoTime(now)));

/** The payload with these fields only; null means all. */
export function exposed(payload: Json, fields: readonly string[] | null): Json {
  if (fields === null) return payload;
  const entries = Object.entries(JSON.parse(payload) as Record<string, unknown>);
  return JSON.stringify(Object.fromEntries(entries.filter(([name]) => fields.includes(name))));
}
