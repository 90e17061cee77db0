/** Long-term memory: JSON values under a namespace (a path of labels) and a key. Expired items are as good as gone. */
import { setImmediate } from "node:timers/promises";
import { type RawBuilder, type Selectable, type SqlBool, sql } from "kysely";
import type { Json, StoreOperation, StoreVector } from "../../executor/protocol.ts";
import type { Database } from "../database.ts";
import { elementAt, firstOf, integer, jsonFilter, lengthOf } from "../expressions.ts";
import { insertRows, prepared } from "../prepared.ts";
import type { Tx } from "../storage.ts";
import { asVector, cosineDistance } from "../vectors.ts";

type Row = Selectable<Database["store_items"]>;
type Operation<Op extends StoreOperation["op"]> = Extract<StoreOperation, { readonly op: Op }>;

export interface ItemRecord {
  readonly namespace: readonly string[];
  readonly key: string;
  readonly value: Json;
  readonly created_at: number;
  readonly updated_at: number;
  /** Minutes to live; null for ever. */
  readonly ttl: number | null;
}

export interface ItemKey {
  readonly namespace: readonly string[];
  readonly key: string;
}

export interface NewItem extends ItemKey {
  readonly value: Json;
  readonly ttl: number | null;
  readonly vectors: readonly StoreVector[];
  /** What made the vectors. */
  readonly embedder: string;
}

/** An item as a search found it. */
export interface Hit {
  readonly item: ItemRecord;
  /** Likeness to the query, at most 1; null in a search without one. */
  readonly score: number | null;
}

const MINUTE_MS = 60_000;

const expiryOf = (ttl: number | null, now: number): number | null =>
  ttl === null ? null : now + Math.ceil(ttl * MINUTE_MS);

const findItem = prepared<{ namespace: string; key: string }, Row>((db, slots) =>
  db.selectFrom("store_items").selectAll().where("namespace", "=", slots.namespace).where("key", "=", slots.key),
);

export async function get(db: Tx, { namespace, key }: ItemKey, now: number): Promise<ItemRecord | undefined> {
  const [row] = (await findItem(db, { namespace: JSON.stringify(namespace), key })).rows;
  return row === undefined || isOver(row, now) ? undefined : toRecord(row);
}

const upsert = insertRows(
  "store_items",
  ["namespace", "key", "created_at", "updated_at", "ttl", "expires_at", "value"],
  (insert) =>
    insert.onConflict((conflict) =>
      conflict.columns(["namespace", "key"]).doUpdateSet((eb) => ({
        // An item that is written again keeps the time of its creation, unless it was over.
        created_at: sql<number>`case when store_items.expires_at <= excluded.updated_at
          then excluded.created_at else store_items.created_at end`,
        updated_at: eb.ref("excluded.updated_at"),
        ttl: eb.ref("excluded.ttl"),
        expires_at: eb.ref("excluded.expires_at"),
        value: eb.ref("excluded.value"),
      })),
    ),
);
const insertVectors = insertRows("store_vectors", ["namespace", "key", "path", "embedder", "embedding"]);

/** Puts the item and its vectors in the place of whatever was under this key. */
export async function put(tx: Tx, item: NewItem, now: number): Promise<void> {
  const { key, value, ttl, embedder } = item;
  const namespace = JSON.stringify(item.namespace);
  const expires_at = expiryOf(ttl, now);
  await upsert(tx, [{ namespace, key, value, created_at: now, updated_at: now, ttl, expires_at }]);
  await deleteVectors(tx, { namespace, key });
  const vectors = item.vectors.map(({ path, vector }) => ({
    namespace,
    key,
    path,
    embedder,
    embedding: asVector(vector),
  }));
  await insertVectors(tx, vectors);
}

const deleteItem = prepared<{ namespace: string; key: string }>((db, slots) =>
  db.deleteFrom("store_items").where("namespace", "=", slots.namespace).where("key", "=", slots.key),
);
const deleteVectors = prepared<{ namespace: string; key: string }>((db, slots) =>
  db.deleteFrom("store_vectors").where("namespace", "=", slots.namespace).where("key", "=", slots.key),
);

