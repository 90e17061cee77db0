/**
 * The few expressions that differ between databases, and nothing else: each says itself in SQLite's words and in PostgreSQL's.
 * `sql` fragments take values as parameters, so filters of clients never become SQL text.
 *
 * JSON is text in both. PostgreSQL reads it by `skein_json`, which bears what its `jsonb` does not hold (U+0000, halves of surrogates).
 */
import {
  type Expression,
  ExpressionWrapper,
  type OperationNode,
  type RawBuilder,
  RawNode,
  type SqlBool,
  sql,
} from "kysely";
import { invalid } from "../errors.ts";
import type { Atom, MetadataFilter } from "./filter.ts";

/** An expression that is another one on PostgreSQL. */
export function perDialect<T>(sqlite: RawBuilder<T>, postgres: RawBuilder<T>): RawBuilder<T> {
  const own = RawNode.create(["", ""], [sqlite.toOperationNode()]);
  const node: DialectNode = { ...own, postgres: postgres.toOperationNode() };
  return sql<T>`${new ExpressionWrapper(node)}`;
}

interface DialectNode extends RawNode {
  readonly postgres: OperationNode;
}

/** What the node is on PostgreSQL; undefined when it is the same everywhere. */
export const inPostgres = (node: RawNode): OperationNode | undefined =>
  "postgres" in node ? (node as DialectNode).postgres : undefined;

/** The elements of a list of texts, one row each; one parameter whatever the length, so the statement stays the same. */
export const listed = (values: RawBuilder<unknown> | string): RawBuilder<string> =>
  perDialect(
    sql<string>`(select value from json_each(${values}))`,
    sql<string>`(select jsonb_array_elements_text(cast(${values} as jsonb)))`,
  );

/** The same for a list of numbers. */
export const listedNumbers = (values: RawBuilder<unknown> | string): RawBuilder<number> =>
  perDialect(
    sql<number>`(select value from json_each(${values}))`,
    sql<number>`(select cast(jsonb_array_elements_text(cast(${values} as jsonb)) as bigint))`,
  );

/** The same for a list of pairs, to be compared with two columns at once. */
export const listedPairs = (values: string): RawBuilder<string> =>
  perDialect(
    sql<string>`(select value ->> 0, value ->> 1 from json_each(${values}))`,
    sql<string>`(select value ->> 0, value ->> 1 from jsonb_array_elements(cast(${values} as jsonb)))`,
  );

/**
 * The elements of a list, as a table with the columns `key` (the place, from 0) and `value`, that drives a join:
 * `from ${eachOf(list, "wanted")} ${DRIVES} runs on …`. SQLite keeps the order of a `cross join`.
 */
export const eachOf = (list: unknown, alias: string): RawBuilder<unknown> =>
  perDialect(
    sql`json_each(${list}) as ${sql.ref(alias)}`,
    sql`(select value, ordinality - 1 as key from jsonb_array_elements(cast(${list} as jsonb)) with ordinality as each (value))
      as ${sql.ref(alias)}`,
  );

export const DRIVES = perDialect(sql`cross join`, sql`join`);

/** A number of an element that is a list itself, by its place. */
export const numberAt = (element: string, place: number): RawBuilder<number> =>
  perDialect(
    sql<number>`${sql.ref(element)} ->> ${sql.lit(place)}`,
    sql<number>`cast(${sql.ref(element)} ->> ${sql.lit(place)} as bigint)`,
  );

/** An element that is a number. */
export const numberOf = (element: string): RawBuilder<number> =>
  perDialect(sql<number>`${sql.ref(element)}`, sql<number>`cast(${sql.ref(element)} as bigint)`);

/** A parameter where nothing else says that it is a number. */
export const integer = (value: unknown): RawBuilder<number> =>
  perDialect(sql<number>`${value}`, sql<number>`cast(${value} as bigint)`);

/** A parameter where nothing else says that it is text. */
export const text = (value: unknown): RawBuilder<string> =>
  perDialect(sql<string>`${value}`, sql<string>`cast(${value} as text)`);

/** 1 or 0, as columns hold what is true or not. */
export const bit = (condition: RawBuilder<unknown>): RawBuilder<number> =>
  perDialect(sql<number>`${condition}`, sql<number>`case when ${condition} then 1 else 0 end`);

/**
 * Now, epoch milliseconds: on PostgreSQL by the database's own clock, the only one that all processes share. Leases and due
 * times go by it.
 */
export const clock = (now: unknown): RawBuilder<number> =>
  perDialect(sql<number>`${now}`, sql<number>`cast(extract(epoch from clock_timestamp()) * 1000 as bigint)`);

/** At the end of a query: its rows stay as they are read until the transaction ends. `of` names the table in a join. */
export const lockRows = (how: "update" | "share" | "update skip locked", of?: string): RawBuilder<unknown> => {
  const [mode = "", ...rest] = how.split(" ");
  const words = [`for ${mode}`, ...(of === undefined ? [] : [`of "${of}"`]), ...rest];
  return perDialect(sql``, sql.raw(words.join(" ")));
};

