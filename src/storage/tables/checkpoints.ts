/**
 * What LangGraph's saver keeps. A channel's value is stored once per version, so a long thread does not store its history
 * again at each step: a checkpoint names the versions (`blob_versions`), and reading one collects their values.
 *
 * Checkpoints are in the order in which they were written. Their ids are times by the clocks of the machines that made them: where one is
 * older than what its namespace or the root has, a new era of the thread begins, and what is newest is the newest id of the last era.
 */
import { type RawBuilder, type Selectable, type SelectQueryBuilder, sql } from "kysely";
import type {
  BlobRef,
  ChannelBlob,
  CheckpointKey,
  CheckpointQuery,
  CheckpointRow,
  StoredCheckpoint,
  WriteRow,
} from "../../executor/protocol.ts";
import type { Database } from "../database.ts";
import {
  asList,
  DRIVES,
  eachOf,
  integer,
  jsonEqualsAll,
  listed,
  listedPairs,
  numberAt,
  perDialect,
  text,
} from "../expressions.ts";
import { isShared } from "../locks.ts";
import { insertRows, prepared } from "../prepared.ts";
import type { Tx } from "../storage.ts";
import { together } from "../together.ts";

type Row = Omit<Selectable<Database["checkpoints"]>, "run_id" | "era">;
type PendingRow = Omit<WriteRow, "value"> & { at: number; type: string; value: Uint8Array | string };

const COLUMNS = [
  "thread_id",
  "checkpoint_ns",
  "checkpoint_id",
  "parent_checkpoint_id",
  "type",
  "blob_versions",
  "metadata",
  "checkpoint",
] as const;

/** The part of an id that is a time: within one tick ids of several namespaces are in no order. */
const TIME_LENGTH = sql.lit("01234567-0123-6012".length);

/**
 * The era of a checkpoint that is written now: the thread's last, or the next where that has a newer id, in its own namespace or the
 * root's. Those of a subgraph are compared with the root's, too (`prune`, and LangGraph when it replays): a subgraph begins where the root stands.
 */
const nextEra = ({ thread_id, checkpoint_ns, checkpoint_id }: CheckpointKey) => {
  const own = sql`checkpoint_id`;
  const root = sql`substr(checkpoint_id, 1, ${TIME_LENGTH})`;
  // Each is a look-up at the end of an index, whatever PostgreSQL thinks of the table.
  const inFirst = (what: RawBuilder<unknown>, ns: RawBuilder<unknown>) =>
    sql`${text(checkpoint_id)} < (select ${what} from checkpoints where thread_id = ${thread_id} and checkpoint_ns = ${ns}
      order by checkpoint_id desc limit 1)`;
  const inLast = (what: RawBuilder<unknown>, ns: RawBuilder<unknown>) =>
    sql`(last.era, ${text(checkpoint_id)}) < (select era, ${what} from checkpoints where thread_id = ${thread_id}
      and checkpoint_ns = ${ns} and era > 0 order by era desc, checkpoint_id desc limit 1)`;
  const isOlder = (than: typeof inFirst) =>
    sql`${than(own, text(checkpoint_ns))} or (${text(checkpoint_ns)} <> '' and ${than(root, sql`''`)})`;
  return sql<number>`(select last.era +
      case when case last.era when 0 then ${isOlder(inFirst)} else ${isOlder(inLast)} end then 1 else 0 end
    from (select coalesce((select era from checkpoints where thread_id = ${thread_id} and era > 0
      order by era desc limit 1), 0) as era) as last)`;
};

/** One that is there keeps its place. */
const putRow = prepared<Row & { run_id: string | null }>((db, slots) =>
  db
    .insertInto("checkpoints")
    .values({
      thread_id: slots.thread_id,
      checkpoint_ns: slots.checkpoint_ns,
      checkpoint_id: slots.checkpoint_id,
      parent_checkpoint_id: slots.parent_checkpoint_id,
      run_id: slots.run_id,
      era: nextEra(slots),
      type: slots.type,
      blob_versions: slots.blob_versions,
      metadata: slots.metadata,
      checkpoint: slots.checkpoint,
    })
    .onConflict((conflict) =>
      conflict.columns(["thread_id", "checkpoint_ns", "checkpoint_id"]).doUpdateSet((eb) => ({
        parent_checkpoint_id: eb.ref("excluded.parent_checkpoint_id"),
        run_id: eb.ref("excluded.run_id"),
        type: eb.ref("excluded.type"),
        blob_versions: eb.ref("excluded.blob_versions"),
        metadata: eb.ref("excluded.metadata"),
        checkpoint: eb.ref("excluded.checkpoint"),
      })),
    ),
);

