/**
 * The operations an Agent Server promises its clients, as data: what each takes and how it may answer. The one list:
 * `skein compat` compares a server with it, and the conformance kit reads it through `skein compat --list`.
 */

/** Kinds of JSON values; `any` is all of them. */
export type Kind = "string" | "integer" | "number" | "boolean" | "object" | "array" | "null" | "any";
type Scalar = string | number | boolean;

export interface Value {
  readonly kinds: readonly Kind[];
  readonly format?: "uuid" | "date-time";
  /** The only scalars allowed. */
  readonly values?: readonly Scalar[];
  readonly items?: Value;
  readonly fields?: Fields;
  readonly default?: unknown;
  readonly required?: true;
  /** Of a number. */
  readonly min?: number;
  readonly max?: number;
  /** Of a string, an array or an object. */
  readonly minSize?: number;
  readonly maxSize?: number;
}
export type Fields = Readonly<Record<string, Value>>;

export const TAGS = [
  "Assistants",
  "Threads",
  "Thread Runs",
  "Stateless Runs",
  "Crons",
  "Store",
  "Streaming",
  "System",
] as const;
export type Tag = (typeof TAGS)[number];

export interface ListedOperation {
  readonly tag: Tag;
  readonly method: "get" | "post" | "put" | "patch" | "delete";
  /** `/threads/{thread_id}`. */
  readonly path: string;
  readonly params: Fields;
  readonly query: Fields;
  readonly headers: Fields;
  /** An object with fields, or an array of such; null when it takes none. */
  readonly body: Value | null;
  readonly success: 200 | 204;
  /** The content types of a success. */
  readonly types: readonly string[];
  readonly errors: readonly number[];
}

/* ---------------------------------------------------------------------------------- values */

type More = Omit<Value, "kinds">;

const kind =
  (...kinds: readonly Kind[]) =>
  (more: More = {}): Value => ({ kinds, ...more });
const text = kind("string");
const integer = kind("integer");
const number = kind("number");
const flag = kind("boolean");
const object = kind("object");
const any = kind("any");
const uuid = (more: More = {}): Value => text({ format: "uuid", ...more });
const time = (more: More = {}): Value => text({ format: "date-time", ...more });
const list = (items: Value, more: More = {}): Value => ({ kinds: ["array"], items, ...more });
const word = (values: readonly Scalar[], more: More = {}): Value => text({ values, ...more });
/** One word, or a list of them. */
const words = (values: readonly Scalar[], more: More = {}): Value => ({
  kinds: ["string", "array"],
  values,
  items: word(values),
  ...more,
});
const orNull = (value: Value): Value => ({ ...value, kinds: [...value.kinds, "null"] });
const required = (value: Value): Value => ({ ...value, required: true });
const without = (fields: Fields, ...names: readonly string[]): Fields =>
  Object.fromEntries(Object.entries(fields).filter(([name]) => !names.includes(name)));

/* ---------------------------------------------------------------------------- shared fields */

const PAGE = { limit: integer({ default: 10, min: 1, max: 1000 }), offset: integer({ default: 0, min: 0 }) };
const ORDER = ["asc", "desc"];
const RUN_STATUSES = ["pending", "running", "error", "success", "timeout", "interrupted"];
const THREAD_STATUS = word(["idle", "busy", "interrupted", "error"]);
const THREAD_STREAM_MODES = ["lifecycle", "run_modes", "state_update"];
const STREAM_MODES = [
  "values",
  "messages",
  "messages-tuple",
  "tasks",
  "checkpoints",
  "updates",
  "events",
  "debug",
  "custom",
];

/** Also the id of a graph, which stands for its default assistant. */
const assistantId = { assistant_id: required(text()) };
const threadId = { thread_id: required(uuid()) };
const runId = { thread_id: required(uuid()), run_id: required(uuid()) };
const cronId = { cron_id: required(uuid()) };

