/**
 * What must be true of the database whatever has happened, asked by SQL of its own: no run lost, none stuck, none doubled,
 * no thread busy without a live lease, every stream with an end.
 */

export interface Exceptions {
  /** Runs that were taken back on purpose (rollback, delete, `on_completion`). */
  readonly gone?: ReadonlySet<string>;
  /** Attempts a run may have; BG_JOB_MAX_RETRIES. */
  readonly attempts?: number;
}

type Query = (sql: string) => Promise<Record<string, unknown>[]>;

const NOW = "extract(epoch from clock_timestamp()) * 1000";

/** Each finds rows that must not be. */
const FORBIDDEN: Readonly<Record<string, string>> = {
  stuck: "select run_id, status from runs where status in ('pending', 'running')",
  "ended and still leased": `select run_id, status, lease_owner from runs
    where status not in ('pending', 'running') and (lease_owner is not null or lease_expires_at is not null)`,
  "ended without a time": "select run_id from runs where status not in ('pending', 'running') and ended_at is null",
  "two of a thread run at once":
    "select thread_id from runs where status = 'running' group by thread_id having count(*) > 1",
  "busy without a live lease": `select thread_id from threads where status = 'busy' and not exists (
      select 1 from runs where runs.thread_id = threads.thread_id and (runs.status = 'pending'
        or (runs.status = 'running' and runs.lease_expires_at > ${NOW})))`,
  "not busy with a run in flight": `select thread_id from threads where status <> 'busy' and exists (
      select 1 from runs where runs.thread_id = threads.thread_id and runs.status in ('pending', 'running'))`,
  "a step counted twice": `select thread_id, step from (
      select thread_id, skein_json("values") -> 'steps' as steps from threads join thread_values using (seq)
        where "values" is not null
      union all select thread_id, skein_json(items) from threads join thread_lists using (seq) where member = 'steps'
    ) as shown, jsonb_array_elements_text(case when jsonb_typeof(steps) = 'array' then steps else '[]' end) as step
    group by thread_id, step having count(*) > 1`,
  "two checkpoints of one step": `select thread_id, run_id, skein_json(metadata) ->> 'step' as step from checkpoints
      where checkpoint_ns = '' and run_id is not null group by thread_id, run_id, skein_json(metadata) ->> 'step'
      having count(*) > 1`,
  "a checkpoint whose parent is gone": `select thread_id, checkpoint_id from checkpoints as child
      where parent_checkpoint_id is not null and not exists (select 1 from checkpoints as parent
        where parent.thread_id = child.thread_id and parent.checkpoint_ns = child.checkpoint_ns
          and parent.checkpoint_id = child.parent_checkpoint_id)`,
  "events with a gap or a repeat": `select run_id, "first", before from (
      select run_id, "first", coalesce(lag("last") over (partition by run_id order by "first"), -1) as before
      from event_chunks) as chunks where "first" <> before + 1`,
  "a stream without an end": `select event_logs.run_id from event_logs left join runs using (run_id)
      where event_logs.ended_at is null and (runs.status is null or runs.status not in ('pending', 'running'))`,
};

/** All that is wrong, one sentence each. */
export async function audit(
  query: Query,
  promised: ReadonlyMap<string, string>,
  { gone = new Set(), attempts = 3 }: Exceptions,
): Promise<string[]> {
  const checks = Object.entries(FORBIDDEN).map(async ([name, sql]) =>
    (await query(sql)).map((row) => `${name}: ${JSON.stringify(row)}`),
  );
  const found = (await Promise.all(checks)).flat();
  return [...found, ...(await missingFrom(query, promised, gone)), ...(await overtried(query, attempts))];
}

async function missingFrom(query: Query, promised: ReadonlyMap<string, string>, gone: ReadonlySet<string>) {
  const there = new Map((await query("select run_id, thread_id from runs")).map((row) => [row.run_id, row.thread_id]));
  return [...promised].flatMap(([run_id, thread_id]) => {
    if (gone.has(run_id)) return there.has(run_id) ? [`not gone: ${run_id}`] : [];
    return there.get(run_id) === thread_id ? [] : [`lost: run ${run_id} of thread ${thread_id}`];
  });
}

const overtried = async (query: Query, attempts: number): Promise<string[]> =>
  (await query(`select run_id, attempt from runs where attempt > ${attempts}`)).map(
    (row) => `tried too often: ${JSON.stringify(row)}`,
  );
