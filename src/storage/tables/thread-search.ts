/**
 * Finding threads. The pairs of the metadata filter say how many threads match each, so the way is chosen before the
 * search: few matches are fetched and sorted, many are met soon enough on a walk along the order asked for. A filter that
 * only rows can answer (values, objects, long texts) looks at rows in portions and lets others have the event loop between.
 *
 * PostgreSQL has no pairs but an index on the metadata as JSON. Its planner does not know how many threads such a condition
 * leaves, so they are looked up first: few are sorted, and many are met soon enough on the walk.
 */
import { type RawBuilder, type SqlBool, sql } from "kysely";
import type { ThreadFilter, ThreadSearch, ThreadStatus } from "../../schemas/threads.ts";
import { asList, DRIVES, eachOf, hasMembers, jsonEquals, listed, numberOf, pairValue, passes } from "../expressions.ts";
import { type MetadataFilter, split } from "../filter.ts";
import { isShared } from "../locks.ts";
import type { ThreadRecord, Tx } from "../storage.ts";
import { valueEquals } from "./thread-values.ts";
import { COLUMNS, withValues } from "./threads.ts";

/** What to search for among what may be seen; `visible` null or absent: all. */
export type VisibleThreads = ThreadFilter & { readonly visible?: MetadataFilter | null };

/** What to search for. Limit 10, last updated first, when the caller does not say. */
export type ThreadQuery = VisibleThreads & Pick<ThreadSearch, "ids" | "limit" | "offset" | "sort_by" | "sort_order">;

export interface ThreadPage {
  readonly items: ThreadRecord[];
  /** How many match in all. */
  readonly total: number;
}

export interface SearchOptions {
  readonly totals: KnownTotals;
  /** False: the values of the items are null. */
  readonly values: boolean;
}

/** One page of the threads that match. */
export async function search(db: Tx, query: ThreadQuery, { totals, values }: SearchOptions): Promise<ThreadPage> {
  const plan = await planFor(db, query);
  if (plan === null) return { items: [], total: 0 };
  const page = { limit: query.limit ?? 10, offset: query.offset ?? 0 };
  if (plan.checks.length === 0) {
    const seqs = await candidates(db, plan, query, page);
    return { items: await load(db, seqs, values), total: await countCandidates(db, plan, totals) };
  }
  const seqs = await checked(db, await candidates(db, plan, query, null), plan.checks);
  return { items: await load(db, seqs.slice(page.offset, page.offset + page.limit), values), total: seqs.length };
}

/** How many threads match. */
export async function count(db: Tx, filter: VisibleThreads, totals: KnownTotals): Promise<number> {
  const plan = await planFor(db, filter);
  if (plan === null) return 0;
  if (plan.checks.length === 0) return countCandidates(db, plan, totals);
  return (await checked(db, await candidates(db, plan, {}, null), plan.checks)).length;
}

/* ------------------------------------------------------------------------------ the plan */

interface Pair {
  readonly pair_id: number;
  readonly threads: number;
  /** Another number whenever a thread with the pair came or went. */
  readonly changed: number;
}

interface Plan {
  /** Pairs of metadata that a match must have, the rarest first. */
  readonly pairs: readonly Pair[];
  /** The same as a condition that an index on metadata answers; null where pairs do. */
  readonly metadata: RawBuilder<SqlBool> | null;
  readonly ids: readonly string[] | null;
  readonly status: ThreadStatus | "not idle" | null;
  /** Conditions on rows. */
  readonly checks: readonly RawBuilder<SqlBool>[];
}

/** Up to this many matches are fetched and sorted. */
const SORTABLE = 5000;
/** Longest text that a pair holds whole. */
const PAIR_TEXT = 200;
/** Rows looked at in one go by filters that need rows. */
const PORTION = 200;

