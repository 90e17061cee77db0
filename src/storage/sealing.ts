/**
 * Encryption at rest, at one seam: values are sealed where a query names its parameters (a Kysely plugin, so every insert
 * and update is covered, prepared or not) and opened where rows come out of the connection. Tables know nothing of it.
 * Without a key none of this is installed.
 */
import {
  type BinaryOperationNode,
  ColumnNode,
  ColumnUpdateNode,
  type DeleteQueryNode,
  type InsertQueryNode,
  type KyselyPlugin,
  type OnConflictNode,
  type OperationNode,
  OperationNodeTransformer,
  PrimitiveValueListNode,
  RawNode,
  ReferenceNode,
  type RootOperationNode,
  type SelectQueryNode,
  TableNode,
  type UpdateQueryNode,
  ValueListNode,
  ValueNode,
  ValuesNode,
  type WhereNode,
} from "kysely";
import { invalid } from "../errors.ts";
import type { Cipher } from "./cipher.ts";
import { inPostgres, isMemberTest, namesIn } from "./expressions.ts";
import { Slot } from "./prepared.ts";
import { ALWAYS_SEALED, KEEPING, type Keeping, SEARCHED_BY } from "./sealed-columns.ts";
import type { Search } from "./storage.ts";
import { asArrayText } from "./vectors.ts";

export interface Sealing {
  readonly cipher: Cipher;
  /** Members of JSON columns whose values are sealed. */
  readonly jsonKeys: readonly string[];
}

type Transform = (value: unknown) => unknown;

/* --------------------------------------------------------------------------------- out */

/** What comes out of a row: sealed values opened, others as they are. */
export function opener({ cipher }: Sealing): Transform {
  return (value) => {
    if (typeof value === "string") {
      if (!cipher.marks(value)) return value;
      return cipher.openText(value) ?? openMembers(cipher, value);
    }
    return value instanceof Uint8Array ? (cipher.openBytes(value) ?? value) : value;
  };
}

function openMembers(cipher: Cipher, text: string): string {
  const opened = JSON.parse(text, (_, value: unknown) => {
    const plain = typeof value === "string" ? cipher.openText(value) : undefined;
    return plain === undefined ? value : JSON.parse(plain);
  });
  return JSON.stringify(opened);
}

/* ---------------------------------------------------------------------------------- in */

/** How a value of this column goes in; undefined when it goes in as it is. */
type SealerOf = (table: string, column: string) => Transform | undefined;

const textAsBytes: Transform = (value) => (typeof value === "string" ? Buffer.from(value) : value);
const vectorAsArray: Transform = (value) => (value instanceof Uint8Array ? asArrayText(value) : value);

/**
 * PostgreSQL's columns hold what their type says: text in a column of bytes is its UTF-8, which readers take as well, and a
 * vector is an array.
 */
const inPostgresColumns =
  (sealing: Sealing | null): SealerOf =>
  (table, column) => {
    if (table === "store_vectors" && column === "embedding") return vectorAsArray;
    if (sealing !== null) return sealerOf(table, column, sealing);
    return keepingOf(table, column) === "bytes" ? textAsBytes : undefined;
  };

function sealerOf(table: string, column: string, { cipher, jsonKeys }: Sealing): Transform | undefined {
  const members = [...jsonKeys, ...(ALWAYS_SEALED[`${table}.${column}`] ?? [])];
  switch (keepingOf(table, column)) {
    case "plain":
      return undefined;
    case "text":
      return (value) => (typeof value === "string" ? cipher.sealText(value) : value);
    case "bytes":
      return (value) => (typeof value === "string" || value instanceof Uint8Array ? cipher.sealBytes(value) : value);
    case "members":
      if (members.length === 0) return undefined;
      return (value) => (typeof value === "string" ? sealMembers(cipher, new Set(members), value) : value);
  }
}

function keepingOf(table: string, column: string): Keeping {
  return (KEEPING as Readonly<Record<string, Readonly<Record<string, Keeping>>>>)[table]?.[column] ?? "plain";
}

function sealMembers(cipher: Cipher, members: ReadonlySet<string>, text: string): string {
  // Parsing costs; JSON without such a name is the rule.
  if (![...members].some((name) => text.includes(JSON.stringify(name)))) return text;
  const seal = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(seal);
    if (typeof value !== "object" || value === null) return value;
    const entries = Object.entries(value).map(([name, inner]) => [
      name,
      members.has(name) ? cipher.sealText(JSON.stringify(inner)) : seal(inner),
    ]);
    return Object.fromEntries(entries);
  };
  return JSON.stringify(seal(JSON.parse(text)));
}