const BLOB_COLUMNS = ["thread_id", "checkpoint_ns", "channel", "version", "first", "run_id", "type", "value"] as const;

const putBlobs = insertRows("checkpoint_blobs", BLOB_COLUMNS, (insert) =>
  insert.onConflict((conflict) =>
    conflict.columns(["thread_id", "checkpoint_ns", "channel", "version", "first"]).doNothing(),
  ),
);

/** A later part of a list. Two cannot stand in one place: whoever adds to a list must have its end. */
const addParts = insertRows("checkpoint_blobs", BLOB_COLUMNS);

/** Writes a checkpoint, replacing one of the same key, and the values that are new with it. */
export async function put(
  tx: Tx,
  run_id: string | null,
  row: CheckpointRow,
  blobs: readonly ChannelBlob[],
): Promise<void> {
  const { thread_id, checkpoint_ns } = row;
  const [type, checkpoint] = row.checkpoint;
  await putRow(tx, { ...row, type, checkpoint, run_id, blob_versions: JSON.stringify(row.blob_versions) });
  const rows = blobs.map(({ channel, version, first, value: [type, value] }) => {
    return { thread_id, checkpoint_ns, channel, version, first, run_id, type, value };
  });
  const wholes = rows.filter(({ first }) => first === 0);
  if (wholes.length > 0) await putBlobs(tx, wholes);
  if (wholes.length < rows.length)
    await addParts(
      tx,
      rows.filter(({ first }) => first > 0),
    );
}

const WRITE_KEY = ["thread_id", "checkpoint_ns", "checkpoint_id", "task_id", "idx"] as const;
const WRITE_COLUMNS = [...WRITE_KEY, "task_path", "run_id", "channel", "type", "value"] as const;

const keepWrites = insertRows("checkpoint_writes", WRITE_COLUMNS, (insert) =>
  insert.onConflict((conflict) => conflict.columns(WRITE_KEY).doNothing()),
);

const replaceWrites = insertRows("checkpoint_writes", WRITE_COLUMNS, (insert) =>
  insert.onConflict((conflict) =>
    conflict.columns(WRITE_KEY).doUpdateSet((eb) => ({
      task_path: eb.ref("excluded.task_path"),
      run_id: eb.ref("excluded.run_id"),
      channel: eb.ref("excluded.channel"),
      type: eb.ref("excluded.type"),
      value: eb.ref("excluded.value"),
    })),
  ),
);

const WRITE_NAMES = sql.raw(WRITE_COLUMNS.map((column) => `w."${column}"`).join(", "));
const PLAIN_NAMES = sql.raw(WRITE_COLUMNS.map((column) => `"${column}"`).join(", "));

/** What another run wrote in these places. Only the first time: later it is the run's own writes that are replaced. */
const keepReplaced = prepared<{ keys: string; run_id: string }>((db, { keys, run_id }) => ({
  compile: () =>
    sql<never>`insert into replaced_writes (${PLAIN_NAMES}, replaced_by)
      select ${WRITE_NAMES}, ${text(run_id)} from ${eachOf(keys, "wanted")} ${DRIVES} checkpoint_writes as w
      on w.thread_id = wanted.value ->> 0 and w.checkpoint_ns = wanted.value ->> 1
      and w.checkpoint_id = wanted.value ->> 2 and w.task_id = wanted.value ->> 3 and w.idx = ${numberAt("wanted.value", 4)}
      where w.run_id is distinct from ${run_id}
      on conflict do nothing`.compile(db),
}));

/** Adds pending writes of tasks. A write of the same task and index stays (`keep_existing`) or is replaced. */
export async function putWrites(
  tx: Tx,
  run_id: string | null,
  { thread_id, checkpoint_ns, checkpoint_id }: CheckpointKey,
  writes: readonly WriteRow[],
  keep_existing: boolean,
): Promise<void> {
  const rows = writes.map(({ task_id, idx, task_path, channel, value: [type, value] }) => {
    return { thread_id, checkpoint_ns, checkpoint_id, task_id, idx, task_path, run_id, channel, type, value };
  });
  if (keep_existing) {
    await keepWrites(tx, rows);
    return;
  }
  if (run_id !== null) {
    const keys = rows.map((row) => [row.thread_id, row.checkpoint_ns, row.checkpoint_id, row.task_id, row.idx]);
    await keepReplaced(tx, { keys: asList(keys), run_id });
  }
  // PostgreSQL replaces no row twice in one statement; of two writes in one place the last stays.
  const last = isShared(tx) ? [...new Map(rows.map((row) => [`${row.task_id} ${row.idx}`, row])).values()] : rows;
  await replaceWrites(tx, last);
}