/** Null when nothing can match. */
async function planFor(db: Tx, { metadata, values, status, ids, visible }: ThreadQuery): Promise<Plan | null> {
  const hidden = visible == null ? { equal: [], rest: null } : split(visible);
  const wanted: Record<string, unknown> = { ...metadata };
  // What must be equal is found by the same indexes. It is looked at beside what was asked for, never in its place.
  for (const [key, value] of hidden.equal) {
    if (Object.hasOwn(wanted, key) && wanted[key] !== value) return null;
    wanted[key] = value;
  }
  const indexed = isShared(db);
  const pairs = indexed ? [] : await pairsOf(db, wanted);
  if (pairs === null) return null;
  const members = Object.entries(wanted);
  const unsure = members.filter(([, value]) => (indexed ? !isScalar(value) : !isWhole(value)));
  const scalars = Object.fromEntries(members.filter(([, value]) => isScalar(value)));
  return {
    pairs,
    metadata: indexed && Object.keys(scalars).length > 0 ? await byMetadata(db, scalars) : null,
    ids: ids ?? null,
    status: status ?? null,
    checks: [
      ...(hidden.rest === null ? [] : [passes(sql.ref("t.metadata"), hidden.rest)]),
      ...unsure.map(([key, value]) => jsonEquals(sql.ref("t.metadata"), key, value)),
      ...Object.entries(values ?? {}).flatMap(([key, value]) => (value === undefined ? [] : [valueEquals(key, value)])),
    ],
  };
}

async function byMetadata(db: Tx, scalars: Readonly<Record<string, unknown>>): Promise<RawBuilder<SqlBool>> {
  const having = hasMembers(sql.ref("t.metadata"), scalars);
  const { rows } = await sql<{ seq: number }>`select t.seq from threads as t where t.temporary = 0 and ${having}
    limit ${SORTABLE + 1}`.execute(db);
  return rows.length > SORTABLE
    ? having
    : sql<SqlBool>`t.seq = any (${`{${rows.map(({ seq }) => seq).join()}}`}::bigint[])`;
}

/** The pairs of a filter, the rarest first; null when one is nowhere. */
async function pairsOf(db: Tx, wanted: Readonly<Record<string, unknown>>): Promise<Pair[] | null> {
  const { rows } = await sql<Pair | { pair_id: null }>`
    select pair.pair_id, pair.threads, pair.changed from json_each(${JSON.stringify(wanted)}) as member
    left join metadata_pairs as pair on pair.key = member.key and pair.value = ${pairValue("member")}`.execute(db);
  const pairs: Pair[] = [];
  for (const row of rows) {
    if (row.pair_id === null) return null;
    pairs.push(row);
  }
  return pairs.sort((a, b) => a.threads - b.threads);
}

const isScalar = (value: unknown): boolean => typeof value !== "object" || value === null;

/** The pair says all there is to know of the value. */
function isWhole(value: unknown): boolean {
  if (typeof value === "string") return value.length <= PAIR_TEXT;
  return isScalar(value);
}

/** The rarest pair leaves few enough to fetch them all. */
const isFew = ([rarest]: readonly Pair[]): boolean => rarest !== undefined && rarest.threads <= SORTABLE;

const has = ({ pair_id }: Pair): RawBuilder<SqlBool> =>
  sql<SqlBool>`exists (select 1 from thread_pairs as other where other.pair_id = ${pair_id} and other.seq = t.seq)`;

/**
 * `from … where …` of the threads that match but for the checks; `driven` by the rarest pair or by the threads' own order.
 * The status is a literal: an index with a condition serves only a query that shows the condition.
 */
function source({ pairs, metadata, ids, status }: Plan, driven: boolean): RawBuilder<unknown> {
  const [rarest, ...others] = pairs;
  const byPair = driven && rarest !== undefined;
  const conditions = [
    ...(byPair ? [sql`driver.pair_id = ${rarest.pair_id}`] : [sql`t.temporary = 0`]),
    ...(byPair ? others : pairs).map(has),
    ...(metadata === null ? [] : [metadata]),
    ...(ids === null ? [] : [sql`t.thread_id in ${listed(asList(ids))}`]),
    ...(status === null ? [] : [status === "not idle" ? sql`t.status <> 'idle'` : sql`t.status = ${sql.lit(status)}`]),
  ];
  const tables = byPair ? sql`thread_pairs as driver cross join threads as t on t.seq = driver.seq` : sql`threads as t`;
  return sql`from ${tables} where ${sql.join(conditions, sql` and `)}`;
}

/** Threads that match but for the checks, in order. */
async function candidates(
  db: Tx,
  plan: Plan,
  { sort_by, sort_order }: Pick<ThreadQuery, "sort_by" | "sort_order">,
  page: { readonly limit: number; readonly offset: number } | null,
): Promise<number[]> {
  const driven = plan.ids === null && (page === null || isFew(plan.pairs));
  const order = sql.raw(sort_order ?? "desc");
  const { rows } = await sql<{ seq: number }>`select t.seq ${source(plan, driven)}
    order by ${sql.ref(`t.${sort_by ?? "updated_at"}`)} ${order}, t.seq ${order}
    ${page === null ? sql`` : sql`limit ${page.limit} offset ${page.offset}`}`.execute(db);
  return rows.map(({ seq }) => seq);
}

