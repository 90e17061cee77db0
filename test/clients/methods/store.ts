import { expect } from "vitest";
import { type Cases, pick, type World } from "./support.ts";

const namespaceOf = ({ mine }: World, ...more: string[]): string[] => ["notes", Object.values(mine)[0] ?? "", ...more];

export const store: Cases = {
  async putItem(world) {
    const { sdk } = world;
    const namespace = namespaceOf(world);
    expect(await sdk.store.putItem(namespace, "a b/ü", { text: "one", index: 1 })).toBeUndefined();
    expect((await sdk.store.getItem(namespace, "a b/ü")).value).toEqual({ text: "one", index: 1 });
    await sdk.store.putItem(namespace, "a b/ü", { text: "two" }, { ttl: 60, index: false });
    expect((await sdk.store.getItem(namespace, "a b/ü")).value).toEqual({ text: "two" });
    await expect(sdk.store.putItem(["a.b"], "key", {})).rejects.toThrow("period");
    // Nodes see what clients put.
    const user = namespace[1];
    await sdk.store.putItem(namespace, "note", { note: "hello" });
    await sdk.store.deleteItem(namespace, "a b/ü");
    expect(await sdk.runs.wait(null, "remember", { input: { user } })).toMatchObject({ notes: ["hello"] });
  },

  async getItem(world) {
    const { sdk } = world;
    const namespace = namespaceOf(world);
    expect(await sdk.store.getItem(namespace, "nobody")).toBeNull();
    await sdk.store.putItem(namespace, "key", { text: "one" });
    const item = await sdk.store.getItem(namespace, "key", { refreshTtl: false });
    expect(item).toMatchObject({ namespace, key: "key", value: { text: "one" } });
    // The SDK has each time under two names.
    for (const time of ["createdAt", "updatedAt", "created_at", "updated_at"]) {
      expect(Date.parse(item[time])).toBeGreaterThan(0);
    }
  },

  async deleteItem(world) {
    const { sdk } = world;
    const namespace = namespaceOf(world);
    await sdk.store.putItem(namespace, "key", {});
    expect(await sdk.store.deleteItem(namespace, "key")).toBeUndefined();
    expect(await sdk.store.getItem(namespace, "key")).toBeNull();
    expect(await sdk.store.deleteItem(namespace, "key")).toBeUndefined();
  },

  async searchItems(world) {
    const { sdk } = world;
    for (const [key, size] of Object.entries({ a: 1, b: 2, c: 3 })) {
      await sdk.store.putItem(namespaceOf(world, key), key, { size, even: size % 2 === 0 });
    }
    const search = async (options: object) => {
      const { items } = await sdk.store.searchItems(namespaceOf(world), options);
      return pick(items, "key");
    };
    expect(await search({})).toEqual(["c", "b", "a"]);
    expect(await search({ filter: { even: true } })).toEqual(["b"]);
    expect(await search({ filter: { size: { $gte: 2 } }, limit: 1, offset: 1, refreshTtl: true })).toEqual(["b"]);
    const { items } = await sdk.store.searchItems(namespaceOf(world, "a"));
    expect(items).toMatchObject([{ namespace: namespaceOf(world, "a"), key: "a", value: { size: 1 } }]);
    expect(Date.parse(items[0].createdAt)).toBeGreaterThan(0);
  },

  async listNamespaces(world) {
    const { sdk } = world;
    const [a, b] = [namespaceOf(world, "a", "deep"), namespaceOf(world, "b", "deep")];
    for (const namespace of [a, b]) await sdk.store.putItem(namespace, "key", {});
    const prefix = namespaceOf(world);
    const list = async (options: object) => (await sdk.store.listNamespaces({ prefix, ...options })).namespaces;
    expect(await list({})).toEqual([a, b]);
    expect(await list({ suffix: ["b", "deep"] })).toEqual([b]);
    expect(await list({ maxDepth: 2 })).toEqual([prefix]);
    expect(await list({ limit: 1, offset: 1 })).toEqual([b]);
  },
};