/** Whether the text contains another. */
export const includes = (column: RawBuilder<unknown> | Expression<unknown>, part: string): RawBuilder<SqlBool> =>
  perDialect(sql<SqlBool>`instr(${column}, ${part}) > 0`, sql<SqlBool>`strpos(${column}, ${part}) > 0`);

/** JSON text of a list, to be given to `listed`. */
export const asList = (values: readonly unknown[]): string => JSON.stringify(values);

/** Text as case-insensitive searches compare it: folded here and not by the database, which may know ASCII only. */
export const foldCase = (text: string): string => text.normalize("NFC").toLowerCase();

/** Name it with its table: `json_each` has columns of its own. */
type JsonColumn = Expression<unknown> | RawBuilder<unknown>;

/** What `json_each` says of a value: its types, and itself as SQL has it. */
function atomOf(value: unknown): { types: string; atom: string | number | null } {
  if (value === null) return { types: '["null"]', atom: null };
  if (typeof value === "boolean") return { types: `["${value}"]`, atom: value ? 1 : 0 };
  if (typeof value === "number") return { types: '["integer","real"]', atom: value };
  if (typeof value === "string") return { types: '["text"]', atom: value };
  return { types: '["object","array"]', atom: JSON.stringify(value) };
}

/**
 * The value of a member that `json_each` gave, as `metadata_pairs` has it: its kind and the beginning of a text, the kind alone
 * of objects and lists. The triggers of the table say the same.
 */
export const pairValue = (member: string): RawBuilder<string> => {
  const type = sql.ref(`${member}.type`);
  const value = sql.ref(`${member}.value`);
  return sql<string>`case ${type}
    when 'text' then '"' || substr(${value}, 1, 200)
    when 'object' then '{' when 'array' then '['
    when 'integer' then '' || ${value} when 'real' then '' || ${value}
    else ${type} end`;
};

const COMPARE = { $eq: "is", $gt: ">", $gte: ">=", $lt: "<", $lte: "<=" } as const;

/** A test of JSON members that says which they are: the values of some may be sealed, and cannot be searched. */
interface MemberTest extends OperationNode {
  readonly members: readonly string[];
}

export const isMemberTest = (node: OperationNode): node is MemberTest => "members" in node;

function matches(column: JsonColumn, key: string, operator: keyof typeof COMPARE, value: unknown): RawBuilder<SqlBool> {
  const { types, atom } = atomOf(value);
  const test = sql.raw(COMPARE[operator]);
  const comparison = perDialect(
    sql<SqlBool>`exists (select 1 from json_each(${column}) as member
    where member.key = ${key} and member.type in ${listed(types)} and member.value ${test} ${atom})`,
    inJsonb(column, key, operator, value),
  );
  return memberTest(comparison, [key, ...namesIn(value)]);
}

function memberTest(test: RawBuilder<SqlBool>, members: readonly string[]): RawBuilder<SqlBool> {
  const node: RawNode & MemberTest = { ...RawNode.create(["", ""], [test.toOperationNode()]), members };
  return sql<SqlBool>`${new ExpressionWrapper(node)}`;
}

/** As SQLite compares: numbers with numbers, texts with texts by their code points, anything else is equal or is not. */
function inJsonb(column: JsonColumn, key: string, operator: keyof typeof COMPARE, value: unknown): RawBuilder<SqlBool> {
  const member = sql`skein_json(${column}) -> ${text(key)}`;
  const plain = sql`skein_json(${column}) ->> ${text(key)}`;
  const isOrder = operator !== "$eq";
  const test = sql.raw(COMPARE[operator]);
  if (isOrder && typeof value === "number") {
    return sql<SqlBool>`coalesce(case when jsonb_typeof(${member}) = 'number'
      then cast(${plain} as numeric) ${test} cast(${value} as numeric) end, false)`;
  }
  if (isOrder && typeof value === "string") {
    return sql<SqlBool>`coalesce(case when jsonb_typeof(${member}) = 'string'
      then (${plain}) collate "C" ${test} ${text(value)} collate "C" end, false)`;
  }
  if (isOrder && (value === null || !operator.endsWith("e"))) return sql<SqlBool>`false`;
  return sql<SqlBool>`coalesce(${member} = skein_json(${text(JSON.stringify(value))}), false)`;
}

/** All these members are in the JSON object, as they are: what an index on `skein_json` answers. */
export const hasMembers = (column: JsonColumn, members: Readonly<Record<string, unknown>>): RawBuilder<SqlBool> =>
  sql<SqlBool>`skein_json(${column}) @> skein_json(${text(JSON.stringify(members))})`;

/** Names of members in a value, however deep. */
export function namesIn(value: unknown): string[] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([name, inner]) => [name, ...namesIn(inner)]);
}

/** The top-level member `key` of a JSON object is exactly `value`. Objects and arrays compare as text, so the order of keys counts. */
export const jsonEquals = (column: JsonColumn, key: string, value: unknown): RawBuilder<SqlBool> =>
  matches(column, key, "$eq", value);

