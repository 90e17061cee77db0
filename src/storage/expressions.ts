/**
 * The few expressions that differ between databases, and nothing else: today in SQLite's words.
 * `sql` fragments take values as parameters, so filters of clients never become SQL text.
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

/** The elements of a list, one row each; one parameter whatever the length, so the statement stays the same. */
export const listed = (values: RawBuilder<unknown> | string): RawBuilder<string> =>
  sql<string>`(select value from json_each(${values}))`;

/** The same for a list of pairs, to be compared with two columns at once. */
export const listedPairs = (values: string): RawBuilder<string> =>
  sql<string>`(select value ->> 0, value ->> 1 from json_each(${values}))`;

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
  const comparison = sql<SqlBool>`exists (select 1 from json_each(${column}) as member
    where member.key = ${key} and member.type in ${listed(types)} and member.value ${test} ${atom})`;
  const node: RawNode & MemberTest = {
    ...RawNode.create(["", ""], [comparison.toOperationNode()]),
    members: [key, ...namesIn(value)],
  };
  return sql<SqlBool>`${new ExpressionWrapper(node)}`;
}

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
  sql<string | null>`(select group_concat(each.${sql.ref(text)}, ',')
    from (select * from (${query}) order by ${sql.ref(order)}) as each)`;

/** Number of elements of a JSON array. */
export const lengthOf = (column: JsonColumn): RawBuilder<number> => sql<number>`json_array_length(${column})`;

/** An element of a JSON array of texts; from the end when the position is negative. */
export const elementAt = (column: JsonColumn, position: number): RawBuilder<string> =>
  sql<string>`json_extract(${column}, ${sql.lit(position < 0 ? `$[#${position}]` : `$[${position}]`)})`;

/** The first elements of a JSON array, as JSON text of an array. */
export const firstOf = (column: JsonColumn, count: number): RawBuilder<string> =>
  sql<string>`(select json_group_array(value) from (select value from json_each(${column}) order by key limit ${count}))`;
