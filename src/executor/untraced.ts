/**
 * Calls of runnables that nobody traces. LangChain makes a LangSmith run tree for each, also where tracing is off, only to
 * hang the call's config on it: measured, a sixth of a short run. Where tracing is off a bare object carries the config,
 * and becomes the run tree it stands for when somebody looks for more (`getCurrentRunTree()` in a node).
 */
/** What we know of `AsyncLocalStorageProviderSingleton` of `@langchain/core/singletons`. */
export interface ContextProvider {
  getInstance(): { getStore(): unknown; run<T>(store: object, callback: () => T): T };
  runWithConfig<T>(config: CallConfig | undefined, callback: () => T, avoidCreatingRootRunTree?: boolean): T;
}

interface CallConfig {
  readonly callbacks?: readonly Handler[] | { readonly handlers?: readonly Handler[] };
}
type Handler = { readonly name?: unknown } | null | undefined;

export type RunTreeClass = new (fields: { name: string; tracingEnabled: boolean }) => { extra?: object };

/** Where LangChain looks for the config of the call it is in. */
const CONFIG = Symbol.for("lc:child_config");

/** Makes untraced calls of this copy of LangChain cheap; all others go the way they went. */
export function lightenUntracedCalls(provider: ContextProvider, RunTree: RunTreeClass): void {
  const runWithConfig = provider.runWithConfig.bind(provider);
  const Untraced = untracedClass(RunTree);
  provider.runWithConfig = (config, callback, avoidCreatingRootRunTree) => {
    const storage = provider.getInstance();
    const around = storage.getStore();
    // What is called from an untraced call is untraced. Any other surrounding is the user's own, and LangChain's to handle.
    const untraced = around === undefined ? !environmentTraces() : around instanceof Untraced;
    if (!untraced || avoidCreatingRootRunTree === true || hasTracer(config)) {
      return runWithConfig(config, callback, avoidCreatingRootRunTree);
    }
    return storage.run(new Untraced({ [CONFIG]: config }), callback);
  };
}

/** What LangChain reads, at each call: a graph's module may set it while it loads. */
const TRACING_VARIABLES = ["LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING_V2", "LANGSMITH_TRACING", "LANGCHAIN_TRACING"];
const environmentTraces = (): boolean => TRACING_VARIABLES.some((name) => process.env[name] === "true");

function hasTracer(config: CallConfig | undefined): boolean {
  const callbacks = config?.callbacks;
  if (callbacks === undefined) return false;
  const handlers = Array.isArray(callbacks)
    ? (callbacks as readonly Handler[])
    : (callbacks as { readonly handlers?: readonly Handler[] }).handlers;
  return handlers?.some((handler) => handler?.name === "langchain_tracer") ?? false;
}

/** Only what it does not have itself is looked up in the prototype: that look turns it into the tree. */
function untracedClass(RunTree: RunTreeClass): new (extra: object) => object {
  class Untraced {
    readonly tracingEnabled = false;
    readonly extra: object;
    constructor(extra: object) {
      this.extra = extra;
    }
  }
  const become = (untraced: Untraced): object => {
    const tree = new RunTree({ name: "<runnable_lambda>", tracingEnabled: false });
    const extra = { ...tree.extra, ...untraced.extra };
    return Object.assign(Object.setPrototypeOf(untraced, Object.getPrototypeOf(tree)) as object, tree, { extra });
  };
  const lookedAt: ProxyHandler<object> = {
    get: (_, key, untraced) => (typeof key === "symbol" ? undefined : Reflect.get(become(untraced as Untraced), key)),
  };
  Object.setPrototypeOf(Untraced.prototype, new Proxy({}, lookedAt));
  return Untraced;
}
