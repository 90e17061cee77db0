/** Long-term memory: JSON values under a namespace (a path of labels) and a key. */
import { type RawBuilder, type Selectable, type SqlBool, sql } from "kysely";
import type { StorageReply, StoreItem, StoreOperation } from "../../executor/protocol.ts";
import type { Database } from "../database.ts";
import { jsonFilter } from "../expressions.ts";
import { insertRows, prepared } from "../prepared.ts";
import type { Tx } from "../storage.ts";

type Row = Selectable<Database["store_items"]>;
type Operation<Op extends StoreOperation["op"]> = Extract<StoreOperation, { readonly op: Op }>;
type Answer = StorageReply["store"][number];

/** Carries out operations in order; one answer each. */
export async function run(tx: Tx, operations: readonly StoreOperation[], now: number): Promise<StorageReply["store"]> {
  const answers: Answer[] = [];
  for (const operation of operations) answers.push(await runOne(tx, operation, now));
  return answers;
}

function runOne(tx: Tx, operation: StoreOperation, now: number): Promise<Answer> {
  switch (operation.op) {
    case "get":
      return get(tx, operation);
    case "put":
      return put(tx, operation, now);
    case "search":
      return search(tx, operation);
    case "list_namespaces":
      return listNamespaces(tx, operation);
    default:
      return operation satisfies never;
  }
}

const findItem = prepared<{ namespace: string; key: string }, Row>((db, slots) =>
  db.selectFrom("store_items").selectAll().where("namespace", "=", slots.namespace).where("key", "=", slots.key),
);

async function get(tx: Tx, { namespace, key }: Operation<"get">): Promise<StoreItem | null> {
  const [row] = (await findItem(tx, { namespace: JSON.stringify(namespace), key })).rows;
  return row === undefined ? null : toItem(row);
}

const upsert = insertRows("store_items", ["namespace", "key", "value", "created_at", "updated_at"], (insert) =>
  insert.onConflict((conflict) =>
    conflict.columns(["namespace", "key"]).doUpdateSet((eb) => ({
      value: eb.ref("excluded.value"),
      updated_at: eb.ref("excluded.updated_at"),
    })),
  ),
);

/** Null deletes. An item that is written again keeps the time of its creation. */
async function put(tx: Tx, { namespace, key, value }: Operation<"put">, now: number): Promise<null> {
  const at = JSON.stringify(namespace);
  if (value === null) await tx.deleteFrom("store_items").where("namespace", "=", at).where("key", "=", key).execute();
  else await upsert(tx, [{ namespace: at, key, value, created_at: now, updated_at: now }]);
  return null;
}

/** Items under the prefix, last updated first. */
async function search(tx: Tx, { prefix, filter, limit, offset }: Operation<"search">): Promise<StoreItem[]> {
  const rows = await tx
    .selectFrom("store_items")
    .selectAll()
    .where(under(prefix))
    .where((eb) =>
      eb.and(
        Object.entries(filter ?? {}).flatMap(([key, wanted]) => jsonFilter(eb.ref("store_items.value"), key, wanted)),
      ),
    )
    .orderBy("updated_at", "desc")
    .orderBy("namespace")
    .orderBy("key")
    .limit(limit)
    .offset(offset)
    .execute();
  return rows.map(toItem);
}

/**
 * The namespace is `prefix` or below it. As JSON text all that is below `["a","b"]` starts with `["a","b",`, and `-` is the
 * character after the comma: a range, which the primary key serves.
 */
function under(prefix: readonly string[]): RawBuilder<SqlBool> {
  if (prefix.length === 0) return sql<SqlBool>`true`;
  const exact = JSON.stringify(prefix);
  const open = exact.slice(0, -1);
  return sql<SqlBool>`(namespace = ${exact} or (namespace >= ${`${open},`} and namespace < ${`${open}-`}))`;
}

/**
 * Namespaces in use that meet all conditions, cut to `max_depth` labels, each once. The recursion steps from one namespace
 * to the next through the primary key, so many items under few namespaces cost little.
 */
async function listNamespaces(tx: Tx, operation: Operation<"list_namespaces">): Promise<string[][]> {
  const { conditions, max_depth, limit, offset } = operation;
  const tests = conditions.map(({ match, path }) => (match === "prefix" ? startsWith(path) : endsWith(path)));
  const { rows } = await sql<{ path: string }>`
    with recursive used(namespace) as (
      select min(namespace) from store_items
      union all
      select (select min(item.namespace) from store_items as item where item.namespace > used.namespace)
      from used where used.namespace is not null)
    select distinct ${max_depth === null ? sql`namespace` : cutTo(max_depth)} as path from used
    where namespace is not null ${sql.join(
      tests.map((test) => sql`and ${test}`),
      sql` `,
    )}
    order by path limit ${limit} offset ${offset}`.execute(tx);
  return rows.map((row) => JSON.parse(row.path));
}

const cutTo = (depth: number): RawBuilder<string> => sql<string>`(
  select json_group_array(value) from (select value from json_each(namespace) order by key limit ${depth}))`;

const startsWith = (path: readonly string[]): RawBuilder<SqlBool> =>
  labelsMatch(path, (index) => sql.lit(`$[${index}]`));
const endsWith = (path: readonly string[]): RawBuilder<SqlBool> =>
  labelsMatch(path, (index) => sql.lit(`$[#-${path.length - index}]`));

/** `*` stands for any one label. */
function labelsMatch(path: readonly string[], position: (index: number) => RawBuilder<string>): RawBuilder<SqlBool> {
  const labels = path.map((label, index) =>
    label === "*" ? sql`true` : sql`json_extract(namespace, ${position(index)}) = ${label}`,
  );
  return sql<SqlBool>`${sql.join([sql`json_array_length(namespace) >= ${path.length}`, ...labels], sql` and `)}`;
}

const toItem = (row: Row): StoreItem => ({
  namespace: JSON.parse(row.namespace),
  key: row.key,
  value: row.value,
  created_at: new Date(row.created_at).toISOString(),
  updated_at: new Date(row.updated_at).toISOString(),
});
