/**
 * Delivers the webhooks in the outbox: one POST each, retried with growing pauses, across restarts. The
 * outbox row is written in the transaction that ends the run and leaves when the call is made or given up; each call
 * leaves a record of how it went.
 */
import type { Json } from "../executor/protocol.ts";
import type { Logger } from "../observability/logger.ts";
import type { Metrics } from "../observability/metrics.ts";
import { newRequestId } from "../observability/request.ts";
import type { Tracing } from "../observability/tracing.ts";
import type { TraceContext } from "../schemas/runs.ts";
import { isShared } from "../storage/locks.ts";
import type { DeliveryRecord, Storage, Tx, WebhookRecord } from "../storage/storage.ts";
import * as webhooks from "../storage/tables/webhooks.ts";
import { exposed, type PushPayload, pushIn, stamped } from "./webhook-payload.ts";

export interface WebhooksOptions {
  readonly storage: Storage;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** Null: nobody traces. */
  readonly tracing: Tracing | null;
  /** Makes the call; resolves to the HTTP status. Throws WebhookRefused when the target is not allowed. */
  readonly post: (
    url: string,
    payload: string,
    id: string,
    headers?: Readonly<Record<string, string>>,
  ) => Promise<number>;
  /** How a notification about a task looks to whom it is for; `shown` is what the webhook of its run would say. */
  readonly notification: (push: PushPayload, shown: Json) => Promise<Notification>;
  /** How long a call that another process has taken is left to it, milliseconds: longer than a call lasts. */
  readonly holdMs: number;
  /** Fields of the payload that are sent; null: all. */
  readonly fields: readonly string[] | null;
}

/** A call that is no webhook's: its body, and what its headers say. */
export interface Notification {
  readonly body: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** The target may not be called; retrying would not help. */
export class WebhookRefused extends Error {
  override readonly name = "WebhookRefused";
}

/** Calls at most; with the pauses below about half an hour in all. */
export const MAX_CALLS = 10;
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 10 * 60_000;
const PAGE = 50;

/** Pause after the n-th failed call, milliseconds. */
export const pauseAfter = (calls: number): number => Math.min(FIRST_PAUSE_MS * 2 ** (calls - 1), LONGEST_PAUSE_MS);

export class Webhooks {
  readonly #options: WebhooksOptions;
  readonly #calling = new Map<string, Promise<void>>();
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(options: WebhooksOptions) {
    this.#options = options;
  }

  /** There may be calls due. */
  nudge(): void {
    if (this.#stopped) return;
    void this.#deliverDue().catch((error: unknown) => {
      this.#options.logger.error({ err: error }, "reading the webhook outbox failed");
      this.#wakeIn(FIRST_PAUSE_MS);
    });
  }

