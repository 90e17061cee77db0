/**
 * What encryption at rest covers: every column of every table says how it is kept when a key is set. The rule: what a
 * client sends as input and what a node puts into state must not be in the file as plain text. Ids, times, statuses, names
 * and what is searched stay readable.
 */
import type { Database } from "./database.ts";

/**
 * - `text`, `bytes`: sealed as a whole, in a column of that type.
 * - `members`: JSON that stays searchable; the values of the members that are configured are sealed, however deep.
 * - `plain`: as it is.
 */
export type Keeping = "plain" | "members" | "text" | "bytes";

export const KEEPING: { readonly [T in keyof Database]: { readonly [C in keyof Database[T]]: Keeping } } = {
  assistants: {
    assistant_id: "plain",
    graph_id: "plain",
    name: "plain",
    name_folded: "plain",
    description: "plain",
    config: "members",
    context: "members",
    metadata: "members",
    version: "plain",
    created_at: "plain",
    updated_at: "plain",
  },
  assistant_versions: {
    assistant_id: "plain",
    version: "plain",
    graph_id: "plain",
    name: "plain",
    description: "plain",
    config: "members",
    context: "members",
    metadata: "members",
    created_at: "plain",
  },
  threads: {
    seq: "plain",
    thread_id: "plain",
    status: "plain",
    rest_status: "plain",
    temporary: "plain",
    metadata: "members",
    config: "members",
    interrupts: "text",
    created_at: "plain",
    updated_at: "plain",
    state_updated_at: "plain",
    ttl_strategy: "plain",
    ttl_minutes: "plain",
    expires_at: "plain",
  },
  thread_values: {
    seq: "plain",
    values: "text",
  },
  // Triggers copy what the metadata of threads has.
  metadata_pairs: {
    pair_id: "plain",
    key: "plain",
    value: "plain",
    threads: "plain",
    changed: "plain",
  },
  thread_pairs: {
    pair_id: "plain",
    seq: "plain",
  },
  runs: {
    seq: "plain",
    run_id: "plain",
    thread_id: "plain",
    assistant_id: "plain",
    graph_id: "plain",
    status: "plain",
    metadata: "members",
    kwargs: "text",
    multitask_strategy: "plain",
    not_before: "plain",
    attempt: "plain",
    fence: "plain",
    lease_owner: "plain",
    lease_expires_at: "plain",
    cancel_action: "plain",
    error: "text",
    checkpoint_id: "plain",
    created_at: "plain",
    updated_at: "plain",
    started_at: "plain",
    ended_at: "plain",
    behind: "plain",
  },
  checkpoints: {
    thread_id: "plain",
    checkpoint_ns: "plain",
    checkpoint_id: "plain",
    parent_checkpoint_id: "plain",
    run_id: "plain",
    type: "plain",
    blob_versions: "plain",
    checkpoint: "bytes",
    metadata: "members",
  },
  checkpoint_blobs: {
    thread_id: "plain",
    checkpoint_ns: "plain",
    channel: "plain",
    version: "plain",
    first: "plain",
    run_id: "plain",
    type: "plain",
    value: "bytes",
  },
  checkpoint_writes: {
    thread_id: "plain",
    checkpoint_ns: "plain",
    checkpoint_id: "plain",
    task_id: "plain",
    idx: "plain",
    task_path: "plain",
    run_id: "plain",
    channel: "plain",
    type: "plain",
    value: "bytes",
  },
  replaced_writes: {
    thread_id: "plain",
    checkpoint_ns: "plain",
    checkpoint_id: "plain",
    task_id: "plain",
    idx: "plain",
    replaced_by: "plain",
    task_path: "plain",
    run_id: "plain",
    channel: "plain",
    type: "plain",
    value: "bytes",
  },
  idempotency_keys: {
    key: "plain",
    fingerprint: "plain",
    created_at: "plain",
    runs: "text",
  },
  event_logs: {
    run_id: "plain",
    thread_id: "plain",
    place: "plain",
    ended_at: "plain",
  },
  event_chunks: {
    run_id: "plain",
    first: "plain",
    last: "plain",
    events: "text",
  },
  webhooks: {
    webhook_id: "plain",
    run_id: "plain",
    url: "text",
    payload: "text",
    attempts: "plain",
    next_attempt_at: "plain",
    created_at: "plain",
  },
  crons: {
    cron_id: "plain",
    assistant_id: "plain",
    thread_id: "plain",
    on_run_completed: "plain",
    schedule: "plain",
    timezone: "plain",
    end_time: "plain",
    enabled: "plain",
    next_run_date: "plain",
    created_at: "plain",
    updated_at: "plain",
    metadata: "members",
    payload: "text",
  },
  webhook_deliveries: {
    webhook_id: "plain",
    attempt: "plain",
    run_id: "plain",
    target: "plain",
    started_at: "plain",
    duration_ms: "plain",
    outcome: "plain",
    status: "plain",
    error: "plain",
  },
  encryption_keys: {
    key_id: "plain",
    json_keys: "plain",
    since: "plain",
    sealed_all_at: "plain",
  },
  store_items: {
    namespace: "plain",
    key: "plain",
    value: "text",
    created_at: "plain",
    updated_at: "plain",
    ttl: "plain",
    expires_at: "plain",
  },
  // Vectors are compared in the database.
  store_vectors: {
    namespace: "plain",
    key: "plain",
    path: "plain",
    embedder: "plain",
    embedding: "plain",
  },
};

/** The field of a request that searches a column, where it is not called like the column. */
export const SEARCHED_BY: Readonly<Record<string, string>> = { "store_items.value": "filter" };

/** Members of a column that hold state and are sealed whatever is configured: older LangGraphs put a step's writes there. */
export const ALWAYS_SEALED: Readonly<Record<string, readonly string[]>> = { "checkpoints.metadata": ["writes"] };
