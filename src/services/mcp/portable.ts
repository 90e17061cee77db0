/**
 * Schemas of graphs as every client can read them. Clients compile all tools' schemas at once, by draft 7 mostly, and one that does
 * not compile takes all tools away: what drafts disagree about is left out, because the graph checks its input itself. Pure.
 */
import { isObject } from "../run-output.ts";

export type Schema = Readonly<Record<string, unknown>>;

/** Keywords whose members are schemas by name, and those whose values are data. */
const NAMED = new Set(["properties", "patternProperties", "dependentSchemas", "$defs", "definitions"]);
const DATA = new Set(["default", "const", "enum", "examples"]);
/** The dialect, and names that would be those of other tools' schemas too. */
const LEFT_OUT = new Set(["$schema", "$id", "id"]);

/** `at` is where the schema stands in the tool's, as a JSON pointer. */
export function portable(schema: Schema, at = "#"): Schema {
  return document(schema, at, at);
}

/** LangGraph puts whole documents into a state's properties: what they refer to is in them. `root` is where the document begins. */
function document(schema: Schema, root: string, at: string): Schema {
  const base = "$schema" in schema ? at : root;
  const entries = Object.entries(schema).flatMap(([keyword, value]): [string, unknown][] => {
    if (LEFT_OUT.has(keyword) || (keyword === "pattern" && !isPattern(value))) return [];
    if (keyword === "$ref") return [[keyword, moved(value, base)]];
    if (DATA.has(keyword)) return [[keyword, value]];
    const place = `${at}/${keyword}`;
    return [[keyword, NAMED.has(keyword) && isObject(value) ? named(value, base, place) : inner(value, base, place)]];
  });
  return withoutTuple(Object.fromEntries(entries));
}

function named(schemas: Schema, root: string, at: string): Schema {
  const entries = Object.entries(schemas).filter(([name]) => !at.endsWith("/patternProperties") || isPattern(name));
  return Object.fromEntries(entries.map(([name, value]) => [name, inner(value, root, `${at}/${escaped(name)}`)]));
}

function inner(value: unknown, root: string, at: string): unknown {
  if (Array.isArray(value)) return value.map((each, index) => inner(each, root, `${at}/${index}`));
  return isObject(value) ? document(value, root, at) : value;
}

const moved = (ref: unknown, root: string): unknown =>
  typeof ref === "string" && ref.startsWith("#") ? `${root}${ref.slice(1)}` : ref;

const escaped = (name: string): string => encodeURIComponent(name.replaceAll("~", "~0").replaceAll("/", "~1"));

/** JSON Schema reads patterns as JavaScript does under the flag `u`, and zod writes them as they are. */
function isPattern(pattern: unknown): boolean {
  try {
    return new RegExp(String(pattern), "u") instanceof RegExp;
  } catch (error) {
    if (error instanceof SyntaxError) return false;
    throw error;
  }
}

/** `items` beside `prefixItems` are the rest of a tuple since 2020, and were all of a list before. */
function withoutTuple(schema: Schema): Schema {
  if (!Array.isArray(schema.prefixItems)) return schema;
  const { items, ...rest } = schema;
  return items === false ? { maxItems: schema.prefixItems.length, ...rest } : rest;
}
