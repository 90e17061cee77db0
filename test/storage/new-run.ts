import { randomUUID } from "node:crypto";
import type { NewRun, ThreadRecord } from "../../src/storage/storage.ts";

export const NOW = 1_800_000_000_000;

export function newRun(change: Partial<NewRun> = {}): NewRun {
  return {
    run_id: randomUUID(),
    thread_id: randomUUID(),
    assistant_id: randomUUID(),
    graph_id: "agent",
    status: "pending",
    metadata: {},
    kwargs: {
      input: { text: "hi" },
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
    not_before: NOW,
    attempt: 0,
    fence: 0,
    lease_owner: null,
    lease_expires_at: null,
    cancel_action: null,
    error: null,
    checkpoint_id: null,
    created_at: NOW,
    updated_at: NOW,
    started_at: null,
    ended_at: null,
    ...change,
  };
}

export const newThread = (thread_id: string, change: Partial<ThreadRecord> = {}): ThreadRecord => ({
  thread_id,
  status: "idle",
  temporary: false,
  protocol: false,
  ttl: null,
  metadata: {},
  config: {},
  values: null,
  interrupts: "{}",
  created_at: NOW,
  updated_at: NOW,
  state_updated_at: NOW,
  ...change,
});
