/**
 * What a graph streams → events of streaming v2 in the run's log. Nothing here does I/O.
 *
 * Sources: LangGraph's protocol stream (v3), its chunks or the events of its transformers; and, where that is not to be had
 * or the run was asked for in v1's modes, v1's chunks. What the lines on the wire look like is the protocol's word; where
 * LangGraph's own stream differs from it (blocks that interleave, namespaces of nodes, lifecycle of plain nodes) it is put right.
 */
import { type ProtocolMethod, paramsText, protocolName } from "../schemas/protocol-events.ts";
import type { CoreEvent } from "./block-writer.ts";
import { createGraphTree, type GraphEnd, isAtOrBelow, type Namespace, type TaskStart } from "./graph-tree.ts";
import type { GraphConfig, MuxEventLike } from "./langgraph.ts";
import { createOpenMessages, type MessageMetadata } from "./open-messages.ts";
import { createOpenTools, type ToolEvent, toolEvent } from "./open-tools.ts";
import type { Json, WireEvent } from "./protocol.ts";
import { isMessage, stateJson, toJson } from "./serialize.ts";

/** How the run ended for what is still open in it; interrupted: it asks. */
export type SinkEnd = "completed" | "interrupted" | "cancelled" | { readonly failed: string };

export interface ProtocolSink {
  /** A chunk of the graph's stream. */
  chunk(namespace: Namespace, mode: string, payload: unknown): void;
  /** An event of the graph's transformers, instead of chunks. */
  muxEvent(event: MuxEventLike): void;
  /** Closes open messages and the graphs below the root. The root's own end is told by the run. */
  end(how: SinkEnd): void;
}

export interface ProtocolSinkOptions {
  emit(event: WireEvent): void;
  /** Milliseconds since 1970. */
  now(): number;
  /** Messages come as core's events, at the namespace of their node (`v3`), or as messages and their chunks (`v1`). */
  readonly messages: "v3" | "v1";
  /** Checkpoints come as envelopes before their values, or as v1's frames behind them. */
  readonly checkpoints?: "envelopes" | "frames";
  /** Text of a state. */
  readonly valuesJson?: (values: unknown) => Json;
}

