/**
 * JSON schemas of a graph's state, input, output and context, read off its TypeScript source: an `Annotation<number>` leaves
 * nothing at run time to ask. The compiler computes the types, `json-schema.ts` writes them down.
 *
 * A module beside the graph's own, which exists in memory only, names the types we are after in the language's own words;
 * the graph's module gets a few names more, so that subgraphs kept in local variables can be named too.
 */
import { posix, relative } from "node:path";
import ts from "typescript-5";
import type { GraphTypes, TypeSchemas } from "../schemas/graphs.ts";
import { rootSchema } from "./json-schema.ts";

export interface GraphSource {
  /** Absolute path of the graph's module. */
  readonly file: string;
  readonly export_names: readonly string[];
  /** Folder of `langgraph.json`: a tsconfig.json from here down to the graph applies. */
  readonly project_dir: string;
}

const KINDS = ["state", "input", "output", "context"] as const;
const PREFIX = "__skein_";
/**
 * The types of a value `T` that is a graph, or a builder, an agent or a factory that leads to one. A channel may
 * be unset. Before its version 1, LangGraph kept the state under another name. */
const HELPERS = `
type IsAny<T> = 0 extends 1 & T ? true : false;
type Graph<T> = IsAny<T> extends true ? never
  : T extends { lg_is_pregel: boolean } ? T
  : T extends PromiseLike<infer P> ? Graph<P>
  : T extends (...args: any[]) => infer R ? Graph<R>
  : T extends { graph: infer G } ? Graph<G>
  : T extends { compile(...args: any[]): infer C } ? Graph<C>
  : never;
type Member<T, K extends string> = K extends keyof T ? T[K] : never;
type Options<T> = T extends { invoke(input: any, options?: infer O): unknown } ? NonNullable<O> : never;
type Channels<T, V> = "builder" extends keyof T ? Partial<V> : V;
type State<T> = Channels<T, Member<T, "~RunOutput" extends keyof T ? "~RunOutput" : "RunInput">>;
type Input<T> = Channels<T, Member<T, "~InputType">>;
type Output<T> = Channels<T, Awaited<Member<T, "~OutputType">>>;
type Context<T> = Partial<NonNullable<Member<Options<T>, "context">>>;
`;

/** Reads graphs one after the other; what they share, the types of LangGraph above all, is parsed once. */
export class TypeReader {
  readonly #parsed = new Map<string, ts.SourceFile | undefined>();

  /** The types of each export, computed together: most of the work is LangGraph's own types. */
  read(source: GraphSource): Readonly<Record<string, GraphTypes>> {
    const { export_names, project_dir } = source;
    // The compiler knows no other slashes.
    const file = source.file.replaceAll("\\", "/");
    const nodes = subgraphCandidates(this.#parse(file));
    const question = posix.join(posix.dirname(file), `${PREFIX}types.ts`);
    const options = compilerOptions(file, project_dir);
    const locals = [...nodes.keys()].map((node, index) => ({ node, as: `${PREFIX}local${index}` }));
    const graphs = export_names.map((name, index) => ({ name, as: `${PREFIX}graph${index}` }));
    const overlay = new Map([
      [file, `${ts.sys.readFile(file) ?? ""}\n${namesFor([...nodes.values()])}`],
      [question, questionFor(posix.basename(file), [...graphs, ...locals.map(({ as }) => ({ name: as, as }))])],
    ]);
    const program = ts.createProgram([question], options, this.#host(options, overlay));
    const types = exportedTypes(program, question);
    const subgraphs = Object.fromEntries(locals.map(({ node, as }) => [node, schemasOf(program, types, as)]));
    return Object.fromEntries(
      graphs.map(({ name, as }) => [name, { graph: schemasOf(program, types, as), subgraphs }]),
    );
  }

  #host(options: ts.CompilerOptions, overlay: ReadonlyMap<string, string>): ts.CompilerHost {
    const host = ts.createCompilerHost(options);
    return {
      ...host,
      fileExists: (path) => overlay.has(path) || host.fileExists(path),
      readFile: (path) => overlay.get(path) ?? host.readFile(path),
      getSourceFile: (path) => {
        const text = overlay.get(path);
        return text === undefined ? this.#parse(path) : parse(path, text);
      },
    };
  }

  #parse(path: string): ts.SourceFile | undefined {
    if (!this.#parsed.has(path)) {
      const text = ts.sys.readFile(path);
      this.#parsed.set(path, text === undefined ? undefined : parse(path, text));
    }
    return this.#parsed.get(path);
  }
}

