/** What the metadata of a row must be like for somebody to see it. */

export type Atom = string | number | boolean | null;

export type MetadataFilter =
  | { readonly kind: "equals"; readonly key: string; readonly value: Atom }
  /** The member is a list that has all of these. */
  | { readonly kind: "contains"; readonly key: string; readonly values: readonly Atom[] }
  | { readonly kind: "all" | "any"; readonly of: readonly MetadataFilter[] };

/** The members it looks at. */
export function keysIn(filter: MetadataFilter): readonly string[] {
  return "of" in filter ? filter.of.flatMap(keysIn) : [filter.key];
}

/** Members that must be equal whatever else must hold; and what else must hold, null for nothing. */
export function split(filter: MetadataFilter): {
  readonly equal: readonly (readonly [key: string, value: Atom])[];
  readonly rest: MetadataFilter | null;
} {
  const parts = filter.kind === "all" ? filter.of : [filter];
  const equal = parts.flatMap((part) => (part.kind === "equals" ? [[part.key, part.value] as const] : []));
  const others = parts.filter(({ kind }) => kind !== "equals");
  return { equal, rest: others.length === 0 ? null : { kind: "all", of: others } };
}