/** Seals parameters where they are bound to a column that is kept sealed, and refuses to search such a column. */
export function sealingPlugin(sealing: Sealing): KyselyPlugin {
  return pluginBy(new SealingTransformer(sealing, (table, column) => sealerOf(table, column, sealing)));
}

/** The same on PostgreSQL, where values are brought into the shape of their column also when nothing is sealed. */
export function postgresPlugin(sealing: Sealing | null): KyselyPlugin {
  return pluginBy(new SealingTransformer(sealing, inPostgresColumns(sealing)));
}

function pluginBy(transformer: SealingTransformer): KyselyPlugin {
  return {
    transformQuery: ({ node }): RootOperationNode => {
      // A query in SQL does not say its tables.
      if (RawNode.is(node)) transformer.refuseSearch(membersIn(node), Object.keys(KEEPING));
      return transformer.transformNode(node);
    },
    transformResult: async ({ result }) => result,
  };
}

/** Kysely copies the members of nodes that it knows of: those that are ours are carried along. */
abstract class DialectTransformer extends OperationNodeTransformer {
  protected override transformRaw(node: RawNode): RawNode {
    const copy = super.transformRaw(node);
    const postgres = inPostgres(node);
    return postgres === undefined ? copy : ({ ...copy, postgres: this.transformNode(postgres) } as RawNode);
  }
}

/** Every value inside is sealed: `coalesce(?, "column")` as much as `?`. Of a query inside, what it selects. */
class ParameterTransformer extends DialectTransformer {
  readonly #seal: Transform;

  constructor(seal: Transform) {
    super();
    this.#seal = seal;
  }

  protected override transformSelectQuery(node: SelectQueryNode): SelectQueryNode {
    return { ...node, ...(node.selections && { selections: this.transformNodeList(node.selections) }) };
  }

