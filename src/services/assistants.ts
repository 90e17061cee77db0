/** Assistants: a graph with a configuration of its own. Each graph has a default one. */
import { v5 as uuid5, validate } from "uuid";
import { isoTime } from "../engine/wire.ts";
import { notFound } from "../errors.ts";
import type { GraphSpec, Json, Question, RunnableSettings } from "../executor/protocol.ts";
import type { Assistant, AssistantFilter, AssistantSearch } from "../schemas/assistants.ts";
import type { AssistantRecord, Storage } from "../storage/storage.ts";
import * as assistants from "../storage/tables/assistants.ts";
import type { AssistantsService } from "./contract.ts";

/** Clients compute the default assistant's id themselves, in this namespace. */
const NAMESPACE = "6ba7b821-9dad-11d1-80b4-00c04fd430c8";

/** Ids of default assistants by graph: asked for with each run, and a hash each time. */
const defaultIds = new Map<string, string>();
const REMEMBERED_IDS = 1000;

/** An assistant's id, given one or a graph's id. */
export function assistantIdOf(id: string): string {
  if (validate(id)) return id.toLowerCase();
  const known = defaultIds.get(id);
  if (known !== undefined) return known;
  if (defaultIds.size >= REMEMBERED_IDS) defaultIds.clear();
  const made = uuid5(id, NAMESPACE);
  defaultIds.set(id, made);
  return made;
}

/** Makes the default assistants what the configuration says: one for each graph, none for graphs that are gone. */
export async function syncDefaultAssistants(
  storage: Storage,
  graphs: readonly GraphSpec[],
  now: number,
): Promise<void> {
  await storage.write(async (tx) => {
    for (const graph of graphs) await assistants.upsertDefault(tx, defaultAssistant(graph, now));
    await assistants.deleteDefaultsExcept(
      tx,
      graphs.map(({ graph_id }) => assistantIdOf(graph_id)),
    );
  });
}

function defaultAssistant({ graph_id, description }: GraphSpec, now: number): AssistantRecord {
  return {
    assistant_id: assistantIdOf(graph_id),
    graph_id,
    name: graph_id,
    description,
    config: {},
    context: {},
    metadata: { created_by: "system" },
    version: 1,
    created_at: now,
    updated_at: now,
  };
}

export interface AssistantsOptions {
  readonly storage: Storage;
  readonly ask: (question: Question) => Promise<Json>;
}

export class Assistants implements AssistantsService {
  readonly #options: AssistantsOptions;

  constructor(options: AssistantsOptions) {
    this.#options = options;
  }

  async get(id: string): Promise<Assistant> {
    return toWire(await this.#find(id));
  }

  async search(request: AssistantSearch): Promise<{ items: readonly Partial<Assistant>[]; total: number }> {
    const { items, total } = await this.#options.storage.read(async (db) => ({
      items: await assistants.search(db, request),
      total: await assistants.count(db, request),
    }));
    return { items: items.map((record) => pick(toWire(record), request.select)), total };
  }

  async count(filter: AssistantFilter): Promise<number> {
    return this.#options.storage.read((db) => assistants.count(db, filter));
  }

  async graph(id: string, xray: boolean | number): Promise<Json> {
    const assistant = await this.#find(id);
    return this.#options.ask({ ask: "graph", graph_id: assistant.graph_id, config: settingsOf(assistant), xray });
  }

  async subgraphs(id: string, namespace: string | null, recurse: boolean): Promise<Json> {
    const assistant = await this.#find(id);
    const { graph_id } = assistant;
    return this.#options.ask({ ask: "subgraphs", graph_id, config: settingsOf(assistant), namespace, recurse });
  }

  async schemas(id: string): Promise<Json> {
    const assistant = await this.#find(id);
    return this.#options.ask({ ask: "schemas", graph_id: assistant.graph_id, config: settingsOf(assistant) });
  }

  async #find(id: string): Promise<AssistantRecord> {
    const record = await this.#options.storage.read((db) => assistants.find(db, assistantIdOf(id)));
    if (record === undefined) throw notFound(`Assistant "${id}" not found`);
    return record;
  }
}

/** What the assistant adds to its graph's config, for factories that build the graph from it. */
function settingsOf({ config, context }: AssistantRecord): RunnableSettings {
  const { configurable } = config as { configurable?: Record<string, unknown> };
  return { configurable: configurable ?? {}, context };
}

function toWire(record: AssistantRecord): Assistant {
  return { ...record, created_at: isoTime(record.created_at), updated_at: isoTime(record.updated_at) };
}

function pick(assistant: Assistant, fields: AssistantSearch["select"]): Partial<Assistant> {
  if (fields == null) return assistant;
  return Object.fromEntries(fields.map((field) => [field, assistant[field]]));
}
