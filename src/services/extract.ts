/** Single values out of a thread, by paths such as `values.messages[-1].content`. */

/** What the path leads to; null when it leads nowhere. A negative index counts from the end. */
export function valueAt(root: Readonly<Record<string, unknown>>, path: string): unknown {
  let value: unknown = root;
  for (const [, name, index] of path.matchAll(/([^.[\]]+)|\[(-?\d+)\]/g)) {
    value = index === undefined ? memberOf(value, name ?? "") : itemOf(value, Number(index));
  }
  return value ?? null;
}

function memberOf(value: unknown, name: string): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
  if (!Object.hasOwn(value, name)) return undefined;
  return (value as Record<string, unknown>)[name];
}

const itemOf = (value: unknown, index: number): unknown => (Array.isArray(value) ? value.at(index) : undefined);