const assistantFilter = { metadata: object(), graph_id: text(), name: text() };
const threadFilter = { metadata: object(), values: object(), status: THREAD_STATUS };
const cronFilter = { assistant_id: uuid(), thread_id: uuid(), metadata: object() };
const assistantConfig = { config: object(), context: object(), metadata: object() };
const ttl = {
  ttl: object({ fields: { strategy: word(["delete", "keep_latest"], { default: "delete" }), ttl: number() } }),
};
const pruneStrategy = { strategy: word(["delete", "keep_latest"], { default: "delete" }) };

const checkpoint = object({
  fields: { thread_id: text(), checkpoint_ns: text(), checkpoint_id: text(), checkpoint_map: object() },
});
const command = object({
  fields: {
    update: { kinds: ["object", "array", "null"] },
    resume: any(),
    goto: {
      kinds: ["string", "object", "array", "null"],
      fields: { node: required(text()), input: any() },
      items: { kinds: ["string", "object"] },
    },
  },
});
const config = object({ fields: { tags: list(text()), recursion_limit: integer(), configurable: object() } });
const breakpoints: Value = { kinds: ["string", "array"], values: ["*"], items: text() };
const streaming = {
  stream_mode: words(STREAM_MODES, { default: ["values"] }),
  stream_subgraphs: flag({ default: false }),
  stream_resumable: flag({ default: false }),
  durability: word(["sync", "async", "exit"], { default: "async" }),
};
const webhook = { webhook: text({ minSize: 1, maxSize: 65_536 }) };
const breaking = { interrupt_before: breakpoints, interrupt_after: breakpoints };
const multitask = {
  multitask_strategy: word(["reject", "rollback", "interrupt", "enqueue"], { default: "enqueue" }),
};

const anyRun: Fields = {
  assistant_id: required(text()),
  input: any(),
  command: orNull(command),
  metadata: object(),
  config,
  context: object(),
  ...webhook,
  ...streaming,
  feedback_keys: list(text()),
  after_seconds: number(),
  checkpoint_during: flag({ default: false }),
};
const threadRun: Fields = {
  ...anyRun,
  ...breaking,
  ...multitask,
  checkpoint,
  if_not_exists: word(["create", "reject"], { default: "reject" }),
};
const statelessRun: Fields = { ...anyRun, on_completion: word(["delete", "keep"], { default: "delete" }) };
const followed: Fields = { on_disconnect: word(["cancel", "continue"], { default: "continue" }) };

const cron: Fields = {
  assistant_id: required(text()),
  schedule: required(text()),
  timezone: text(),
  end_time: time(),
  input: { kinds: ["object", "array"] },
  metadata: object(),
  config,
  context: object(),
  ...webhook,
  ...breaking,
  enabled: flag({ default: true }),
  ...streaming,
};
const onRunCompleted = ["delete", "keep"];

const action = { action: word(["interrupt", "rollback"], { default: "interrupt" }) };
const lastEventId = { "Last-Event-ID": text() };
const cancelOnDisconnect = { cancel_on_disconnect: flag({ default: false }) };

/* ------------------------------------------------------------------------------ operations */

interface Details {
  readonly params?: Fields;
  readonly query?: Fields;
  readonly headers?: Fields;
  /** Fields of an object body, or a whole body of another kind. */
  readonly body?: Fields | readonly [Value];
  readonly success?: 204;
  readonly types?: readonly string[];
  /** Besides those that follow from what it takes: 413 for a body, 422 for all that is checked. */
  readonly errors?: readonly number[];
}

const JSON_TYPE = ["application/json"];
const SSE_TYPE = ["text/event-stream"];

function under(tag: Tag) {
  return (line: string, { body, ...details }: Details = {}): ListedOperation => {
    const [method = "", path = ""] = line.split(" ");
    const { params = {}, query = {}, headers = {}, success = 200, errors = [] } = details;
    const checked = body !== undefined || Object.keys(query).length > 0 || params.thread_id !== undefined;
    const implied = [...(body === undefined ? [] : [413]), ...(checked || params.cron_id !== undefined ? [422] : [])];
    return {
      tag,
      method: method.toLowerCase() as ListedOperation["method"],
      path,
      params,
      query,
      headers,
      body: body === undefined ? null : isWhole(body) ? body[0] : object({ fields: body }),
      success,
      types: success === 204 ? [] : (details.types ?? JSON_TYPE),
      errors: [...errors, ...implied],
    };
  };
}

