/** Search by meaning: the project's embedder, vectors in the database, the same in graphs and over HTTP. */
import { describe, expect, test } from "vitest";
import { loadProject } from "../../src/config.ts";
import { type Any, Api, useServer } from "../runs/support.ts";
import { project, put as putFile, tempDir } from "../support/project.ts";
import { startServer } from "../support/server.ts";

/** A vector counts words of three kinds; some texts make it misbehave. */
const EMBED = `
import { isMainThread } from "node:worker_threads";
const KINDS: string[][] = [["dog", "puppy", "wolf"], ["car", "truck"], ["red", "blue"]];
export async function embed(texts: string[]): Promise<number[][]> {
  if (isMainThread) throw new Error("on the main thread");
  if (texts.some((text) => text.includes("overload"))) throw new RangeError("too many requests");
  return texts.map((text) => {
    const counts = KINDS.map((words) => words.filter((word) => text.includes(word)).length);
    return text.includes("wrong size") ? counts.slice(1) : counts;
  });
}`;

/** Puts what it is told, then searches. */
const GRAPH = `
import { Annotation, END, START, StateGraph, getStore } from "@langchain/langgraph";
const State = Annotation.Root({ puts: Annotation(), query: Annotation(), found: Annotation(), error: Annotation() });
async function work({ puts, query }, { store }) {
  const done = await Promise.allSettled((puts ?? []).map(([key, value, index, options]) =>
    store.put(["graph"], key, value, index, options)));
  const found = await getStore().search(["graph"], { query });
  const failed = done.find(({ status }) => status === "rejected");
  return { found: found.map(({ key, score }) => [key, score]), error: failed?.reason.message };
}
export const graph = new StateGraph(State).addNode("work", work).addEdge(START, "work").addEdge("work", END).compile();`;

const index = { embed: "./embed.ts:embed", dims: 3, fields: ["text", "tags[*]"] };
const files = { "memory.mjs": GRAPH, "lib/embed.ts": EMBED };
const makeProject = (more: object = {}) =>
  project(files, { store: { index: { ...index, embed: "./lib/embed.ts:embed", ...more } } });

const api = useServer(async () => ({ project: await makeProject() }));
const put = (key: string, value: object, more: object = {}, namespace = ["http"]) =>
  api.http.put("/store/items", { namespace, key, value, ...more });
const scores = (items: Any[]) => items.map(({ key, score }) => [key, Math.round(score * 100) / 100]);
const near = async (query: string, more: object = {}) =>
  scores((await api.post("/store/items/search", { query, ...more })).items);

describe("over HTTP", () => {
  const here = { namespace_prefix: ["http"] };

  test("items come by likeness, each by its likest text", async () => {
    await put("dog", { text: "a dog" });
    await put("red car", { text: "a red car", n: 1 });
    await put("tags", { tags: ["blue", "truck", "puppy"], n: 2 });
    await put("textless", { title: "a wolf" });
    expect(await near("wolf", here)).toEqual([
      ["dog", 1],
      ["tags", 1],
      ["red car", 0],
    ]);
    expect(await near("truck", here)).toEqual([
      ["tags", 1],
      ["red car", 0.71],
      ["dog", 0],
    ]);
    expect(await near("truck", { ...here, filter: { n: { $lt: 2 } } })).toEqual([["red car", 0.71]]);
    expect(await near("truck", { ...here, limit: 1, offset: 1 })).toEqual([["red car", 0.71]]);
    expect(await near("truck", { namespace_prefix: ["elsewhere"] })).toEqual([]);
    const plain = (await api.post("/store/items/search", { ...here, query: "" })).items;
    expect(plain.map(({ key }: Any) => key)).toEqual(["textless", "tags", "red car", "dog"]);
    expect(plain[0]).not.toHaveProperty("score");
  });

  test("`index` of a put overrides the fields", async () => {
    const there = { namespace_prefix: ["index"] };
    await put("title", { text: "a car", title: "a dog" }, { index: ["title"] }, ["index"]);
    await put("none", { text: "a dog" }, { index: false }, ["index"]);
    await put("default", { text: "a car" }, { index: null }, ["index"]);
    expect(await near("wolf", there)).toEqual([
      ["title", 1],
      ["default", 0],
    ]);
    await put("title", { text: "a car" }, {}, ["index"]);
    expect(await near("wolf", there)).toEqual([
      ["default", 0],
      ["title", 0],
    ]);
  });

  test.each([
    ["overload", /the embedder .*embed failed: RangeError: too many requests/],
    ["wrong size", /the embedder .*embed returned vectors of 2 dimensions, and store\.index\.dims says 3/],
  ])("an embedder that fails (%s): an error that says so, and nothing is stored", async (text, detail) => {
    await put("k", { text: "a dog" }, {}, ["fails"]);
    const refused = [
      await put("k", { text }, {}, ["fails"]),
      await api.http.post("/store/items/search", { query: text }),
    ];
    for (const answer of refused) {
      expect(answer.status).toBe(503);
      expect(answer.body.detail).toMatch(detail);
    }
    expect(await api.get("/store/items?namespace=fails&key=k")).toMatchObject({ value: { text: "a dog" } });
    expect((await put("k", { text }, { index: false }, ["fails"])).status).toBe(204);
  });
});

