/**
 * The project's own embedder: a function or an Embeddings object of a module, or a model of a provider by the LangChain
 * package the project has installed. Texts that are asked for in one turn of the event loop travel in one call.
 */

import { loadExport } from "../load-module.ts";
import { importPackage } from "./langgraph.ts";
import type { StoreIndexSpec } from "./protocol.ts";

/** The embedder failed, or gave what cannot be used. */
export class EmbeddingError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "EmbeddingError";
  }
}

export interface Embedder {
  /** Vectors of documents, in their order. Rejects with EmbeddingError. */
  documents(texts: readonly string[]): Promise<readonly Float32Array[]>;
  query(text: string): Promise<Float32Array>;
}

/** What is asked for vectors: `Embeddings` of LangChain. */
interface Source {
  embedDocuments(texts: string[]): unknown;
  embedQuery(text: string): unknown;
}

/** Texts in one call; providers take hundreds, and split further by themselves. */
const TEXTS_PER_CALL = 256;
const TIMEOUT_MS = 60_000;

export async function loadEmbedder(spec: StoreIndexSpec, project_dir: string): Promise<Embedder> {
  const source =
    spec.source.kind === "module" ? await fromModule(spec, project_dir) : await fromProvider(spec, project_dir);
  return new CheckedEmbedder(source, spec);
}

/* -------------------------------------------------------------------------------- sources */

async function fromModule({ source, embed }: StoreIndexSpec, project_dir: string): Promise<Source> {
  if (source.kind !== "module") throw new Error(`${embed} is no module`);
  const { exported } = await loadExport(source, project_dir);
  if (isSource(exported)) return exported;
  if (typeof exported !== "function") {
    throw new Error(`export "${source.export_name}" of ${source.file} is no function and no Embeddings object`);
  }
  const embedTexts = exported as (texts: string[]) => unknown;
  return {
    embedDocuments: embedTexts,
    embedQuery: async (text) => {
      const vectors = await embedTexts([text]);
      return Array.isArray(vectors) ? (vectors[0] as unknown) : undefined;
    },
  };
}

const isSource = (value: unknown): value is Source =>
  typeof value === "object" &&
  value !== null &&
  typeof (value as Partial<Source>).embedDocuments === "function" &&
  typeof (value as Partial<Source>).embedQuery === "function";

interface Provider {
  readonly package: string;
  readonly class: string;
}

/** LangChain's names of providers, and where their embeddings are. */
const PROVIDERS: Readonly<Record<string, Provider>> = {
  openai: { package: "@langchain/openai", class: "OpenAIEmbeddings" },
  azure_openai: { package: "@langchain/openai", class: "AzureOpenAIEmbeddings" },
  bedrock: { package: "@langchain/aws", class: "BedrockEmbeddings" },
  cohere: { package: "@langchain/cohere", class: "CohereEmbeddings" },
  google_genai: { package: "@langchain/google-genai", class: "GoogleGenerativeAIEmbeddings" },
  google_vertexai: { package: "@langchain/google-vertexai", class: "VertexAIEmbeddings" },
  mistralai: { package: "@langchain/mistralai", class: "MistralAIEmbeddings" },
  ollama: { package: "@langchain/ollama", class: "OllamaEmbeddings" },
};

async function fromProvider({ source, dims, embed }: StoreIndexSpec, project_dir: string): Promise<Source> {
  if (source.kind !== "provider") throw new Error(`${embed} names no provider`);
  const name = source.provider.replaceAll("-", "_");
  const provider = Object.hasOwn(PROVIDERS, name) ? PROVIDERS[name] : undefined;
  if (provider === undefined) {
    throw new Error(
      `no provider "${source.provider}": it is one of ${Object.keys(PROVIDERS).join(", ")}, or name a module of your own ("./embed.ts:embed")`,
    );
  }
  const module = (await importPackage(provider.package, project_dir)) as Record<string, unknown> | undefined;
  if (module === undefined) {
    throw new Error(`cannot find ${provider.package} from ${project_dir}: install it in the project`);
  }
  const EmbeddingsClass = module[provider.class] as (new (fields: object) => Source) | undefined;
  if (EmbeddingsClass === undefined) throw new Error(`${provider.package} has no ${provider.class}`);
  return new EmbeddingsClass({ model: source.model, ...shortened(source.model, dims) });
}