const findExact = prepared<CheckpointKey, Row>((db, slots) =>
  db
    .selectFrom("checkpoints")
    .select(COLUMNS)
    .where("thread_id", "=", slots.thread_id)
    .where("checkpoint_ns", "=", slots.checkpoint_ns)
    .where("checkpoint_id", "=", slots.checkpoint_id),
);

type Namespace = Pick<CheckpointKey, "thread_id" | "checkpoint_ns">;

/**
 * Id of the namespace's latest checkpoint: of its last era, or of its only one. Two look-ups, each at the end of an index; conditions that are
 * no part of one, as that of an era is, make PostgreSQL sort all of a namespace.
 */
const latestId = ({ thread_id, checkpoint_ns }: Namespace) => {
  const newest = (isIn: RawBuilder<unknown>, order: RawBuilder<unknown>) =>
    sql`(select checkpoint_id from checkpoints where thread_id = ${thread_id} and checkpoint_ns = ${checkpoint_ns} ${isIn}
      order by ${order} limit 1)`;
  return sql<string | null>`coalesce(${newest(sql`and era > 0`, sql`era desc, checkpoint_id desc`)},
    ${newest(sql``, sql`checkpoint_id desc`)})`;
};

const findLatest = prepared<Namespace, Row>((db, slots) =>
  db
    .selectFrom("checkpoints")
    .select(COLUMNS)
    .where("thread_id", "=", slots.thread_id)
    .where("checkpoint_ns", "=", slots.checkpoint_ns)
    .where("checkpoint_id", "=", latestId(slots)),
);

/** The checkpoint of this id, or the latest of its thread and namespace (the root's when none is named); null when there is none. */
export async function get(db: Tx, query: CheckpointQuery): Promise<StoredCheckpoint | null> {
  const { thread_id, checkpoint_ns = "", checkpoint_id } = query;
  if (thread_id === undefined) return null;
  const found = await (checkpoint_id === undefined
    ? findLatest(db, { thread_id, checkpoint_ns })
    : findExact(db, { thread_id, checkpoint_ns, checkpoint_id }));
  const [stored] = await complete(db, found.rows);
  return stored ?? null;
}

const findKey = prepared<CheckpointKey, { checkpoint_id: string }>((db, slots) =>
  db
    .selectFrom("checkpoints")
    .select("checkpoint_id")
    .where("thread_id", "=", slots.thread_id)
    .where("checkpoint_ns", "=", slots.checkpoint_ns)
    .where("checkpoint_id", "=", slots.checkpoint_id),
);

/** Whether there is this checkpoint. */
export async function exists(db: Tx, key: CheckpointKey): Promise<boolean> {
  return (await findKey(db, key)).rows.length > 0;
}

const hasEras = prepared<Pick<CheckpointKey, "thread_id">, { era: number }>((db, slots) =>
  db
    .selectFrom("checkpoints")
    .select("era")
    .where("thread_id", "=", slots.thread_id)
    .where("era", ">", sql.lit(0))
    .limit(sql.lit(1)),
);

/** Checkpoints that match, newest first: all threads and namespaces unless the query names them; `before` is exclusive. */
export async function list(db: Tx, query: CheckpointQuery): Promise<StoredCheckpoint[]> {
  const { thread_id } = query;
  const inOne = () => byId(matching(db, query)).execute();
  if (thread_id === undefined) return complete(db, await inOne());
  const [eras, rows] = await together(db, [() => hasEras(db, { thread_id }), inOne]);
  return complete(db, eras.rows.length > 0 ? await listOfEras(db, { ...query, thread_id }) : rows);
}

