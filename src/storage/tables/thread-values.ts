/**
 * What threads show of their states. Values are stored whole, until a list in them is long: such lists are in parts
 * (`thread_lists`), and a run that adds to one adds a part. A list's version and length say its items, so who adds names
 * both: what does not follow what is there is refused, and never put together wrongly.
 */
import { type RawBuilder, type SqlBool, sql } from "kysely";
import type { GrownList, GrownValues, Json, Members } from "../../executor/protocol.ts";
import { asList, joined, jsonEquals, listedNumbers } from "../expressions.ts";
import { insertRows, prepared } from "../prepared.ts";
import type { Tx } from "../storage.ts";
import * as checkpoints from "./checkpoints.ts";

/** Member → the version of its list, and how many items. */
type Lists = Readonly<Record<string, readonly [version: string, length: number]>>;

/** `misfit`: the new items of a list do not follow what is there, so the thread shows nothing now. */
export type PutResult = "changed" | "same" | "misfit";

/** Stores what the thread shows. */
export function put(tx: Tx, thread_id: string, values: Json | GrownValues | null): Promise<PutResult> {
  return values === null || typeof values === "string"
    ? putWhole(tx, thread_id, values)
    : putGrown(tx, thread_id, values);
}

/* --------------------------------------------------------------------------- writing */

const setWhole = prepared<{ thread_id: string; values: Json | null }>((db, slots) =>
  db
    .insertInto("thread_values")
    .columns(["seq", "values"])
    .expression((eb) =>
      eb
        .selectFrom("threads")
        .select((eb) => ["seq", eb.val(slots.values).as("values")])
        .where("thread_id", "=", slots.thread_id),
    )
    .onConflict((conflict) =>
      conflict
        .column("seq")
        .doUpdateSet((eb) => ({ values: eb.ref("excluded.values") }))
        .where("thread_values.lists", "is", null)
        .whereRef("thread_values.values", "is distinct from", "excluded.values"),
    ),
);

interface Row {
  readonly seq: number;
  readonly values: Json | null;
  readonly lists: Json | null;
}

const findRow = prepared<{ thread_id: string }, Row>((db, slots) =>
  db
    .selectFrom("threads")
    .leftJoin("thread_values as v", "v.seq", "threads.seq")
    .select(["threads.seq", "v.values", "v.lists"])
    .where("thread_id", "=", slots.thread_id),
);

const setRow = insertRows("thread_values", ["seq", "values", "lists"], (insert) =>
  insert.onConflict((conflict) =>
    conflict
      .column("seq")
      .doUpdateSet((eb) => ({ values: eb.ref("excluded.values"), lists: eb.ref("excluded.lists") })),
  ),
);

const addParts = insertRows("thread_lists", ["seq", "member", "first", "items"]);

const removeList = prepared<{ seq: number; member: string }>((db, slots) =>
  db.deleteFrom("thread_lists").where("seq", "=", slots.seq).where("member", "=", slots.member),
);

async function putWhole(tx: Tx, thread_id: string, values: Json | null): Promise<PutResult> {
  if ((await setWhole(tx, { thread_id, values })).numAffectedRows !== 0n) return "changed";
  const [row] = (await findRow(tx, { thread_id })).rows;
  if (row === undefined || row.lists === null) return "same";
  // Parts that say the same stay: the next run may add to them.
  if (await saysTheSame(tx, row, values)) return "same";
  await replace(tx, row, { values, lists: {}, stay: [] });
  return "changed";
}

async function putGrown(tx: Tx, thread_id: string, { rest, lists }: GrownValues): Promise<PutResult> {
  const [row] = (await findRow(tx, { thread_id })).rows;
  if (row === undefined) return "same";
  const before = listsOf(row);
  if (lists.some((list) => list.from > 0 && !follows(before, list))) {
    await replace(tx, row, { values: null, lists: {}, stay: [] });
    return "misfit";
  }
  const others = lists.filter((list) => !isThere(before, list));
  if (others.length === 0 && Object.keys(before).length === lists.length && rest === row.values) return "same";
  const changed =
    others.length === 0 ||
    others.some((list) => isAnother(before, list)) ||
    !(await saysTheSame(tx, row, wholeText({ rest, lists })));
  const stay = lists.filter((list) => list.from > 0 || isThere(before, list)).map(({ member }) => member);
  const now = Object.fromEntries(lists.map(({ member, version, length }) => [member, [version, length]] as const));
  await replace(tx, row, { values: rest, lists: now, stay });
  await addParts(
    tx,
    others.map(({ member, from, items }) => ({ seq: row.seq, member, first: from, items })),
  );
  return changed ? "changed" : "same";
}

