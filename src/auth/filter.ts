/** What handlers return, as a filter. Pure. A filter that is not understood must never let everything through. */
import type { Atom, MetadataFilter } from "../storage/filter.ts";

/** A handler returned what cannot be taken for a filter. */
export class FilterError extends Error {}

/** Conditions deeper than anybody writes. */
const MOST_LEVELS = 10;

/** Throws FilterError. */
export function parseFilter(given: Readonly<Record<string, unknown>>, path = "", level = 0): MetadataFilter {
  if (level > MOST_LEVELS) throw new FilterError(`${path} is nested too deep`);
  const of = Object.entries(given).map(([key, wanted]) => {
    const at = path === "" ? key : `${path}.${key}`;
    if (key === "$and" || key === "$or") return junction(key === "$and" ? "all" : "any", wanted, at, level);
    if (key.startsWith("$")) throw new FilterError(`${at}: there is no such operator here`);
    return condition(key, wanted, at);
  });
  const [first] = of;
  return of.length === 1 && first !== undefined ? first : { kind: "all", of };
}

function junction(kind: "all" | "any", wanted: unknown, at: string, level: number): MetadataFilter {
  if (!Array.isArray(wanted) || wanted.length === 0)
    throw new FilterError(`${at} takes a list of filters that is not empty`);
  const of = wanted.map((each: unknown, i) => {
    if (!isRecord(each) || Object.keys(each).length === 0) throw new FilterError(`${at}.${i} is no filter`);
    return parseFilter(each, `${at}.${i}`, level + 1);
  });
  return { kind, of };
}

function condition(key: string, wanted: unknown, at: string): MetadataFilter {
  if (!isRecord(wanted)) return { kind: "equals", key, value: atom(wanted, at) };
  const [[operator, value] = [], ...others] = Object.entries(wanted);
  if (operator === "$eq" && others.length === 0) return { kind: "equals", key, value: atom(value, `${at}.$eq`) };
  if (operator === "$contains" && others.length === 0)
    return { kind: "contains", key, values: atoms(value, `${at}.$contains`) };
  throw new FilterError(`${at} takes a value, or one of $eq and $contains`);
}

function atoms(value: unknown, at: string): readonly Atom[] {
  const values: readonly unknown[] = Array.isArray(value) ? value : [value];
  if (values.length === 0) throw new FilterError(`${at} names nothing`);
  return values.map((each) => atom(each, at));
}

/** Undefined is what a misspelt member of a user is: it must not fall out of the filter. */
function atom(value: unknown, at: string): Atom {
  if (value === null || typeof value === "string" || typeof value === "boolean") return value;
  if (typeof value === "number" && Number.isFinite(value)) return value;
  throw new FilterError(
    `${at} is ${value === undefined ? "undefined" : `a ${typeof value}`}, not a text, number, true, false or null`,
  );
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
