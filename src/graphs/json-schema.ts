/**
 * TypeScript types as JSON schemas (draft-07): what JSON.stringify makes of a value of the type. A generator from npm
 * (typescript-json-schema) misread what states are made of: dictionaries, messages, private fields.
 */
import ts from "typescript-5";
import type { JsonObject } from "../schemas/common.ts";
import { MESSAGE_SCHEMA } from "../schemas/graphs.ts";

type Schema = JsonObject;

/** Anything at all. */
const ANY: Schema = {};
/** Types refer to types: a schema has to end somewhere. */
const MAX_DEPTH = 16;
const MAX_OBJECTS = 2000;

/** The schema of a type on its own; undefined when the type says nothing. */
export function rootSchema(program: ts.Program, type: ts.Type): Schema | undefined {
  if (type.flags & (ts.TypeFlags.Any | ts.TypeFlags.Unknown | ts.TypeFlags.Never | ts.TypeFlags.VoidLike))
    return undefined;
  const writer = new SchemaWriter(program);
  const schema = writer.write(type, 0);
  const keywords = Object.keys(schema);
  if (keywords.length === 0 || (keywords.length === 1 && schema.type === "object")) return undefined;
  const definitions = Object.keys(writer.definitions).length > 0 ? { definitions: writer.definitions } : {};
  return { $schema: "http://json-schema.org/draft-07/schema#", ...schema, ...definitions };
}

class SchemaWriter {
  /** Types that refer to themselves, by name. */
  readonly definitions: Record<string, Schema> = {};
  readonly #program: ts.Program;
  readonly #checker: ts.TypeChecker;
  /** Objects being written, outermost first, with the name of those that have been referred to from inside. */
  readonly #open = new Map<ts.Type, string | undefined>();
  readonly #names = new Map<ts.Type, string>();
  #objects = 0;

  constructor(program: ts.Program) {
    this.#program = program;
    this.#checker = program.getTypeChecker();
  }

