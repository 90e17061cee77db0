/** Which texts of store operations need vectors, and the operations with those vectors. */
import { type Embedder, EmbeddingError, loadEmbedder } from "./embedder.ts";
import type { EmbedAnswer, EmbedQuestion, Json, StoreIndexSpec, StoreOperation, StoreVector } from "./protocol.ts";
import { textsAt } from "./text-paths.ts";

type Put = Extract<StoreOperation, { op: "put" }>;

export interface StoreIndex {
  /** The operation with the vectors it needs. Rejects with EmbeddingError. */
  embed(operation: StoreOperation): Promise<StoreOperation>;
}

export async function loadStoreIndex(spec: StoreIndexSpec, project_dir: string): Promise<StoreIndex> {
  return storeIndex(await loadEmbedder(spec, project_dir), spec.fields);
}

export function storeIndex(embedder: Embedder, fields: readonly string[]): StoreIndex {
  return {
    async embed(operation) {
      if (operation.op === "put") return { ...operation, vectors: await vectorsOf(operation, embedder, fields) };
      const query = operation.op === "search" ? operation.query?.trim() : undefined;
      if (query === undefined || query === "") return operation;
      return { ...operation, vector: await embedder.query(query) } as StoreOperation;
    },
  };
}

async function vectorsOf({ value, index }: Put, embedder: Embedder, fields: readonly string[]): Promise<StoreVector[]> {
  if (value === null || index === false) return [];
  const texts = textsOf(JSON.parse(value), index ?? fields);
  const vectors = await embedder.documents([...texts.values()]);
  return [...texts.keys()].map((path, i) => ({ path, vector: vectors[i] as Float32Array }));
}

/** Path → text. A path with several texts numbers them; blank ones, which providers refuse, are as good as missing. */
function textsOf(value: Json, paths: readonly string[]): ReadonlyMap<string, string> {
  const texts = new Map<string, string>();
  for (const path of paths) {
    const found = textsAt(value, path);
    found.forEach((text, i) => {
      if (text.trim() !== "") texts.set(found.length === 1 ? path : `${path}.${i}`, text);
    });
  }
  return texts;
}

/** Answers the main thread, which has operations of clients. */
export async function embedded(index: StoreIndex | null, { operations }: EmbedQuestion): Promise<Json> {
  if (index === null) throw new EmbeddingError("the store has no index");
  const ready = await Promise.all(operations.map((operation) => index.embed(operation)));
  return JSON.stringify(ready.map(vectorsIn) satisfies EmbedAnswer);
}

function vectorsIn(operation: StoreOperation): [path: string, vector: string][] {
  if (operation.op === "put") return (operation.vectors ?? []).map(({ path, vector }) => [path, base64(vector)]);
  return operation.op === "search" && operation.vector !== undefined ? [["", base64(operation.vector)]] : [];
}

const base64 = (vector: Float32Array): string =>
  Buffer.from(vector.buffer, vector.byteOffset, vector.byteLength).toString("base64");
