/** Records as clients see them. */
import type { Run, RunKwargs } from "../schemas/runs.ts";
import type { NewRun } from "../storage/storage.ts";

export const isoTime = (ms: number): string => new Date(ms).toISOString();

/** As the graph sees it: the client's, and who and where the run is. */
function configurableOf({ kwargs, run_id, thread_id, graph_id, assistant_id }: NewRun): Record<string, unknown> {
  return { ...kwargs.config.configurable, run_id, thread_id, graph_id, assistant_id };
}

/** As clients see it, and the graph: without what only the server and its notifications need. */
export function kwargsShown({ kwargs }: Pick<NewRun, "kwargs">): RunKwargs {
  const { task, trace, user, ...shown } = kwargs;
  return task === undefined && trace === undefined && user === undefined ? kwargs : shown;
}

export function runToWire(run: NewRun): Run {
  return {
    run_id: run.run_id,
    thread_id: run.thread_id,
    assistant_id: run.assistant_id,
    created_at: isoTime(run.created_at),
    updated_at: isoTime(run.updated_at),
    status: run.status,
    metadata: run.metadata,
    kwargs: { ...kwargsShown(run), config: { ...run.kwargs.config, configurable: configurableOf(run) } },
    multitask_strategy: run.multitask_strategy,
    ...(run.kwargs.langsmith === undefined ? {} : { langsmith_session_name: run.kwargs.langsmith.project }),
  };
}