export async function remove(tx: Tx, { namespace, key }: ItemKey): Promise<void> {
  const place = { namespace: JSON.stringify(namespace), key };
  await deleteItem(tx, place);
  await deleteVectors(tx, place);
}

const extend = prepared<{ namespace: string; key: string; now: number }>((db, slots) =>
  db
    .updateTable("store_items")
    .set({ expires_at: sql<number>`${integer(slots.now)} + ttl * ${sql.lit(MINUTE_MS)}` })
    .where("namespace", "=", slots.namespace)
    .where("key", "=", slots.key)
    // Not one that is over, nor one that was put again without a time to live.
    .where("expires_at", ">", slots.now),
);

/** Starts the time to live of these items again. */
export async function refresh(tx: Tx, items: readonly ItemKey[], now: number): Promise<void> {
  for (const { namespace, key } of items) await extend(tx, { namespace: JSON.stringify(namespace), key, now });
}

/* --------------------------------------------------------------------------------- search */

/** Items under the prefix, last updated first. */
export async function search(db: Tx, operation: Operation<"search">, now: number): Promise<Hit[]> {
  const rows = await candidates(db, operation, now)
    .selectAll()
    .orderBy("updated_at", "desc")
    .orderBy("namespace")
    .orderBy("key")
    .limit(operation.limit)
    .offset(operation.offset)
    .execute();
  return rows.map((row) => ({ item: toRecord(row), score: null }));
}

const candidates = (db: Tx, { prefix, filter }: Operation<"search">, now: number) =>
  db
    .selectFrom("store_items")
    .where(under(prefix))
    .where(isLive(now))
    .where((eb) =>
      eb.and(
        Object.entries(filter ?? {}).flatMap(([key, wanted]) => jsonFilter(eb.ref("store_items.value"), key, wanted)),
      ),
    );

/** Items compared with a query in one go, a few milliseconds; then others have their turn. */
const PAGE = 500;

interface Near {
  readonly namespace: string;
  readonly key: string;
  readonly distance: number;
}

/**
 * Items under the prefix, the likest first: an item is as like as its likest vector. Those that this embedder made no
 * vector of are not found. Reads in pages, so it is not for use in a transaction.
 */
export async function searchNear(
  db: Tx,
  operation: Operation<"search"> & { readonly vector: Float32Array },
  embedder: string,
  now: number,
): Promise<Hit[]> {
  const end = operation.offset + operation.limit;
  let best: Near[] = [];
  let after: Pick<Near, "namespace" | "key"> | undefined;
  for (;;) {
    const page = await nearPage(db, operation, embedder, now, after);
    const found = page.filter((near): near is Near => near.distance !== null);
    best = [...best, ...found].sort(likestFirst).slice(0, end);
    after = page.at(-1);
    if (page.length < PAGE || after === undefined) break;
    await setImmediate();
  }
  const hits: Hit[] = [];
  for (const { namespace, key, distance } of best.slice(operation.offset)) {
    const item = await get(db, { namespace: JSON.parse(namespace) as string[], key }, now);
    // Deleted since its page was read.
    if (item !== undefined) hits.push({ item, score: 1 - distance });
  }
  return hits;
}

/** The next items by key, each with its distance; null where it has no vector. */
function nearPage(
  db: Tx,
  operation: Operation<"search"> & { readonly vector: Float32Array },
  embedder: string,
  now: number,
  after: Pick<Near, "namespace" | "key"> | undefined,
): Promise<(Omit<Near, "distance"> & { readonly distance: number | null })[]> {
  const items = candidates(db, operation, now)
    .select(["store_items.namespace", "store_items.key"])
    .$if(after !== undefined, (page) =>
      page.where(sql<SqlBool>`(namespace, key) > (${after?.namespace}, ${after?.key})`),
    )
    .orderBy("namespace")
    .orderBy("key")
    .limit(PAGE);
  return db
    .selectFrom(items.as("item"))
    .leftJoin("store_vectors as vector", (join) =>
      join
        .onRef("vector.namespace", "=", "item.namespace")
        .onRef("vector.key", "=", "item.key")
        .on("vector.embedder", "=", embedder),
    )
    .select((eb) => [
      "item.namespace",
      "item.key",
      sql<number | null>`min(case when ${eb.ref("vector.key")} is not null
        then ${cosineDistance(eb.ref("vector.embedding"), operation.vector)} end)`.as("distance"),
    ])
    .groupBy(["item.namespace", "item.key"])
    .orderBy("item.namespace")
    .orderBy("item.key")
    .execute();
}

