import { setImmediate } from "node:timers/promises";
import { expect, test } from "vitest";
import type { Store } from "../../src/engine/store.ts";
import type { StoreItem, StoreVector } from "../../src/executor/protocol.ts";
import { makeStore } from "./make-store.ts";
import { eachDialect, NOW } from "./support.ts";

const vectors = (...lists: number[][]): StoreVector[] =>
  lists.map((list, i) => ({ path: `p.${i}`, vector: Float32Array.from(list) }));

const put = (store: Store, key: string, value: object, made: readonly StoreVector[], namespace = ["n"]) =>
  store.run([{ op: "put", namespace, key, value: JSON.stringify(value), vectors: made }], NOW);

async function near(
  store: Store,
  query: number[],
  more: { prefix?: string[]; filter?: object; limit?: number; offset?: number } = {},
) {
  const { prefix = [], filter = null, limit = 10, offset = 0 } = more;
  const vector = Float32Array.from(query);
  const search = {
    op: "search",
    prefix,
    filter: filter as Record<string, unknown> | null,
    limit,
    offset,
    vector,
  } as const;
  const [items] = await store.run([search], NOW);
  return (items as StoreItem[]).map(({ key, score }) => [key, Math.round((score ?? Number.NaN) * 1000) / 1000]);
}

eachDialect((openTemp) => {
  test("items come by their likest vector; those without one do not", async () => {
    const store = makeStore(await openTemp(), { embedder: "e 2" });
    await put(store, "east", {}, vectors([5, 0]));
    await put(store, "north", {}, vectors([0, 1]));
    await put(store, "both", {}, vectors([0, 1], [1, 0]));
    await put(store, "between", {}, vectors([1, 1]));
    await put(store, "west", {}, vectors([-1, 0]));
    await put(store, "nowhere", {}, vectors([0, 0]));
    await put(store, "plain", {}, []);
    const all = [
      ["both", 1],
      ["east", 1],
      ["between", Math.round(Math.SQRT1_2 * 1000) / 1000],
      ["north", 0],
      ["nowhere", 0],
      ["west", -1],
    ];
    expect(await near(store, [1, 0])).toEqual(all);
    expect(await near(store, [1, 0], { limit: 2, offset: 1 })).toEqual(all.slice(1, 3));
    expect(await near(store, [1, 0], { limit: 0 })).toEqual([]);
  });

  test("the namespace and the filter choose first, then likeness", async () => {
    const store = makeStore(await openTemp(), { embedder: "e 2" });
    // What an index of nearest neighbours would offer is all elsewhere.
    for (let i = 0; i < 50; i++) await put(store, `other-${i}`, { n: 1 }, vectors([1, 0]), ["m"]);
    await put(store, "far", { n: 1 }, vectors([-1, 0.1]));
    await put(store, "near", { n: 2 }, vectors([1, 0]));
    await put(store, "below", { n: 1 }, vectors([0, 1]), ["n", "b"]);
    expect(await near(store, [1, 0], { prefix: ["n"], filter: { n: 1 } })).toEqual([
      ["below", 0],
      ["far", -0.995],
    ]);
  });

  test("a vector goes with the value it was made of", async () => {
    const storage = await openTemp();
    const store = makeStore(storage, { embedder: "e 2" });
    await put(store, "k", {}, vectors([1, 0], [0, 1]));
    await put(store, "k", {}, vectors([-1, 0]));
    expect(await near(store, [1, 0])).toEqual([["k", -1]]);
    await put(store, "k", {}, []);
    expect(await near(store, [1, 0])).toEqual([]);
    await put(store, "k", {}, vectors([1, 0]));
    await store.run([{ op: "put", namespace: ["n"], key: "k", value: null }], NOW);
    await store.run([{ op: "put", namespace: ["n"], key: "t", value: "{}", ttl: 1, vectors: vectors([1, 0]) }], NOW);
    await store.sweep(NOW + 60_000);
    expect(await storage.read((db) => db.selectFrom("store_vectors").selectAll().execute())).toEqual([]);
  });

  test("vectors of another embedder, even of other dimensions, are not compared", async () => {
    const storage = await openTemp();
    await put(makeStore(storage, { embedder: "old 3" }), "old", {}, vectors([1, 0, 0]));
    const store = makeStore(storage, { embedder: "new 2" });
    await put(store, "new", {}, vectors([1, 0]));
    expect(await near(store, [1, 0])).toEqual([["new", 1]]);
    await put(store, "old", {}, vectors([0, 1]));
    expect(await near(store, [1, 0])).toEqual([
      ["new", 1],
      ["old", 0],
    ]);
  });

  test("many items are compared in pages: all of them, with room for others in between", async () => {
    const storage = await openTemp();
    const store = makeStore(storage, { embedder: "e 2" });
    const keys = Array.from({ length: 2500 }, (_, i) => i);
    const angle = (i: number) => (i * 7919) % 2500;
    await store.run(
      keys.map((i) => ({
        op: "put",
        namespace: ["n", String(i % 3)],
        key: String(i),
        value: "{}",
        vectors: vectors([Math.cos(angle(i) / 2500), Math.sin(angle(i) / 2500)]),
      })),
      NOW,
    );
    let turns = 0;
    let searching = true;
    const others = (async () => {
      for (; searching; turns++) await setImmediate();
    })();
    const found = await near(store, [1, 0], { limit: 5, offset: 1 });
    searching = false;
    await others;
    const wanted = [...keys].sort((a, b) => angle(a) - angle(b)).slice(1, 6);
    expect(found.map(([key]) => key)).toEqual(wanted.map(String));
    expect(turns).toBeGreaterThanOrEqual(2);
  });
});
