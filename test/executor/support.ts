/** An executor in this process, over a Map-backed storage, driven through the same messages as a thread. */
import { randomUUID } from "node:crypto";
import { fileURLToPath } from "node:url";
import { createExecutor } from "../../src/executor/executor.ts";
import type {
  CheckpointQuery,
  FromExecutor,
  GraphSpec,
  Outcome,
  Question,
  RunJob,
  StorageCall,
  StoredCheckpoint,
  StoreItem,
  StoreOperation,
  ToExecutor,
  UpdateQuestion,
  WireEvent,
  WriteRow,
} from "../../src/executor/protocol.ts";
import type { RunKwargs } from "../../src/schemas/runs.ts";

export const GRAPHS = fileURLToPath(new URL("./graphs/", import.meta.url));

/* ------------------------------------------------------------------------------- storage */

type Row = Omit<StoredCheckpoint, "blobs" | "writes">;

export class MapStorage {
  readonly rows = new Map<string, Row>();
  readonly blobs = new Map<string, StoredCheckpoint["blobs"][number]>();
  readonly writes = new Map<string, Map<string, WriteRow>>();
  readonly items = new Map<string, StoreItem>();
  readonly calls: StorageCall[] = [];
  /** Set to make every call fail with this error name. */
  failWith: string | undefined;

  answer(call: StorageCall): unknown {
    this.calls.push(call);
    if (this.failWith !== undefined) throw Object.assign(new Error("no"), { name: this.failWith });
    switch (call.op) {
      case "put_checkpoint": {
        const { thread_id, checkpoint_ns, checkpoint_id } = call.row;
        this.rows.set(JSON.stringify([thread_id, checkpoint_ns, checkpoint_id]), structuredClone(call.row));
        for (const blob of call.blobs) {
          const key = JSON.stringify([thread_id, checkpoint_ns, blob.channel, blob.version, blob.first]);
          if (!this.blobs.has(key)) this.blobs.set(key, structuredClone(blob));
        }
        return null;
      }
      case "put_writes": {
        const key = JSON.stringify([call.key.thread_id, call.key.checkpoint_ns, call.key.checkpoint_id]);
        const writes = this.writes.get(key) ?? new Map<string, WriteRow>();
        this.writes.set(key, writes);
        for (const write of call.writes) {
          const slot = `${write.task_id}:${write.idx}`;
          if (!call.keep_existing || !writes.has(slot)) writes.set(slot, structuredClone(write));
        }
        return null;
      }
      case "get_checkpoint":
        return this.#list({ ...call.query, limit: 1 })[0] ?? null;
      case "list_checkpoints":
        return this.#list(call.query);
      case "delete_thread_checkpoints":
        for (const map of [this.rows, this.blobs, this.writes]) {
          for (const key of map.keys()) if ((JSON.parse(key) as string[])[0] === call.thread_id) map.delete(key);
        }
        return null;
      case "store":
        return call.operations.map((operation) => this.#store(operation));
      default:
        return call satisfies never;
    }
  }

  #list(query: CheckpointQuery): StoredCheckpoint[] {
    const filter = Object.entries(query.filter ?? {});
    return [...this.rows.values()]
      .filter((row) => query.thread_id === undefined || row.thread_id === query.thread_id)
      .filter((row) => query.checkpoint_ns === undefined || row.checkpoint_ns === query.checkpoint_ns)
      .filter((row) => query.checkpoint_id === undefined || row.checkpoint_id === query.checkpoint_id)
      .filter((row) => query.before === undefined || row.checkpoint_id < query.before)
      .filter((row) => {
        const metadata = JSON.parse(row.metadata) as Record<string, unknown>;
        return filter.every(([key, value]) => JSON.stringify(metadata[key]) === JSON.stringify(value));
      })
      .sort((a, b) => (a.checkpoint_id < b.checkpoint_id ? 1 : -1))
      .slice(0, query.limit ?? undefined)
      .map((row) => {
        const key = JSON.stringify([row.thread_id, row.checkpoint_ns, row.checkpoint_id]);
        const blobs = Object.entries(row.blob_versions).flatMap(([channel, [version, length]]) => {
          const beginning = JSON.stringify([row.thread_id, row.checkpoint_ns, channel, version]).slice(0, -1);
          const parts = [...this.blobs].filter(([key]) => key.startsWith(`${beginning},`)).map(([, part]) => part);
          if (parts.length === 0) throw new Error(`blob ${channel} ${version} is missing`);
          return parts.filter(({ first }) => first < Math.max(length, 1)).sort((a, b) => a.first - b.first);
        });
        return { ...row, blobs, writes: [...(this.writes.get(key)?.values() ?? [])] };
      });
  }

  #store(operation: StoreOperation): unknown {
    const at = (namespace: readonly string[], key: string): string => JSON.stringify([namespace, key]);
    const now = new Date().toISOString();
    switch (operation.op) {
      case "get":
        return this.items.get(at(operation.namespace, operation.key)) ?? null;
      case "put": {
        const { namespace, key, value } = operation;
        if (value === null) this.items.delete(at(namespace, key));
        else this.items.set(at(namespace, key), { namespace, key, value, created_at: now, updated_at: now });
        return null;
      }
      case "search":
        return [...this.items.values()].filter((item) =>
          operation.prefix.every((part, i) => item.namespace[i] === part),
        );
      default:
        return [...this.items.values()].map((item) => item.namespace);
    }
  }
}

/* ------------------------------------------------------------------------------ executor */

export interface Ran {
  readonly events: readonly WireEvent[];
  readonly outcome: Outcome;
  /** Data of the events of this name, parsed. */
  data(event: string): unknown[];
  readonly names: readonly string[];
}