/** The later eras first, by their index; then the first one. */
async function listOfEras(db: Tx, query: CheckpointQuery & { readonly thread_id: string }): Promise<Row[]> {
  const { before, ...all } = query;
  const { limit } = query;
  const era = before === undefined ? undefined : await eraOf(db, query, before);
  // A `before` that is no checkpoint of the thread is a time in each era; else it is a place in one.
  const inEach = era === undefined ? query : all;
  let later = matching(db, inEach).where("era", ">", sql.lit(0)).orderBy("era", "desc");
  if (era !== undefined) later = later.where(sql<boolean>`(era, checkpoint_id) < (${integer(era)}, ${text(before)})`);
  const rows = era === 0 ? [] : await byId(later).execute();
  if (rows.length === limit) return rows;
  const left = limit === undefined ? {} : { limit: limit - rows.length };
  const first = matching(db, { ...(era === 0 ? query : inEach), ...left }).where("era", "=", sql.lit(0));
  return [...rows, ...(await byId(first).execute())];
}

const byId = <O>(rows: SelectQueryBuilder<Database, "checkpoints", O>) => rows.orderBy("checkpoint_id", "desc");

function matching(db: Tx, { thread_id, checkpoint_ns, checkpoint_id, before, limit, filter }: CheckpointQuery) {
  let rows = db.selectFrom("checkpoints").select(COLUMNS);
  if (thread_id !== undefined) rows = rows.where("thread_id", "=", thread_id);
  if (checkpoint_ns !== undefined) rows = rows.where("checkpoint_ns", "=", checkpoint_ns);
  if (checkpoint_id !== undefined) rows = rows.where("checkpoint_id", "=", checkpoint_id);
  if (before !== undefined) rows = rows.where("checkpoint_id", "<", before);
  if (filter !== undefined) rows = rows.where((eb) => eb.and(jsonEqualsAll(eb.ref("metadata"), filter)));
  if (limit !== undefined) rows = rows.limit(limit);
  return rows;
}

/** The era of the thread's checkpoint with this id, which may be another namespace's; undefined when there is none. */
async function eraOf(
  db: Tx,
  { thread_id, checkpoint_ns = "" }: Pick<CheckpointQuery, "thread_id" | "checkpoint_ns">,
  checkpoint_id: string,
): Promise<number | undefined> {
  const found = db
    .selectFrom("checkpoints")
    .select("era")
    .where("thread_id", "=", thread_id ?? "")
    .where("checkpoint_id", "=", checkpoint_id)
    .limit(1);
  // By the key, before all namespaces are looked through.
  const [near] = await found.where("checkpoint_ns", "in", [checkpoint_ns, ""]).execute();
  return (near ?? (await found.executeTakeFirst()))?.era;
}

const latestIdOf = prepared<Namespace, { checkpoint_id: string | null }>((db, slots) => ({
  compile: () => sql<never>`select ${latestId(slots)} as checkpoint_id`.compile(db),
}));

/** Id of the latest checkpoint of the thread's namespace (the root's when none is named), or null. */
export async function latestOf(db: Tx, thread_id: string, checkpoint_ns = ""): Promise<string | null> {
  const [row] = (await latestIdOf(db, { thread_id, checkpoint_ns })).rows;
  return row?.checkpoint_id ?? null;
}

/** Whether the thread has checkpoints that are read together with their ancestors (LangGraph's delta channels). */
export async function hasDeltas(db: Tx, thread_id: string): Promise<boolean> {
  const row = await db
    .selectFrom("checkpoints")
    .select("checkpoint_id")
    .where("thread_id", "=", thread_id)
    .where("metadata", "like", '%"counters_since_delta_snapshot"%')
    .limit(1)
    .executeTakeFirst();
  return row !== undefined;
}

/** Whether the run has pending writes on this root checkpoint. */
export async function hasWritten(db: Tx, thread_id: string, checkpoint_id: string, run_id: string): Promise<boolean> {
  const row = await db
    .selectFrom("checkpoint_writes")
    .select("idx")
    .where("thread_id", "=", thread_id)
    .where("checkpoint_ns", "=", "")
    .where("checkpoint_id", "=", checkpoint_id)
    .where("run_id", "=", run_id)
    .limit(1)
    .executeTakeFirst();
  return row !== undefined;
}

const deleteOfThread = (["checkpoints", "checkpoint_blobs", "checkpoint_writes", "replaced_writes"] as const).map(
  (table) =>
    prepared<{ thread_id: string }>((db, slots) => db.deleteFrom(table).where("thread_id", "=", slots.thread_id)),
);