/** As `jsonEquals`, for all members of `filter`. */
export const jsonEqualsAll = (column: JsonColumn, filter: Readonly<Record<string, unknown>>): RawBuilder<SqlBool>[] =>
  Object.entries(filter).flatMap(([key, value]) => (value === undefined ? [] : [jsonEquals(column, key, value)]));

/** Whether metadata is as a filter wants it. Never null, so that it can be negated. */
export function passes(column: JsonColumn, filter: MetadataFilter): RawBuilder<SqlBool> {
  switch (filter.kind) {
    case "equals":
      return jsonEquals(column, filter.key, filter.value);
    case "contains":
      return sql<SqlBool>`(${sql.join(
        filter.values.map((value) => listHas(column, filter.key, value)),
        sql` and `,
      )})`;
    case "all":
    case "any": {
      const tests = filter.of.map((each) => passes(column, each));
      return sql<SqlBool>`(${sql.join(tests, filter.kind === "all" ? sql` and ` : sql` or `)})`;
    }
    default:
      return filter satisfies never;
  }
}

/** The member is a list with this element. */
function listHas(column: JsonColumn, key: string, value: Atom): RawBuilder<SqlBool> {
  const { types, atom } = atomOf(value);
  const member = sql`skein_json(${column}) -> ${text(key)}`;
  const test = perDialect(
    // What is no list must not be read as JSON.
    sql<SqlBool>`exists (select 1 from json_each(${column}) as member,
      json_each(case member.type when 'array' then member.value else '[]' end) as element
      where member.key = ${key} and element.type in ${listed(types)} and element.value is ${atom})`,
    sql<SqlBool>`coalesce(case when jsonb_typeof(${member}) = 'array'
      then ${member} @> skein_json(${text(JSON.stringify([value]))}) end, false)`,
  );
  return memberTest(test, [key]);
}

/** One member of a store filter: a value to equal, or an object of operators (`{"$gt": 3, "$lte": 9}`). */
export function jsonFilter(column: JsonColumn, key: string, wanted: unknown): RawBuilder<SqlBool>[] {
  if (!isOperators(wanted)) return [jsonEquals(column, key, wanted)];
  return Object.entries(wanted).map(([operator, value]) => {
    if (operator === "$ne") return sql<SqlBool>`not ${jsonEquals(column, key, value)}`;
    if (operator === "$in") return isAnyOf(column, key, value);
    if (operator === "$nin") return sql<SqlBool>`not ${isAnyOf(column, key, value)}`;
    if (Object.hasOwn(COMPARE, operator)) return matches(column, key, operator as keyof typeof COMPARE, value);
    throw invalid(`filter.${key}`, `the operator ${operator} is not one of $eq, $ne, $gt, $gte, $lt, $lte, $in, $nin`);
  });
}

function isAnyOf(column: JsonColumn, key: string, values: unknown): RawBuilder<SqlBool> {
  if (!Array.isArray(values)) throw invalid(`filter.${key}`, "$in and $nin take a list");
  const tests = [sql`false`, ...values.map((value: unknown) => jsonEquals(column, key, value))];
  return sql<SqlBool>`(${sql.join(tests, sql` or `)})`;
}

function isOperators(value: unknown): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  const keys = Object.keys(value);
  return keys.length > 0 && keys.every((key) => key.startsWith("$"));
}

/** The texts that a query gives, joined by commas in the order of another of its columns; null when it gives none. */
export const joined = (query: RawBuilder<unknown>, text: string, order: string): RawBuilder<string | null> =>
  perDialect(
    sql<string | null>`(select group_concat(each.${sql.ref(text)}, ',')
      from (select * from (${query}) order by ${sql.ref(order)}) as each)`,
    sql<
      string | null
    >`(select string_agg(each.${sql.ref(text)}, ',' order by each.${sql.ref(order)}) from (${query}) as each)`,
  );

/** Number of elements of a JSON array. */
export const lengthOf = (column: JsonColumn): RawBuilder<number> =>
  perDialect(sql<number>`json_array_length(${column})`, sql<number>`jsonb_array_length(skein_json(${column}))`);

/** An element of a JSON array of texts; from the end when the position is negative. */
export const elementAt = (column: JsonColumn, position: number): RawBuilder<string> =>
  perDialect(
    sql<string>`json_extract(${column}, ${sql.lit(position < 0 ? `$[#${position}]` : `$[${position}]`)})`,
    sql<string>`skein_json(${column}) ->> ${sql.lit(position)}`,
  );

/** The first elements of a JSON array of texts, as `JSON.stringify` writes them. */
export const firstOf = (column: JsonColumn, count: number): RawBuilder<string> =>
  perDialect(
    sql<string>`(select json_group_array(value) from (select value from json_each(${column}) order by key limit ${count}))`,
    sql<string>`(select coalesce('[' || string_agg(part, ',' order by place) || ']', '[]') collate "C" from (
      select cast(element as text) as part, place from json_array_elements(cast(${column} as json)) with ordinality as e (element, place)
      order by place limit ${count}) as parts)`,
  );
