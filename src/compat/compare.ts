/** A served document against the list of operations: what is missing, what differs, what is more. Pure. */
import { isDeepStrictEqual } from "node:util";
import {
  type Limit,
  operationKey,
  readDocument,
  type ServedField,
  type ServedOperation,
  type Shape,
} from "./document.ts";
import type { Fields, Kind, ListedOperation, Tag, Value } from "./operations.ts";

export interface Difference {
  readonly tag: Tag;
  /** `POST /threads`. */
  readonly operation: string;
  /** `body.metadata`, `query.limit`, `answer.404`; empty for the whole operation. */
  readonly place: string;
  /** `extra`: the server takes or answers more than the list says, which breaks no client. */
  readonly kind: "missing" | "different" | "extra";
  readonly says: string;
}

type Finding = Pick<Difference, "place" | "kind" | "says">;

/** All differences, in the order of the list. */
export function compare(document: unknown, operations: readonly ListedOperation[]): readonly Difference[] {
  const served = readDocument(document);
  return operations.flatMap((operation) => {
    const found = served.get(operationKey(operation.method, operation.path));
    const findings =
      found === undefined ? [missing("", "the operation is not served")] : compareOperation(operation, found);
    const name = nameOf(operation);
    return findings.map((finding) => ({ tag: operation.tag, operation: name, ...finding }));
  });
}

export const nameOf = ({ method, path }: ListedOperation): string => `${method.toUpperCase()} ${path}`;

function compareOperation(listed: ListedOperation, served: ServedOperation): Finding[] {
  return [
    ...compareParams(listed.params, served.params),
    ...compareFields("query", listed.query, served.query),
    ...compareFields("header", listed.headers, served.headers),
    ...compareBody(listed.body, served.body),
    ...compareAnswers(listed, served.answers),
  ];
}

/** By position: what a path calls its parameters is not on the wire. */
function compareParams(listed: Fields, served: ServedOperation["params"]): Finding[] {
  const difference = Object.keys(listed).length - served.size;
  return difference > 0 ? [missing("path", `${difference} parameters are not described`)] : [];
}

function compareBody(listed: Value | null, served: Shape | null): Finding[] {
  if (listed === null) return served === null ? [] : [extra("body", "takes a body")];
  return served === null ? [missing("body", "takes no JSON body")] : compareValue("body", listed, served);
}

function compareFields(place: string, listed: Fields, served: ReadonlyMap<string, ServedField>): Finding[] {
  const byName = new Map([...served].map(([name, field]) => [nameIn(place, name), field]));
  const known = new Set(Object.keys(listed).map((name) => nameIn(place, name)));
  const more = [...served.keys()].filter((name) => !known.has(nameIn(place, name)));
  return [
    ...Object.entries(listed).flatMap(([name, value]) =>
      compareField(`${place}.${name}`, value, byName.get(nameIn(place, name))),
    ),
    ...more.map((name) => {
      const needed = served.get(name)?.required === true;
      return needed
        ? different(`${place}.${name}`, "is required, and no client sends it")
        : extra(`${place}.${name}`, "is taken too");
    }),
  ];
}

/** Names of headers do not differ in case. */
const nameIn = (place: string, name: string): string => (place === "header" ? name.toLowerCase() : name);

function compareField(place: string, listed: Value, served: ServedField | undefined): Finding[] {
  if (served === undefined) return [missing(place, "is not described")];
  const required = listed.required === true;
  const rule = required ? "is not required" : "is required";
  return [
    ...(served.required === required ? [] : [different(place, rule)]),
    ...compareValue(place, listed, served.shape),
  ];
}

function compareValue(place: string, listed: Value, served: Shape): Finding[] {
  return [
    ...compareKinds(place, listed.kinds, served.kinds),
    ...compareValues(place, listed, served),
    ...compareDefault(place, listed, served),
    ...compareLimits(place, listed, served),
    ...(listed.fields === undefined || isOpen(served) ? [] : compareFields(place, listed.fields, served.fields)),
    ...(listed.items === undefined || served.items === null
      ? []
      : compareValue(`${place}[]`, listed.items, served.items)),
  ];
}