/** Deletes all checkpoints of a thread, its values and pending writes. */
export async function removeThread(tx: Tx, thread_id: string): Promise<void> {
  await together(
    tx,
    deleteOfThread.map((remove) => () => remove(tx, { thread_id })),
  );
}

/** Gives a thread that has no checkpoints those of another, with their values and pending writes. */
export async function copyThread(tx: Tx, from: string, to: string): Promise<void> {
  const own = (columns: readonly string[]) =>
    sql.join(columns.filter((column) => column !== "thread_id").map((column) => sql.ref(column)));
  const checkpointColumns = own([...COLUMNS, "run_id", "era"]);
  await sql`insert into checkpoints (thread_id, ${checkpointColumns})
    select ${to}, ${checkpointColumns} from checkpoints where thread_id = ${from}`.execute(tx);
  // A run may be at work: on PostgreSQL each statement sees more of it, and what no checkpoint here names must not come along.
  const { named, reads } = namedIn("c");
  const blobColumns = own(BLOB_COLUMNS);
  await sql`insert into checkpoint_blobs (thread_id, ${blobColumns})
    select ${to}, ${blobColumns} from checkpoint_blobs where thread_id = ${from}
    and (checkpoint_ns, channel, version, "first") in (
      select b.checkpoint_ns, b.channel, b.version, b."first" from (
        select c.checkpoint_ns, named.key as channel, named.value ->> 0 as version, max(${reads}) as kept
        from ${named} where c.thread_id = ${to} group by 1, 2, 3) as v
      join checkpoint_blobs as b on b.thread_id = ${from} and b.checkpoint_ns = v.checkpoint_ns
        and b.channel = v.channel and b.version = v.version
      where b."first" < v.kept)`.execute(tx);
  const writeColumns = own(WRITE_COLUMNS);
  await sql`insert into checkpoint_writes (thread_id, ${writeColumns})
    select ${to}, ${writeColumns} from checkpoint_writes where thread_id = ${from} and (checkpoint_ns, checkpoint_id) in
    (select checkpoint_ns, checkpoint_id from checkpoints where thread_id = ${to})`.execute(tx);
}

interface Node extends Pick<CheckpointKey, "checkpoint_ns" | "checkpoint_id"> {
  readonly parent_checkpoint_id: string | null;
  readonly metadata: string;
}

/**
 * Cuts a thread's history down to its latest state, at most `limit` rows of a kind in one call. True when that was all.
 * The state stays readable however far it got.
 */
export async function prune(tx: Tx, thread_id: string, limit: number): Promise<boolean> {
  const kept = await latestState(tx, thread_id);
  if (kept.length === 0) return true;
  const keys = asList(kept.map((node) => [node.checkpoint_ns, node.checkpoint_id]));
  const old = await tx
    .selectFrom("checkpoints")
    .select(["checkpoint_ns", "checkpoint_id"])
    .where("thread_id", "=", thread_id)
    .where(sql<boolean>`(checkpoint_ns, checkpoint_id) not in ${listedPairs(keys)}`)
    .limit(limit)
    .execute();
  if (old.length > 0) {
    const gone = asList(old.map((key) => [key.checkpoint_ns, key.checkpoint_id]));
    for (const table of ["replaced_writes", "checkpoint_writes", "checkpoints"] as const) {
      await tx
        .deleteFrom(table)
        .where("thread_id", "=", thread_id)
        .where(sql<boolean>`(checkpoint_ns, checkpoint_id) in ${listedPairs(gone)}`)
        .execute();
    }
  }
  if (old.length === limit) return false;
  await cutParents(tx, thread_id, kept);
  return (await removeUnnamedBlobs(tx, thread_id, limit)) < limit;
}

/**
 * What the latest state needs: the latest root checkpoint; the latest of each subgraph that has run since, or that keeps its
 * state between runs (its namespace names no task); and as many ancestors of these as their delta channels go back.
 */
async function latestState(tx: Tx, thread_id: string): Promise<Node[]> {
  const newest = await tx
    .selectFrom("checkpoints")
    .select((eb) => ["checkpoint_ns", "era", eb.fn.max("checkpoint_id").as("checkpoint_id")])
    .where("thread_id", "=", thread_id)
    .groupBy(["checkpoint_ns", "era"])
    .orderBy("era")
    .execute();
  const tips = new Map(newest.map((tip) => [tip.checkpoint_ns, tip]));
  const root = tips.get("");
  const nodes: Node[] = [];
  for (const tip of tips.values()) {
    const { checkpoint_ns, checkpoint_id } = tip;
    if (checkpoint_ns.includes(":") && root !== undefined && isOlder(tip, root)) continue;
    nodes.push(...(await withAncestors(tx, { thread_id, checkpoint_ns, checkpoint_id })));
  }
  return nodes;
}

