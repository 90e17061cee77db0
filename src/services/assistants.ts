/** Assistants: a graph with a configuration of its own. Each graph has a default one. */
import { v5 as uuid5, v7 as uuid7, validate } from "uuid";
import { type CancelEffect, cancelFound } from "../engine/cancellation.ts";
import { type RemovedRuns, removeThread } from "../engine/thread-removal.ts";
import { isoTime } from "../engine/wire.ts";
import { conflict, invalid, notFound } from "../errors.ts";
import type { GraphSpec, Json, Question, RunnableSettings } from "../executor/protocol.ts";
import { isTypeScript } from "../graphs/type-schemas.ts";
import type {
  Assistant,
  AssistantCreate,
  AssistantFilter,
  AssistantPatch,
  AssistantSearch,
  AssistantVersionsSearch,
} from "../schemas/assistants.ts";
import type { GraphTypes } from "../schemas/graphs.ts";
import { isShared, lockAssistant, lockStart, lockThreads } from "../storage/locks.ts";
import type { AssistantRecord, RunRecord, Storage, Tx } from "../storage/storage.ts";
import * as assistants from "../storage/tables/assistants.ts";
import * as crons from "../storage/tables/crons.ts";
import * as runs from "../storage/tables/runs.ts";
import * as threads from "../storage/tables/threads.ts";
import type { Admit, Visible } from "./access.ts";
import { isDefault, MADE_BY_SERVER, newAssistant, patched, restored } from "./assistant-versions.ts";
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

/**
 * Makes the default assistants what the configuration says: one for each graph, none for graphs that are gone. Version 1
 * holds what the configuration said last, so a client's own name stays until the configuration says something new.
 */
export async function syncDefaultAssistants(
  storage: Storage,
  graphs: readonly GraphSpec[],
  now: number,
): Promise<void> {
  await storage.write(async (tx) => {
    lockStart(tx);
    for (const id of graphs.map(({ graph_id }) => assistantIdOf(graph_id)).sort()) lockAssistant(tx, id);
    for (const graph of graphs) await syncDefault(tx, defaultAssistant(graph, now), now);
    const wanted = new Set(graphs.map(({ graph_id }) => assistantIdOf(graph_id)));
    const gone = (await assistants.listDefaults(tx)).filter(({ assistant_id }) => !wanted.has(assistant_id));
    for (const { assistant_id } of gone) {
      await crons.removeOfAssistant(tx, assistant_id);
      await assistants.remove(tx, assistant_id);
    }
  });
}

async function syncDefault(tx: Tx, configured: AssistantRecord, now: number): Promise<void> {
  if (await assistants.insert(tx, configured)) return;
  const { assistant_id, name, description } = configured;
  const known = await assistants.findVersion(tx, assistant_id, configured.version);
  if (known?.name === name && known.description === description) return;
  const active = await assistants.find(tx, assistant_id);
  await assistants.rename(tx, assistant_id, [1, active?.version ?? 1], { name, description }, now);
}

function defaultAssistant({ graph_id, description }: GraphSpec, now: number): AssistantRecord {
  return {
    assistant_id: assistantIdOf(graph_id),
    graph_id,
    name: graph_id,
    description,
    config: {},
    context: {},
    metadata: MADE_BY_SERVER,
    version: 1,
    created_at: now,
    updated_at: now,
  };
}

export interface AssistantsOptions {
  readonly storage: Storage;
  readonly ask: (question: Question) => Promise<Json>;
  /** The graphs of the configuration as it is now. */
  readonly graphs: () => readonly GraphSpec[];
  /** What the TypeScript types of a graph tell. */
  readonly typesOf: (spec: GraphSpec) => Promise<GraphTypes | null>;
  /** Threads were removed, and these runs with them. */
  readonly onRemoved: (runs: RemovedRuns) => void;
  /** Carries out cancels that are committed. */
  readonly onCancelled: (effects: readonly CancelEffect[]) => Promise<void>;
}

export class Assistants implements AssistantsService {
  readonly #options: AssistantsOptions;

  constructor(options: AssistantsOptions) {
    this.#options = options;
  }