/** The counters know, unless several conditions have to meet. */
async function countCandidates(db: Tx, plan: Plan, totals: KnownTotals): Promise<number> {
  const { pairs, ids, status } = plan;
  if (ids !== null || isShared(db)) return countRows(db, source(plan, false));
  if (status === null) return countOfPairs(db, pairs, totals);
  if (status !== "idle") return countRows(db, source(plan, isFew(pairs)));
  // Most threads are idle: the others are fewer to look at.
  const others = await countRows(db, source({ ...plan, status: "not idle" }, isFew(pairs)));
  return (await countOfPairs(db, pairs, totals)) - others;
}

async function countOfPairs(db: Tx, pairs: readonly Pair[], totals: KnownTotals): Promise<number> {
  if (pairs.length < 2) return pairs[0]?.threads ?? countAll(db);
  return totals.get(pairs) ?? totals.set(pairs, await countRows(db, intersection(pairs)));
}

/**
 * How many threads have several pairs at once. Where each of the pairs is frequent that takes a while, and who pages or polls
 * asks again and again. A total holds until a thread with the rarest of the pairs comes or goes.
 */
export class KnownTotals {
  static readonly #kept = 1000;
  readonly #totals = new Map<string, { readonly changed: number; readonly total: number }>();

  get(pairs: readonly Pair[]): number | undefined {
    const known = this.#totals.get(keyOf(pairs));
    return known?.changed === pairs[0]?.changed ? known?.total : undefined;
  }

  set(pairs: readonly Pair[], total: number): number {
    if (this.#totals.size >= KnownTotals.#kept) this.#totals.clear();
    this.#totals.set(keyOf(pairs), { changed: pairs[0]?.changed ?? 0, total });
    return total;
  }
}

const keyOf = (pairs: readonly Pair[]): string =>
  pairs
    .map(({ pair_id }) => pair_id)
    .sort((a, b) => a - b)
    .join();

async function countRows(db: Tx, from: RawBuilder<unknown>): Promise<number> {
  const { rows } = await sql<{ total: number }>`select count(*) as total ${from}`.execute(db);
  return Number(rows[0]?.total);
}

/** Pairs list no temporary thread, so these need no look at the threads. */
const intersection = ([rarest, ...others]: readonly Pair[]): RawBuilder<unknown> =>
  sql`from thread_pairs as t where t.pair_id = ${rarest?.pair_id} and ${sql.join(others.map(has), sql` and `)}`;

async function countAll(db: Tx): Promise<number> {
  const row = await db.selectFrom("metadata_pairs").select("threads").where("pair_id", "=", 0).executeTakeFirst();
  return row?.threads ?? 0;
}

/* ---------------------------------------------------------------------------------- rows */

/** Those of the threads that pass, in the same order. */
async function checked(db: Tx, seqs: readonly number[], checks: Plan["checks"]): Promise<number[]> {
  const passed: number[] = [];
  for (let start = 0; start < seqs.length; start += PORTION) {
    if (start > 0) await nextTurn();
    const portion = asList(seqs.slice(start, start + PORTION));
    const { rows } = await sql<{ seq: number }>`select t.seq from ${eachOf(portion, "wanted")}
      ${DRIVES} threads as t on t.seq = ${numberOf("wanted.value")} left join thread_values as v on v.seq = t.seq
      where ${sql.join(checks, sql` and `)} order by wanted.key`.execute(db);
    passed.push(...rows.map(({ seq }) => seq));
  }
  return passed;
}

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

type Row = Parameters<typeof withValues>[1][number];

async function load(db: Tx, seqs: readonly number[], values: boolean): Promise<ThreadRecord[]> {
  if (seqs.length === 0) return [];
  const columns = sql.join(COLUMNS.map((column) => sql.ref(`t.${column}`)));
  const shown = values ? sql`v."values", v.lists` : sql`null as "values", null as lists`;
  const { rows } = await sql<Row>`select t.seq, ${columns}, ${shown}
    from ${eachOf(asList(seqs), "wanted")} ${DRIVES} threads as t on t.seq = ${numberOf("wanted.value")}
    ${values ? sql`left join thread_values as v on v.seq = t.seq` : sql``} order by wanted.key`.execute(db);
  return withValues(db, rows);
}