type Place = Pick<Selectable<Database["checkpoints"]>, "era" | "checkpoint_id">;

const isOlder = (a: Place, b: Place): boolean => (a.era === b.era ? a.checkpoint_id < b.checkpoint_id : a.era < b.era);

async function withAncestors(tx: Tx, tip: CheckpointKey): Promise<Node[]> {
  const nodes: Node[] = [];
  let next: string | null = tip.checkpoint_id;
  for (let depth = 0; next !== null && depth >= 0; depth -= 1) {
    const node: Node | undefined = (await findExact(tx, { ...tip, checkpoint_id: next })).rows[0];
    if (node === undefined) break;
    if (nodes.length === 0) depth = deltaDepth(node.metadata);
    nodes.push(node);
    next = node.parent_checkpoint_id;
  }
  return nodes;
}

/** How many checkpoints back a delta channel's last whole value may be (LangGraph's `counters_since_delta_snapshot`). */
function deltaDepth(metadata: string): number {
  const { counters_since_delta_snapshot: counters } = JSON.parse(metadata) as {
    readonly counters_since_delta_snapshot?: Readonly<Record<string, readonly [number, number]>>;
  };
  const steps = Object.values(counters ?? {}).map(([, supersteps]) => supersteps + 1);
  return Math.max(0, ...steps);
}

/** Nobody should follow a parent that is gone. */
async function cutParents(tx: Tx, thread_id: string, kept: readonly Node[]): Promise<void> {
  const ids = new Set(kept.map((node) => node.checkpoint_id));
  const orphans = kept.filter((node) => node.parent_checkpoint_id !== null && !ids.has(node.parent_checkpoint_id));
  for (const { checkpoint_ns, checkpoint_id } of orphans) {
    await tx
      .updateTable("checkpoints")
      .set({ parent_checkpoint_id: null })
      .where("thread_id", "=", thread_id)
      .where("checkpoint_ns", "=", checkpoint_ns)
      .where("checkpoint_id", "=", checkpoint_id)
      .execute();
  }
}

/** True of a value, or a part of a list, that no checkpoint of the thread refers to. */
const isUnnamed = (thread_id: string) => {
  const { named, reads } = namedIn("kept");
  return sql<boolean>`not exists (select 1 from ${named}
  where kept.thread_id = ${thread_id} and kept.checkpoint_ns = checkpoint_blobs.checkpoint_ns
  and named.key = channel and named.value ->> 0 = version and ${reads} > "first")`;
};

/** Checkpoints, each with what it names: a value's channel and version, and how far it reads where that is a list in parts. */
const namedIn = (alias: "kept" | "c") => {
  const table = sql.ref(alias);
  return {
    named: perDialect(
      sql`checkpoints as ${table}, json_each(${table}.blob_versions) as named`,
      sql`checkpoints as ${table}, jsonb_each(cast(${table}.blob_versions as jsonb)) as named`,
    ),
    reads: perDialect(sql`max(named.value ->> 1, 1)`, sql`greatest(cast(named.value ->> 1 as bigint), 1)`),
  };
};

async function removeUnnamedBlobs(tx: Tx, thread_id: string, limit: number): Promise<number> {
  const unnamed = await tx
    .selectFrom("checkpoint_blobs")
    .select(["thread_id", "checkpoint_ns", "channel", "version", "first"])
    .where("thread_id", "=", thread_id)
    .where(isUnnamed(thread_id))
    .limit(limit)
    .execute();
  for (const key of unnamed) await removeBlob(tx, key);
  return unnamed.length;
}

type BlobKey = Pick<
  Selectable<Database["checkpoint_blobs"]>,
  "thread_id" | "checkpoint_ns" | "channel" | "version" | "first"
>;

const removeBlob = prepared<BlobKey>((db, slots) =>
  db
    .deleteFrom("checkpoint_blobs")
    .where("thread_id", "=", slots.thread_id)
    .where("checkpoint_ns", "=", slots.checkpoint_ns)
    .where("channel", "=", slots.channel)
    .where("version", "=", slots.version)
    .where("first", "=", slots.first),
);

