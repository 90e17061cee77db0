/** What the server counts. One registry per server, so two servers in a process do not mix. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";

const PREFIX = "skein_";

export interface GaugeSources {
  readonly runsByStatus: () => Promise<Readonly<Record<string, number>>>;
  readonly executors: () => { readonly threads: number; readonly running: number };
  /** `connected`, or why other processes are not heard of at once. */
  readonly broker: () => string;
  /** Readers of streaming v2 that are connected, by transport. */
  readonly eventStreams: () => { readonly sse: number; readonly websocket: number };
}

export class Metrics {
  readonly registry = new Registry();
  readonly runsCreated = this.#counter("runs_created_total", "Runs created.", []);
  readonly runsEnded = this.#counter("runs_ended_total", "Runs that ended, by status.", ["status"]);
  readonly runAttemptsLost = this.#counter(
    "run_attempts_lost_total",
    "Attempts lost with their executor thread or process.",
    [],
  );
  readonly webhooks = this.#counter("webhooks_total", "Webhook calls, by outcome.", ["outcome"]);
  readonly cronTicks = this.#counter("cron_ticks_total", "Ticks of crons, by outcome.", ["outcome"]);
  readonly protocolGaps = this.#counter(
    "protocol_gaps_total",
    "Readers of streaming v2 that were told of events they cannot have any more, by reason.",
    ["reason"],
  );
  readonly webhookSeconds = this.#histogram("webhook_duration_seconds", "Duration of a webhook call.", []);
  readonly runSeconds = this.#histogram("run_duration_seconds", "Time from a run's first claim to its end.", []);
  readonly waitSeconds = this.#histogram(
    "run_wait_seconds",
    "Time a run waited between being ready and its first claim.",
    [],
  );
  readonly httpMs = new Histogram({
    name: `${PREFIX}http_request_duration_ms`,
    help: "HTTP requests by route, method and status; a stream lasts until its end.",
    labelNames: ["route", "method", "status"],
    buckets: [1, 2, 5, 10, 25, 50, 100, 250, 1000, 5000],
    registers: [this.registry],
  });

  constructor(sources: GaugeSources) {
    collectDefaultMetrics({ register: this.registry, prefix: PREFIX });
    this.#gauges(sources);
  }

  #gauges(sources: GaugeSources): void {
    new Gauge({
      name: `${PREFIX}runs`,
      help: "Runs in the database, by status.",
      labelNames: ["status"],
      registers: [this.registry],
      // Must answer when the database is down: the gauge is then absent.
      async collect() {
        const counts = await sources.runsByStatus().catch(() => ({}));
        this.reset();
        for (const [status, count] of Object.entries(counts)) this.set({ status }, count);
      },
    });
    new Gauge({
      name: `${PREFIX}broker_connected`,
      help: "1 while Redis answers, 0 while it does not; absent without REDIS_URI.",
      registers: [this.registry],
      collect() {
        const state = sources.broker();
        if (state === "connected" || state === "unreachable") this.set(state === "connected" ? 1 : 0);
        else this.remove();
      },
    });
    new Gauge({
      name: `${PREFIX}event_streams`,
      help: "Readers of streaming v2 that are connected, by transport.",
      labelNames: ["transport"],
      registers: [this.registry],
      collect() {
        for (const [transport, count] of Object.entries(sources.eventStreams())) this.set({ transport }, count);
      },
    });
    new Gauge({
      name: `${PREFIX}executor_threads`,
      help: "Live executor threads.",
      registers: [this.registry],
      collect() {
        this.set(sources.executors().threads);
      },
    });
    new Gauge({
      name: `${PREFIX}executor_runs`,
      help: "Runs now on an executor thread.",
      registers: [this.registry],
      collect() {
        this.set(sources.executors().running);
      },
    });
  }

  #counter(name: string, help: string, labelNames: string[]): Counter {
    return new Counter({ name: PREFIX + name, help, labelNames, registers: [this.registry] });
  }

  #histogram(name: string, help: string, labelNames: string[]): Histogram {
    const buckets = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30, 120, 600];
    return new Histogram({ name: PREFIX + name, help, labelNames, buckets, registers: [this.registry] });
  }
}