export interface Harness {
  readonly storage: MapStorage;
  readonly messages: FromExecutor[];
  readonly loaded: Promise<void>;
  send(message: ToExecutor): void;
  run(graph_id: string, job?: JobFields): Promise<Ran>;
  /** Takes no more events, until the returned function is called. */
  stopTaking(): () => void;
  ask(question: Question | UpdateQuestion): Promise<unknown>;
  /** Resolves when this event of the run has come. */
  seen(run_id: string, event: string): Promise<void>;
  /** Resolves when an event of the run with such a name has come. */
  sent(run_id: string, isMeant: (event: string) => boolean): Promise<void>;
}

export type JobFields = Partial<Omit<RunJob, "kwargs">> & { kwargs?: Partial<RunKwargs> };

export const spec = (graph_id: string, file = "basic.mjs", export_name = graph_id): GraphSpec => ({
  graph_id,
  file: `${GRAPHS}${file}`,
  export_name,
  description: null,
});

export function job(graph_id: string, fields: JobFields = {}): RunJob {
  const { kwargs, ...rest } = fields;
  return {
    run_id: randomUUID(),
    fence: 1,
    thread_id: randomUUID(),
    assistant_id: "8b184351-3358-5cdd-b03b-9a70de2251e5",
    graph_id,
    attempt: 1,
    resume: false,
    metadata: { created_by: "system" },
    ...rest,
    kwargs: {
      input: { foo: "x" },
      command: null,
      config: { configurable: {} },
      context: null,
      stream_mode: ["values"],
      subgraphs: false,
      resumable: false,
      durability: "async",
      interrupt_before: null,
      interrupt_after: null,
      webhook: null,
      feedback_keys: null,
      temporary: false,
      ...kwargs,
    },
  };
}

export function harness(graphs: readonly GraphSpec[], storage = new MapStorage()): Harness {
  const messages: FromExecutor[] = [];
  /** Not taken; undefined when all are. */
  let untaken: ToExecutor[] | undefined;
  const listeners = new Set<() => void>();
  const receive = (message: FromExecutor): void => {
    messages.push(message);
    if (message.type === "events") {
      const taken: ToExecutor = { type: "events_taken", run_id: message.run_id, bytes: message.bytes };
      if (untaken === undefined) executor.receive(taken);
      else untaken.push(taken);
    }
    if (message.type !== "storage") return;
    const { id } = message;
    try {
      executor.receive({ type: "storage_reply", id, ok: true, value: storage.answer(message.call) });
    } catch (thrown) {
      const { name, message: text } = thrown as Error;
      executor.receive({ type: "storage_reply", id, ok: false, error: { error: name, message: text } });
    }
  };
  const executor = createExecutor({ graphs, project_dir: GRAPHS, server_url: "" }, (batch) => {
    for (const message of structuredClone(batch)) receive(message);
    for (const listener of [...listeners]) listener();
  });
  const until = <T>(find: () => T | undefined): Promise<T> =>
    new Promise((resolve) => {
      const look = (): void => {
        const found = find();
        if (found === undefined) return;
        listeners.delete(look);
        resolve(found);
      };
      listeners.add(look);
      look();
    });
  const eventsOf = (run_id: string): WireEvent[] =>
    messages.flatMap((message) => (message.type === "events" && message.run_id === run_id ? message.events : []));
  let asked = 0;
  return {
    storage,
    messages,
    loaded: executor.loaded,
    send: (message) => executor.receive(message),
    stopTaking() {
      const kept: ToExecutor[] = [];
      untaken = kept;
      return () => {
        untaken = undefined;
        for (const taken of kept) executor.receive(taken);
      };
    },
    async run(graph_id, fields) {
      const wanted = job(graph_id, fields);
      const from = messages.length;
      executor.receive({ type: "run", job: wanted });
      const outcome = await until(() => {
        for (const message of messages.slice(from)) {
          if (message.type === "finished" && message.run_id === wanted.run_id) return message.outcome;
        }
        return undefined;
      });
      const sent = messages
        .slice(from)
        .flatMap((message) => (message.type === "events" && message.run_id === wanted.run_id ? message.events : []));
      // The main thread opens each attempt; here so that the tests read as the client does.
      const opening = { run_id: wanted.run_id, attempt: wanted.attempt };
      const events = [{ event: "metadata", data: JSON.stringify(opening) }, ...sent];
      return {
        events,
        outcome: withOutput(outcome),
        data: (event) => events.filter((e) => e.event === event).map((e) => JSON.parse(e.data) as unknown),
        names: events.map((event) => event.event),
      };
    },
    async ask(question) {
      const id = ++asked;
      executor.receive({ type: "ask", id, question });
      const answer = await until(() =>
        messages.find((m): m is Extract<FromExecutor, { type: "answer" }> => m.type === "answer" && m.id === id),
      );
      if (!answer.ok) throw Object.assign(new Error(answer.error.message), { name: answer.error.error });
      return typeof answer.value === "string" ? (JSON.parse(answer.value) as unknown) : answer.value;
    },
    async seen(run_id, event) {
      await this.sent(run_id, (name) => name === event);
    },
    async sent(run_id, isMeant) {
      await until(() => (eventsOf(run_id).some(({ event }) => isMeant(event)) ? true : undefined));
    },
  };
}

/** The outcome with its output said, where it is that of the snapshot. */
export function withOutput(outcome: Outcome): Outcome {
  if (outcome.kind !== "success" || outcome.output !== null) return outcome;
  const { values } = outcome.snapshot;
  return values === null || typeof values === "string" ? { ...outcome, output: values } : outcome;
}
