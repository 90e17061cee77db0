/**
 * Graph output → wire events. LangGraph's chunks come in as `[namespace, mode, payload]`; what leaves are the events of
 * the stream modes the client asked for, under the names and in the shapes clients know. Nothing here does I/O.
 */
import type { StreamMode } from "../schemas/runs.ts";
import type { GraphConfig } from "./langgraph.ts";
import type { Json, WireEvent } from "./protocol.ts";
import { isMessage, type MessageLike, messageJson, stateJson, toJson } from "./serialize.ts";

export interface Modes {
  /** The modes to ask LangGraph for. `values` is always among them: the run's output is its last one. */
  readonly requested: readonly string[];
  /** True when LangGraph should announce each `values` by a light `checkpoints` frame. */
  readonly envelopes: boolean;
  chunk(namespace: readonly string[] | null, mode: string, payload: unknown): void;
  /** An object of `streamEvents`, when the client asked for `events`. */
  event(event: unknown): void;
  /** The newest full values of the root graph; undefined when it gave none. */
  lastValues(): unknown;
  /** True when the root graph announced an interrupt, static or dynamic. */
  interrupted(): boolean;
}

export function createModes(
  asked: readonly StreamMode[],
  subgraphs: boolean,
  emit: (event: WireEvent) => void,
  valuesJson: (values: unknown) => Json = stateJson,
): Modes {
  const modes = new Set(asked);
  const accumulator = modes.has("messages") ? messageAccumulator(emit) : undefined;
  const envelopes = subgraphs && modes.has("values") && !modes.has("checkpoints");
  const metadataJson = jsonCache();
  let lastValues: unknown;
  let interrupted = false;

  const chunk: Modes["chunk"] = (namespace, mode, payload) => {
    const suffix = subgraphs && namespace !== null && namespace.length > 0 ? `|${namespace.join("|")}` : "";
    const isRoot = namespace === null || namespace.length === 0;
    switch (mode) {
      case "values":
        if (isRoot && isInterrupt(payload)) interrupted = true;
        else if (isRoot) lastValues = payload;
        if (modes.has("values")) emit({ event: `values${suffix}`, data: valuesJson(payload) });
        accumulator?.values(payload, suffix);
        return;
      case "messages": {
        const [message, metadata] = payload as readonly [MessageLike, object];
        accumulator?.message(message, metadata, suffix);
        if (!modes.has("messages-tuple")) return;
        const text = isMessage(message) ? messageJson(message) : toJson(message);
        emit({ event: `messages${suffix}`, data: `[${text},${metadataJson(metadata)}]` });
        return;
      }
      case "checkpoints":
        if (modes.has("checkpoints")) emit({ event: `checkpoints${suffix}`, data: toJson(checkpointFrame(payload)) });
        else if (envelopes) emit({ event: `checkpoints${suffix}`, data: toJson(payload) });
        return;
      case "debug":
        if (modes.has("debug")) emit({ event: `debug${suffix}`, data: toJson(debugFrame(payload)) });
        return;
      default:
        if (modes.has(mode as StreamMode)) emit({ event: `${mode}${suffix}`, data: toJson(payload) });
    }
  };

  return {
    requested: requestedModes(modes),
    envelopes,
    chunk,
    event: (event) =>
      emit({ event: `events${subgraphs ? graphOf(event) : ""}`, data: toJson(withoutInternals(event)) }),
    lastValues: () => lastValues,
    interrupted: () => interrupted,
  };
}

function requestedModes(modes: ReadonlySet<StreamMode>): string[] {
  const requested = new Set<string>(["values"]);
  for (const mode of modes) {
    if (mode === "messages-tuple") requested.add("messages");
    else if (mode !== "events") requested.add(mode);
  }
  return [...requested];
}

const isInterrupt = (payload: unknown): boolean =>
  typeof payload === "object" && payload !== null && "__interrupt__" in payload;

/** JSON of objects that come again and again by reference: the metadata of one model call is the same for each token. */
function jsonCache(): (value: object) => Json {
  const texts = new WeakMap<object, Json>();
  return (value) => {
    let text = texts.get(value);
    if (text === undefined) {
      text = toJson(value);
      texts.set(value, text);
    }
    return text;
  };
}

/* ----------------------------------------------------------------------------- messages */

interface MessageAccumulator {
  message(message: MessageLike, metadata: object, suffix: string): void;
  values(payload: unknown, suffix: string): void;
}

/**
 * Mode `messages`: each message under construction is sent whole after each token (`messages/partial`), its metadata
 * once, and what stands in the state's `messages` is complete.
 */