  /** `admit`: of one that has the id already. */
  async create(request: AssistantCreate, admit?: Admit): Promise<Assistant> {
    this.#requireGraph(request.graph_id);
    const { storage } = this.#options;
    const record = newAssistant(request.assistant_id ?? uuid7(), request, storage.now());
    return storage.write(async (tx) => {
      lockAssistant(tx, record.assistant_id);
      if (await assistants.insert(tx, record)) return toWire(record);
      if (request.if_exists !== "do_nothing") throw conflict(`Assistant ${record.assistant_id} already exists`);
      await admit?.(tx);
      return toWire(await found(tx, record.assistant_id));
    });
  }

  async patch(id: string, request: AssistantPatch, admit?: Admit): Promise<Assistant> {
    if (request.graph_id != null) this.#requireGraph(request.graph_id);
    const { storage } = this.#options;
    return storage.write(async (tx) => {
      lockAssistant(tx, assistantIdOf(id));
      await admit?.(tx);
      const record = await found(tx, id);
      if (isDefault(record) && request.graph_id != null && request.graph_id !== record.graph_id) {
        throw invalid("graph_id", `this is the default assistant of graph "${record.graph_id}" and stays with it`);
      }
      const version = (await assistants.lastVersion(tx, record.assistant_id)) + 1;
      const next = patched(record, request, { version, now: storage.now() });
      await assistants.addVersion(tx, next);
      return toWire(next);
    });
  }

  async versions(
    id: string,
    request: AssistantVersionsSearch,
  ): Promise<{ items: readonly Assistant[]; total: number }> {
    const query = { metadata: request.metadata ?? {}, limit: request.limit ?? 10, offset: request.offset ?? 0 };
    return this.#options.storage.read(async (db) => {
      const { assistant_id } = await found(db, id);
      const versions = await assistants.versions(db, assistant_id, query);
      const items = versions.map((version) => toWire({ ...version, updated_at: version.created_at }));
      return { items, total: await assistants.countVersions(db, assistant_id, query) };
    });
  }

  async setLatest(id: string, version: number, admit?: Admit): Promise<Assistant> {
    const { storage } = this.#options;
    return storage.write(async (tx) => {
      lockAssistant(tx, assistantIdOf(id));
      await admit?.(tx);
      const record = await found(tx, id);
      const wanted = await assistants.findVersion(tx, record.assistant_id, version);
      if (wanted === undefined) throw notFound(`Version ${version} of assistant "${id}" not found`);
      const next = restored(record, wanted, storage.now());
      await assistants.activate(tx, next);
      return toWire(next);
    });
  }

  /** `visible`: the threads that may go with it. */
  async delete(id: string, delete_threads: boolean, admit?: Admit, visible: Visible = null): Promise<string> {
    const now = this.#options.storage.now();
    const { assistant_id, effects, removed } = await this.#options.storage.write(async (tx) => {
      lockAssistant(tx, assistantIdOf(id));
      await admit?.(tx);
      const { assistant_id } = await found(tx, id);
      await lockThreadsOf(tx, assistant_id, delete_threads);
      const removed = delete_threads ? await removeThreads(tx, assistant_id, visible) : [];
      const effects = await stopAll(tx, await runs.inFlightOfAssistant(tx, assistant_id), now);
      await crons.removeOfAssistant(tx, assistant_id);
      await assistants.remove(tx, assistant_id);
      // A graph that is configured can always be addressed by its name.
      const graph = this.#options.graphs().find(({ graph_id }) => assistantIdOf(graph_id) === assistant_id);
      if (graph !== undefined) await assistants.insert(tx, defaultAssistant(graph, now));
      return { assistant_id, effects, removed };
    });
    removed.forEach(this.#options.onRemoved);
    await this.#options.onCancelled(effects);
    return assistant_id;
  }

  async get(id: string): Promise<Assistant> {
    return toWire(await this.#find(id));
  }

  async search(
    request: AssistantSearch,
    visible: Visible = null,
  ): Promise<{ items: readonly Partial<Assistant>[]; total: number }> {
    const query = { ...request, visible };
    const { items, total } = await this.#options.storage.read(async (db) => ({
      items: await assistants.search(db, query),
      total: await assistants.count(db, query),
    }));
    return { items: items.map((record) => pick(toWire(record), request.select)), total };
  }

  async count(filter: AssistantFilter, visible: Visible = null): Promise<number> {
    return this.#options.storage.read((db) => assistants.count(db, { ...filter, visible }));
  }

  async graph(id: string, xray: boolean | number): Promise<Json> {
    const assistant = await this.#find(id);
    return this.#options.ask({ ask: "graph", ...graphOf(assistant), xray });
  }

  async subgraphs(id: string, namespace: string | null, recurse: boolean): Promise<Json> {
    const graph = graphOf(await this.#find(id));
    const types = await this.#types(graph);
    return this.#options.ask({ ask: "subgraphs", ...graph, namespace, recurse, types });
  }

  async schemas(id: string): Promise<Json> {
    const graph = graphOf(await this.#find(id));
    return this.#options.ask({ ask: "schemas", ...graph, types: await this.#types(graph) });
  }

  /** Reading types takes seconds the first time, so it is asked first whether they are needed. */
  async #types(graph: ConfiguredGraph): Promise<GraphTypes | null> {
    const spec = this.#options.graphs().find(({ graph_id }) => graph_id === graph.graph_id);
    if (spec === undefined || !isTypeScript(spec)) return null;
    const untyped = await this.#options.ask({ ask: "untyped", ...graph });
    return untyped === "true" ? this.#options.typesOf(spec) : null;
  }

  #requireGraph(graph_id: string): void {
    if (this.#options.graphs().some((graph) => graph.graph_id === graph_id)) return;
    throw notFound(`Graph "${graph_id}" not found`);
  }

  #find(id: string): Promise<AssistantRecord> {
    return this.#options.storage.read((db) => found(db, id));
  }
}

