/** Reads the imports of a TypeScript module from its syntax tree, so that no comment or string is mistaken for one. */
import { parseSync } from "vite";

export interface Import {
  readonly specifier: string;
  /** `value` stays in the compiled code, `type` vanishes, `url` is a `new URL("…", import.meta.url)`. */
  readonly kind: "value" | "type" | "url";
}

interface Node {
  readonly type: string;
  readonly [key: string]: unknown;
}

export function importsOf(file: string, code: string): Import[] {
  const { program, errors } = parseSync(file, code);
  if (errors.length > 0) throw new Error(`${file}: ${errors[0]?.message}`);
  return [...nodesOf(program)].flatMap(importOf);
}

/** One node as an import. `import { type A }` counts as a value: with verbatimModuleSyntax the import itself stays. */
function importOf(node: Node): Import[] {
  switch (node.type) {
    case "ImportDeclaration":
      return named(node.source, node.importKind === "type" ? "type" : "value");
    case "ExportNamedDeclaration":
    case "ExportAllDeclaration":
      return named(node.source, node.exportKind === "type" ? "type" : "value");
    case "ImportExpression":
      return named(node.source, "value");
    case "TSImportType":
      return named(node.source, "type");
    case "CallExpression":
      return isName(node.callee, "require") ? named(argumentsOf(node)[0], "value") : [];
    case "NewExpression":
      return isModuleUrl(node) ? named(argumentsOf(node)[0], "url") : [];
    default:
      return [];
  }
}

function named(source: unknown, kind: Import["kind"]): Import[] {
  // A computed specifier names no module of ours: that is how users' graphs are loaded.
  return isNode(source) && typeof source.value === "string" ? [{ specifier: source.value, kind }] : [];
}

const isModuleUrl = (node: Node): boolean =>
  isName(node.callee, "URL") && argumentsOf(node)[1]?.type === "MemberExpression";

const argumentsOf = (node: Node): readonly Node[] =>
  Array.isArray(node.arguments) ? node.arguments.filter(isNode) : [];

const isName = (node: unknown, name: string): boolean =>
  isNode(node) && node.type === "Identifier" && node.name === name;

const isNode = (value: unknown): value is Node => typeof value === "object" && value !== null && "type" in value;

function* nodesOf(value: unknown): Generator<Node> {
  if (Array.isArray(value)) for (const item of value) yield* nodesOf(item);
  if (!isNode(value)) return;
  yield value;
  for (const child of Object.values(value)) if (typeof child === "object") yield* nodesOf(child);
}