/** OpenAI's newer models make vectors of any size they are asked for; of the others `dims` says what they make. */
const shortened = (model: string, dims: number): object =>
  model.startsWith("text-embedding-3-") ? { dimensions: dims } : {};

/* --------------------------------------------------------------------------- the embedder */

interface Caller {
  readonly texts: readonly string[];
  readonly resolve: (vectors: readonly Float32Array[]) => void;
  readonly reject: (error: unknown) => void;
}

class CheckedEmbedder implements Embedder {
  readonly #source: Source;
  readonly #spec: StoreIndexSpec;
  /** Callers of this turn. */
  #callers: Caller[] = [];

  constructor(source: Source, spec: StoreIndexSpec) {
    this.#source = source;
    this.#spec = spec;
  }

  documents(texts: readonly string[]): Promise<readonly Float32Array[]> {
    if (texts.length === 0) return Promise.resolve([]);
    return new Promise((resolve, reject) => {
      if (this.#callers.push({ texts, resolve, reject }) > 1) return;
      setImmediate(() => {
        const callers = this.#callers;
        this.#callers = [];
        void this.#serve(callers);
      });
    });
  }

  async query(text: string): Promise<Float32Array> {
    return this.#checked(await this.#call(() => this.#source.embedQuery(text)));
  }

  async #serve(callers: readonly Caller[]): Promise<void> {
    try {
      const vectors = await this.#embed(new Set(callers.flatMap(({ texts }) => texts)));
      for (const { texts, resolve } of callers) resolve(texts.map((text) => vectors.get(text) as Float32Array));
    } catch (thrown) {
      // The texts of one caller must not fail those of another.
      if (callers.length > 1) await Promise.all(callers.map((caller) => this.#serve([caller])));
      else callers[0]?.reject(thrown);
    }
  }

  async #embed(unique: ReadonlySet<string>): Promise<ReadonlyMap<string, Float32Array>> {
    const texts = [...unique];
    const calls: Promise<Float32Array[]>[] = [];
    for (let start = 0; start < texts.length; start += TEXTS_PER_CALL) {
      calls.push(this.#embedTogether(texts.slice(start, start + TEXTS_PER_CALL)));
    }
    const vectors = (await Promise.all(calls)).flat();
    return new Map(texts.map((text, i) => [text, vectors[i] as Float32Array]));
  }

  async #embedTogether(texts: string[]): Promise<Float32Array[]> {
    const vectors = await this.#call(() => this.#source.embedDocuments(texts));
    if (!Array.isArray(vectors) || vectors.length !== texts.length) {
      const got = Array.isArray(vectors) ? `${vectors.length} vectors` : "no list of vectors";
      throw this.#error(`returned ${got} for ${texts.length} texts`);
    }
    return vectors.map((vector: unknown) => this.#checked(vector));
  }

  /** One call of user code: whatever it throws, and never answering, is an EmbeddingError. */
  async #call(call: () => unknown): Promise<unknown> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)), TIMEOUT_MS);
    });
    try {
      return await Promise.race([late, (async () => call())()]);
    } catch (thrown) {
      throw this.#error(`failed: ${thrown instanceof Error ? `${thrown.name}: ${thrown.message}` : String(thrown)}`);
    } finally {
      clearTimeout(timer);
    }
  }

  #checked(vector: unknown): Float32Array {
    const { dims } = this.#spec;
    if (!Array.isArray(vector) && !(vector instanceof Float32Array) && !(vector instanceof Float64Array)) {
      throw this.#error("returned a vector that is no list of numbers");
    }
    if (vector.length !== dims) {
      throw this.#error(`returned vectors of ${vector.length} dimensions, and store.index.dims says ${dims}`);
    }
    const floats = Float32Array.from(vector as ArrayLike<number>);
    const isNumeric = Array.isArray(vector) ? vector.every((value) => typeof value === "number") : true;
    if (!isNumeric || !floats.every(Number.isFinite)) {
      throw this.#error("returned a vector with something else than finite numbers");
    }
    return floats;
  }

  #error(what: string): EmbeddingError {
    return new EmbeddingError(`the embedder ${this.#spec.embed} ${what}`);
  }
}