  write(type: ts.Type, depth: number): Schema {
    if (depth > MAX_DEPTH) return ANY;
    if (type.isUnion()) {
      const write = (): Schema => this.#union(type.types, depth);
      return type.aliasSymbol === undefined ? write() : this.#recursive(type, write);
    }
    if (type.isStringLiteral() || type.isNumberLiteral()) return literals([type.value]);
    const { flags } = type;
    if (flags & ts.TypeFlags.BooleanLiteral) return literals([this.#isTrue(type)]);
    if (flags & ts.TypeFlags.StringLike) return { type: "string" };
    if (flags & ts.TypeFlags.NumberLike) return { type: "number" };
    if (flags & ts.TypeFlags.BooleanLike) return { type: "boolean" };
    if (flags & ts.TypeFlags.Null) return { type: "null" };
    if (flags & ts.TypeFlags.NonPrimitive) return { type: "object" };
    if (flags & (ts.TypeFlags.Object | ts.TypeFlags.Intersection)) return this.#object(type, depth);
    return ANY;
  }

  #union(types: readonly ts.Type[], depth: number): Schema {
    const shown = types.filter((type) => !isUndefined(type) && !this.#isOverwrite(type));
    const nullable = shown.some((type) => type.flags & ts.TypeFlags.Null) ? [{ type: "null" }] : [];
    if (shown.some((type) => this.#isMessages(type))) return anyOf([listOf(MESSAGE_SCHEMA), ...nullable]);
    if (shown.some((type) => this.#isMessage(type))) return anyOf([MESSAGE_SCHEMA, ...nullable]);
    const values = shown.flatMap((type) => this.#literal(type));
    const rest = shown.filter((type) => this.#literal(type).length === 0 && !(type.flags & ts.TypeFlags.Null));
    const others = rest.map((type) => this.write(type, depth + 1));
    // What may be anything makes the whole of it anything.
    if (others.some((schema) => Object.keys(schema).length === 0)) return ANY;
    const isBoolean = values.includes(true) && values.includes(false);
    const named = isBoolean ? values.filter((value) => typeof value !== "boolean") : values;
    return anyOf([
      ...(isBoolean ? [{ type: "boolean" }] : []),
      ...(named.length > 0 ? [literals(named)] : []),
      ...others,
      ...nullable,
    ]);
  }

  #literal(type: ts.Type): (string | number | boolean)[] {
    if (type.isStringLiteral() || type.isNumberLiteral()) return [type.value];
    return type.flags & ts.TypeFlags.BooleanLiteral ? [this.#isTrue(type)] : [];
  }

  #isTrue(type: ts.Type): boolean {
    return this.#checker.typeToString(type) === "true";
  }

  #object(type: ts.Type, depth: number): Schema {
    if (this.#isMessage(type)) return MESSAGE_SCHEMA;
    if (this.#checker.isTupleType(type)) return this.#tuple(type as ts.TupleTypeReference, depth);
    if (this.#checker.isArrayType(type)) return listOf(this.#element(type, depth));
    const asJson = this.#toJson(type);
    if (asJson !== undefined) return isDate(type) ? DATE : this.write(asJson, depth + 1);
    // Maps, promises, functions, buffers: JSON has no such thing, or not what the type says.
    if (type.getCallSignatures().length > 0 || this.#isBuiltIn(type)) return ANY;
    return this.#recursive(type, () => this.#members(type, depth));
  }

  /** Writes a type in place, or as a definition when it turns out to refer to itself. */
  #recursive(type: ts.Type, write: () => Schema): Schema {
    if (this.#names.has(type)) return refTo(this.#names.get(type) ?? "");
    if (this.#open.has(type)) {
      const name = this.#open.get(type) ?? this.#nameOf(type);
      this.#open.set(type, name);
      return refTo(name);
    }
    if (++this.#objects > MAX_OBJECTS) return ANY;
    this.#open.set(type, undefined);
    const schema = write();
    const name = this.#open.get(type);
    this.#open.delete(type);
    if (name === undefined) return schema;
    this.#names.set(type, name);
    this.definitions[name] = schema;
    return refTo(name);
  }

  #nameOf(type: ts.Type): string {
    const base = (type.aliasSymbol ?? type.symbol)?.name.replace(/^__|\W/g, "") || "type";
    const taken = new Set([...Object.keys(this.definitions), ...this.#open.values()]);
    for (let number = 1; ; number += 1) {
      const name = number === 1 ? base : `${base}${number}`;
      if (!taken.has(name)) return name;
    }
  }

  #members(type: ts.Type, depth: number): Schema {
    const properties: Record<string, Schema> = {};
    const required: string[] = [];
    for (const property of this.#checker.getPropertiesOfType(type)) {
      const value = this.#checker.getTypeOfSymbol(property);
      if (!isPublic(property) || value.getCallSignatures().length > 0) continue;
      const description = ts.displayPartsToString(property.getDocumentationComment(this.#checker));
      properties[property.name] = { ...this.write(value, depth + 1), ...(description === "" ? {} : { description }) };
      if (!(property.flags & ts.SymbolFlags.Optional) && !mayBeUndefined(value)) required.push(property.name);
    }
    const index = this.#checker.getIndexInfoOfType(type, ts.IndexKind.String);
    const other = index && this.write(index.type, depth + 1);
    return {
      type: "object",
      ...(Object.keys(properties).length > 0 ? { properties } : {}),
      ...(required.length > 0 ? { required } : {}),
      ...(other === undefined || Object.keys(other).length === 0 ? {} : { additionalProperties: other }),
    };
  }

  #tuple(type: ts.TupleTypeReference, depth: number): Schema {
    const { minLength, combinedFlags } = type.target;
    const items = this.#checker.getTypeArguments(type).map((each) => this.write(each, depth + 1));
    if (combinedFlags & ts.ElementFlags.Variable) return { type: "array", minItems: minLength };
    return { type: "array", items, minItems: minLength, maxItems: items.length };
  }

  #element(type: ts.Type, depth: number): Schema {
    const [element] = this.#checker.getTypeArguments(type as ts.TypeReference);
    return element === undefined ? ANY : this.write(element, depth + 1);
  }

  #isMessage(type: ts.Type): boolean {
    return ["content", "additional_kwargs", "response_metadata"].every((name) => type.getProperty(name) !== undefined);
  }

  /** A list that messages may be in: what reducers of messages keep and take. */
  #isMessages(type: ts.Type): boolean {
    if (!this.#checker.isArrayType(type)) return false;
    const [element] = this.#checker.getTypeArguments(type as ts.TypeReference);
    const each = element?.isUnion() ? element.types : [element];
    return each.some((one) => one !== undefined && this.#isMessage(one));
  }

  /** What a node returns to replace a whole list: no input that a client would send. */
  #isOverwrite(type: ts.Type): boolean {
    return type.getProperty("__overwrite__") !== undefined;
  }

  /** What the type's own `toJSON` returns. */
  #toJson(type: ts.Type): ts.Type | undefined {
    const method = type.getProperty("toJSON");
    const [signature] = method === undefined ? [] : this.#checker.getTypeOfSymbol(method).getCallSignatures();
    return signature?.getReturnType();
  }

  #isBuiltIn({ symbol, aliasSymbol }: ts.Type): boolean {
    // `Record` and `Partial` are built in too, but only as a way to write a type down.
    if (aliasSymbol !== undefined || symbol === undefined || symbol.flags & ts.SymbolFlags.TypeLiteral) return false;
    const declared = symbol.declarations ?? [];
    return declared.some((node) => this.#program.isSourceFileDefaultLibrary(node.getSourceFile()));
  }
}

const DATE: Schema = { type: "string", format: "date-time" };
const isDate = (type: ts.Type): boolean => type.symbol?.name === "Date";

const listOf = (items: Schema): Schema => ({ type: "array", items });
const refTo = (name: string): Schema => ({ $ref: `#/definitions/${name}` });

function literals(values: readonly (string | number | boolean)[]): Schema {
  const types = [...new Set(values.map((value) => typeof value))];
  const type = types.length === 1 ? { type: types[0] } : {};
  return values.length === 1 ? { ...type, const: values[0] } : { ...type, enum: values };
}

function anyOf(schemas: readonly Schema[]): Schema {
  const [only] = schemas;
  if (only === undefined) return ANY;
  return schemas.length === 1 ? only : { anyOf: schemas };
}

const isUndefined = (type: ts.Type): boolean => (type.flags & (ts.TypeFlags.Undefined | ts.TypeFlags.Void)) !== 0;
const mayBeUndefined = (type: ts.Type): boolean =>
  isUndefined(type) || (type.isUnion() && type.types.some(isUndefined));

/** Not private, not a `#field`, not named by a symbol. */
function isPublic(property: ts.Symbol): boolean {
  if (/^__[@#]/.test(String(property.escapedName))) return false;
  const hidden = ts.ModifierFlags.Private | ts.ModifierFlags.Protected;
  return (property.declarations ?? []).every((node) => !(ts.getCombinedModifierFlags(node as ts.Declaration) & hidden));
}
