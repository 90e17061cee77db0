/**
 * Loading the user's graphs. An export may be a compiled graph, a graph builder, a functional-API entrypoint, an agent
 * that carries a graph (`createAgent`), a factory called once per run with that run's config, or a promise of any.
 */
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { errorBody } from "../errors.ts";
import { type GraphConfig, type GraphLike, isGraph, type LangGraph, langGraphOf } from "./langgraph.ts";
import type { FromExecutor, GraphSpec } from "./protocol.ts";
import type { StoreIndex } from "./store-index.ts";

export interface ProjectGraph {
  readonly spec: GraphSpec;
  /** What the store's items are embedded with; null when the store has no index. */
  readonly index: StoreIndex | null;
  readonly langgraph: LangGraph;
  /** True when opening the graph runs code of the user's. */
  readonly isFactory: boolean;
  /** The graph for one run or question: the export itself, or what its factory makes of this config. */
  open(config: GraphConfig): Promise<GraphLike>;
}

export type LoadFailure = Extract<FromExecutor, { type: "load_failed" }>;

export async function loadGraph(spec: GraphSpec, project_dir: string, index: StoreIndex | null): Promise<ProjectGraph> {
  const { exported, namespace } = await loadExport(spec, project_dir);
  if (typeof exported === "function") {
    const factory = exported as (config: GraphConfig) => unknown;
    const langgraph = await langGraphOf(spec.file);
    return {
      spec,
      index,
      langgraph,
      isFactory: true,
      open: async (config) => graphOrThrow(spec, await factory(config), "The factory returned"),
    };
  }
  const graph = graphOrThrow(spec, exported, `Export "${spec.export_name}" is`, namespace);
  const langgraph = await langGraphOf(spec.file, graph);
  return { spec, index, langgraph, isFactory: false, open: async () => graph };
}

/** A named export of a module of the project. */
export async function loadExport(
  place: Pick<GraphSpec, "file" | "export_name">,
  project_dir: string,
): Promise<{ readonly exported: unknown; readonly namespace: Record<string, unknown> }> {
  await understandTypeScript(place.file, project_dir);
  const namespace = (await import(pathToFileURL(place.file).href)) as Record<string, unknown>;
  const exported: unknown = await pick(namespace, place.export_name);
  if (exported === undefined) throw new Error(missingExport(place, namespace));
  return { exported, namespace };
}

export function loadFailure(spec: GraphSpec, thrown: unknown): LoadFailure {
  const stack = thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
  return { type: "load_failed", graph_id: spec.graph_id, file: spec.file, error: errorBody(thrown), stack };
}

/** A named export; of a CommonJS module also the members of `module.exports` that Node could not see by reading. */
function pick(namespace: Record<string, unknown>, name: string): unknown {
  if (namespace[name] !== undefined && name !== "default") return namespace[name];
  const whole = namespace.default;
  if (name !== "default") return isRecord(whole) ? whole[name] : undefined;
  // `module.exports.default`, as compilers write it.
  if (isRecord(whole) && whole.__esModule === true && "default" in whole) return whole.default;
  return whole;
}

function graphOrThrow(spec: GraphSpec, value: unknown, found: string, namespace?: Record<string, unknown>): GraphLike {
  if (isGraph(value)) return value;
  if (isRecord(value)) {
    const carried = value.graph;
    if (isGraph(carried)) return carried;
    if (typeof value.compile === "function") {
      const compiled: unknown = (value as { compile(): unknown }).compile();
      if (isGraph(compiled)) return compiled;
    }
  }
  const exports = namespace === undefined ? "" : ` ${exportsOf(namespace)}`;
  throw new Error(
    `${found} ${describe(value)}, not a graph, a graph builder, an agent or a function that makes one ` +
      `(${spec.file}).${exports}`,
  );
}

function missingExport(place: Pick<GraphSpec, "file" | "export_name">, namespace: Record<string, unknown>): string {
  return `${place.file} has no export "${place.export_name}". ${exportsOf(namespace)}`;
}

function exportsOf(namespace: Record<string, unknown>): string {
  const names = Object.keys(namespace).filter((name) => name !== "module.exports");
  return names.length === 0 ? "It exports nothing." : `It exports: ${names.join(", ")}.`;
}

function describe(value: unknown): string {
  if (value === null || typeof value !== "object") return value === null ? "null" : `a ${typeof value}`;
  return `an object of ${(value.constructor as { name?: string } | undefined)?.name ?? "no class"}`;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return (typeof value === "object" && value !== null) || typeof value === "function";
}

/* ---------------------------------------------------------------------------- TypeScript */

let registered = false;

/** Registers tsx, once, and only when a file needs it: its hooks slow down every later import. */
async function understandTypeScript(file: string, project_dir: string): Promise<void> {
  if (registered) return;
  const tsconfig = findTsconfig(dirname(file), project_dir);
  const needed = /\.[cm]?tsx?$|\.jsx$/.test(file) || (tsconfig !== undefined && hasPaths(tsconfig));
  if (!needed) return;
  registered = true;
  const [esm, cjs] = await Promise.all([import("tsx/esm/api"), import("tsx/cjs/api")]);
  // The CommonJS half takes its tsconfig from the environment only.
  if (tsconfig !== undefined) process.env.TSX_TSCONFIG_PATH = tsconfig;
  cjs.register();
  esm.register(tsconfig === undefined ? {} : { tsconfig });
}

/** The nearest tsconfig.json, from the graph's folder up to the project's. */
function findTsconfig(folder: string, project_dir: string): string | undefined {
  for (let current = folder; ; current = dirname(current)) {
    const candidate = join(current, "tsconfig.json");
    if (existsSync(candidate)) return candidate;
    if (current === project_dir || dirname(current) === current) break;
  }
  const own = join(project_dir, "tsconfig.json");
  return existsSync(own) ? own : undefined;
}

/** Reads text, not JSON: tsconfig files carry comments. An `extends` may bring paths too. */
function hasPaths(tsconfig: string): boolean {
  const text = readFileSync(tsconfig, "utf8");
  return /"(paths|extends)"\s*:/.test(text);
}
