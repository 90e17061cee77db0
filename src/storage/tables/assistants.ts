/** Assistants. `assistants` holds the active version of each, as runs read it; `assistant_versions` holds all of them. */
import type { ExpressionBuilder, Selectable } from "kysely";
import type { AssistantFilter, AssistantSearch } from "../../schemas/assistants.ts";
import type { Database } from "../database.ts";
import { foldCase, includes, jsonEquals, jsonEqualsAll } from "../expressions.ts";
import type { MetadataFilter } from "../filter.ts";
import { prepared } from "../prepared.ts";
import type { AssistantRecord, AssistantVersionRecord, Tx } from "../storage.ts";
import { readable } from "./visible.ts";

type Row = Selectable<Database["assistants"]>;
type VersionRow = Selectable<Database["assistant_versions"]>;

const LARGE = ["config", "context", "metadata"] as const;
type Large = (typeof LARGE)[number];
const SMALL = ["assistant_id", "graph_id", "name", "description", "version", "created_at", "updated_at"] as const;
type Read = Omit<Row, Large | "name_folded"> & Partial<Row>;

/** What to search for among what may be seen; `visible` null or absent: all. */
export type VisibleAssistants = AssistantFilter & { readonly visible?: MetadataFilter | null };

/** What to search for, and which part of it to return. Limit 10, newest first, when the caller does not say. */
export type AssistantQuery = VisibleAssistants &
  Pick<AssistantSearch, "limit" | "offset" | "sort_by" | "sort_order" | "select">;

export interface VersionQuery {
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly limit: number;
  readonly offset: number;
}

/** Inserts the assistant and its version; false, and nothing written, when its id is taken. */
export async function insert(tx: Tx, record: AssistantRecord): Promise<boolean> {
  const { numInsertedOrUpdatedRows } = await tx
    .insertInto("assistants")
    .values(toRow(record))
    .onConflict((conflict) => conflict.column("assistant_id").doNothing())
    .executeTakeFirstOrThrow();
  if (numInsertedOrUpdatedRows !== 1n) return false;
  await insertVersion(tx, record, record.created_at);
  return true;
}

/** Adds the record's version, and makes it the active one. */
export async function addVersion(tx: Tx, record: AssistantRecord): Promise<void> {
  await insertVersion(tx, record, record.updated_at);
  await activate(tx, record);
}

/** Writes what the assistant now is; its version is stored already. */
export async function activate(tx: Tx, record: AssistantRecord): Promise<void> {
  const { assistant_id, ...row } = toRow(record);
  await tx.updateTable("assistants").set(row).where("assistant_id", "=", assistant_id).execute();
}

async function insertVersion(tx: Tx, record: AssistantRecord, created_at: number): Promise<void> {
  const { updated_at: _, name_folded: __, ...row } = toRow(record);
  await tx
    .insertInto("assistant_versions")
    .values({ ...row, created_at })
    .execute();
}

export interface Description {
  readonly name: string;
  readonly description: string | null;
}

/** Gives the assistant, and those of its versions, another name and description. */
export async function rename(
  tx: Tx,
  assistant_id: string,
  versions: readonly number[],
  { name, description }: Description,
  now: number,
): Promise<void> {
  await tx
    .updateTable("assistants")
    .set({ name, name_folded: foldCase(name), description, updated_at: now })
    .where("assistant_id", "=", assistant_id)
    .execute();
  await tx
    .updateTable("assistant_versions")
    .set({ name, description })
    .where("assistant_id", "=", assistant_id)
    .where("version", "in", versions)
    .execute();
}

/** Deletes the assistant with all its versions. */
export async function remove(tx: Tx, assistant_id: string): Promise<void> {
  for (const table of ["assistants", "assistant_versions"] as const) {
    await tx.deleteFrom(table).where("assistant_id", "=", assistant_id).execute();
  }
}

const findById = prepared<{ id: string }, Row>((db, slots) =>
  db.selectFrom("assistants").selectAll().where("assistant_id", "=", slots.id),
);

/** The assistant, or undefined. */
export async function find(db: Tx, id: string): Promise<AssistantRecord | undefined> {
  const [row] = (await findById(db, { id })).rows;
  return row && toRecord(row);
}

/** One version of an assistant, or undefined. */
export async function findVersion(db: Tx, id: string, version: number): Promise<AssistantVersionRecord | undefined> {
  const row = await db
    .selectFrom("assistant_versions")
    .selectAll()
    .where("assistant_id", "=", id)
    .where("version", "=", version)
    .executeTakeFirst();
  return row && toVersion(row);
}