/** What is there of the list is what the new items leave out. */
const follows = (before: Lists, { member, version, from }: GrownList): boolean =>
  before[member]?.[0] === version && before[member][1] === from;

/** That it has changed can be seen without a look at its items. */
const isAnother = (before: Lists, { member, from, length }: GrownList): boolean =>
  from > 0 || (before[member] !== undefined && before[member][1] !== length);

/** All of the list is there. */
const isThere = (before: Lists, { member, version, length }: GrownList): boolean =>
  before[member]?.[0] === version && before[member][1] === length;

/** The row anew; the parts of lists that do not `stay` go. */
async function replace(
  tx: Tx,
  row: Row,
  { values, lists, stay }: { values: Json | null; lists: Lists; stay: readonly string[] },
): Promise<void> {
  for (const member of Object.keys(listsOf(row))) {
    if (!stay.includes(member)) await removeList(tx, { seq: row.seq, member });
  }
  await setRow(tx, [{ seq: row.seq, values, lists: Object.keys(lists).length === 0 ? null : JSON.stringify(lists) }]);
}

/** Whether the row says this already. Looks at all of it: for who tells a list from its start. */
async function saysTheSame(tx: Tx, row: Row, values: Json | null): Promise<boolean> {
  const [before] = await wholeValues(tx, [row]);
  if (values === null || before == null) return false;
  const [mine, theirs] = [membersOf(before), membersOf(values)];
  return mine.length === theirs.length && mine.every((member, i) => member === theirs[i]);
}

/** In an order of their own: parts are put together in another than values that are whole. */
const membersOf = (text: Json): string[] =>
  Object.entries(JSON.parse(text) as object)
    .map(([name, value]) => JSON.stringify([name, value]))
    .sort();

/** Gives `copy`, which has been inserted, what another thread shows. */
export async function copy(tx: Tx, from: string, to: string): Promise<void> {
  await tx
    .insertInto("thread_values")
    .columns(["seq", "values", "lists"])
    .expression((eb) =>
      eb
        .selectFrom(["threads as copy", "threads as source"])
        .innerJoin("thread_values as v", "v.seq", "source.seq")
        .select(["copy.seq", "v.values", "v.lists"])
        .where("copy.thread_id", "=", to)
        .where("source.thread_id", "=", from),
    )
    .execute();
  await tx
    .insertInto("thread_lists")
    .columns(["seq", "member", "first", "items"])
    .expression((eb) =>
      eb
        .selectFrom(["threads as copy", "threads as source"])
        .innerJoin("thread_lists as part", "part.seq", "source.seq")
        .select(["copy.seq", "part.member", "part.first", "part.items"])
        .where("copy.thread_id", "=", to)
        .where("source.thread_id", "=", from),
    )
    .execute();
}

/* --------------------------------------------------------------------------- reading */

interface Piece extends Row {
  readonly member: string | null;
  readonly first: number | null;
  readonly items: Json | null;
}

/** One statement: the lists a row names are those whose parts come with it. */
const readPieces = prepared<{ seqs: string }, Piece>((db, slots) =>
  db
    .selectFrom("thread_values")
    .select(["seq", "values", "lists"])
    .select([sql<string | null>`null`.as("member"), sql<number | null>`null`.as("first")])
    .select(sql<string | null>`null`.as("items"))
    .where("seq", "in", listedNumbers(slots.seqs) as RawBuilder<never>)
    .unionAll(
      db
        .selectFrom("thread_lists")
        .select("seq")
        .select([sql<string | null>`null`.as("values"), sql<string | null>`null`.as("lists")])
        .select(["member", "first", "items"])
        .where("seq", "in", listedNumbers(slots.seqs) as RawBuilder<never>),
    ),
);

