/** What an assistant is after a request: pure. */
import { isDeepStrictEqual } from "node:util";
import { invalid } from "../errors.ts";
import type { AssistantCreate, AssistantPatch } from "../schemas/assistants.ts";
import type { Config } from "../schemas/common.ts";
import type { AssistantRecord, AssistantVersionRecord } from "../storage/storage.ts";

type Members = Readonly<Record<string, unknown>>;

/** Marks the assistants that the server makes, one per graph. Clients look for it, and may not set it. */
export const MADE_BY_SERVER: Members = { created_by: "system" };

export const isDefault = ({ metadata }: Pick<AssistantRecord, "metadata">): boolean =>
  metadata.created_by === MADE_BY_SERVER.created_by;

/** Version 1 of a client's assistant. */
export function newAssistant(assistant_id: string, request: AssistantCreate, now: number): AssistantRecord {
  return {
    assistant_id,
    graph_id: request.graph_id,
    name: request.name ?? "Untitled",
    description: request.description ?? null,
    ...settings(request.config ?? {}, request.context ?? {}),
    metadata: clientMetadata(request.metadata ?? {}),
    version: 1,
    created_at: now,
    updated_at: now,
  };
}

/** The next version: what the request leaves out stays, metadata is merged, config and context are replaced whole. */
export function patched(
  record: AssistantRecord,
  request: AssistantPatch,
  { version, now }: { readonly version: number; readonly now: number },
): AssistantRecord {
  const metadata = { ...record.metadata, ...clientMetadata(request.metadata ?? {}) };
  return {
    ...record,
    graph_id: request.graph_id ?? record.graph_id,
    name: request.name ?? record.name,
    description: request.description === undefined ? record.description : request.description,
    ...patchedSettings(record, request),
    metadata: isDefault(record) ? { ...metadata, ...MADE_BY_SERVER } : metadata,
    version,
    updated_at: now,
  };
}

/** The assistant with an earlier (or later) version active again, its name and description with it. */
export function restored(record: AssistantRecord, version: AssistantVersionRecord, now: number): AssistantRecord {
  return { ...version, created_at: record.created_at, updated_at: now };
}

/** Given one of the two, the other follows it; given neither, both stay. */
function patchedSettings(record: AssistantRecord, { config, context }: AssistantPatch) {
  if (config != null) return settings(config, context ?? {});
  if (context == null) return { config: record.config, context: record.context };
  const { configurable: _, ...rest } = record.config as Config;
  return settings(rest, context);
}

/**
 * `config.configurable` and `context` are two names for the same settings: graphs of either generation find them where they
 * look, so both hold all, and a request must not give one setting two values. What only the server sets stays out of
 * the context, which graphs may check against a schema.
 */
export function settings(config: Config, context: Members): { config: Config; context: Members } {
  const { configurable, ...rest } = config;
  for (const [key, value] of Object.entries(context)) {
    if (configurable !== undefined && key in configurable && !isDeepStrictEqual(configurable[key], value)) {
      throw invalid(`context.${key}`, `config.configurable.${key} has another value; give one, or both the same`);
    }
  }
  const both = { ...configurable, ...context };
  return {
    config: configurable === undefined && Object.keys(both).length === 0 ? rest : { ...rest, configurable: both },
    context: withoutInternal(both),
  };
}

const INTERNAL = /^(?:__|langgraph_auth_|checkpoint_|(?:thread_id|run_id|graph_id|assistant_id)$)/;

const withoutInternal = (members: Members): Members =>
  Object.fromEntries(Object.entries(members).filter(([key]) => !INTERNAL.test(key)));

function clientMetadata(metadata: Members): Members {
  const { created_by, ...rest } = metadata;
  return created_by === undefined || created_by === MADE_BY_SERVER.created_by ? rest : { ...rest, created_by };
}
