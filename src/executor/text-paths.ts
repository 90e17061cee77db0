/**
 * The texts of a JSON value that are worth a vector, named by paths as LangGraph's stores write them: `title`, `meta.title`,
 * `chapters[*].content`, `authors[0]`, `authors[-1]`, `{title,summary}`, `*`, and `$` for the whole value.
 */

/** Texts at a path; several for a path with a wildcard, none where the value has nothing there. */
export function textsAt(value: unknown, path: string): string[] {
  return follow(value, tokens(path.replace(/^\$\.?/, "")));
}

function follow(value: unknown, path: readonly string[]): string[] {
  const [token, ...rest] = path;
  if (token === undefined) return textOf(value);
  return membersAt(value, token).flatMap((member) => follow(member, rest));
}

function membersAt(value: unknown, token: string): unknown[] {
  if (typeof value !== "object" || value === null) return [];
  if (token === "*") return Object.values(value);
  if (token.startsWith("{")) {
    const fields = token.slice(1, -1).split(",");
    return fields.flatMap((field) => nestedMember(value, tokens(field.trim())));
  }
  if (!token.startsWith("[")) return own(value, token);
  if (!Array.isArray(value)) return [];
  const index = token.slice(1, -1);
  if (index === "*") return value;
  return /^-?\d+$/.test(index) ? [value.at(Number(index))] : [];
}

const nestedMember = (value: unknown, path: readonly string[]): unknown[] =>
  path.reduce<unknown[]>((found, token) => found.flatMap((member) => membersAt(member, token)), [value]);

const own = (value: object, key: string): unknown[] =>
  Object.hasOwn(value, key) ? [(value as Record<string, unknown>)[key]] : [];

function textOf(value: unknown): string[] {
  if (value === null || value === undefined) return [];
  return [typeof value === "object" ? JSON.stringify(value, null, 2) : String(value)];
}

/** `a.b[*].{c,d}` → `a`, `b`, `[*]`, `{c,d}`. */
const tokens = (path: string): string[] => path.match(/\[[^\]]*\]|\{[^}]*\}|[^.[{]+/g) ?? [];
