/** Untraced calls carry no run tree, and nobody can tell: whoever looks finds one. */
import { AsyncLocalStorage } from "node:async_hooks";
import { AsyncLocalStorageProviderSingleton as provider } from "@langchain/core/singletons";
import { RunTree } from "langsmith/run_trees";
import { afterEach, beforeAll, expect, test, vi } from "vitest";
import { type ContextProvider, lightenUntracedCalls } from "../../src/executor/untraced.ts";

let storage: AsyncLocalStorage<unknown>;

beforeAll(() => {
  provider.initializeGlobalInstance(new AsyncLocalStorage());
  storage = provider.getInstance() as AsyncLocalStorage<unknown>;
  lightenUntracedCalls(provider as unknown as ContextProvider, RunTree as never);
});
afterEach(() => vi.unstubAllEnvs());

const config = { tags: ["t"] };
const around = (): unknown => provider.runWithConfig(config, () => storage.getStore());

test("the config of the call is found, and no tree was made for it", () => {
  const made = vi.spyOn(RunTree, "getSharedClient");
  const nested = provider.runWithConfig(config, () =>
    provider.runWithConfig({ tags: ["inner"] }, () => provider.getRunnableConfig()),
  );
  expect(nested).toEqual({ tags: ["inner"] });
  expect(made).not.toHaveBeenCalled();
  made.mockRestore();
});

test("who looks at the tree finds an untraced one, with the config on it", () => {
  const tree = around() as RunTree;
  expect(tree).not.toBeInstanceOf(RunTree);
  expect(tree.tracingEnabled).toBe(false);
  const child = tree.createChild({ name: "child" });
  expect(tree).toBeInstanceOf(RunTree);
  expect(tree.id).toMatch(/^[0-9a-f-]{36}$/);
  expect(child.parent_run).toBe(tree);
  const again = provider.runWithConfig(config, () => {
    (storage.getStore() as RunTree).createChild({ name: "child" });
    return provider.getRunnableConfig();
  });
  expect(again).toBe(config);
});

test("where tracing is on, LangChain's own way is taken", () => {
  vi.stubEnv("LANGSMITH_TRACING", "true");
  expect(around()).toBeInstanceOf(RunTree);
});

test("inside a trace of the user's own too", () => {
  const own = new RunTree({ name: "own", tracingEnabled: false });
  expect(storage.run(own, around)).toBeInstanceOf(RunTree);
});
