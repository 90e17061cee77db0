/**
 * The project's own copy of LangGraph. User code and Skein must use the same one: a saver, a `Command` or a `Send` of
 * another copy would be strangers to the user's graph. So Skein imports no LangGraph itself; it finds the copy the
 * graph's file would get, and knows it only by the narrow interfaces below.
 */
import { existsSync, readFileSync, realpathSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import type { BaseCheckpointSaver, BaseStore } from "@langchain/langgraph-checkpoint";
import { type ChatModelClass, keepToolCallsApart } from "./tool-call-blocks.ts";
import { type ContextProvider, lightenUntracedCalls, type RunTreeClass } from "./untraced.ts";

/* ------------------------------------------------------------ what we know of LangGraph */

export interface GraphConfig {
  configurable?: Record<string, unknown>;
  metadata?: Record<string, unknown>;
  context?: unknown;
  tags?: readonly string[];
  recursionLimit?: number;
  runId?: string;
  signal?: AbortSignal;
  [option: string]: unknown;
}

export interface InterruptLike {
  readonly id?: string;
  readonly value?: unknown;
}

export interface TaskLike {
  readonly id: string;
  readonly name: string;
  readonly path?: readonly unknown[];
  readonly error?: unknown;
  readonly interrupts: readonly InterruptLike[];
  readonly result?: unknown;
  readonly state?: StateLike | GraphConfig;
}

export interface StateLike {
  readonly values: unknown;
  readonly next: readonly string[];
  readonly tasks: readonly TaskLike[];
  readonly metadata?: Record<string, unknown>;
  readonly config: GraphConfig;
  readonly createdAt?: string;
  readonly parentConfig?: GraphConfig;
}

/** A compiled graph (`Pregel`). */
export interface GraphLike {
  readonly lg_is_pregel: true;
  readonly name?: string;
  readonly nodes: Readonly<Record<string, unknown>>;
  readonly channels: Readonly<Record<string, ChannelLike>>;
  readonly inputChannels: string | readonly string[];
  readonly outputChannels: string | readonly string[];
  readonly streamChannelsAsIs: string | readonly string[];
  checkpointer?: unknown;
  store?: unknown;
  builder?: unknown;
  stream(input: unknown, options: GraphConfig): Promise<AsyncIterable<unknown>>;
  /** Makers of what has a say in its protocol stream. */
  readonly streamTransformers?: readonly (() => StreamTransformerLike)[];
  streamEvents(input: unknown, options: GraphConfig): AsyncIterable<StreamEventLike>;
  getState(config: GraphConfig, options?: { subgraphs?: boolean }): Promise<StateLike>;
  getStateHistory(config: GraphConfig, options?: HistoryOptions): AsyncIterable<StateLike>;
  /** Answers the address of the last checkpoint it makes. */
  bulkUpdateState(config: GraphConfig, supersteps: readonly SuperstepLike[]): Promise<GraphConfig>;
  getGraphAsync(config?: Record<string, unknown>): Promise<{ toJSON(): unknown }>;
  getSubgraphsAsync(namespace?: string, recurse?: boolean): AsyncIterable<[string, GraphLike]>;
}

export interface HistoryOptions {
  readonly limit?: number;
  readonly before?: GraphConfig;
  readonly filter?: Readonly<Record<string, unknown>>;
}

export interface SuperstepLike {
  readonly updates: readonly { readonly values: unknown; readonly asNode?: string }[];
}

export interface ChannelLike {
  readonly lc_graph_name?: string;
  /** Of a `BinaryOperatorAggregate`. */
  readonly operator?: unknown;
}

export interface StreamEventLike {
  readonly event: string;
  readonly run_id: string;
  readonly tags?: readonly string[];
  readonly data: { readonly chunk?: unknown };
}

export interface StreamTransformerLike {
  /** What it makes is for callers in the same process. */
  readonly __native?: boolean;
  /** Lets it add events of its own. */
  readonly onRegister?: unknown;
}

/** An event of LangGraph's protocol stream. */
export interface MuxEventLike {
  readonly method: string;
  readonly params: { readonly namespace: readonly string[]; readonly node?: string; readonly data: unknown };
}

export interface RunControlLike {
  requestDrain(reason?: string): void;
}

interface LangGraphModule {
  readonly Command: new (fields: Record<string, unknown>) => object;
  readonly Send: new (node: string, input: unknown) => object;
  readonly BaseCheckpointSaver: abstract new () => BaseCheckpointSaver;
  readonly BaseStore: abstract new () => BaseStore;
  readonly RunControl?: new () => RunControlLike;
  /** Runs transformers over the chunks of a v3 stream. */
  readonly createGraphRunStream?: (
    source: AsyncIterable<unknown>,
    transformers: readonly (() => StreamTransformerLike)[],
  ) => AsyncIterable<MuxEventLike>;
  readonly messagesStateReducer?: (left: unknown, right: unknown) => unknown[];
}

export interface LangsmithPlace {
  readonly projectName: string;
  readonly exampleId?: string;
}

interface TracerModule {
  readonly LangChainTracer: new (where: LangsmithPlace) => object;
}

interface CallbacksModule {
  awaitAllCallbacks(): Promise<void>;
}

/** What nodes are given: LangGraph wraps the store of a graph in one for each run. */
export type StoreWrapperClass = new (store: BaseStore) => BaseStore;

interface CheckpointModule {
  readonly AsyncBatchedStore?: StoreWrapperClass;
  readonly compareWritesSortKeys?: (a: WriteSortKey, b: WriteSortKey) => number;
}

export type WriteSortKey = readonly [task_path: string, task_id: string, idx: number];

export interface SchemaModule {
  getStateTypeSchema(graph: unknown): unknown;
  getInputTypeSchema(graph: unknown): unknown;
  getOutputTypeSchema(graph: unknown): unknown;
  getConfigTypeSchema(graph: unknown): unknown;
}

/** One copy of LangGraph, with what Skein uses of it. */
export interface LangGraph extends LangGraphModule {
  readonly version: string;
  /** True when this version streams the protocol's own events (v3). */
  readonly hasProtocolStream: boolean;
  readonly compareWrites: (a: WriteSortKey, b: WriteSortKey) => number;
  readonly AsyncBatchedStore?: StoreWrapperClass;
  /** Makes a handler that sends the trace of a run to LangSmith. */
  langsmithTracer(where: LangsmithPlace): Promise<object>;
  /** Resolves when LangSmith has what it was to get. */
  flushTraces(): Promise<void>;
  /** JSON schemas of zod states; undefined when this version has none. */
  schemas(): Promise<SchemaModule | undefined>;
}

export const isGraph = (value: unknown): value is GraphLike =>
  typeof value === "object" && value !== null && "lg_is_pregel" in value && value.lg_is_pregel === true;

/* -------------------------------------------------------------------- finding the copy */

type Importer = (subpath: string) => Promise<unknown>;

const copies = new Map<string, Promise<LangGraph>>();

/** The copy that modules in the graph file's folder import. `graph` tells ES module from CommonJS where both are loaded. */
export async function langGraphOf(file: string, graph?: unknown): Promise<LangGraph> {
  const folder = packageFolder("@langchain/langgraph", dirname(realpathSync(file)));
  if (folder === undefined) {
    throw new Error(`Cannot find @langchain/langgraph from ${file}: install it in the project of this graph.`);
  }
  const cjs = usesCommonJs(file, graph);
  const key = `${cjs ? "cjs" : "esm"}:${folder}`;
  let copy = copies.get(key);
  if (copy === undefined) {
    copy = loadCopy(folder, cjs);
    copies.set(key, copy);
  }
  return copy;
}

/** A package as modules in this folder import it; undefined when it is not installed. */
export async function importPackage(name: string, folder: string): Promise<unknown> {
  const found = packageFolder(name, realpathSync(folder));
  return found === undefined ? undefined : importer(found, false)(".");
}

/** Walks up `node_modules` as Node does; `exports` hides package.json from `require.resolve`. */
function packageFolder(name: string, from: string): string | undefined {
  for (let folder = from; ; folder = dirname(folder)) {
    const candidate = join(folder, "node_modules", name);
    if (existsSync(join(candidate, "package.json"))) return realpathSync(candidate);
    if (dirname(folder) === folder) return undefined;
  }
}

/** True when the graph came out of a CommonJS module: then Node has that build of LangGraph in the require cache. */
function usesCommonJs(file: string, graph: unknown): boolean {
  const require = createRequire(file);
  try {
    const loaded = require.cache[require.resolve("@langchain/langgraph")];
    if (loaded === undefined) return false;
    const pregel: unknown = (loaded.exports as { Pregel?: unknown; CompiledGraph?: unknown }).Pregel;
    return isGraph(graph) && typeof pregel === "function" ? graph instanceof pregel : !/\.m[jt]s$/.test(file);
  } catch {
    return false;
  }
}

async function loadCopy(folder: string, cjs: boolean): Promise<LangGraph> {
  const load = importer(folder, cjs);
  const main = (await load(".")) as LangGraphModule;
  const checkpointFolder = packageFolder("@langchain/langgraph-checkpoint", folder);
  const checkpoint =
    checkpointFolder === undefined ? {} : ((await importer(checkpointFolder, cjs)(".")) as CheckpointModule);
  const tracing = await openCore(folder, cjs);
  return {
    ...tracing,
    Command: main.Command,
    Send: main.Send,
    BaseCheckpointSaver: main.BaseCheckpointSaver,
    BaseStore: main.BaseStore,
    ...(main.RunControl === undefined ? {} : { RunControl: main.RunControl }),
    ...(main.createGraphRunStream === undefined ? {} : { createGraphRunStream: main.createGraphRunStream }),
    ...(main.messagesStateReducer === undefined ? {} : { messagesStateReducer: main.messagesStateReducer }),
    version: (packageJson(folder) as { version?: string }).version ?? "unknown",
    hasProtocolStream: "./stream" in ((packageJson(folder) as { exports?: object }).exports ?? {}),
    compareWrites: checkpoint.compareWritesSortKeys ?? compareWrites,
    ...(checkpoint.AsyncBatchedStore === undefined ? {} : { AsyncBatchedStore: checkpoint.AsyncBatchedStore }),
    schemas: async () => {
      try {
        return (await load("./zod/schema")) as SchemaModule;
      } catch {
        return undefined;
      }
    },
  };
}

/** LangChain's core as this copy of LangGraph gets it, mended. */
async function openCore(folder: string, cjs: boolean): Promise<Pick<LangGraph, "langsmithTracer" | "flushTraces">> {
  const core = packageFolder("@langchain/core", folder);
  if (core !== undefined) await mendCore(core, cjs);
  const load = async (subpath: string): Promise<unknown> => {
    if (core === undefined) throw new Error(`Cannot find @langchain/core from ${folder}: install it beside LangGraph.`);
    return importer(core, cjs)(subpath);
  };
  return {
    async langsmithTracer(where) {
      const { LangChainTracer } = (await load("./tracers/tracer_langchain")) as TracerModule;
      return new LangChainTracer(where);
    },
    async flushTraces() {
      await ((await load("./callbacks/promises")) as CallbacksModule).awaitAllCallbacks();
    },
  };
}

/** No call of a tool is lost in text; untraced calls become cheap, with the LangSmith that core gets. */
async function mendCore(core: string, cjs: boolean): Promise<void> {
  // Versions that have these elsewhere, or not at all, go without.
  const load = (folder: string, subpath: string): Promise<unknown> =>
    importer(folder, cjs)(subpath).catch(() => undefined);
  const models = (await load(core, "./language_models/chat_models")) as
    | { readonly BaseChatModel?: ChatModelClass }
    | undefined;
  if (models?.BaseChatModel !== undefined) keepToolCallsApart(models.BaseChatModel);
  const langsmith = packageFolder("langsmith", core);
  if (langsmith === undefined) return;
  const singletons = (await load(core, "./singletons")) as
    | { readonly AsyncLocalStorageProviderSingleton?: ContextProvider }
    | undefined;
  const trees = (await load(langsmith, "./run_trees")) as { readonly RunTree?: RunTreeClass } | undefined;
  const provider = singletons?.AsyncLocalStorageProviderSingleton;
  if (typeof provider?.runWithConfig === "function" && trees?.RunTree !== undefined) {
    lightenUntracedCalls(provider, trees.RunTree);
  }
}

function importer(folder: string, cjs: boolean): Importer {
  const { exports } = packageJson(folder) as { exports?: Record<string, unknown> };
  return async (subpath) => {
    const target = targetOf(exports?.[subpath], cjs ? ["require", "node", "default"] : ["import", "node", "default"]);
    if (target === undefined) throw new Error(`${folder} does not export ${subpath}`);
    const path = join(folder, target);
    return cjs ? (createRequire(path)(path) as unknown) : ((await import(pathToFileURL(path).href)) as unknown);
  };
}

/** The file behind an `exports` entry: the first matching condition, in the package's own order. */
function targetOf(entry: unknown, conditions: readonly string[]): string | undefined {
  if (typeof entry === "string") return entry;
  if (typeof entry !== "object" || entry === null) return undefined;
  for (const [condition, next] of Object.entries(entry)) {
    if (!conditions.includes(condition)) continue;
    const found = targetOf(next, conditions);
    if (found !== undefined) return found;
  }
  return undefined;
}

function packageJson(folder: string): unknown {
  return JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
}

/** For versions that do not bring their own order: task path, then task id, then index. */
function compareWrites(a: WriteSortKey, b: WriteSortKey): number {
  if (a[0] !== b[0]) return a[0] < b[0] ? -1 : 1;
  if (a[1] !== b[1]) return a[1] < b[1] ? -1 : 1;
  return a[2] - b[2];
}
