/**
 * Threads that can be searched, and that expire.
 *
 * - `seq` names a thread in the tables beside it in a few bytes, and breaks ties in the order of creation.
 * - `temporary` threads go with their run. Nobody lists them, so no index has them: what a stateless run costs stays the same.
 * - Values moved to a table of their own: a thread whose status changes is written anew, and need not drag them along.
 * - `threads_listed` serves the list in its usual order. Its other columns cost nothing more, for the entry is written
 *   anew with each `updated_at`; they spare the rows when a search filters by status or sorts otherwise.
 * - `threads_waiting` is for inboxes: few threads wait for an answer, and a run that ends well never touches it.
 * - `metadata_pairs` has each member of any thread's metadata once, with the number of threads that have it: that is
 *   what a page's total needs. The pair 0 counts them all, and the changes; `changed` is the number of a pair's last
 *   change. `thread_pairs` says which threads.
 *
 * Triggers keep the pairs: they are part of the table, whoever writes it. A text counts by its first 200 characters, an
 * object or a list by its kind only; a search looks again at what these find (`thread-search.ts`).
 */
import { type Kysely, type Migration, sql } from "kysely";

/** The same as `pairValue` of `expressions.ts`. */
const PAIR_VALUE = `case member.type
  when 'text' then '"' || substr(member.value, 1, 200)
  when 'object' then '{' when 'array' then '['
  when 'integer' then '' || member.value when 'real' then '' || member.value
  else member.type end`;

const pairsOf = (metadata: string, columns: string): string =>
  `select ${columns} from json_each(${metadata}) as member cross join metadata_pairs as pair
    on pair.key = member.key and pair.value = ${PAIR_VALUE}`;

const LAST_CHANGE = "(select all_threads.changed from metadata_pairs as all_threads where all_threads.pair_id = 0)";

const countAll = (difference: string): string =>
  `update metadata_pairs set threads = threads ${difference}, changed = changed + 1 where pair_id = 0;`;

const enter = (thread: string): string => `
  insert into metadata_pairs (key, value, threads, changed)
    select member.key, ${PAIR_VALUE}, 1, ${LAST_CHANGE} from json_each(${thread}.metadata) as member where true
    on conflict (key, value) do update set threads = threads + 1, changed = excluded.changed;
  insert into thread_pairs (pair_id, seq) ${pairsOf(`${thread}.metadata`, `pair.pair_id, ${thread}.seq`)};`;

const leave = (thread: string): string => `
  delete from thread_pairs where seq = ${thread}.seq
    and pair_id in (${pairsOf(`${thread}.metadata`, "pair.pair_id")});
  update metadata_pairs set threads = threads - 1, changed = ${LAST_CHANGE}
    where pair_id in (${pairsOf(`${thread}.metadata`, "pair.pair_id")});
  delete from metadata_pairs where threads = 0
    and pair_id in (${pairsOf(`${thread}.metadata`, "pair.pair_id")});`;

const STATEMENTS = [
  "alter table threads rename to threads_0001",
  `create table threads (
    seq integer primary key,
    thread_id text not null unique,
    status text not null,
    temporary integer not null,
    created_at integer not null,
    updated_at integer not null,
    state_updated_at integer not null,
    ttl_strategy text,
    ttl_minutes real,
    expires_at integer,
    metadata text not null,
    config text not null,
    interrupts text not null
  )`,
  `create table thread_values (
    seq integer primary key,
    "values" text
  )`,
  `create table metadata_pairs (
    pair_id integer primary key,
    key text not null,
    value text not null,
    threads integer not null,
    changed integer not null,
    unique (key, value)
  )`,
  `insert into metadata_pairs (pair_id, key, value, threads, changed) values (0, '', '', 0, 0)`,
  `create table thread_pairs (
    pair_id integer not null,
    seq integer not null,
    primary key (pair_id, seq)
  ) without rowid`,
  `create index threads_listed on threads (updated_at, seq, status, state_updated_at) where temporary = 0`,
  `create index threads_waiting on threads (status, updated_at)
    where temporary = 0 and (status = 'interrupted' or status = 'error')`,
  `create index threads_created on threads (created_at) where temporary = 0`,
  `create index threads_expiring on threads (expires_at) where expires_at is not null`,
  `create trigger threads_enter after insert on threads when new.temporary = 0 begin
    ${countAll("+ 1")}
    ${enter("new")}
  end`,
  `create trigger threads_change after update of metadata on threads
  when new.temporary = 0 and new.metadata <> old.metadata begin
    ${countAll("+ 0")}
    ${leave("old")}
    ${enter("new")}
  end`,
  `create trigger threads_leave after delete on threads when old.temporary = 0 begin
    ${countAll("- 1")}
    ${leave("old")}
    delete from thread_values where seq = old.seq;
  end`,
  `insert into threads
    (thread_id, status, temporary, created_at, updated_at, state_updated_at, metadata, config, interrupts)
    select thread_id, status,
      exists (select 1 from runs where runs.thread_id = old.thread_id
        and runs.status in ('pending', 'running') and runs.kwargs ->> 'temporary' = 1),
      created_at, updated_at, state_updated_at, metadata, config, interrupts
    from threads_0001 as old order by created_at, thread_id`,
  `insert into thread_values (seq, "values")
    select threads.seq, old."values" from threads_0001 as old join threads using (thread_id)
    where old."values" is not null`,
  "drop table threads_0001",
] as const;

export const threads: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
  },
};
