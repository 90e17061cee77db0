/** The store as nodes are given it: LangGraph's wrapper around ours. */
import { AsyncBatchedStore, type BaseStore, InMemoryStore, type Operation } from "@langchain/langgraph-checkpoint";
import { beforeEach, expect, test, vi } from "vitest";
import { type LangGraph, langGraphOf } from "../../src/executor/langgraph.ts";
import type { StoragePort } from "../../src/executor/port.ts";
import type { StoreOperation } from "../../src/executor/protocol.ts";
import { makeStore } from "../../src/executor/store.ts";
import type { StoreIndex } from "../../src/executor/store-index.ts";
import { GRAPHS } from "./support.ts";

type Answer = (operations: readonly StoreOperation[]) => Promise<readonly unknown[]> | readonly unknown[];

interface Given {
  /** What a node calls; `put` and the reads take more than `BaseStore` says. */
  readonly store: BaseStore & {
    put(namespace: string[], key: string, value: object, index?: false | string[], options?: object): Promise<void>;
    get(namespace: string[], key: string, options?: object): Promise<unknown>;
  };
  readonly calls: (readonly StoreOperation[])[];
}

let langgraph: LangGraph;
beforeEach(async () => {
  langgraph = await langGraphOf(`${GRAPHS}basic.mjs`);
});

const plain: Answer = (operations) => operations.map((operation) => (operation.op === "search" ? [] : null));

function given(answer: Answer = plain, index: StoreIndex | null = null): Given {
  const calls: (readonly StoreOperation[])[] = [];
  const call = (async ({ operations }: { operations: readonly StoreOperation[] }) => {
    calls.push(operations);
    return answer(operations);
  }) as StoragePort["call"];
  const store = new AsyncBatchedStore(makeStore({ langgraph, index }, { call }));
  store.start();
  return { store: store as unknown as Given["store"], calls };
}

test("what one turn asks for travels in one call", async () => {
  const { store, calls } = given();
  await Promise.all([store.put(["n"], "a", {}), store.get(["n"], "a"), store.search(["n"]), store.delete(["n"], "a")]);
  expect(calls.map((operations) => operations.map(({ op }) => op))).toEqual([["put", "get", "search", "put"]]);
  await store.get(["n"], "b");
  expect(calls).toHaveLength(2);
});

test("the wrapper keeps no timer going, and loses nothing on the way", async () => {
  const timer = vi.spyOn(globalThis, "setTimeout");
  const { store, calls } = given();
  await store.put(["n"], "a", {}, ["text"], { ttl: 5 });
  await store.put(["n"], "b", {}, false, { ttl: null });
  await store.get(["n"], "a", { refreshTtl: false });
  await store.search(["n"], { query: "q", filter: { x: 1, none: undefined }, refreshTtl: true } as object);
  await store.listNamespaces({ prefix: ["*", "x"], maxDepth: 2 });
  await store.batch([{ namespace: ["n"], key: "c", value: {}, index: ["t"] }] as Operation[] as never);
  expect(calls.flat()).toEqual([
    { op: "put", namespace: ["n"], key: "a", value: "{}", index: ["text"], ttl: 5 },
    { op: "put", namespace: ["n"], key: "b", value: "{}", index: false, ttl: null },
    { op: "get", namespace: ["n"], key: "a", refresh_ttl: false },
    { op: "search", prefix: ["n"], filter: { x: 1 }, limit: 10, offset: 0, query: "q", refresh_ttl: true },
    { op: "list_namespaces", conditions: [{ match: "prefix", path: ["*", "x"] }], max_depth: 2, limit: 100, offset: 0 },
    { op: "put", namespace: ["n"], key: "c", value: "{}", index: ["t"], ttl: undefined },
  ]);
  expect(timer).not.toHaveBeenCalled();
  timer.mockRestore();
});

test("around any other store the wrapper is what it was", async () => {
  given();
  const memory = new InMemoryStore();
  const store = new AsyncBatchedStore(memory);
  store.start();
  await store.put(["n"], "a", { x: 1 });
  expect(await store.get(["n"], "a")).toMatchObject({ value: { x: 1 } });
  await expect(store.listNamespaces()).rejects.toThrow("not implemented");
  await store.stop();
});

test("the value is that of the call, whatever becomes of the object", async () => {
  const { store, calls } = given();
  const value = { x: 1 };
  const done = store.put(["n"], "a", value);
  value.x = 2;
  await done;
  expect(calls[0]?.[0]).toMatchObject({ value: '{"x":1}' });
});

test("names are cleaned as those of clients are", async () => {
  const { store, calls } = given();
  await store.batch([{ namespace: ["a\ud800"], key: "k\0", value: {} }] as Operation[] as never);
  expect(calls[0]?.[0]).toMatchObject({ namespace: ["a\ufffd"], key: "k\ufffd" });
});

test("one that fails does not take its company along", async () => {
  const { store, calls } = given((operations) => {
    if (operations.some((operation) => operation.op === "search")) throw new Error("no such operator");
    return plain(operations);
  });
  const done = await Promise.allSettled([store.put(["n"], "a", {}), store.search(["n"]), store.get(["n"], "a")]);
  expect(done.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
  expect(calls.map((operations) => operations.length)).toEqual([3, 1, 1, 1]);
  await expect(store.put(["n"], "b", { self: null }, undefined, { ttl: -1 })).rejects.toThrow(
    /ttl: a number of minutes/,
  );
});

test("calls follow one another, also where a first one waits for its vectors", async () => {
  const waiting: (() => void)[] = [];
  const index: StoreIndex = {
    embed: async (operation) => {
      if (operation.op === "put" && operation.index !== false)
        await new Promise<void>((resolve) => waiting.push(resolve));
      return operation.op === "put" ? { ...operation, vectors: [] } : operation;
    },
  };
  const { store, calls } = given(plain, index);
  const first = store.put(["n"], "a", { x: 1 });
  await vi.waitUntil(() => waiting.length === 1);
  const second = store.put(["n"], "a", { x: 2 }, false);
  await new Promise((resolve) => setImmediate(resolve));
  expect(calls).toEqual([]);
  waiting[0]?.();
  await Promise.all([first, second]);
  expect(calls.flat().map((operation) => (operation.op === "put" ? operation.value : null))).toEqual([
    '{"x":1}',
    '{"x":2}',
  ]);
});

test("what cannot be embedded is not carried out, and the rest is", async () => {
  const index: StoreIndex = {
    embed: async (operation) => {
      if (operation.op === "put") throw new Error("no vectors today");
      return operation;
    },
  };
  const { store, calls } = given(plain, index);
  const done = await Promise.allSettled([store.put(["n"], "a", {}), store.get(["n"], "a")]);
  expect(done).toMatchObject([
    { status: "rejected", reason: { message: "no vectors today" } },
    { status: "fulfilled" },
  ]);
  expect(calls.map((operations) => operations.map(({ op }) => op))).toEqual([["get"]]);
});
