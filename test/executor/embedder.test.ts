/** The project's embedder: found, called few times, and not believed blindly. */
import { beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { type Embedder, loadEmbedder } from "../../src/executor/embedder.ts";
import type { StoreIndexSpec } from "../../src/executor/protocol.ts";
import { storeIndex } from "../../src/executor/store-index.ts";
import { put, type TempDir, tempDir } from "../support/project.ts";

let temp: TempDir;
beforeAll(async () => {
  temp = await tempDir();
  return () => temp[Symbol.asyncDispose]();
});

const spec = (source: StoreIndexSpec["source"], dims = 2): StoreIndexSpec => ({
  embed: "the embedder's name",
  dims,
  fields: ["$"],
  source,
});

let files = 0;
/** An embedder of a module with this text; `calls` are the texts it was given. */
async function moduleEmbedder(
  text: string,
  dims?: number,
  export_name = "embed",
): Promise<{ embedder: Embedder; calls: string[][] }> {
  const file = `${temp.dir}/${files++}.mjs`;
  const calls: string[][] = [];
  const global = globalThis as { embedCalls?: string[][] | undefined };
  global.embedCalls = calls;
  onTestFinished(() => {
    global.embedCalls = undefined;
  });
  await put(file, text);
  return { embedder: await loadEmbedder(spec({ kind: "module", file, export_name }, dims), temp.dir), calls };
}

const LENGTHS = "(texts) => { globalThis.embedCalls.push(texts); return texts.map((text) => [text.length, 1]); }";

describe("a module", () => {
  test("exports a function", async () => {
    const { embedder, calls } = await moduleEmbedder(`export const embed = ${LENGTHS};`);
    expect(await embedder.documents(["a", "bb"])).toEqual([Float32Array.of(1, 1), Float32Array.of(2, 1)]);
    expect(await embedder.query("ccc")).toEqual(Float32Array.of(3, 1));
    expect(calls).toEqual([["a", "bb"], ["ccc"]]);
  });

  test("or an Embeddings object, or a promise of one, as its default", async () => {
    const object = "{ embedDocuments: async (texts) => texts.map(() => [0, 1]), embedQuery: async () => [1, 0] }";
    const { embedder } = await moduleEmbedder(`export default Promise.resolve(${object});`, 2, "default");
    expect(await embedder.documents(["a"])).toEqual([Float32Array.of(0, 1)]);
    expect(await embedder.query("a")).toEqual(Float32Array.of(1, 0));
  });

  test.each([
    ["export const other = 1;", /has no export "embed". It exports: other/],
    ["export const embed = {};", /export "embed" of .* is no function and no Embeddings object/],
    ["throw new Error('broken module');", /broken module/],
  ])("%s does not load", async (text, message) => {
    await expect(moduleEmbedder(text)).rejects.toThrow(message);
  });
});

test("texts asked for in one turn travel once, and in one call", async () => {
  const { embedder, calls } = await moduleEmbedder(`export const embed = ${LENGTHS};`);
  const [first, second] = await Promise.all([embedder.documents(["a", "bb"]), embedder.documents(["bb", "ccc"])]);
  expect(calls).toEqual([["a", "bb", "ccc"]]);
  expect([...first, ...second].map((vector) => vector[0])).toEqual([1, 2, 2, 3]);
  calls.length = 0;
  await embedder.documents(Array.from({ length: 600 }, (_, i) => String(i)));
  expect(calls.map((texts) => texts.length)).toEqual([256, 256, 88]);
});

test("a text that cannot be embedded fails its own caller only", async () => {
  const picky =
    "(texts) => { if (texts.includes('bad')) throw new Error('no'); return texts.map((t) => [t.length, 0]); }";
  const { embedder } = await moduleEmbedder(`export const embed = ${picky};`);
  const done = await Promise.allSettled([
    embedder.documents(["a"]),
    embedder.documents(["b", "bad"]),
    embedder.documents([]),
  ]);
  expect(done).toMatchObject([{ value: [Float32Array.of(1, 0)] }, { status: "rejected" }, { value: [] }]);
});

test.each([
  ["(texts) => texts.map(() => [1, 2, 3])", "returned vectors of 3 dimensions, and store.index.dims says 2"],
  ["() => [[1, 2]]", "returned 1 vectors for 2 texts"],
  ["() => undefined", "returned no list of vectors for 2 texts"],
  ["(texts) => texts.map(() => 'ab')", "returned a vector that is no list of numbers"],
  ["(texts) => texts.map(() => [1, NaN])", "returned a vector with something else than finite numbers"],
  ["(texts) => texts.map(() => [1, '2'])", "returned a vector with something else than finite numbers"],
  ["(texts) => texts.map(() => [1, 1e60])", "returned a vector with something else than finite numbers"],
  ["() => { throw new TypeError('no key') }", "failed: TypeError: no key"],
  ["async () => { throw 'no key' }", "failed: no key"],
])("%s: an error that says so", async (embed, message) => {
  const { embedder } = await moduleEmbedder(`export const embed = ${embed};`);
  const error = { name: "EmbeddingError", message: `the embedder the embedder's name ${message}` };
  await expect(embedder.documents(["a", "b"])).rejects.toMatchObject(error);
});

test("one that never answers is not waited for for ever", async () => {
  const { embedder } = await moduleEmbedder("export const embed = () => new Promise(() => {});");
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  onTestFinished(() => void vi.useRealTimers());
  const refused = expect(embedder.query("a")).rejects.toThrow("failed: Error: no answer within 60 s");
  await vi.advanceTimersByTimeAsync(60_000);
  await refused;
});

describe("a provider", () => {
  /** A LangChain package as npm would install it; its class keeps what it was made with. */
  async function installed(name: string, className: string): Promise<TempDir> {
    const project = await tempDir();
    onTestFinished(() => project[Symbol.asyncDispose]());
    const folder = `${project.dir}/node_modules/${name}`;
    await put(`${folder}/package.json`, JSON.stringify({ type: "module", exports: { ".": { import: "./index.js" } } }));
    const body =
      "constructor(fields) { this.fields = fields } embedDocuments = async (texts) => texts.map((t) => [t.length, JSON.stringify(this.fields).length]); embedQuery = async () => [1, 2]";
    await put(`${folder}/index.js`, `export class ${className} { ${body} }`);
    return project;
  }
  const load = (project_dir: string, provider: string, model = "m") =>
    loadEmbedder(spec({ kind: "provider", provider, model }), project_dir);

  test.each([
    [
      "openai",
      "@langchain/openai",
      "OpenAIEmbeddings",
      "text-embedding-3-small",
      { model: "text-embedding-3-small", dimensions: 2 },
    ],
    ["openai", "@langchain/openai", "OpenAIEmbeddings", "text-embedding-ada-002", { model: "text-embedding-ada-002" }],
    ["cohere", "@langchain/cohere", "CohereEmbeddings", "embed-english-v3.0", { model: "embed-english-v3.0" }],
    ["google-genai", "@langchain/google-genai", "GoogleGenerativeAIEmbeddings", "m", { model: "m" }],
  ])("%s is the project's own %s, made with the model", async (provider, name, className, model, fields) => {
    const project = await installed(name, className);
    const embedder = await load(project.dir, provider, model);
    expect(await embedder.documents(["a"])).toEqual([Float32Array.of(1, JSON.stringify(fields).length)]);
    expect(await embedder.query("a")).toEqual(Float32Array.of(1, 2));
  });

  test("without its package says what to install", async () => {
    await expect(load("/", "openai")).rejects.toThrow(
      "cannot find @langchain/openai from /: install it in the project",
    );
  });

  test.each(["nobody", "toString"])("called %s is not known", async (provider) => {
    await expect(load(temp.dir, provider)).rejects.toThrow(
      `no provider "${provider}": it is one of openai, azure_openai,`,
    );
  });
});

test("which texts of an operation get vectors", async () => {
  const embedder: Embedder = {
    documents: async (texts) => texts.map((text) => Float32Array.of(text.length)),
    query: async (text) => Float32Array.of(-text.length),
  };
  const index = storeIndex(embedder, ["text", "tags[*]", "missing"]);
  const value = JSON.stringify({ text: "abc", tags: ["x", " ", "yy"], title: "other" });
  const paths = async (more: { value?: string | null; index?: string[] | false | null }) => {
    const done = await index.embed({ op: "put", namespace: ["n"], key: "k", value, ...more });
    return done.op === "put" ? done.vectors?.map(({ path, vector }) => [path, vector[0]]) : undefined;
  };
  expect(await paths({})).toEqual([
    ["text", 3],
    ["tags[*].0", 1],
    ["tags[*].2", 2],
  ]);
  expect(await paths({ index: null })).toHaveLength(3);
  expect(await paths({ index: ["title"] })).toEqual([["title", 5]]);
  expect(await paths({ index: [] })).toEqual([]);
  expect(await paths({ index: false })).toEqual([]);
  expect(await paths({ value: null })).toEqual([]);
  const search = { op: "search", prefix: [], filter: null, limit: 1, offset: 0 } as const;
  expect(await index.embed({ ...search, query: "four" })).toEqual({
    ...search,
    query: "four",
    vector: Float32Array.of(-4),
  });
  expect(await index.embed({ ...search, query: " " })).not.toHaveProperty("vector");
  expect(await index.embed(search)).toEqual(search);
});