/** How many checkpoints a thread has, counted up to `limit`. */
export async function countUpTo(db: Tx, thread_id: string, limit: number): Promise<number> {
  const some = db.selectFrom("checkpoints").select("checkpoint_id").where("thread_id", "=", thread_id).limit(limit);
  const row = await db
    .selectFrom(some.as("some"))
    .select((eb) => eb.fn.countAll<number>().as("total"))
    .executeTakeFirstOrThrow();
  return Number(row.total);
}

/** Rollback: deletes what these runs wrote, and puts back what they overwrote. A value stays when a checkpoint that remains refers to it. */
export async function removeForRuns(tx: Tx, thread_id: string, run_ids: readonly string[]): Promise<void> {
  const runs = asList(run_ids);
  await tx
    .deleteFrom("checkpoint_writes")
    .where("thread_id", "=", thread_id)
    .where("run_id", "in", listed(runs))
    .execute();
  await restoreReplaced(tx, thread_id, runs);
  // Others may have written to checkpoints of these runs: an update of the state does.
  await sql`delete from checkpoint_writes where thread_id = ${thread_id} and (checkpoint_ns, checkpoint_id) in
    (select checkpoint_ns, checkpoint_id from checkpoints where thread_id = ${thread_id} and run_id in ${listed(runs)})`.execute(
    tx,
  );
  await removeNamedBy(tx, thread_id, runs);
  await tx.deleteFrom("checkpoints").where("thread_id", "=", thread_id).where("run_id", "in", listed(runs)).execute();
}

/**
 * Removes what only checkpoints of these runs name, whoever wrote it: of a run that went before, parts of a list are left that these
 * read, and who adds to the list next needs their place. To be called while the checkpoints are there.
 */
async function removeNamedBy(tx: Tx, thread_id: string, runs: string): Promise<void> {
  const { named, reads } = namedIn("c");
  const isGone = sql`c.run_id in ${listed(runs)}`;
  await sql`delete from checkpoint_blobs where (thread_id, checkpoint_ns, channel, version, "first") in (
    select b.thread_id, b.checkpoint_ns, b.channel, b.version, b."first" from (
      select c.checkpoint_ns, named.key as channel, named.value ->> 0 as version,
        max(case when ${isGone} then 1 else 0 end) as gone, max(case when ${isGone} then 0 else ${reads} end) as kept
      from ${named} where c.thread_id = ${thread_id} group by 1, 2, 3) as v
    join checkpoint_blobs as b on b.thread_id = ${thread_id} and b.checkpoint_ns = v.checkpoint_ns
      and b.channel = v.channel and b.version = v.version
    where v.gone = 1 and b."first" >= v.kept)`.execute(tx);
}

/** Puts back the writes that these runs replaced, unless a run that stays has replaced theirs: then they are what that one replaced. */
async function restoreReplaced(tx: Tx, thread_id: string, runs: string): Promise<void> {
  const gone = listed(runs);
  await sql`update replaced_writes as later
    set task_path = w.task_path, run_id = w.run_id, channel = w.channel, type = w.type, value = w.value
    from replaced_writes as w where later.thread_id = ${thread_id} and later.run_id in ${gone}
    and w.thread_id = later.thread_id and w.replaced_by = later.run_id and w.checkpoint_ns = later.checkpoint_ns
    and w.checkpoint_id = later.checkpoint_id and w.task_id = later.task_id and w.idx = later.idx`.execute(tx);
  await tx.deleteFrom("replaced_writes").where("thread_id", "=", thread_id).where("run_id", "in", gone).execute();
  await sql`insert into checkpoint_writes (${PLAIN_NAMES})
    select ${WRITE_NAMES} from replaced_writes as w where w.thread_id = ${thread_id} and w.replaced_by in ${gone}
    on conflict do nothing`.execute(tx);
  await tx.deleteFrom("replaced_writes").where("thread_id", "=", thread_id).where("replaced_by", "in", gone).execute();
}

/* ------------------------------------------------ from rows to checkpoints */