  /** Waits for calls in flight; what is left is called after the next start. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await Promise.all(this.#calling.values());
  }

  async #deliverDue(): Promise<void> {
    const { storage } = this.#options;
    const now = storage.now();
    const take = async (db: Tx): Promise<readonly WebhookRecord[]> =>
      isShared(db) ? webhooks.takeDue(db, now, PAGE, this.#options.holdMs) : webhooks.due(db, now, PAGE);
    const due = await (storage.isShared ? storage.write(take) : storage.read(take));
    const next = await storage.read((db) => webhooks.nextDue(db, now));
    for (const webhook of due) this.#call(webhook);
    if (next !== undefined) this.#wakeIn(next - now);
  }

  #wakeIn(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.nudge(), Math.max(ms, 10)).unref();
  }

  #call(webhook: WebhookRecord): void {
    const id = webhook.webhook_id;
    if (this.#calling.has(id)) return;
    const done = this.#deliver(webhook)
      .catch((error: unknown) =>
        this.#options.logger.error({ err: error, webhook_id: id }, "webhook bookkeeping failed"),
      )
      .then(() => {
        this.#calling.delete(id);
        this.nudge();
      });
    this.#calling.set(id, done);
  }

  async #deliver(webhook: WebhookRecord): Promise<void> {
    const { storage, metrics, logger } = this.#options;
    const { webhook_id, run_id } = webhook;
    const started_at = storage.now();
    const begin = performance.now();
    const request_id = newRequestId();
    const answer = await this.#post(webhook, request_id);
    const duration_ms = Math.round(performance.now() - begin);
    const attempt = webhook.attempts + 1;
    const outcome = outcomeOf(answer, attempt);
    const { status, error } = answer;
    const target = targetOf(webhook.url);
    const record = { webhook_id, attempt, run_id, target, started_at, duration_ms, outcome, status, error };
    metrics.webhooks.inc({ outcome });
    metrics.webhookSeconds.observe(duration_ms / 1000);
    logger[LEVELS[outcome]]({ ...record, request_id }, SAID[outcome]);
    await storage.write(async (tx) => {
      await webhooks.recordDelivery(tx, record);
      if (outcome !== "retried") return webhooks.remove(tx, webhook_id);
      await webhooks.reschedule(tx, webhook_id, attempt, storage.now() + pauseAfter(attempt));
    });
  }

  async #told(payload: Json): Promise<Notification> {
    const { fields, notification } = this.#options;
    const push = pushIn(payload);
    if (push === undefined) return { body: exposed(stamped(payload, Date.now()), fields), headers: {} };
    return notification(push, exposed(JSON.stringify(push.run), fields));
  }

  async #post(webhook: WebhookRecord, request_id: string): Promise<Answer> {
    const { url, run_id, webhook_id, trace } = webhook;
    const made = trace === null ? undefined : (JSON.parse(trace) as TraceContext);
    const target = URL.canParse(url) ? new URL(url).host : undefined;
    const span = this.#options.tracing?.beginWebhook({ run_id, webhook_id, target, trace: made });
    const answer = await this.#answer(webhook, { ...span?.headers, "x-request-id": request_id });
    const { status, error } = answer;
    span?.end(status, error ?? (isSuccess(status) ? null : `HTTP ${status}`));
    return answer;
  }

  async #answer({ url, payload, webhook_id }: WebhookRecord, more: Readonly<Record<string, string>>): Promise<Answer> {
    try {
      const told = await this.#told(payload);
      const headers = { ...told.headers, ...more };
      return { status: await this.#options.post(url, told.body, webhook_id, headers), error: null, final: false };
    } catch (error) {
      const reason = error instanceof Error ? describe(error) : String(error);
      return { status: null, error: reason, final: isRefusal(error) };
    }
  }
}

/** What came of one call: an HTTP status, or why there was none. */
interface Answer {
  readonly status: number | null;
  readonly error: string | null;
  /** Calling again would not help. */
  readonly final: boolean;
}

const isSuccess = (status: number | null): boolean => status !== null && status >= 200 && status < 300;

/** What a call means for the webhook. */
export function outcomeOf({ status, final }: Omit<Answer, "error">, attempt: number): DeliveryRecord["outcome"] {
  if (isSuccess(status)) return "delivered";
  return final || attempt >= MAX_CALLS ? "given_up" : "retried";
}

const LEVELS = { delivered: "debug", retried: "warn", given_up: "error" } as const;
const SAID = {
  delivered: "webhook delivered",
  retried: "webhook failed, will be retried",
  given_up: "webhook given up",
} as const;

/** Scheme and host: the path and the query of a webhook often hold its secret. */
const targetOf = (url: string): string => (URL.canParse(url) ? new URL(url).origin : "this server");

/** The client library may wrap what the check of the address threw. */
const isRefusal = (error: unknown): boolean =>
  error instanceof WebhookRefused || (error instanceof Error && error.cause instanceof WebhookRefused);

/** Deletes the records of calls that are older than the retention. */
export async function sweepDeliveries(storage: Storage, retentionMs: number): Promise<void> {
  await storage.write((tx) => webhooks.sweepDeliveries(tx, storage.now() - retentionMs), { durable: false });
}

const describe = (error: Error): string =>
  error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message;