/** A row that was found beside its thread. */
export type FoundValues = Pick<Row, "seq" | "values" | "lists">;

/**
 * The values of threads as they are found, those in parts put together without being parsed. The text of these may be a
 * moment newer than what was found.
 */
export async function wholeValues(db: Tx, found: readonly FoundValues[]): Promise<(Json | null)[]> {
  const inParts = found.filter(({ lists }) => lists !== null);
  if (inParts.length === 0) return found.map(({ values }) => values);
  const texts = await textsOf(
    db,
    inParts.map(({ seq }) => seq),
  );
  return found.map(({ seq, values, lists }) => (lists === null ? values : (texts.get(seq) ?? null)));
}

/**
 * The thread's values, or those that are named, while it shows the state at this checkpoint, its latest; undefined when it
 * has moved on.
 */
export async function valuesAt(
  db: Tx,
  { thread_id, checkpoint_id }: { readonly thread_id: string; readonly checkpoint_id: string },
  members: Members,
): Promise<Json | undefined> {
  const [row] = (await findRow(db, { thread_id })).rows;
  if (row === undefined || row.lists === null) return undefined;
  const text = (await textsOf(db, [row.seq], members)).get(row.seq);
  // Looked at last: whoever moves on writes checkpoints before the thread shows them.
  return (await checkpoints.latestOf(db, thread_id)) === checkpoint_id ? (text ?? undefined) : undefined;
}

async function textsOf(
  db: Tx,
  seqs: readonly number[],
  members: Members = null,
): Promise<ReadonlyMap<number, Json | null>> {
  const rows: Row[] = [];
  const parts = new Map<number, Piece[]>();
  for (const piece of (await readPieces(db, { seqs: asList(seqs) })).rows) {
    if (piece.member === null) {
      rows.push(piece);
      continue;
    }
    const ofRow = parts.get(piece.seq);
    if (ofRow === undefined) parts.set(piece.seq, [piece]);
    else ofRow.push(piece);
  }
  return new Map(rows.map((row) => [row.seq, textOf(row, parts.get(row.seq) ?? [], members)]));
}

function textOf(row: Row, parts: readonly Piece[], members: Members): Json | null {
  if (row.values === null) return null;
  const ordered = parts.toSorted((a, b) => Number(a.first) - Number(b.first));
  const lists = Object.keys(listsOf(row)).map((member) => {
    return { member, items: ordered.flatMap((part) => (part.member === member ? (part.items ?? []) : [])).join() };
  });
  if (members === null) return wholeText({ rest: row.values, lists });
  const rest = Object.entries(JSON.parse(row.values) as object).filter(([member]) => members.includes(member));
  const named = lists.filter(({ member }) => members.includes(member));
  return wholeText({ rest: JSON.stringify(Object.fromEntries(rest)), lists: named });
}

function wholeText({ rest, lists }: { rest: Json; lists: readonly Pick<GrownList, "member" | "items">[] }): Json {
  const inner = rest.slice(1, -1);
  const members = lists.map(({ member, items }) => `${JSON.stringify(member)}:[${items}]`);
  return `{${[...(inner === "" ? [] : [inner]), ...members].join()}}`;
}

const listsOf = ({ lists }: Row): Lists => (lists === null ? {} : JSON.parse(lists));

/** A filter on the values of the threads `t`, whose rows of values are `v`: this member is exactly `value`. */
export function valueEquals(member: string, value: unknown): RawBuilder<SqlBool> {
  const isInRow = jsonEquals(sql.ref("v.values"), member, value);
  if (!Array.isArray(value)) return isInRow;
  const items = sql`select items, "first" from thread_lists as part where part.seq = t.seq and part.member = ${member}`;
  return sql<SqlBool>`(${isInRow} or ${joined(items, "items", "first")} = ${JSON.stringify(value).slice(1, -1)})`;
}