function likestFirst(a: Near, b: Near): number {
  if (a.distance !== b.distance) return a.distance - b.distance;
  if (a.namespace !== b.namespace) return a.namespace < b.namespace ? -1 : 1;
  return a.key < b.key ? -1 : 1;
}

/**
 * The namespace is `prefix` or below it: a range, which the primary key serves. As JSON text both begin as `["a","b"` does,
 * then comes `]` or `,`, and no other character can, for a quote within a label has a backslash before it.
 */
function under(prefix: readonly string[]): RawBuilder<SqlBool> {
  if (prefix.length === 0) return sql<SqlBool>`true`;
  const open = JSON.stringify(prefix).slice(0, -1);
  return sql<SqlBool>`(namespace >= ${`${open},`} and namespace <= ${`${open}]`})`;
}

const isLive = (now: number): RawBuilder<SqlBool> => sql<SqlBool>`(expires_at is null or expires_at > ${now})`;
const isOver = ({ expires_at }: Row, now: number): boolean => expires_at !== null && expires_at <= now;

/* ----------------------------------------------------------------------------- namespaces */

/**
 * Namespaces in use that meet all conditions, cut to `max_depth` labels, each once. The recursion steps from one namespace
 * to the next through the primary key, so many items under few namespaces cost little.
 */
export async function listNamespaces(
  db: Tx,
  operation: Omit<Operation<"list_namespaces">, "op">,
  now: number,
): Promise<string[][]> {
  const { conditions, max_depth, limit, offset } = operation;
  const tests = conditions.map(matches);
  const path = max_depth === null ? sql`namespace` : firstOf(sql.ref("namespace"), max_depth);
  // Without the closing bracket a namespace comes right before those below it.
  const { rows } = await sql<{ path: string }>`
    with recursive used(namespace) as (
      select min(namespace) from store_items where ${isLive(now)}
      union all
      select (select min(item.namespace) from store_items as item where item.namespace > used.namespace and ${isLive(now)})
      from used where used.namespace is not null)
    select distinct substr(${path}, 1, length(${path}) - 1) as path from used
    where namespace is not null ${sql.join(
      tests.map((test) => sql`and ${test}`),
      sql` `,
    )}
    order by path limit ${limit} offset ${offset}`.execute(db);
  return rows.map((row) => JSON.parse(`${row.path}]`) as string[]);
}

/** Whether a namespace begins, or ends, with these labels; `*` stands for any one label. */
function matches({ match, path }: Operation<"list_namespaces">["conditions"][number]): RawBuilder<SqlBool> {
  const namespace = sql.ref("namespace");
  const labels = path.flatMap((label, index) => {
    const position = match === "prefix" ? index : index - path.length;
    return label === "*" ? [] : [sql`${elementAt(namespace, position)} = ${label}`];
  });
  return sql<SqlBool>`${sql.join([sql`${lengthOf(namespace)} >= ${path.length}`, ...labels], sql` and `)}`;
}

/* --------------------------------------------------------------------------------- expiry */

/** Removes items that are over, at most `limit`; returns how many. */
export async function sweep(tx: Tx, now: number, limit: number): Promise<number> {
  const over = await tx
    .selectFrom("store_items")
    .select(["namespace", "key"])
    .where("expires_at", "<=", now)
    .orderBy("expires_at")
    .limit(limit)
    .execute();
  for (const place of over) {
    await deleteItem(tx, place);
    await deleteVectors(tx, place);
  }
  return over.length;
}

const toRecord = (row: Row): ItemRecord => ({
  namespace: JSON.parse(row.namespace) as string[],
  key: row.key,
  value: row.value,
  created_at: row.created_at,
  updated_at: row.updated_at,
  ttl: row.ttl,
});
