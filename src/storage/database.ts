/** The tables, as SQL has them. One schema for both dialects: times are epoch milliseconds, JSON is text. */
import type { Generated } from "kysely";

export interface Database {
  assistants: {
    assistant_id: string;
    graph_id: string;
    name: string;
    description: string | null;
    config: string;
    context: string;
    metadata: string;
    version: number;
    created_at: number;
    updated_at: number;
    /** The name with its case folded, for searches. */
    name_folded: string;
  };
  assistant_versions: {
    assistant_id: string;
    version: number;
    graph_id: string;
    name: string;
    description: string | null;
    config: string;
    context: string;
    metadata: string;
    created_at: number;
  };
  threads: {
    seq: Generated<number>;
    thread_id: string;
    status: string;
    /** 1 for a thread that goes with its run; nobody lists it. */
    temporary: number;
    metadata: string;
    config: string;
    interrupts: string;
    created_at: number;
    updated_at: number;
    state_updated_at: number;
    /** The status when no run is in flight. */
    rest_status: Generated<string>;
    ttl_strategy: string | null;
    ttl_minutes: number | null;
    /** Null when the thread has no time to live, or has been cut to its latest state since its last run. */
    expires_at: number | null;
    /** 1: streaming v2 has had to do with the thread. */
    protocol: Generated<number>;
  };
  /** Large, and written less often than the rest of a thread. */
  thread_values: {
    seq: number;
    values: string | null;
    /** JSON: the lists of the values that are in `thread_lists`, their version and length. Null: `values` is whole. */
    lists: string | null;
  };
  /** Long lists of threads' values, in parts. */
  thread_lists: {
    seq: number;
    member: string;
    /** Place of the part's first item. */
    first: number;
    /** JSON texts of the items, joined by commas. */
    items: string;
  };
  /** A member of threads' metadata, and how many threads have it. Kept by triggers. */
  metadata_pairs: {
    pair_id: Generated<number>;
    key: string;
    value: string;
    threads: number;
    /** Number of the last change to the threads that have it; no two changes have the same. */
    changed: number;
  };
  thread_pairs: {
    pair_id: number;
    seq: number;
  };
  runs: {
    seq: Generated<number>;
    run_id: string;
    thread_id: string;
    assistant_id: string;
    graph_id: string;
    status: string;
    metadata: string;
    kwargs: string;
    multitask_strategy: string;
    not_before: number;
    attempt: number;
    fence: number;
    lease_owner: string | null;
    lease_expires_at: number | null;
    cancel_action: string | null;
    error: string | null;
    checkpoint_id: string | null;
    created_at: number;
    updated_at: number;
    started_at: number | null;
    ended_at: number | null;
    /** The number on its thread of its last event of streaming v2; null while its events are kept. */
    told_to: Generated<number | null>;
    /** 1: runs of the thread are in front, nothing to look at for a claim. 0: look. */
    behind: Generated<number>;
  };
  checkpoints: {
    thread_id: string;
    checkpoint_ns: string;
    checkpoint_id: string;
    parent_checkpoint_id: string | null;
    /** The run that wrote it; null for state updates by clients. */
    run_id: string | null;
    /** What is newest is the newest id of the last era. */
    era: Generated<number>;
    type: string;
    /** Channel → [version, length] of the values that are in blobs. */
    blob_versions: string;
    checkpoint: Uint8Array | string;
    metadata: string;
  };
  /** A channel's value, once per version; a list in parts. */
  checkpoint_blobs: {
    thread_id: string;
    checkpoint_ns: string;
    channel: string;
    version: string;
    first: number;
    run_id: string | null;
    type: string;
    value: Uint8Array | string;
  };
  checkpoint_writes: {
    thread_id: string;
    checkpoint_ns: string;
    checkpoint_id: string;
    task_id: string;
    idx: number;
    task_path: string;
    run_id: string | null;
    channel: string;
    type: string;
    value: Uint8Array | string;
  };
  /** Pending writes that a later run has overwritten. */
  replaced_writes: {
    thread_id: string;
    checkpoint_ns: string;
    checkpoint_id: string;
    task_id: string;
    idx: number;
    replaced_by: string;
    task_path: string;
    run_id: string | null;
    channel: string;
    type: string;
    value: Uint8Array | string;
  };
  event_logs: {
    run_id: string;
    thread_id: string;
    ended_at: number | null;
    /** Orders the logs of a thread by when their runs began. */
    place: Generated<number>;
  };
  event_chunks: {
    run_id: string;
    first: number;
    last: number;
    events: string;
  };
  outcomes: {
    run_id: string;
    output: string;
    ended_at: number;
  };
  departed_runs: {
    run_id: string;
    metadata: string;
    ended_at: number;
  };
  idempotency_keys: {
    key: string;
    fingerprint: string;
    created_at: number;
    /** What was answered: a list of runs. */
    runs: string;
  };
  webhooks: {
    webhook_id: string;
    run_id: string;
    url: string;
    payload: string;
    attempts: number;
    next_attempt_at: number;
    created_at: number;
    trace: string | null;
  };
  crons: {
    cron_id: string;
    assistant_id: string;
    thread_id: string | null;
    on_run_completed: string | null;
    schedule: string;
    timezone: string | null;
    end_time: number | null;
    /** 0 or 1. */
    enabled: number;
    next_run_date: number | null;
    created_at: number;
    updated_at: number;
    metadata: string;
    payload: string;
  };
  /** One row per call that was made. */
  webhook_deliveries: {
    webhook_id: string;
    attempt: number;
    run_id: string;
    /** Scheme and host: paths and queries of webhooks hold secrets. */
    target: string;
    started_at: number;
    duration_ms: number;
    outcome: string;
    status: number | null;
    error: string | null;
  };
  /** Keys that data may be sealed under; the newest seals. */
  encryption_keys: {
    key_id: string;
    /** JSON: the members of JSON columns that are sealed. */
    json_keys: string;
    since: number;
    /** When everything in the file was sealed under this key. */
    sealed_all_at: number | null;
  };
  store_items: {
    /** Namespace as JSON text of its array: unambiguous whatever the labels hold. */
    namespace: string;
    key: string;
    value: string;
    created_at: number;
    updated_at: number;
    /** Minutes from a write or a refreshing read to `expires_at`; both are null for items that stay. */
    ttl: number | null;
    expires_at: number | null;
  };
  /** Vectors of items, one per text. They go with their item. */
  store_vectors: {
    namespace: string;
    key: string;
    /** Where in the value the text is. */
    path: string;
    /** What made the vector: those of another embedder cannot be compared with it. */
    embedder: string;
    embedding: Uint8Array;
  };
}