  protected override transformValue(node: ValueNode): ValueNode {
    return { ...super.transformValue(node), value: through(node.value, this.#seal) };
  }
}

const through = (value: unknown, seal: Transform): unknown =>
  value instanceof Slot ? value.through(seal) : seal(value);

class SealingTransformer extends DialectTransformer {
  readonly #sealing: Sealing | null;
  readonly #sealerOf: SealerOf;

  /** Without a sealing nothing is refused: everything can be compared. */
  constructor(sealing: Sealing | null, sealerOf: SealerOf) {
    super();
    this.#sealing = sealing;
    this.#sealerOf = sealerOf;
  }

  protected override transformInsertQuery(node: InsertQueryNode): InsertQueryNode {
    const [table] = tablesOf(node.into);
    const inner = super.transformInsertQuery(node);
    if (table === undefined) return inner;
    const seals = (node.columns ?? []).map(({ column }) => this.#sealerOf(table, column.name));
    return {
      ...inner,
      ...(inner.values === undefined ? {} : { values: sealRows(inner.values, seals) }),
      ...(inner.onConflict === undefined ? {} : { onConflict: this.#sealConflict(table, inner.onConflict) }),
    };
  }

  protected override transformUpdateQuery(node: UpdateQueryNode): UpdateQueryNode {
    const [table] = tablesOf(node.table);
    this.#refuseWhere(node.where, tablesOf(node.table));
    const inner = super.transformUpdateQuery(node);
    if (table === undefined || inner.updates === undefined) return inner;
    return { ...inner, updates: inner.updates.map((update) => this.#sealUpdate(table, update)) };
  }

  protected override transformSelectQuery(node: SelectQueryNode): SelectQueryNode {
    const joined = node.joins?.map(({ table }) => table) ?? [];
    this.#refuseWhere(node.where, [...(node.from?.froms ?? []), ...joined].flatMap(tablesOf));
    return super.transformSelectQuery(node);
  }

  protected override transformDeleteQuery(node: DeleteQueryNode): DeleteQueryNode {
    this.#refuseWhere(node.where, node.from.froms.flatMap(tablesOf));
    return super.transformDeleteQuery(node);
  }

  #sealConflict(table: string, node: OnConflictNode): OnConflictNode {
    if (node.updates === undefined) return node;
    return { ...node, updates: node.updates.map((update) => this.#sealUpdate(table, update)) };
  }

  #sealUpdate(table: string, update: ColumnUpdateNode): ColumnUpdateNode {
    const [named] = columnsIn(update.column);
    const seal = named === undefined ? undefined : this.#sealerOf(table, named.column);
    if (seal === undefined) return update;
    return ColumnUpdateNode.create(update.column, new ParameterTransformer(seal).transformNode(update.value));
  }

  #refuseWhere(where: WhereNode | undefined, tables: readonly string[]): void {
    if (where !== undefined && this.#sealing !== null) this.refuseSearch(columnsIn(where), tables);
  }

  /** What is sealed cannot be compared: a search that silently found nothing would be wrong. */
  refuseSearch(columns: readonly Named[], tables: readonly string[]): void {
    const { jsonKeys } = this.#sealing ?? {};
    if (jsonKeys === undefined) return;
    for (const { table, column, members } of columns) {
      for (const owner of table === undefined || !(table in KEEPING) ? tables : [table]) {
        refuseColumn(owner, column);
        if (keepingOf(owner, column) !== "members") continue;
        const always = ALWAYS_SEALED[`${owner}.${column}`] ?? [];
        refuseMembers(column, members, [...jsonKeys, ...always]);
      }
    }
  }
}

/** For searches that go their own way through indexes: throws when they need what is sealed. */
export function refuseSearch({ jsonKeys }: Sealing, { metadata, values }: Search): void {
  if (values != null && Object.keys(values).length > 0) refuseColumn("thread_values", "values");
  refuseMembers("metadata", namesIn(metadata), jsonKeys);
}

function refuseColumn(table: string, column: string): void {
  const keeping = keepingOf(table, column);
  if (keeping !== "text" && keeping !== "bytes") return;
  const field = SEARCHED_BY[`${table}.${column}`] ?? column;
  throw invalid(field, "cannot be searched, because what it looks into is encrypted at rest (LANGGRAPH_AES_KEY)");
}

function refuseMembers(column: string, members: readonly string[], sealed: readonly string[]): void {
  const name = members.find((member) => sealed.includes(member));
  if (name === undefined) return;
  throw invalid(
    `${column}.${name}`,
    "cannot be searched, because its values are encrypted at rest (LANGGRAPH_AES_JSON_KEYS)",
  );
}

function sealRows(values: OperationNode, seals: readonly (Transform | undefined)[]): OperationNode {
  if (values.kind === "SelectQueryNode") return sealSelected(values as SelectQueryNode, seals);
  if (!ValuesNode.is(values)) return values;
  return ValuesNode.create(
    values.values.map((row) => {
      if (PrimitiveValueListNode.is(row)) {
        return PrimitiveValueListNode.create(
          row.values.map((value, index) => {
            const seal = seals[index];
            return seal === undefined ? value : through(value, seal);
          }),
        );
      }
      return ValueListNode.create(
        row.values.map((value, index) => {
          const seal = seals[index];
          return seal === undefined ? value : new ParameterTransformer(seal).transformNode(value);
        }),
      );
    }),
  );
}

/** `insert … select`: columns come sealed from where they are, values of the query do not. */
function sealSelected(node: SelectQueryNode, seals: readonly (Transform | undefined)[]): SelectQueryNode {
  const selections = node.selections?.map((selection, index) => {
    const seal = seals[index];
    return seal === undefined ? selection : new ParameterTransformer(seal).transformNode(selection);
  });
  return { ...node, ...(selections && { selections }) };
}

/* ------------------------------------------------------------------- what a query names */

interface Named {
  /** As the query says; undefined when it does not. */
  readonly table: string | undefined;
  readonly column: string;
  /** Members of the JSON that are compared. */
  readonly members: readonly string[];
}

function tablesOf(node: OperationNode | undefined): string[] {
  if (node === undefined) return [];
  if (TableNode.is(node)) return [node.table.identifier.name];
  return node.kind === "AliasNode" ? tablesOf((node as OperationNode & { readonly node: OperationNode }).node) : [];
}

/** Columns that are compared. Subqueries are left out: they are queries of their own. That a column is null can be seen of any. */
function columnsIn(node: OperationNode, members: readonly string[] = []): Named[] {
  if (node.kind === "SelectQueryNode" || isNullTest(node)) return [];
  if (ReferenceNode.is(node)) {
    const [table] = tablesOf(node.table);
    return columnsIn(node.column, members).map((named) => ({ ...named, table }));
  }
  if (ColumnNode.is(node)) return [{ table: undefined, column: node.column.name, members }];
  const inside = isMemberTest(node) ? node.members : members;
  return Object.values(node)
    .flat()
    .filter((part): part is OperationNode => typeof part === "object" && part !== null && "kind" in part)
    .flatMap((part) => columnsIn(part, inside));
}

/** Columns whose members are compared, wherever in a query. */
function membersIn(node: OperationNode): Named[] {
  return columnsIn(node).filter(({ members }) => members.length > 0);
}

function isNullTest(node: OperationNode): boolean {
  if (node.kind !== "BinaryOperationNode") return false;
  const { rightOperand } = node as BinaryOperationNode;
  return ValueNode.is(rightOperand) && rightOperand.value === null;
}
