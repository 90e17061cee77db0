/** A scripted stand-in for the services, so that the HTTP room can be tested alone. The only fake in the project. */
import { corsFor } from "../../src/config/http.ts";
import { notFound } from "../../src/errors.ts";
import { createApp } from "../../src/http/app.ts";
import { Doors, type DoorsOptions } from "../../src/http/doors.ts";
import { type Listening, listen } from "../../src/http/listen.ts";
import type { Answered, HttpSettings, Logger } from "../../src/http/types.ts";
import type { Assistant } from "../../src/schemas/assistants.ts";
import type { Cron } from "../../src/schemas/crons.ts";
import type { Run } from "../../src/schemas/runs.ts";
import type { Thread } from "../../src/schemas/threads.ts";
import type { Services } from "../../src/services/contract.ts";
import type { RunEvent } from "../../src/streaming/events.ts";
import type { ProtocolFrame } from "../../src/streaming/protocol/frames.ts";

export const THREAD_ID = "11111111-1111-4111-8111-111111111111";
export const RUN_ID = "01a201ac-37ea-70bc-aefb-df0d1fdc743b";
export const UNKNOWN_ID = "00000000-0000-4000-8000-000000000000";
const NOW = "2026-11-22T05:13:12.000Z";

export const ASSISTANT: Assistant = {
  assistant_id: "fe096781-5601-53d2-b2f6-0d3403f7e9ca",
  graph_id: "agent",
  config: {},
  context: {},
  created_at: NOW,
  updated_at: NOW,
  metadata: {},
  version: 1,
  name: "agent",
  description: null,
};

export const THREAD: Thread = {
  thread_id: THREAD_ID,
  created_at: NOW,
  updated_at: NOW,
  state_updated_at: NOW,
  metadata: {},
  config: {},
  status: "idle",
  values: null,
  interrupts: {},
};

export const RUN: Run = {
  run_id: RUN_ID,
  thread_id: THREAD_ID,
  assistant_id: ASSISTANT.assistant_id,
  created_at: NOW,
  updated_at: NOW,
  status: "pending",
  metadata: {},
  kwargs: {
    input: null,
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
  },
  multitask_strategy: "enqueue",
};

const CRON: Cron = {
  cron_id: RUN_ID,
  assistant_id: ASSISTANT.assistant_id,
  thread_id: null,
  on_run_completed: "delete",
  schedule: "0 9 * * *",
  timezone: null,
  end_time: null,
  enabled: true,
  next_run_date: NOW,
  payload: {},
  metadata: {},
  user_id: null,
  created_at: NOW,
  updated_at: NOW,
};

export const event = (id: number, name: string, data: unknown): RunEvent => ({
  id,
  event: name,
  data: JSON.stringify(data),
});

export interface Call {
  readonly name: string;
  readonly args: readonly unknown[];
}

/** What a test may script; everything else answers something plausible. */
export interface Script {
  events: (signal: AbortSignal) => AsyncIterable<readonly RunEvent[]>;
  wait: (signal: AbortSignal) => Promise<string>;
  checkDatabase: () => Promise<void>;
  create: () => Promise<Run>;
  frames: readonly (readonly ProtocolFrame[])[];
  assistants: { items: readonly Partial<Assistant>[]; total: number };
}

async function* noEvents(): AsyncGenerator<readonly RunEvent[]> {}

export interface Harness extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  readonly listening: Listening;
  readonly calls: Call[];
  readonly logged: { level: string; fields: object; message: string }[];
  readonly observed: Answered[];
  /** Arguments of the last call of a service function. */
  last(name: string): readonly unknown[];
  fetch(path: string, init?: RequestInit): Promise<Response>;
  post(path: string, body?: unknown, headers?: Record<string, string>): Promise<Response>;
}

type Before = Pick<DoorsOptions, "authenticate" | "custom" | "protocolFor">;
type Told = Pick<Harness, "calls" | "logged" | "observed" | "last">;

/** Fake services, and what is told of them. */
function faked(
  script: Partial<Script>,
  settings: Partial<HttpSettings>,
  before: Before,
): Told & { options: DoorsOptions } {
  const calls: Call[] = [];
  const logged: Harness["logged"] = [];
  const observed: Answered[] = [];
  const log = (level: string) => (fields: object, message: string) => void logged.push({ level, fields, message });
  const logger: Logger = { info: log("info"), warn: log("warn"), error: log("error") };
  const options: DoorsOptions = {
    services: fakeServices(script, (name, ...args) => void calls.push({ name, args })),
    settings: {
      maxBodyBytes: 100_000,
      version: "9.9.9",
      cors: corsFor(["*"]),
      mode: "test",
      disabled: new Set(),
      mountPrefix: "",
      ...settings,
    },
    logger,
    observe: (answered) => void observed.push(answered),
    ...before,
  };
  return { calls, logged, observed, last: (name) => calls.findLast((call) => call.name === name)?.args ?? [], options };
}