test("in graphs: index, time to live, and what HTTP wrote", async () => {
  await put("dog", { text: "a dog" }, {}, ["graph"]);
  const first = { namespace_prefix: ["graph"], limit: 1 };
  const puts = [
    ["car", { text: "a red car" }],
    ["title", { title: "a puppy" }, ["title"]],
    ["hidden", { text: "a dog" }, false],
    ["short", { text: "a dog" }, undefined, { ttl: 1e-9 }],
    ["bad", { text: "overload" }],
  ];
  const run = await api.wait({ assistant_id: "memory", input: { puts, query: "wolf" } });
  expect(run.found).toEqual([
    ["dog", 1],
    ["title", 1],
    ["car", 0],
  ]);
  expect(run.error).toMatch(/RangeError: too many requests/);
  expect(await near("car", first)).toEqual([["car", 0.71]]);

  // Vectors are in the database: after a crash, only the query is embedded.
  await api.server.restart("SIGKILL");
  expect(await near("car", first)).toEqual([["car", 0.71]]);
});

test("`provider:model` is a package of the project, and the whole value is embedded by default", async () => {
  await using own = await tempDir("skein-project-");
  const app = `${own.dir}/app`;
  const files = await project({ "memory.mjs": GRAPH });
  await using _ = files;
  const fake = "@langchain/cohere";
  await putFile(
    `${app}/node_modules/${fake}/package.json`,
    JSON.stringify({ type: "module", exports: { ".": { import: "./index.js" } } }),
  );
  await putFile(
    `${app}/node_modules/${fake}/index.js`,
    `const vector = (text) => [text.includes("dog") ? 1 : 0, 1];
    export class CohereEmbeddings {
      constructor({ model }) { if (model !== "some-model:v2") throw new Error(model); }
      async embedDocuments(texts) { return texts.map(vector); }
      async embedQuery(text) { return vector(text); }
    }`,
  );
  const graphs = { memory: `${files.dir}/memory.mjs:graph` };
  const store = { index: { embed: "cohere:some-model:v2", dims: 2 } };
  await putFile(`${app}/langgraph.json`, JSON.stringify({ graphs, store }));
  await using server = await startServer({ project: app });
  const here = new Api(server);
  for (const [key, word] of [
    ["a", "cat"],
    ["b", "dog"],
  ]) {
    await here.http.put("/store/items", { namespace: ["n"], key, value: { deep: [{ word }] } });
  }
  const { items } = await here.post("/store/items/search", { query: "dog" });
  expect(scores(items)).toEqual([
    ["b", 1],
    ["a", 0.71],
  ]);
});

describe("what cannot be served is refused at the start", () => {
  test.each<[string, object, RegExp]>([
    [
      "a package that is not installed",
      { embed: "openai:text-embedding-3-small", dims: 2 },
      /skein: store\.index\.embed "openai:text-embedding-3-small" failed to load: .*cannot find @langchain\/openai from .*: install it/,
    ],
    ["a module without the export", { ...index, embed: "./lib/embed.ts:nope" }, /no export "nope"\. It exports: embed/],
  ])("%s", async (_, index, message) => {
    await using own = await project(files, { store: { index } });
    await expect(startServer({ project: own })).rejects.toThrow(message);
  });

  test.each<[string, object, RegExp]>([
    ["a missing module", { index: { ...index, embed: "./nope.ts:embed" } }, /embed: .*nope\.ts does not exist/],
    [
      "neither",
      { index: { ...index, embed: "small" } },
      /embed: "small" is no path of a module .* and no "provider:model"/,
    ],
    ["no dims", { index: { embed: index.embed } }, /store\.index\.dims: /],
    ["a time that is none", { ttl: { default_ttl: 0 } }, /store\.ttl\.default_ttl: /],
    ["a timer too long", { ttl: { sweep_interval_minutes: 1e6 } }, /store\.ttl\.sweep_interval_minutes: /],
    ["a custom store", { path: "./store.ts:store" }, /store\.path: a custom store cannot be served/],
  ])("%s", async (_, store, message) => {
    await using own = await project(files, { store });
    expect(() => loadProject(own.dir, {})).toThrow(message);
  });
});