export function createProtocolSink(options: ProtocolSinkOptions): ProtocolSink {
  const { emit, now, messages: kind, checkpoints: announced = "envelopes", valuesJson = stateJson } = options;
  const requested = new Set<string>();
  /** Values that wait for the frame of their checkpoint. */
  const unannounced = new Map<string, { readonly at: number; readonly json: Json }>();

  const write = (
    method: Parameters<typeof protocolName>[0],
    ns: Namespace,
    data: Json,
    at: number,
    node?: string,
  ): void => emit({ event: protocolName(method, ns), data: paramsText(ns, at, node, data) });

  const tree = createGraphTree({
    now,
    say: (ns, at, event) => write("lifecycle", ns, toJson(event), at),
    openCalls: (ns) => tools.callsAt(ns),
  });

  /** Says something of a graph's own loop. */
  const own = (method: ProtocolMethod, ns: Namespace, data: Json, node?: string, at = now()): void =>
    tree.own(ns, at, () => write(method, ns, data, at, node));
  /** Says something that happened in a graph. */
  const say = (method: Parameters<typeof write>[0], ns: Namespace, data: Json, node?: string): void => {
    tree.touch(ns);
    write(method, ns, data, now(), node);
  };

  const messages = createOpenMessages({
    kind,
    say: (ns, data, node) => say("messages", ns, data, node),
    graphOf: (at) => tree.graphOf(at, false),
  });
  const tools = createOpenTools({
    say: (ns, event) => say("tools", ns, toJson(event)),
    graphOf: (at) => tree.graphOf(at, kind === "v1"),
    taskOfCall: tree.taskOfCall,
  });

  /* ------------------------------------------------------------------ values and checkpoints */

  const flushValues = (ns: Namespace): void => {
    if (unannounced.size === 0) return;
    const key = ns.join("|");
    const waiting = unannounced.get(key);
    if (waiting === undefined) return;
    unannounced.delete(key);
    own("values", ns, waiting.json, undefined, waiting.at);
  };

  const request = (ns: Namespace, interrupts: unknown): void => {
    for (const interrupt of Array.isArray(interrupts) ? (interrupts as unknown[]) : []) {
      const { id, value = null } = (interrupt ?? {}) as { readonly id?: unknown; readonly value?: unknown };
      // A graph above repeats those of the graphs below it, later.
      if (typeof id !== "string" || requested.has(id)) continue;
      requested.add(id);
      own("input.requested", ns, toJson({ interrupt_id: id, payload: value, value }));
    }
  };

  const onValues = (ns: Namespace, payload: unknown): void => {
    flushValues(ns);
    if (hasInterrupts(payload)) {
      request(ns, payload.__interrupt__);
      return;
    }
    if (kind === "v1") messages.close((message) => message.namespace.join("|") === ns.join("|"), "completed");
    if (announced === "frames") unannounced.set(ns.join("|"), { at: now(), json: valuesJson(payload) });
    else own("values", ns, valuesJson(payload));
    tree.stepEnded(ns);
  };

  const onCheckpoint = (ns: Namespace, payload: unknown): void => {
    const envelope = envelopeOf(payload);
    if (envelope === undefined) return;
    // The frame of a checkpoint without values (of the input) tells clients nothing.
    if (isFrame(payload) && !unannounced.has(ns.join("|"))) return;
    own("checkpoints", ns, toJson(envelope));
    flushValues(ns);
  };

  /* ---------------------------------------------------------------------- updates and tasks */

  const onUpdate = (ns: Namespace, node: string, values: unknown): void => {
    flushValues(ns);
    if (node === "__interrupt__") request(ns, values);
    if (node.startsWith("__")) return;
    if (kind === "v1" && tree.running(ns, node) <= 1) {
      messages.close((message) => message.node === node && message.namespace.join("|") === ns.join("|"), "completed");
    }
    own("updates", ns, toJson({ node, values }), node);
  };

  const onTask = (ns: Namespace, payload: unknown): void => {
    flushValues(ns);
    const task = payload as TaskStart & TaskResult;
    if (!("result" in task)) {
      tree.taskStarted(ns, task);
      own("tasks", ns, toJson(task));
      return;
    }
    const end = endOf(task);
    const at = [...ns, `${task.name}:${task.id}`].join("|");
    const how = end.event === "failed" ? { failed: end.error ?? "The task failed." } : end.event;
    messages.close((message) => isAtOrBelow(message.task, at), how);
    own("tasks", ns, toJson(task));
    tree.taskEnded(ns, task, end);
  };

  /* --------------------------------------------------------------------------------- custom */

  const onCustom = (ns: Namespace, payload: unknown): void => {
    if (isNamed(payload)) say(`custom:${payload.name}`, ns, toJson({ ...payload, payload: payload.payload ?? null }));
    else say("custom", ns, toJson({ payload: payload ?? null }));
  };

  return {
    chunk(ns, mode, payload) {
      switch (mode) {
        case "values":
          return onValues(ns, payload);
        case "checkpoints":
          return onCheckpoint(ns, payload);
        case "updates":
          for (const [node, values] of Object.entries((payload ?? {}) as object)) onUpdate(ns, node, values);
          return;
        case "tasks":
          return onTask(ns, payload);
        case "messages": {
          const [data, metadata] = payload as readonly [unknown, MessageMetadata];
          if (kind === "v1") {
            if (isMessage(data)) messages.chunk(ns, data, metadata);
            return;
          }
          const { run_id, langgraph_node: node } = metadata;
          return messages.event(ns, data as CoreEvent, textOf(run_id), typeof node === "string" ? node : undefined);
        }
        case "tools":
          return tools.event(ns, toolEvent(payload));
        case "custom":
          return onCustom(ns, payload);
        default:
      }
    },
    muxEvent({ method, params: { namespace, node, data } }) {
      switch (method) {
        case "values":
          return onValues(namespace, data);
        case "checkpoints":
          return onCheckpoint(namespace, data);
        case "updates": {
          const { node: of, values } = data as { readonly node?: unknown; readonly values?: unknown };
          if (typeof of === "string") onUpdate(namespace, of, values);
          return;
        }
        case "tasks":
          return onTask(namespace, data);
        case "messages":
          return messages.event(namespace, data as CoreEvent, textOf((data as CoreEvent).run_id), node);
        case "tools":
          return tools.event(namespace, data as ToolEvent);
        case "custom":
          return onCustom(namespace, isUnnamed(data) ? data.payload : data);
        case "lifecycle": {
          const { cause } = data as { readonly cause?: unknown };
          if (typeof cause === "object" && cause !== null) tree.noteCause(namespace, cause);
          return;
        }
        default:
          // A channel of a transformer of the graph's.
          if (method.startsWith("custom:"))
            onCustom(namespace, { name: method.slice("custom:".length), payload: data });
      }
    },
    end(how) {
      for (const key of unannounced.keys()) flushValues(key === "" ? [] : key.split("|"));
      messages.close(() => true, how);
      // A tool that asks is called again with the answer.
      if (how !== "interrupted") tools.fail();
      tree.end(graphEnd(how));
    },
  };
}

