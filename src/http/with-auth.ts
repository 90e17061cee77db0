/** The served document with what the project says of how clients log in. Pure. */
import { PUBLIC_PATHS } from "../auth/table.ts";
import type { AuthDocument } from "../config.ts";

type Members = Readonly<Record<string, unknown>>;
interface Document {
  readonly paths?: object;
  readonly components?: object;
}

/** The project's paths are merged into ours, member by member; public operations need nothing, others may be refused. */
export function withAuth(document: Document, { securitySchemes, security, paths }: AuthDocument): Document {
  const { components = {} } = document;
  const open = security === undefined ? {} : publicOperations(document.paths ?? {});
  return {
    ...document,
    ...(security === undefined ? {} : { security }),
    components: merged(components as Members, securitySchemes === undefined ? {} : { securitySchemes }),
    paths: merged(merged(refused((document.paths ?? {}) as Paths), open), paths ?? {}),
  };
}

type Paths = Readonly<Record<string, Readonly<Record<string, Members>>>>;

const schema = { $ref: "#/components/schemas/ErrorResponse" };
const content = { "application/json": { schema } };
/** By `authenticate`, or by a handler. */
const REFUSALS = {
  401: { description: "Who sends this is not known", content },
  403: { description: "Not allowed", content },
};

function refused(paths: Paths): Members {
  const refusable = (item: Paths[string]): Members =>
    Object.fromEntries(
      Object.entries(item).map(([method, operation]) => [
        method,
        { ...operation, responses: { ...(operation.responses as Members | undefined), ...REFUSALS } },
      ]),
    );
  return Object.fromEntries(
    Object.entries(paths).map(([path, item]) => [path, PUBLIC_PATHS.has(path) ? item : refusable(item)]),
  );
}

function publicOperations(paths: object): Members {
  const open = Object.entries(paths).filter(([path]) => PUBLIC_PATHS.has(path));
  return Object.fromEntries(
    open.map(([path, item]) => [
      path,
      Object.fromEntries(Object.keys(item as object).map((method) => [method, { security: [] }])),
    ]),
  );
}

function merged(base: Members, added: Members): Members {
  const both = Object.entries(added).map(([name, value]) => {
    const before = base[name];
    return [name, isMembers(before) && isMembers(value) ? merged(before, value) : value];
  });
  return { ...base, ...Object.fromEntries(both) };
}

const isMembers = (value: unknown): value is Members =>
  typeof value === "object" && value !== null && !Array.isArray(value);