const parse = (path: string, text: string): ts.SourceFile =>
  ts.createSourceFile(path, text, ts.ScriptTarget.ESNext, true);

/** The module that asks: four types for each graph that the module given exports. */
function questionFor(module: string, graphs: readonly { readonly name: string; readonly as: string }[]): string {
  const imports = graphs.map(({ name, as }) => `${name} as ${as}`).join(", ");
  const exports = graphs.flatMap(({ as }) =>
    KINDS.map((kind) => `export type ${typeOf(kind, as)} = ${capital(kind)}<Graph<typeof ${as}>>;`),
  );
  return [`import type { ${imports} } from ${JSON.stringify(`./${module}`)};`, HELPERS, ...exports].join("\n");
}

const capital = (word: string): string => `${word.charAt(0).toUpperCase()}${word.slice(1)}`;
const typeOf = (kind: string, graph: string): string => `${graph}_${kind}`;

function exportedTypes(program: ts.Program, path: string): ReadonlyMap<string, ts.Type> {
  const checker = program.getTypeChecker();
  const source = program.getSourceFile(path);
  const module = source === undefined ? undefined : checker.getSymbolAtLocation(source);
  const symbols = module === undefined ? [] : checker.getExportsOfModule(module);
  return new Map(symbols.map((symbol) => [symbol.name, checker.getDeclaredTypeOfSymbol(symbol)]));
}

function schemasOf(program: ts.Program, types: ReadonlyMap<string, ts.Type>, graph: string): TypeSchemas {
  const entries = KINDS.flatMap((kind) => {
    const type = types.get(typeOf(kind, graph));
    const schema = type === undefined ? undefined : rootSchema(program, type);
    return schema === undefined ? [] : [[kind, schema]];
  });
  return Object.fromEntries(entries) as TypeSchemas;
}

/* --------------------------------------------------------------------------- subgraphs */

/** Variables that the module adds as nodes, by the node's name: `.addNode("research", research)`. Names used twice say nothing. */
function subgraphCandidates(source: ts.SourceFile | undefined): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  const unclear = new Set<string>();
  const visit = (node: ts.Node): void => {
    ts.forEachChild(node, visit);
    const added = addedNode(node);
    if (added === undefined) return;
    if (found.has(added.name) && found.get(added.name) !== added.variable) unclear.add(added.name);
    found.set(added.name, added.variable);
  };
  if (source !== undefined) visit(source);
  for (const name of unclear) found.delete(name);
  return found;
}

function addedNode(node: ts.Node): { name: string; variable: string } | undefined {
  if (!ts.isCallExpression(node) || !ts.isPropertyAccessExpression(node.expression)) return undefined;
  const [name, value] = node.arguments;
  if (node.expression.name.text !== "addNode" || name === undefined || value === undefined) return undefined;
  return ts.isStringLiteralLike(name) && ts.isIdentifier(value) ? { name: name.text, variable: value.text } : undefined;
}

/** More exports of the graph's own module. A variable that is not to be seen there is an error, and an error here is no type. */
const namesFor = (variables: readonly string[]): string =>
  variables.map((variable, index) => `export declare const ${PREFIX}local${index}: typeof ${variable};`).join("\n");

/* ----------------------------------------------------------------------------- options */

/** The project's own options, but for those that decide how its LangGraph is found and understood. */
function compilerOptions(file: string, project_dir: string): ts.CompilerOptions {
  const { lib, types, paths, baseUrl, jsx, jsxImportSource, customConditions, pathsBasePath } = projectOptions(
    file,
    project_dir,
  );
  const kept = { paths, baseUrl, jsx, jsxImportSource, customConditions, pathsBasePath };
  return {
    ...Object.fromEntries(Object.entries(kept).filter(([, value]) => value !== undefined)),
    lib: lib ?? ["lib.esnext.d.ts"],
    types: types ?? ["node"],
    target: ts.ScriptTarget.ESNext,
    module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
    allowImportingTsExtensions: true,
    resolveJsonModule: true,
    strict: true,
    skipLibCheck: true,
    noEmit: true,
  };
}

function projectOptions(file: string, project_dir: string): ts.CompilerOptions {
  const tsconfig = ts.findConfigFile(posix.dirname(file), ts.sys.fileExists);
  if (tsconfig === undefined || relative(project_dir, tsconfig).startsWith("..")) return {};
  const { config } = ts.readConfigFile(tsconfig, ts.sys.readFile) as { config?: unknown };
  // Its files are of no interest; looking for them could take long.
  const content = { ...(config as object | undefined), files: [], include: [] };
  return ts.parseJsonConfigFileContent(content, ts.sys, posix.dirname(tsconfig)).options;
}