/** A schema that says nothing takes everything. */
const isOpen = (served: Shape): boolean => served.kinds.size === 0;

function compareKinds(place: string, listed: readonly Kind[], served: ReadonlySet<Kind>): Finding[] {
  if (served.size === 0) return listed.includes("any") ? [] : [extra(place, "takes any JSON")];
  if (listed.includes("any")) return [different(place, `takes only ${[...served].join(", ")}, not any JSON`)];
  const lacking = listed.filter((kind) => !served.has(kind) && !(kind === "integer" && served.has("number")));
  // An explicit null stands for an absent value: no client is surprised.
  const more = [...served].filter(
    (kind) => kind !== "null" && !listed.includes(kind) && !(kind === "integer" && listed.includes("number")),
  );
  return [
    ...(lacking.length === 0 ? [] : [different(place, `does not take ${lacking.join(", ")}`)]),
    ...(more.length === 0 ? [] : [extra(place, `takes ${more.join(", ")} too`)]),
  ];
}

function compareValues(place: string, { values }: Value, served: Shape): Finding[] {
  if (values === undefined)
    return served.values === null ? [] : [different(place, `takes only ${[...served.values].join(", ")}`)];
  if (served.values === null) return [different(place, `does not say that it takes only ${values.join(", ")}`)];
  const taken = served.values;
  const lacking = values.filter((value) => !taken.has(value));
  const more = [...taken].filter((value) => !values.includes(value as string));
  return [
    ...(lacking.length === 0 ? [] : [missing(place, `does not take ${lacking.join(", ")}`)]),
    ...(more.length === 0 ? [] : [extra(place, `takes ${more.join(", ")} too`)]),
  ];
}

function compareDefault(place: string, listed: Value, served: Shape): Finding[] {
  if (!("default" in listed) || isDeepStrictEqual(listed.default, served.default)) return [];
  // One word and a list of that one word are the same where both are taken.
  if (isDeepStrictEqual(listed.default, [served.default])) return [];
  const told = served.default === undefined ? "has none" : `has ${JSON.stringify(served.default)}`;
  return [different(place, `its default is ${JSON.stringify(listed.default)}, the document ${told}`)];
}

const LIMITS: readonly Limit[] = ["min", "max", "minSize", "maxSize"];

function compareLimits(place: string, listed: Value, served: Shape): Finding[] {
  return LIMITS.flatMap((limit) => {
    const [want, has] = [listed[limit], served.limits[limit]];
    return want === undefined || want === has
      ? []
      : [different(place, `its ${limit} is ${want}, the document has ${has ?? "none"}`)];
  });
}

function compareAnswers(listed: ListedOperation, answers: ServedOperation["answers"]): Finding[] {
  const types = listed.success === null ? [] : answers.get(listed.success);
  const lacking = listed.types.filter((type) => types !== undefined && !types.includes(type));
  const errors = listed.errors.filter((status) => !answers.has(status));
  const known = new Set<number | null>([listed.success, ...listed.errors]);
  return [
    ...(types === undefined ? [missing(`answer.${listed.success}`, "is not described")] : []),
    ...lacking.map((type) => missing(`answer.${listed.success}`, `does not answer as ${type}`)),
    ...errors.map((status) => missing(`answer.${status}`, "is not described")),
    ...[...answers.keys()]
      .filter((status) => !known.has(status))
      .map((status) => extra(`answer.${status}`, "is answered too")),
  ];
}

const finding =
  (kind: Difference["kind"]) =>
  (place: string, says: string): Finding => ({ place, kind, says });
const missing = finding("missing");
const different = finding("different");
const extra = finding("extra");