/** An app with fake services on a free port. */
export async function start(
  script: Partial<Script> = {},
  settings: Partial<HttpSettings> = {},
  before: Before = {},
): Promise<Harness> {
  const { options, ...told } = faked(script, settings, before);
  const listening = await listen(createApp(options), { host: "127.0.0.1", port: 0 });
  const fetchPath = (path: string, init?: RequestInit) => fetch(`${listening.url}${path}`, init);
  return {
    ...told,
    url: listening.url,
    port: listening.port,
    listening,
    fetch: fetchPath,
    post: (path, body, headers = { "content-type": "application/json" }) => {
      const text = typeof body === "string" || body === undefined ? body : JSON.stringify(body);
      return fetchPath(path, { method: "POST", headers, ...(text === undefined ? {} : { body: text }) });
    },
    [Symbol.asyncDispose]: () => listening.close(0),
  };
}

/** The same, without a port. */
export function doors(
  script: Partial<Script> = {},
  settings: Partial<HttpSettings> = {},
  before: Before = {},
): Told & { readonly doors: Doors } {
  const { options, ...told } = faked(script, settings, before);
  return { ...told, doors: new Doors(options) };
}

function fakeServices(script: Partial<Script>, record: (name: string, ...args: unknown[]) => void): Services {
  const known = (id: string) => {
    if (id === UNKNOWN_ID) throw notFound(`Run ${id} not found`);
  };
  return {
    assistants: {
      async get(id) {
        record("assistants.get", id);
        if (id === "missing") throw notFound(`Assistant ${id} not found`);
        if (id === "broken") throw new Error("password=hunter2");
        return ASSISTANT;
      },
      async create(request) {
        record("assistants.create", request);
        return ASSISTANT;
      },
      async patch(id, request) {
        record("assistants.patch", id, request);
        return ASSISTANT;
      },
      async versions(id, request) {
        record("assistants.versions", id, request);
        return { items: [ASSISTANT], total: 1 };
      },
      async setLatest(id, version) {
        record("assistants.setLatest", id, version);
        return ASSISTANT;
      },
      async delete(id, delete_threads) {
        record("assistants.delete", id, delete_threads);
        return ASSISTANT.assistant_id;
      },
      async search(request) {
        record("assistants.search", request);
        return script.assistants ?? { items: [ASSISTANT], total: 1 };
      },
      async count(filter) {
        record("assistants.count", filter);
        return 7;
      },
      async graph(id, xray) {
        record("assistants.graph", id, xray);
        return `{"nodes":[],"edges":[]}`;
      },
      async subgraphs(id, namespace, recurse) {
        record("assistants.subgraphs", id, namespace, recurse);
        return "{}";
      },
      async schemas(id) {
        record("assistants.schemas", id);
        return `{"graph_id":"agent"}`;
      },
    },
    threads: {
      async create(request) {
        record("threads.create", request);
        return THREAD;
      },
      async get(id, include) {
        record("threads.get", id, include);
        return THREAD;
      },
      async update(id, request) {
        record("threads.update", id, request);
        return THREAD;
      },
      async delete(id) {
        record("threads.delete", id);
      },
      async search(request) {
        record("threads.search", request);
        return { items: [THREAD], total: 1 };
      },
      async count(filter) {
        record("threads.count", filter);
        return 7;
      },
      async copy(id) {
        record("threads.copy", id);
        return THREAD;
      },
      async prune(request) {
        record("threads.prune", request);
        return request.thread_ids.length;
      },
      async state(id, checkpoint, subgraphs) {
        record("threads.state", id, checkpoint, subgraphs);
        return `{"values":{}}`;
      },
      async history(id, search) {
        record("threads.history", id, search);
        return "[]";
      },
      async updateState(id, request) {
        record("threads.updateState", id, request);
        const checkpoint = { thread_id: id, checkpoint_ns: "", checkpoint_id: "1", checkpoint_map: null };
        return { checkpoint, checkpoint_id: "1", configurable: checkpoint };
      },
    },
    runs: {
      async create(thread_id, request, headers) {
        record("runs.create", thread_id, request, headers);
        return script.create === undefined ? RUN : script.create();
      },
      async createStateless(request, headers) {
        record("runs.createStateless", request, headers);
        return RUN;
      },
      async createBatch(requests, headers) {
        record("runs.createBatch", requests, headers);
        return requests.map(() => RUN);
      },
      async get(thread_id, run_id) {
        record("runs.get", thread_id, run_id);
        known(run_id);
        return RUN;
      },
      async list(thread_id, page) {
        record("runs.list", thread_id, page);
        return [RUN];
      },
      async delete(thread_id, run_id) {
        record("runs.delete", thread_id, run_id);
        known(run_id);
      },
      async cancelMany(which, action) {
        record("runs.cancelMany", which, action);
      },
      async followThread(thread_id, options) {
        record("runs.followThread", thread_id, options);
        return (script.events ?? noEvents)(options.signal);
      },
      async follow(thread_id, run_id, options) {
        record("runs.follow", thread_id, run_id, options);
        known(run_id);
        return (script.events ?? noEvents)(options.signal);
      },
      async wait(thread_id, run_id, signal) {
        record("runs.wait", thread_id, run_id);
        known(run_id);
        return script.wait === undefined ? `{"foo":"done"}` : script.wait(signal);
      },
      async cancel(thread_id, run_id, action, wait) {
        record("runs.cancel", thread_id, run_id, action, wait);
      },
      async cancelMarked(mark) {
        record("runs.cancelMarked", mark);
      },
      cancelOnDisconnect(run_id) {
        record("runs.cancelOnDisconnect", run_id);
      },
    },
    protocol: {
      async events(thread_id, ask) {
        record("protocol.events", thread_id, ask);
        return (async function* () {
          yield* script.frames ?? [];
        })();
      },
      session(thread_id) {
        record("protocol.session", thread_id);
        return { receive: () => undefined, closed: () => undefined };
      },
      async command(thread_id, command, headers) {
        record("protocol.command", thread_id, command, headers);
        return { type: "success", id: command.id, result: {}, meta: { thread_id } };
      },
    },
    tasks: {
      canPush: true,
      checkPush() {},
      async get(assistant_id, run_id) {
        record("tasks.get", assistant_id, run_id);
        throw notFound(`Task ${run_id} not found`);
      },
      async list(assistant_id, page) {
        record("tasks.list", assistant_id, page);
        return { tasks: [], next: null, total: 0 };
      },
      async cancel(assistant_id, run_id) {
        record("tasks.cancel", assistant_id, run_id);
      },
      async setPush(assistant_id, run_id, config) {
        record("tasks.setPush", assistant_id, run_id, config);
      },
      async deletePush(assistant_id, run_id, config_id) {
        record("tasks.deletePush", assistant_id, run_id, config_id);
      },
    },
    crons: {
      async create(request) {
        record("crons.create", request);
        return CRON;
      },
      async createOnThread(thread_id, request) {
        record("crons.createOnThread", thread_id, request);
        return CRON;
      },
      async get(cron_id) {
        record("crons.get", cron_id);
        return CRON;
      },
      async patch(cron_id, change) {
        record("crons.patch", cron_id, change);
        return CRON;
      },
      async delete(cron_id) {
        record("crons.delete", cron_id);
      },
      async search(request) {
        record("crons.search", request);
        return { items: [CRON], total: 1 };
      },
      async count(filter) {
        record("crons.count", filter);
        return 1;
      },
    },
    store: {
      async put(request) {
        record("store.put", request);
      },
      async get(namespace, key, refresh_ttl) {
        record("store.get", namespace, key, refresh_ttl);
        return "null";
      },
      async delete(request) {
        record("store.delete", request);
      },
      async search(request) {
        record("store.search", request);
        return "[]";
      },
      async namespaces(request) {
        record("store.namespaces", request);
        return [];
      },
    },
    ui: {
      async find(id) {
        throw notFound(`There is no ui for ${id}`);
      },
      file(namespace, name) {
        throw notFound(`There is no file ${name} of a ui ${namespace}`);
      },
    },
    system: {
      broker: () => ({}),
      async checkDatabase() {
        await script.checkDatabase?.();
      },
      info: () => ({ version: "9.9.9" }),
      metricsText: async () => "skein_up 1\n",
      metricsJson: async () => ({ up: 1 }),
    },
  };
}
