import { expect } from "vitest";
import { type Cases, NOBODY, pick, type World } from "./support.ts";

const create = ({ sdk, mine }: World, fields: Record<string, unknown> = {}) =>
  sdk.assistants.create({ graphId: "echo", metadata: mine, ...fields });

export const assistants: Cases = {
  async get({ sdk }) {
    const assistant = await sdk.assistants.get("plain");
    expect(assistant).toMatchObject({ graph_id: "plain", name: "plain", version: 1, config: {}, metadata: {} });
    expect(await sdk.assistants.get(assistant.assistant_id)).toEqual(assistant);
    await expect(sdk.assistants.get(NOBODY)).rejects.toThrow("404");
  },

  async getGraph({ sdk }) {
    const { nodes, edges } = await sdk.assistants.getGraph("plain");
    expect(pick(nodes, "id")).toEqual(["__start__", "first", "second", "__end__"]);
    expect(edges).toContainEqual(expect.objectContaining({ source: "first", target: "second" }));
    const ids = async (xray: boolean | number) => pick((await sdk.assistants.getGraph("nested", { xray })).nodes, "id");
    expect(await ids(false)).toContain("middle");
    for (const xray of [1, true]) expect(await ids(xray)).toContain("middle:inner");
  },

  async getSchemas({ sdk }) {
    const schemas = await sdk.assistants.getSchemas("plain");
    expect(schemas.graph_id).toBe("plain");
    for (const name of ["input_schema", "output_schema", "state_schema"]) {
      expect(Object.keys(schemas[name].properties)).toEqual(expect.arrayContaining(["value", "steps"]));
    }
  },

  async getSubgraphs({ sdk }) {
    expect(Object.keys(await sdk.assistants.getSubgraphs("nested"))).toEqual(["middle"]);
    const deep = await sdk.assistants.getSubgraphs("nested", { recurse: true });
    expect(Object.keys(deep)).toEqual(["middle", "middle|inner"]);
    const one = await sdk.assistants.getSubgraphs("nested", { namespace: "middle|inner", recurse: true });
    expect(one).toEqual({ "middle|inner": deep["middle|inner"] });
  },

  async create(world) {
    const { sdk, mine } = world;
    const fields = { name: "Ann", description: "Says it again", config: { configurable: { tone: "warm" } } };
    const assistant = await create(world, fields);
    expect(assistant).toMatchObject({ graph_id: "echo", version: 1, metadata: mine, ...fields });
    const { seen } = await sdk.runs.wait(null, assistant.assistant_id, { input: {} });
    expect(seen.configurable).toMatchObject({ tone: "warm", assistant_id: assistant.assistant_id });
    const again = { graphId: "echo", assistantId: assistant.assistant_id };
    expect(await sdk.assistants.create({ ...again, ifExists: "do_nothing" })).toEqual(assistant);
    await expect(sdk.assistants.create({ ...again, ifExists: "raise" })).rejects.toThrow("409");
    await expect(create(world, { graphId: "nobody" })).rejects.toThrow(/4\d\d.*nobody/);
  },

  async update(world) {
    const { sdk, mine } = world;
    const { assistant_id } = await create(world, { name: "Ann", config: { configurable: { tone: "warm" } } });
    const changed = await sdk.assistants.update(assistant_id, { name: "Bob", metadata: { more: 1 } });
    expect(changed).toMatchObject({ name: "Bob", version: 2, metadata: { ...mine, more: 1 } });
    expect(changed.config.configurable).toMatchObject({ tone: "warm" });
    const context = { tone: "cold" };
    const again = await sdk.assistants.update(assistant_id, { graphId: "plain", context, description: "Counts" });
    expect(again).toMatchObject({ graph_id: "plain", version: 3, context, description: "Counts" });
    expect(await sdk.assistants.get(assistant_id)).toEqual(again);
  },

  async delete(world) {
    const { sdk } = world;
    for (const deleteThreads of [undefined, true]) {
      const { assistant_id } = await create(world);
      const { thread_id } = await sdk.threads.create();
      await sdk.runs.wait(thread_id, assistant_id, { input: {} });
      await sdk.assistants.delete(assistant_id, deleteThreads && { deleteThreads });
      await expect(sdk.assistants.get(assistant_id)).rejects.toThrow("404");
      if (deleteThreads) await expect(sdk.threads.get(thread_id)).rejects.toThrow("404");
      else expect(await sdk.threads.get(thread_id)).toMatchObject({ status: "idle" });
    }
  },

  async search(world) {
    const { sdk, mine } = world;
    for (const name of ["b one", "a two", "c other"]) await create(world, { name });
    const search = (query: object) => sdk.assistants.search({ metadata: mine, ...query });
    expect(pick(await search({}), "name")).toEqual(["c other", "a two", "b one"]);
    expect(pick(await search({ sortBy: "name", sortOrder: "asc" }), "name")).toEqual(["a two", "b one", "c other"]);
    expect(pick(await search({ name: "O" }), "name")).toEqual(["c other", "a two", "b one"]);
    expect(pick(await search({ name: "THER" }), "name")).toEqual(["c other"]);
    expect(await search({ graphId: "plain" })).toEqual([]);
    expect(await search({ limit: 1, offset: 1, select: ["name", "graph_id"] })).toEqual([
      { name: "a two", graph_id: "echo" },
    ]);
    const { assistants: first, next } = await search({ limit: 2, includePagination: true });
    expect([pick(first, "name"), next]).toEqual([["c other", "a two"], "2"]);
    const rest = await search({ limit: 2, offset: Number(next), includePagination: true });
    expect([pick(rest.assistants, "name"), rest.next]).toEqual([["b one"], null]);
  },

  async count(world) {
    const { sdk, mine } = world;
    for (const name of ["one", "two"]) await create(world, { name });
    expect(await sdk.assistants.count({ metadata: mine })).toBe(2);
    expect(await sdk.assistants.count({ metadata: mine, graphId: "echo", name: "tw" })).toBe(1);
    expect(await sdk.assistants.count({ metadata: mine, graphId: "plain" })).toBe(0);
  },

  async getVersions(world) {
    const { sdk } = world;
    const { assistant_id } = await create(world, { name: "one" });
    await sdk.assistants.update(assistant_id, { name: "two", metadata: { second: true } });
    await sdk.assistants.update(assistant_id, { name: "three" });
    const versions = await sdk.assistants.getVersions(assistant_id);
    expect(versions.map(({ version, name }: never) => [version, name])).toEqual([
      [3, "three"],
      [2, "two"],
      [1, "one"],
    ]);
    expect(pick(await sdk.assistants.getVersions(assistant_id, { limit: 1, offset: 1 }), "version")).toEqual([2]);
    const second = await sdk.assistants.getVersions(assistant_id, { metadata: { second: true } });
    expect(pick(second, "version")).toEqual([3, 2]);
  },

  async setLatest(world) {
    const { sdk } = world;
    const { assistant_id } = await create(world, { config: { configurable: { tone: "warm" } } });
    await sdk.assistants.update(assistant_id, { config: { configurable: { tone: "cold" } } });
    const first = await sdk.assistants.setLatest(assistant_id, 1);
    expect(first).toMatchObject({ version: 1, config: { configurable: { tone: "warm" } } });
    expect(await sdk.assistants.get(assistant_id)).toEqual(first);
    const { seen } = await sdk.runs.wait(null, assistant_id, { input: {} });
    expect(seen.configurable.tone).toBe("warm");
    await expect(sdk.assistants.setLatest(assistant_id, 9)).rejects.toThrow("404");
  },
};
