/**
 * Delivers the webhooks in the outbox: one POST each, retried with growing pauses, across restarts. The
 * outbox row is written in the transaction that ends the run and leaves when the call is made or given up.
 */
import type { Logger } from "../observability/logger.ts";
import type { Metrics } from "../observability/metrics.ts";
import type { Storage, WebhookRecord } from "../storage/storage.ts";
import * as webhooks from "../storage/tables/webhooks.ts";
import { stamped } from "./webhook-payload.ts";

export interface WebhooksOptions {
  readonly storage: Storage;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** Makes the call; resolves to the HTTP status. Throws WebhookRefused when the target is not allowed. */
  readonly post: (url: string, payload: string, id: string) => Promise<number>;
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
    const now = Date.now();
    const { due, next } = await storage.read(async (db) => ({
      due: await webhooks.due(db, now, PAGE),
      next: await webhooks.nextDue(db, now),
    }));
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
    const calls = webhook.attempts + 1;
    const outcome = await this.#post(webhook);
    const context = { run_id: webhook.run_id, url: webhook.url, calls };
    if (outcome.kind === "delivered") {
      metrics.webhooks.inc({ outcome: "delivered" });
      await storage.write((tx) => webhooks.remove(tx, webhook.webhook_id));
    } else if (outcome.kind === "refused" || calls >= MAX_CALLS) {
      metrics.webhooks.inc({ outcome: "given_up" });
      logger.error({ ...context, reason: outcome.reason }, "webhook given up");
      await storage.write((tx) => webhooks.remove(tx, webhook.webhook_id));
    } else {
      metrics.webhooks.inc({ outcome: "retried" });
      logger.warn({ ...context, reason: outcome.reason }, "webhook failed, will be retried");
      const next = Date.now() + pauseAfter(calls);
      await storage.write((tx) => webhooks.reschedule(tx, webhook.webhook_id, calls, next));
    }
  }

  async #post({ url, payload, webhook_id }: WebhookRecord): Promise<CallOutcome> {
    try {
      const status = await this.#options.post(url, stamped(payload, Date.now()), webhook_id);
      if (status >= 200 && status < 300) return { kind: "delivered" };
      return { kind: "failed", reason: `HTTP status ${status}` };
    } catch (error) {
      const reason = error instanceof Error ? describe(error) : String(error);
      return { kind: error instanceof WebhookRefused ? "refused" : "failed", reason };
    }
  }
}

type CallOutcome = { readonly kind: "delivered" } | { readonly kind: "failed" | "refused"; readonly reason: string };

const describe = (error: Error): string =>
  error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message;
