import { type ExpressionBuilder, type Selectable, sql } from "kysely";
import type { AssistantFilter, AssistantSearch } from "../../schemas/assistants.ts";
import type { Database } from "../database.ts";
import { asList, jsonEquals, jsonEqualsAll, listed } from "../expressions.ts";
import { prepared } from "../prepared.ts";
import type { AssistantRecord, Tx } from "../storage.ts";

type Row = Selectable<Database["assistants"]>;

/** What to search for, and which part of it to return. Limit 10, newest first, when the caller does not say. */
export type AssistantQuery = AssistantFilter & Pick<AssistantSearch, "limit" | "offset" | "sort_by" | "sort_order">;

/** Inserts a system assistant, or takes over its name and description when they changed. */
export async function upsertDefault(tx: Tx, record: AssistantRecord): Promise<void> {
  await tx
    .insertInto("assistants")
    .values(toRow(record))
    .onConflict((conflict) =>
      conflict
        .column("assistant_id")
        .doUpdateSet((eb) => ({
          name: eb.ref("excluded.name"),
          description: eb.ref("excluded.description"),
          updated_at: eb.ref("excluded.updated_at"),
        }))
        .where((eb) =>
          eb.or([
            eb("assistants.name", "is distinct from", eb.ref("excluded.name")),
            eb("assistants.description", "is distinct from", eb.ref("excluded.description")),
          ]),
        ),
    )
    .execute();
}

/** Deletes the system assistants of graphs that are no longer configured; those that clients made stay. */
export async function deleteDefaultsExcept(tx: Tx, assistant_ids: readonly string[]): Promise<void> {
  await tx
    .deleteFrom("assistants")
    .where((eb) => jsonEquals(eb.ref("metadata"), "created_by", "system"))
    .where("assistant_id", "not in", listed(asList(assistant_ids)))
    .execute();
}

const findById = prepared<{ id: string }, Row>((db, slots) =>
  db.selectFrom("assistants").selectAll().where("assistant_id", "=", slots.id),
);

/** The assistant, or undefined. */
export async function find(db: Tx, id: string): Promise<AssistantRecord | undefined> {
  const [row] = (await findById(db, { id })).rows;
  return row && toRecord(row);
}

/** One page of the assistants that match. */
export async function search(db: Tx, query: AssistantQuery): Promise<AssistantRecord[]> {
  const rows = await db
    .selectFrom("assistants")
    .selectAll()
    .where((eb) => matching(eb, query))
    .orderBy(query.sort_by ?? "created_at", query.sort_order ?? "desc")
    .orderBy("assistant_id")
    .limit(query.limit ?? 10)
    .offset(query.offset ?? 0)
    .execute();
  return rows.map(toRecord);
}

/** How many assistants match. */
export async function count(db: Tx, filter: AssistantFilter): Promise<number> {
  const row = await db
    .selectFrom("assistants")
    .select((eb) => eb.fn.countAll<number>().as("total"))
    .where((eb) => matching(eb, filter))
    .executeTakeFirstOrThrow();
  return Number(row.total);
}

/** The name matches as a substring whatever its case (SQLite folds ASCII only); metadata by top-level members. */
function matching(eb: ExpressionBuilder<Database, "assistants">, filter: AssistantFilter) {
  return eb.and([
    ...(filter.graph_id == null ? [] : [eb("graph_id", "=", filter.graph_id)]),
    ...(filter.name == null ? [] : [sql<boolean>`instr(lower(name), lower(${filter.name})) > 0`]),
    ...jsonEqualsAll(eb.ref("metadata"), filter.metadata ?? {}),
  ]);
}

const toRow = (record: AssistantRecord): Row => ({
  ...record,
  config: JSON.stringify(record.config),
  context: JSON.stringify(record.context),
  metadata: JSON.stringify(record.metadata),
});

const toRecord = (row: Row): AssistantRecord => ({
  ...row,
  config: JSON.parse(row.config),
  context: JSON.parse(row.context),
  metadata: JSON.parse(row.metadata),
});
