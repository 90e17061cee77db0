/** Records as clients see them. */
import type { Run } from "../schemas/runs.ts";
import type { RunRecord } from "../storage/storage.ts";

export const isoTime = (ms: number): string => new Date(ms).toISOString();

export function runToWire(run: RunRecord): Run {
  return {
    run_id: run.run_id,
    thread_id: run.thread_id,
    assistant_id: run.assistant_id,
    created_at: isoTime(run.created_at),
    updated_at: isoTime(run.updated_at),
    status: run.status,
    metadata: run.metadata,
    kwargs: run.kwargs,
    multitask_strategy: run.multitask_strategy,
  };
}