const isWhole = (body: Fields | readonly [Value]): body is readonly [Value] => Array.isArray(body);

const assistants = under("Assistants");
const threads = under("Threads");
const threadRuns = under("Thread Runs");
const statelessRuns = under("Stateless Runs");
const crons = under("Crons");
const store = under("Store");
const streamingV2 = under("Streaming");
const system = under("System");

export const OPERATIONS: readonly ListedOperation[] = [
  assistants("POST /assistants", {
    body: {
      graph_id: required(text()),
      assistant_id: uuid(),
      ...assistantConfig,
      if_exists: word(["raise", "do_nothing"], { default: "raise" }),
      name: text(),
      description: orNull(text()),
    },
    errors: [404, 409],
  }),
  assistants("POST /assistants/search", {
    body: {
      ...assistantFilter,
      ...PAGE,
      sort_by: word(["assistant_id", "created_at", "updated_at", "name", "graph_id"]),
      sort_order: word(ORDER),
      select: list(
        word([
          "assistant_id",
          "graph_id",
          "name",
          "description",
          "config",
          "context",
          "created_at",
          "updated_at",
          "metadata",
          "version",
        ]),
      ),
    },
  }),
  assistants("POST /assistants/count", { body: assistantFilter }),
  assistants("GET /assistants/{assistant_id}", { params: assistantId, errors: [404] }),
  assistants("PATCH /assistants/{assistant_id}", {
    params: assistantId,
    body: { graph_id: text(), ...assistantConfig, name: text(), description: text() },
    errors: [404],
  }),
  assistants("DELETE /assistants/{assistant_id}", {
    params: assistantId,
    query: { delete_threads: flag({ default: false }) },
    errors: [404],
  }),
  assistants("GET /assistants/{assistant_id}/graph", {
    params: assistantId,
    query: { xray: { kinds: ["boolean", "integer"], default: false } },
    errors: [404],
  }),
  assistants("GET /assistants/{assistant_id}/subgraphs", {
    params: assistantId,
    query: { recurse: flag({ default: false }) },
    errors: [404],
  }),
  assistants("GET /assistants/{assistant_id}/subgraphs/{namespace}", {
    params: { ...assistantId, namespace: required(text()) },
    query: { recurse: flag({ default: false }) },
    errors: [404],
  }),
  assistants("GET /assistants/{assistant_id}/schemas", { params: assistantId, errors: [404, 422] }),
  // The body is what SDKs send; the query of `latest` is what documents show.
  assistants("POST /assistants/{assistant_id}/versions", {
    params: assistantId,
    body: { metadata: object(), ...PAGE },
    errors: [404],
  }),
  assistants("POST /assistants/{assistant_id}/latest", {
    params: assistantId,
    query: { version: integer() },
    body: { version: integer() },
    errors: [404],
  }),

  threads("POST /threads", {
    body: {
      thread_id: uuid(),
      metadata: object(),
      if_exists: word(["raise", "do_nothing"], { default: "raise" }),
      ...ttl,
      supersteps: list(
        object({
          fields: {
            updates: required(
              list(
                object({
                  fields: {
                    values: { kinds: ["object", "array", "null"] },
                    command: orNull(command),
                    as_node: required(text()),
                  },
                }),
              ),
            ),
          },
        }),
      ),
    },
    errors: [409],
  }),
  threads("POST /threads/search", {
    body: {
      ids: list(uuid()),
      ...threadFilter,
      ...PAGE,
      sort_by: word(["thread_id", "status", "created_at", "updated_at", "state_updated_at"]),
      sort_order: word(ORDER),
      select: list(
        word([
          "thread_id",
          "created_at",
          "updated_at",
          "state_updated_at",
          "metadata",
          "config",
          "status",
          "values",
          "interrupts",
        ]),
      ),
      extract: object({ maxSize: 10 }),
    },
  }),
  threads("POST /threads/count", { body: threadFilter }),
  threads("POST /threads/prune", { body: { thread_ids: required(list(uuid())), ...pruneStrategy } }),
  threads("GET /threads/{thread_id}", { params: threadId, query: { include: text() }, errors: [404] }),
  threads("PATCH /threads/{thread_id}", { params: threadId, body: { metadata: object(), ...ttl }, errors: [404] }),
  threads("DELETE /threads/{thread_id}", { params: threadId, errors: [404] }),
  threads("GET /threads/{thread_id}/state", { params: threadId, query: { subgraphs: flag() }, errors: [404] }),
  threads("POST /threads/{thread_id}/state", {
    params: threadId,
    body: { values: { kinds: ["object", "array", "null"] }, checkpoint, as_node: text() },
    errors: [404],
  }),
  threads("GET /threads/{thread_id}/state/{checkpoint_id}", {
    params: { ...threadId, checkpoint_id: required(uuid()) },
    query: { subgraphs: flag() },
    errors: [404],
  }),
  threads("POST /threads/{thread_id}/state/checkpoint", {
    params: threadId,
    body: { checkpoint: required(checkpoint), subgraphs: flag() },
    errors: [404],
  }),
  threads("GET /threads/{thread_id}/history", {
    params: threadId,
    query: { limit: integer({ default: 10 }), before: text() },
    errors: [404],
  }),
  threads("POST /threads/{thread_id}/history", {
    params: threadId,
    body: { limit: integer({ default: 1, min: 1, max: 1000 }), before: checkpoint, metadata: object(), checkpoint },
    errors: [404],
  }),
  threads("POST /threads/{thread_id}/copy", { params: threadId, errors: [404, 409] }),
  threads("GET /threads/{thread_id}/stream", {
    params: threadId,
    query: { stream_modes: words(THREAD_STREAM_MODES, { default: ["run_modes"] }) },
    headers: lastEventId,
    types: SSE_TYPE,
    errors: [404],
  }),

  threadRuns("POST /threads/{thread_id}/runs", { params: threadId, body: threadRun, errors: [404, 409] }),
  threadRuns("POST /threads/{thread_id}/runs/stream", {
    params: threadId,
    body: { ...threadRun, ...followed },
    types: SSE_TYPE,
    errors: [404, 409],
  }),
  threadRuns("POST /threads/{thread_id}/runs/wait", {
    params: threadId,
    body: { ...threadRun, ...followed },
    errors: [404, 409],
  }),
  threadRuns("GET /threads/{thread_id}/runs", {
    params: threadId,
    query: {
      limit: integer({ default: 10 }),
      offset: integer({ default: 0 }),
      status: word(RUN_STATUSES),
      select: list(
        word([
          "run_id",
          "thread_id",
          "assistant_id",
          "created_at",
          "updated_at",
          "status",
          "metadata",
          "kwargs",
          "multitask_strategy",
          "langsmith_session_name",
        ]),
      ),
    },
    errors: [404],
  }),
  threadRuns("GET /threads/{thread_id}/runs/{run_id}", { params: runId, errors: [404] }),
  threadRuns("DELETE /threads/{thread_id}/runs/{run_id}", { params: runId, errors: [404] }),
  threadRuns("GET /threads/{thread_id}/runs/{run_id}/join", {
    params: runId,
    query: cancelOnDisconnect,
    errors: [404],
  }),
  threadRuns("GET /threads/{thread_id}/runs/{run_id}/stream", {
    params: runId,
    // One mode, or several, however written.
    query: { stream_mode: text(), ...cancelOnDisconnect },
    headers: lastEventId,
    types: SSE_TYPE,
    errors: [404],
  }),
  threadRuns("POST /threads/{thread_id}/runs/{run_id}/cancel", {
    params: runId,
    query: { wait: flag({ default: false }), ...action },
    errors: [404],
  }),
  threadRuns("POST /runs/cancel", {
    query: action,
    body: { status: word(["pending", "running", "all"]), thread_id: uuid(), run_ids: list(uuid()) },
    success: 204,
    errors: [404],
  }),

  statelessRuns("POST /runs", { body: statelessRun, errors: [404, 409] }),
  statelessRuns("POST /runs/stream", { body: { ...statelessRun, ...followed }, types: SSE_TYPE, errors: [404, 409] }),
  statelessRuns("POST /runs/wait", { body: { ...statelessRun, ...followed }, errors: [404, 409] }),
  statelessRuns("POST /runs/batch", {
    body: [list(object({ fields: statelessRun }), { minSize: 1 })],
    errors: [404, 409],
  }),

  crons("POST /runs/crons", {
    body: { ...cron, on_run_completed: word(onRunCompleted, { default: "delete" }) },
    errors: [404],
  }),
  crons("POST /threads/{thread_id}/runs/crons", { params: threadId, body: { ...cron, ...multitask }, errors: [404] }),
  crons("POST /runs/crons/search", {
    body: {
      ...cronFilter,
      enabled: flag(),
      ...PAGE,
      sort_by: word(["cron_id", "assistant_id", "thread_id", "next_run_date", "end_time", "created_at", "updated_at"], {
        default: "created_at",
      }),
      sort_order: word(ORDER, { default: "desc" }),
      select: list(
        word([
          "cron_id",
          "assistant_id",
          "thread_id",
          "on_run_completed",
          "end_time",
          "schedule",
          "timezone",
          "created_at",
          "updated_at",
          "user_id",
          "payload",
          "next_run_date",
          "metadata",
          "enabled",
        ]),
      ),
    },
  }),
  crons("POST /runs/crons/count", { body: cronFilter }),
  crons("GET /runs/crons/{cron_id}", { params: cronId, errors: [404] }),
  crons("PATCH /runs/crons/{cron_id}", {
    params: cronId,
    // What is left out is kept, so nothing has a default here.
    body: {
      ...Object.fromEntries(
        Object.entries(without(cron, "assistant_id", "schedule")).map(([name, { default: _, ...value }]) => [
          name,
          value,
        ]),
      ),
      schedule: text(),
      end_time: orNull(time()),
      on_run_completed: word(onRunCompleted),
    },
    errors: [404],
  }),
  crons("DELETE /runs/crons/{cron_id}", { params: cronId, errors: [404] }),

  store("PUT /store/items", {
    body: {
      namespace: required(list(text())),
      key: required(text()),
      value: required(object()),
      index: { kinds: ["boolean", "array", "null"], values: [false], items: text(), default: null },
      ttl: orNull(number({ default: null })),
    },
    success: 204,
  }),
  store("GET /store/items", {
    query: { key: required(text()), namespace: list(text()), refresh_ttl: flag() },
  }),
  store("DELETE /store/items", { body: { namespace: list(text()), key: required(text()) }, success: 204 }),
  store("POST /store/items/search", {
    body: {
      namespace_prefix: orNull(list(text())),
      filter: orNull(object()),
      limit: integer({ default: 10 }),
      offset: integer({ default: 0 }),
      query: orNull(text()),
      refresh_ttl: orNull(flag({ default: null })),
    },
  }),
  store("POST /store/namespaces", {
    body: {
      prefix: list(text()),
      suffix: list(text()),
      max_depth: integer(),
      limit: integer({ default: 100 }),
      offset: integer({ default: 0 }),
    },
  }),

  // What a command is refused for is an answer; only a body that is none is a 400.
  streamingV2("POST /threads/{thread_id}/commands", {
    params: threadId,
    body: { id: required(integer({ min: 0 })), method: required(text()), params: object() },
    errors: [400],
  }),
  streamingV2("POST /threads/{thread_id}/stream/events", {
    params: threadId,
    body: {
      channels: required(list(text(), { minSize: 1 })),
      namespaces: list(list(text())),
      depth: integer({ min: 0 }),
      since: integer({ min: 0 }),
    },
    types: SSE_TYPE,
    errors: [400],
  }),

  system("GET /ok", { query: { check_db: integer({ values: [0, 1], default: 0 }) }, errors: [500] }),
  system("GET /info"),
  system("GET /metrics", {
    query: { format: word(["prometheus", "json"], { default: "prometheus" }) },
    types: ["text/plain", ...JSON_TYPE],
  }),
  system("GET /docs", { types: ["text/html"] }),
];