async function found(db: Tx, id: string): Promise<AssistantRecord> {
  const record = await assistants.find(db, assistantIdOf(id));
  if (record === undefined) throw notFound(`Assistant "${id}" not found`);
  return record;
}

async function stopAll(tx: Tx, inFlight: readonly RunRecord[], now: number): Promise<CancelEffect[]> {
  const effects: CancelEffect[] = [];
  for (const run of inFlight) effects.push(await cancelFound(tx, run, "interrupt", now));
  return effects;
}

/** Runs that are in flight may end meanwhile, and none is added: the assistant is locked. */
async function lockThreadsOf(tx: Tx, assistant_id: string, delete_threads: boolean): Promise<void> {
  if (!isShared(tx)) return;
  const inFlight = await runs.inFlightOfAssistant(tx, assistant_id);
  const own = delete_threads ? await threads.idsOfAssistant(tx, assistant_id) : [];
  lockThreads(tx, [...inFlight.map(({ thread_id }) => thread_id), ...own]);
}

/** The threads of an assistant, with whatever runs there; the events of those runs stay for who is reading them. */
async function removeThreads(tx: Tx, assistant_id: string, visible: Visible): Promise<RemovedRuns[]> {
  const removed: RemovedRuns[] = [];
  for (const thread_id of await threads.idsOfAssistant(tx, assistant_id, visible)) {
    const gone = await removeThread(tx, thread_id);
    if (gone !== undefined) removed.push(gone);
  }
  return removed;
}

export interface ConfiguredGraph {
  readonly graph_id: string;
  readonly config: RunnableSettings;
}

/** The assistant's graph with what the assistant adds to its config, for factories that build the graph from it. */
export function graphOf({ graph_id, config, context }: AssistantRecord): ConfiguredGraph {
  const { configurable } = config as { configurable?: Record<string, unknown> };
  return { graph_id, config: { configurable: configurable ?? {}, context } };
}

function toWire(record: AssistantRecord): Assistant {
  return { ...record, created_at: isoTime(record.created_at), updated_at: isoTime(record.updated_at) };
}

function pick(assistant: Assistant, fields: AssistantSearch["select"]): Partial<Assistant> {
  if (fields == null) return assistant;
  return Object.fromEntries(fields.map((field) => [field, assistant[field]]));
}
