/** Reads the OpenAPI document of any server into the words of `operations.ts`, as far as it says anything. */
import type { Kind } from "./operations.ts";

type Json = Readonly<Record<string, unknown>>;

/** What a schema allows; `kinds` empty when it says nothing, and so allows everything. */
export interface Shape {
  readonly kinds: ReadonlySet<Kind>;
  /** The scalars allowed, null when any. */
  readonly values: ReadonlySet<unknown> | null;
  readonly fields: ReadonlyMap<string, ServedField>;
  readonly items: Shape | null;
  /** Undefined when there is none. */
  readonly default: unknown;
  readonly limits: Readonly<Record<Limit, number | null>>;
}

export interface ServedField {
  readonly shape: Shape;
  readonly required: boolean;
}

export type Limit = "min" | "max" | "minSize" | "maxSize";

export interface ServedOperation {
  readonly params: ReadonlyMap<string, ServedField>;
  readonly query: ReadonlyMap<string, ServedField>;
  readonly headers: ReadonlyMap<string, ServedField>;
  readonly body: Shape | null;
  /** Content types by status. */
  readonly answers: ReadonlyMap<number, readonly string[]>;
}

const METHODS = ["get", "post", "put", "patch", "delete"];

/** The served operations by `GET /path/{}`: parameters of a path may have other names. */
export function readDocument(document: unknown): ReadonlyMap<string, ServedOperation> {
  const root = objectOf(document);
  const reader = new Reader(root);
  const found = Object.entries(objectOf(root.paths)).flatMap(([path, item]) =>
    METHODS.filter((method) => method in objectOf(item)).map((method): [string, ServedOperation] => [
      operationKey(method, path),
      reader.operation(objectOf(item), objectOf(objectOf(item)[method])),
    ]),
  );
  return new Map(found);
}

export const operationKey = (method: string, path: string): string =>
  `${method.toUpperCase()} ${path.replaceAll(/\{\w+\}/g, "{}")}`;

/** Enough for any real document, and an end for one that refers to itself. */
const MAX_DEPTH = 12;

const KIND_NAMES = new Set<unknown>(["string", "integer", "number", "boolean", "object", "array", "null"]);
const isKind = (name: unknown): name is Kind => KIND_NAMES.has(name);

class Reader {
  readonly #root: Json;

  constructor(root: Json) {
    this.#root = root;
  }

  operation(item: Json, operation: Json): ServedOperation {
    const parameters = [...listOf(item.parameters), ...listOf(operation.parameters)].map((one) => this.#resolve(one));
    const at = (place: string): ReadonlyMap<string, ServedField> =>
      new Map(
        parameters
          .filter((parameter) => parameter.in === place)
          .map((parameter) => [
            String(parameter.name),
            { shape: this.shape(parameter.schema), required: parameter.required === true },
          ]),
      );
    return { params: at("path"), query: at("query"), headers: at("header"), ...this.#bodies(operation) };
  }

  #bodies(operation: Json): Pick<ServedOperation, "body" | "answers"> {
    const body = objectOf(objectOf(this.#resolve(operation.requestBody).content)["application/json"]).schema;
    const answers = Object.entries(objectOf(operation.responses)).map(([status, answer]): [number, string[]] => [
      Number(status),
      Object.keys(objectOf(this.#resolve(answer).content)),
    ]);
    return { body: body === undefined ? null : this.shape(body), answers: new Map(answers) };
  }

  shape(schema: unknown, depth = 0): Shape {
    const own = this.#resolve(schema);
    const inner = (parts: readonly unknown[]): Shape[] =>
      depth > MAX_DEPTH ? [] : parts.map((part) => this.shape(part, depth + 1));
    const alternatives = inner([...listOf(own.anyOf), ...listOf(own.oneOf)]);
    const all = [this.#ownShape(own, depth), ...inner(listOf(own.allOf)), ...alternatives];
    const { kinds, default: fallback } = all[0] ?? NOTHING;
    // An alternative that says nothing allows everything.
    const open = kinds.size === 0 && alternatives.some((one) => one.kinds.size === 0);
    return {
      kinds: open ? new Set() : new Set(all.flatMap((one) => [...one.kinds])),
      values: valuesOf(all.slice(0, all.length - alternatives.length), alternatives),
      fields: new Map(all.flatMap((one) => [...one.fields])),
      items: all.find((one) => one.items !== null)?.items ?? null,
      default: fallback ?? all.find((one) => one.default !== undefined)?.default,
      limits: limitsOf(all),
    };
  }

  #ownShape(own: Json, depth: number): Shape {
    const values = "const" in own ? [own.const] : Array.isArray(own.enum) ? (own.enum as unknown[]) : null;
    const required = new Set(listOf(own.required));
    const properties = depth > MAX_DEPTH ? [] : Object.entries(objectOf(own.properties));
    return {
      kinds: new Set(declaredKinds(own, values)),
      values: values === null ? null : new Set(values.filter((value) => value !== null)),
      fields: new Map(
        properties.map(([name, schema]) => [
          name,
          { shape: this.shape(schema, depth + 1), required: required.has(name) },
        ]),
      ),
      items: own.items === undefined || depth > MAX_DEPTH ? null : this.shape(own.items, depth + 1),
      default: own.default,
      limits: {
        min: numberOf(own.minimum),
        max: numberOf(own.maximum),
        minSize: numberOf(own.minLength ?? own.minItems ?? own.minProperties),
        maxSize: numberOf(own.maxLength ?? own.maxItems ?? own.maxProperties),
      },
    };
  }

  #resolve(value: unknown): Json {
    let found = objectOf(value);
    for (let hops = 0; typeof found.$ref === "string" && hops < MAX_DEPTH; hops++) {
      const { $ref, ...beside } = found;
      const target = String($ref)
        .slice(2)
        .split("/")
        .reduce<unknown>((at, name) => objectOf(at)[name], this.#root);
      found = { ...objectOf(target), ...beside };
    }
    return found;
  }
}

const NOTHING: Pick<Shape, "kinds" | "default"> = { kinds: new Set(), default: undefined };

function declaredKinds(own: Json, values: readonly unknown[] | null): Kind[] {
  const declared = listOf(own.type ?? []).filter(isKind);
  const nullable: Kind[] = own.nullable === true ? ["null"] : [];
  if (declared.length > 0 || values === null) return [...declared, ...nullable];
  return values.map((value): Kind => (value === null ? "null" : (typeof value as Kind)));
}

/** What is said of the whole counts; else what all alternatives that take scalars say together. */
function valuesOf(whole: readonly Shape[], alternatives: readonly Shape[]): ReadonlySet<unknown> | null {
  const said = whole.find((one) => one.values !== null)?.values;
  if (said !== undefined) return said;
  const scalar = alternatives.filter((one) => [...one.kinds].some((kind) => SCALARS.has(kind)));
  const open = scalar.length === 0 || scalar.some((one) => one.values === null);
  return open ? null : new Set(scalar.flatMap((one) => [...(one.values ?? [])]));
}

const SCALARS = new Set<Kind>(["string", "integer", "number", "boolean"]);

function limitsOf(all: readonly Shape[]): Shape["limits"] {
  const first = (limit: Limit): number | null => all.find((one) => one.limits[limit] !== null)?.limits[limit] ?? null;
  return { min: first("min"), max: first("max"), minSize: first("minSize"), maxSize: first("maxSize") };
}

const objectOf = (value: unknown): Json =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : {};
const listOf = (value: unknown): readonly unknown[] =>
  value === undefined ? [] : Array.isArray(value) ? value : [value];
const numberOf = (value: unknown): number | null => (typeof value === "number" ? value : null);
