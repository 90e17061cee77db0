/**
 * Loading the user's graphs. An export may be a compiled graph, a graph builder, a functional-API entrypoint, an agent
 * that carries a graph (`createAgent`), a factory called once per run with that run's config, or a promise of any.
 */
import { errorBody } from "../errors.ts";
import { exportsOf, isRecord, loadExport } from "../load-module.ts";
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

export function loadFailure(spec: GraphSpec, thrown: unknown): LoadFailure {
  const stack = thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
  return { type: "load_failed", graph_id: spec.graph_id, file: spec.file, error: errorBody(thrown), stack };
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

function describe(value: unknown): string {
  if (value === null || typeof value !== "object") return value === null ? "null" : `a ${typeof value}`;
  return `an object of ${(value.constructor as { name?: string } | undefined)?.name ?? "no class"}`;
}