/** Adds values and pending writes to checkpoints: one query each, however many checkpoints there are. */
async function complete(db: Tx, rows: readonly Row[]): Promise<StoredCheckpoint[]> {
  if (rows.length === 0) return [];
  const versions = rows.map((row) => JSON.parse(row.blob_versions) as Record<string, BlobRef>);
  const [blobs, writes] = await together(db, [() => blobsOf(db, rows, versions), () => writesOf(db, rows)]);
  return rows.map(({ type, checkpoint, ...row }, index) => ({
    ...row,
    checkpoint: [type, checkpoint],
    blob_versions: versions[index] ?? {},
    blobs: blobs[index] ?? [],
    writes: writes[index] ?? [],
  }));
}

/**
 * The wanted keys drive the join (`cross join` keeps that order), so each value is one look-up by primary key; `at` is the
 * key's place in the list.
 */
const readBlobs = prepared<{ keys: string }, { at: number; first: number; type: string; value: Uint8Array | string }>(
  (db, { keys }) => ({
    compile: () =>
      sql<never>`select wanted.key as at, b."first", b.type, b.value
      from ${eachOf(keys, "wanted")} ${DRIVES} checkpoint_blobs as b
      on b.thread_id = wanted.value ->> 0 and b.checkpoint_ns = wanted.value ->> 1
      and b.channel = wanted.value ->> 2 and b.version = wanted.value ->> 3 and b."first" < ${numberAt("wanted.value", 4)}`.compile(
        db,
      ),
  }),
);

/** What a row wants of one channel: the parts of this version that begin before `end`. */
interface Wanted {
  readonly key: string;
  readonly channel: string;
  readonly version: string;
  readonly end: number;
}

/** The values each row names. Checkpoints in a row share most of them: each is read once, as far as the longest reads. */
async function blobsOf(
  db: Tx,
  rows: readonly CheckpointKey[],
  versions: readonly Readonly<Record<string, BlobRef>>[],
): Promise<ChannelBlob[][]> {
  const wanted = rows.map(({ thread_id, checkpoint_ns }, index) =>
    Object.entries(versions[index] ?? {}).map(([channel, [version, length]]): Wanted => {
      const key = JSON.stringify([thread_id, checkpoint_ns, channel, version]);
      return { key, channel, version, end: Math.max(length, 1) };
    }),
  );
  const longest = new Map<string, Wanted>();
  for (const want of wanted.flat()) if (want.end > (longest.get(want.key)?.end ?? 0)) longest.set(want.key, want);
  if (longest.size === 0) return [];
  const asked = [...longest.values()];
  const parts = new Map(asked.map(({ key }): [string, ChannelBlob[]] => [key, []]));
  const keys = `[${asked.map(({ key, end }) => `${key.slice(0, -1)},${end}]`).join()}]`;
  for (const { at, first, type, value } of (await readBlobs(db, { keys })).rows) {
    const { key, channel, version } = asked[at] as Wanted;
    parts.get(key)?.push({ channel, version, first, value: [type, value] });
  }
  for (const ofKey of parts.values()) ofKey.sort((a, b) => a.first - b.first);
  return wanted.map((ofRow) =>
    ofRow.flatMap(({ key, end }) => parts.get(key)?.filter(({ first }) => first < end) ?? []),
  );
}

const readWrites = prepared<{ keys: string }, PendingRow>((db, { keys }) => ({
  compile: () =>
    sql<never>`select wanted.key as at, w.task_id, w.task_path, w.idx, w.channel, w.type, w.value
      from ${eachOf(keys, "wanted")} ${DRIVES} checkpoint_writes as w
      on w.thread_id = wanted.value ->> 0 and w.checkpoint_ns = wanted.value ->> 1
      and w.checkpoint_id = wanted.value ->> 2`.compile(db),
}));

async function writesOf(db: Tx, rows: readonly CheckpointKey[]): Promise<WriteRow[][]> {
  const keys = asList(rows.map((row) => [row.thread_id, row.checkpoint_ns, row.checkpoint_id]));
  const writes: WriteRow[][] = rows.map(() => []);
  for (const { at, type, value, ...write } of (await readWrites(db, { keys })).rows) {
    writes[at]?.push({ ...write, value: [type, value] });
  }
  for (const ofRow of writes) ofRow.sort(inTaskOrder);
  return writes;
}

/** Sorted here: SQLite would copy the values into its sorter. */
const inTaskOrder = (a: WriteRow, b: WriteRow): number =>
  compare(a.task_path, b.task_path) || compare(a.task_id, b.task_id) || a.idx - b.idx;

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