/** The highest version number of an assistant; 0 when there is none. */
export async function lastVersion(db: Tx, id: string): Promise<number> {
  const row = await db
    .selectFrom("assistant_versions")
    .select((eb) => eb.fn.max("version").as("last"))
    .where("assistant_id", "=", id)
    .executeTakeFirst();
  return Number(row?.last ?? 0);
}

/** One page of the versions of an assistant, newest first. */
export async function versions(
  db: Tx,
  id: string,
  { metadata, limit, offset }: VersionQuery,
): Promise<AssistantVersionRecord[]> {
  const rows = await versionsMatching(db, id, metadata)
    .selectAll()
    .orderBy("version", "desc")
    .limit(limit)
    .offset(offset)
    .execute();
  return rows.map(toVersion);
}

/** How many versions of an assistant match. */
export async function countVersions(db: Tx, id: string, { metadata }: Pick<VersionQuery, "metadata">): Promise<number> {
  const row = await versionsMatching(db, id, metadata)
    .select((eb) => eb.fn.countAll<number>().as("total"))
    .executeTakeFirstOrThrow();
  return Number(row.total);
}

function versionsMatching(db: Tx, id: string, metadata: VersionQuery["metadata"]) {
  return db
    .selectFrom("assistant_versions")
    .where("assistant_id", "=", id)
    .where((eb) => eb.and(jsonEqualsAll(eb.ref("metadata"), metadata)));
}

/** Assistants that the server made, one per graph; those of clients are not among them. */
export async function listDefaults(db: Tx): Promise<AssistantRecord[]> {
  const rows = await db
    .selectFrom("assistants")
    .selectAll()
    .where((eb) => jsonEquals(eb.ref("metadata"), "created_by", "system"))
    .execute();
  return rows.map(toRecord);
}

/**
 * One page of the assistants that match. Those made in the same millisecond keep the order of their ids, as time has it. What is large
 * is empty when it was not selected: prompts of a thousand assistants are read for nobody.
 */
export async function search(db: Tx, query: AssistantQuery): Promise<AssistantRecord[]> {
  const order = query.sort_order ?? "desc";
  const rows = await db
    .selectFrom("assistants")
    .select(SMALL)
    .select(LARGE.filter((column) => query.select?.includes(column) ?? true))
    .where((eb) => matching(eb, query))
    .orderBy(query.sort_by ?? "created_at", order)
    .orderBy("assistant_id", order)
    .limit(query.limit ?? 10)
    .offset(query.offset ?? 0)
    .execute();
  return rows.map(toRecord);
}

/** How many assistants match. */
export async function count(db: Tx, filter: VisibleAssistants): Promise<number> {
  const row = await db
    .selectFrom("assistants")
    .select((eb) => eb.fn.countAll<number>().as("total"))
    .where((eb) => matching(eb, filter))
    .executeTakeFirstOrThrow();
  return Number(row.total);
}

/** The name matches as a substring whatever its case; metadata by top-level members. */
function matching(eb: ExpressionBuilder<Database, "assistants">, filter: VisibleAssistants) {
  return eb.and([
    ...(filter.graph_id == null ? [] : [eb("graph_id", "=", filter.graph_id)]),
    ...(filter.name == null ? [] : [includes(eb.ref("name_folded"), foldCase(filter.name))]),
    ...jsonEqualsAll(eb.ref("metadata"), filter.metadata ?? {}),
    ...(filter.visible == null ? [] : [readable(filter.visible)]),
  ]);
}

const toRow = (record: AssistantRecord): Row => ({
  ...record,
  config: JSON.stringify(record.config),
  context: JSON.stringify(record.context),
  metadata: JSON.stringify(record.metadata),
  name_folded: foldCase(record.name),
});

const toRecord = ({ name_folded: _, ...row }: Read): AssistantRecord => ({ ...row, ...parsed(row) });

const toVersion = (row: VersionRow): AssistantVersionRecord => ({ ...row, ...parsed(row) });

const parsed = ({ config = "{}", context = "{}", metadata = "{}" }: Partial<Pick<Row, Large>>) => ({
  config: JSON.parse(config) as Record<string, unknown>,
  context: JSON.parse(context) as Record<string, unknown>,
  metadata: JSON.parse(metadata) as Record<string, unknown>,
});