function messageAccumulator(emit: (event: WireEvent) => void): MessageAccumulator {
  const partial = new Map<string, MessageLike>();
  const complete = new Set<string>();
  return {
    message(message, metadata, suffix) {
      // Whole messages (a node's output, a model that does not stream) come with `values`.
      if (!isMessage(message) || message.id === undefined || message.concat === undefined) return;
      const { id } = message;
      const sofar = partial.get(id);
      const grown = sofar?.concat?.(message) ?? message;
      partial.set(id, grown);
      if (sofar === undefined) {
        const { tags: _tags, name: _name, ...rest } = metadata as Record<string, unknown>;
        emit({ event: `messages/metadata${suffix}`, data: toJson({ [id]: { metadata: rest } }) });
      }
      emit({ event: `messages/partial${suffix}`, data: `[${messageJson(grown)}]` });
    },
    values(payload, suffix) {
      if (typeof payload !== "object" || payload === null || !("messages" in payload) || isMessage(payload)) return;
      const found = Array.isArray(payload.messages) ? (payload.messages as unknown[]) : [payload.messages];
      const fresh = found.filter((message) => {
        const id = (message as { id?: unknown } | null)?.id;
        if (typeof id !== "string" || complete.has(id)) return false;
        complete.add(id);
        partial.delete(id);
        return true;
      });
      if (fresh.length > 0) emit({ event: `messages/complete${suffix}`, data: toJson(fresh) });
    },
  };
}

/* ------------------------------------------------------------------ checkpoints and debug */

interface CheckpointPayload {
  readonly config?: GraphConfig;
  readonly parentConfig?: GraphConfig;
  readonly values?: unknown;
  readonly metadata?: unknown;
  readonly next?: unknown;
  readonly tasks?: readonly { readonly state?: unknown }[];
}

function checkpointFrame(payload: unknown): unknown {
  const { values, metadata, next } = payload as CheckpointPayload;
  return { values, metadata, next };
}

function debugFrame(payload: unknown): unknown {
  const frame = payload as { readonly type: string; readonly payload: CheckpointPayload };
  if (frame.type !== "checkpoint") return frame;
  const { config, parentConfig, tasks, ...rest } = frame.payload;
  return {
    ...frame,
    payload: {
      config: publicConfig(config),
      ...rest,
      tasks: tasks?.map(debugTask),
      checkpoint: checkpointOf(config),
      parent_checkpoint: checkpointOf(parentConfig),
      ...(parentConfig === undefined ? {} : { parent_config: publicConfig(parentConfig) }),
    },
  };
}

/** A task that runs a subgraph names the subgraph's checkpoint. */
function debugTask(task: { readonly state?: unknown }): unknown {
  const { state, ...rest } = task;
  if (typeof state !== "object" || state === null || !("configurable" in state)) return task;
  return { ...rest, checkpoint: checkpointOf(state as GraphConfig) };
}

/** A config's address of a checkpoint, as clients send it back. */
export function checkpointOf(config: GraphConfig | undefined): Record<string, unknown> | null {
  const { thread_id, checkpoint_id, checkpoint_ns, checkpoint_map } = config?.configurable ?? {};
  if (thread_id === undefined || checkpoint_id === undefined) {
    return thread_id === undefined ? null : { thread_id, checkpoint_ns: checkpoint_ns ?? "" };
  }
  return { thread_id, checkpoint_id, checkpoint_ns: checkpoint_ns ?? "", checkpoint_map: checkpoint_map ?? null };
}

/** A config as clients may see it: no LangGraph internals, no callbacks, signals or controls. */
function publicConfig(config: GraphConfig | undefined): unknown {
  if (config === undefined) return undefined;
  const { callbacks: _, configurable, ...rest } = config;
  return { configurable: publicRecord(configurable), ...rest };
}

function publicRecord(record: Record<string, unknown> | undefined): Record<string, unknown> {
  return Object.fromEntries(Object.entries(record ?? {}).filter(([key]) => !key.startsWith("__")));
}

/** The graph an event happened in, as the namespace suffix of its name: its node's namespace without the node itself. */
function graphOf(event: unknown): string {
  const { metadata } = event as { metadata?: { langgraph_checkpoint_ns?: unknown } };
  const namespace = metadata?.langgraph_checkpoint_ns;
  if (typeof namespace !== "string" || !namespace.includes("|")) return "";
  return `|${namespace.slice(0, namespace.lastIndexOf("|"))}`;
}

/** Events may carry a config as input of a runnable; its internals are no one's business and not JSON. */
function withoutInternals(event: unknown): unknown {
  const { data, ...rest } = event as { data?: { input?: unknown } };
  const input = data?.input;
  if (typeof input !== "object" || input === null || !("configurable" in input)) return event;
  return { ...rest, data: { ...data, input: publicConfig(input as GraphConfig) } };
}