/* --------------------------------------------------------------------------------- shapes */

const textOf = (value: unknown): string => (typeof value === "string" ? value : "");

function graphEnd(how: SinkEnd): GraphEnd {
  if (typeof how === "object") return { event: "failed", error: how.failed };
  return { event: how === "cancelled" ? "interrupted" : how };
}

interface TaskResult {
  readonly result?: unknown;
  readonly interrupts?: readonly unknown[];
  readonly error?: unknown;
}

function endOf({ interrupts, error }: TaskResult): GraphEnd {
  if (error !== undefined && error !== null) {
    const { message } = Object(error) as { readonly message?: unknown };
    return {
      event: "failed",
      error: typeof message === "string" ? message : typeof error === "string" ? error : toJson(error),
    };
  }
  return { event: (interrupts?.length ?? 0) > 0 ? "interrupted" : "completed" };
}

const hasInterrupts = (payload: unknown): payload is { readonly __interrupt__: unknown } =>
  typeof payload === "object" && payload !== null && "__interrupt__" in payload;

/** A custom event that names itself; it is one of the channel `custom:<name>`. */
const isNamed = (payload: unknown): payload is { readonly name: string; readonly payload: unknown } =>
  typeof payload === "object" &&
  payload !== null &&
  "payload" in payload &&
  "name" in payload &&
  typeof payload.name === "string";

const isUnnamed = (data: unknown): data is { readonly payload: unknown } =>
  typeof data === "object" && data !== null && "payload" in data && !("name" in data);

interface CheckpointFrame {
  readonly config: GraphConfig;
  readonly parentConfig?: GraphConfig;
  readonly metadata?: { readonly step?: unknown; readonly source?: unknown };
}

/** True for v1's frame of a checkpoint, which has the whole state; false for an envelope. */
const isFrame = (payload: unknown): payload is CheckpointFrame =>
  typeof payload === "object" && payload !== null && "config" in payload;

function envelopeOf(payload: unknown): object | undefined {
  if (!isFrame(payload)) return payload as object;
  const id = payload.config.configurable?.checkpoint_id;
  const parent_id = payload.parentConfig?.configurable?.checkpoint_id;
  if (typeof id !== "string") return undefined;
  const { step, source } = payload.metadata ?? {};
  return { id, ...(typeof parent_id === "string" ? { parent_id } : {}), step, source };
}
