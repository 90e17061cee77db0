/** Logs in memory with events of streaming v2, and readers of them. */
import { onTestFinished } from "vitest";
import { paramsText, protocolName } from "../../../src/schemas/protocol-events.ts";
import type { EventLog } from "../../../src/streaming/event-log.ts";
import { EventLogs } from "../../../src/streaming/event-logs.ts";
import { type FollowProtocolOptions, followProtocol, type RunFacts } from "../../../src/streaming/protocol/follow.ts";
import type { ProtocolFrame } from "../../../src/streaming/protocol/frames.ts";

export const THREAD = "t";

export class Thread {
  readonly logs = new EventLogs({
    shelf: { store: () => Promise.resolve(true), load: () => Promise.resolve([]) },
    onError: (error) => {
      throw error;
    },
    keepEndedMs: 60_000,
    endedLimit: 1 << 26,
    tailLimit: 1 << 20,
    onForget: () => undefined,
    relay: null,
  });
  readonly facts = new Map<string, RunFacts>();
  #count = 0;

  constructor() {
    onTestFinished(() => this.logs.close());
  }

  begin({ isProtocol = true } = {}): EventLog {
    this.#count += 1;
    const run_id = `run-${this.#count}`;
    const log = this.logs.open({ run_id, thread_id: THREAD, resumable: false, first: 0 });
    this.logs.begin(log, { fence: 1, started_at: null });
    this.facts.set(run_id, { graph_id: "graph", isProtocol, end: null });
    log.append([{ event: "metadata", data: JSON.stringify({ run_id, attempt: 1 }) }]);
    if (isProtocol) log.append([at("lifecycle", [], { event: "running", graph_name: "graph" })]);
    return log;
  }

  end(log: EventLog, data: Readonly<Record<string, unknown>> = { event: "completed" }): void {
    const facts = this.facts.get(log.run_id);
    if (facts !== undefined) this.facts.set(log.run_id, { ...facts, end: { at: 1, data } });
    this.logs.end(log, null);
  }

  read(options: Partial<FollowProtocolOptions> = {}) {
    const abort = new AbortController();
    onTestFinished(() => abort.abort());
    const frames = followProtocol({
      logs: this.logs,
      thread_id: THREAD,
      wants: () => true,
      since: null,
      signal: abort.signal,
      stored: () => Promise.resolve([]),
      open: () => Promise.resolve(undefined),
      facts: (run_id) => Promise.resolve(this.facts.get(run_id)),
      opening: () => Promise.resolve(() => null),
      state: () => Promise.resolve(null),
      ...options,
    });
    return { frames, abort };
  }

  /** All there is now: the thread is closed once it is followed. */
  async all(options: Partial<FollowProtocolOptions> = {}): Promise<ProtocolFrame[]> {
    const followed = () => {
      this.logs.closeThread(THREAD);
      return null;
    };
    const { frames } = this.read({ opening: () => Promise.resolve(followed), ...options });
    const seen: ProtocolFrame[] = [];
    for await (const step of frames) seen.push(...step);
    return seen;
  }
}

export const at = (method: Parameters<typeof protocolName>[0], namespace: readonly string[], data: unknown) => ({
  event: protocolName(method, namespace),
  data: paramsText(namespace, 1, undefined, JSON.stringify(data)),
});

/** Takes so many frames, and leaves the rest. */
export async function take(source: AsyncGenerator<readonly ProtocolFrame[]>, count: number): Promise<ProtocolFrame[]> {
  const seen: ProtocolFrame[] = [];
  while (seen.length < count) {
    const step = await source.next();
    if (step.done === true) return seen;
    seen.push(...step.value);
  }
  return seen;
}
