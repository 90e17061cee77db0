/** Health, identity and numbers of the server. */
import type { LoadedGraph } from "../executor/protocol.ts";
import type { Metrics } from "../observability/metrics.ts";
import type { Storage } from "../storage/storage.ts";
import * as runs from "../storage/tables/runs.ts";
import type { BrokerState } from "../streaming/broker.ts";
import { VERSION } from "../version.ts";
import type { SystemService } from "./contract.ts";

export interface SystemOptions {
  readonly storage: Storage;
  readonly metrics: Metrics;
  readonly graphs: () => readonly LoadedGraph[];
  readonly broker: () => BrokerState;
  /** Whether graphs are traced there. */
  readonly langsmith: boolean;
}

export class System implements SystemService {
  readonly #options: SystemOptions;

  constructor(options: SystemOptions) {
    this.#options = options;
  }

  async checkDatabase(): Promise<void> {
    await this.#options.storage.read((db) => runs.countByStatus(db));
  }

  broker(): ReturnType<SystemService["broker"]> {
    const state = this.#options.broker();
    return state === "in_process" ? {} : { broker: state };
  }

  /** Clients require the Python key whatever the server is written in; the JS one says the truth. */
  info(): Readonly<Record<string, unknown>> {
    const [first] = this.#options.graphs();
    return {
      version: VERSION,
      langgraph_py_version: "",
      langgraph_js_version: first?.langgraph_version ?? "",
      context: "js",
      flags: { assistants: true, crons: true, langsmith: this.#options.langsmith, langsmith_tracing_replicas: false },
      metadata: { server: "skein" },
    };
  }

  metricsText(): Promise<string> {
    return this.#options.metrics.registry.metrics();
  }

  async metricsJson(): Promise<Readonly<Record<string, unknown>>> {
    return { metrics: await this.#options.metrics.registry.getMetricsAsJSON() };
  }
}
